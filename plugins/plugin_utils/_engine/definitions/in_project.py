# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What definitions share that are in a project: it is registered under a name, or given by its id at OpenAI."""

from __future__ import annotations

from ..errors import OpenAICredsError
from ..mount import Mount
from ..names import check_name, check_openai_id
from ..store.base import Data
from .change import whole


def check_project(given: Data) -> None:
    """Raise if what a user gives of a project is wrong by itself."""
    if "project" in given and "project_id" in given:
        raise OpenAICredsError("project, project_id: give exactly one of them")
    if "project" in given:
        check_name(given["project"], "project")
    if "project_id" in given:
        check_openai_id(given["project_id"], "project_id")


def merge_project(before: Data, given: Data) -> Data:
    """Return which project a definition is in: the one that is given takes the place of the one before."""
    chosen = {name: given.get(name) for name in ("project", "project_id")}
    if not any(chosen.values()):
        chosen = {name: before.get(name) for name in chosen}
    if chosen["project"] is None and chosen["project_id"] is None:
        raise OpenAICredsError("project, project_id: give exactly one of them")
    return chosen


def project_when_written(entry: Data, definitions: Data, *, dry_run: bool) -> tuple[str | None, tuple[str, ...]]:
    """Return the project's id as a definition is written, and warnings.

    A dry run does without an id and only warns, since a task before it may register the project.
    """
    name = entry["project"]
    if name is None:
        return str(entry["project_id"]), ()
    project = definitions.get("projects", {}).get(name)
    if project is not None:
        return _id_of(name, project), ()
    if not dry_run:
        raise OpenAICredsError(f"project: project not found: {name!r} is not registered; see openai_project")
    return None, (f"project {name!r} is not registered; a real run fails unless it has been by then",)


def project_in_use(mount: Mount, definitions: Data, entry: Data, what: str) -> str:
    """Return the project's id as a definition is used; what is the definition in words."""
    if entry["project"] is None:
        return str(entry["project_id"])
    project = definitions.get("projects", {}).get(entry["project"])
    if project is None:
        # Without a config it is most likely the mount or the store that is not the one that was meant.
        mount.check_configured(definitions)
        raise OpenAICredsError(f"project not found: {what} uses {entry['project']!r}; see openai_project")
    return _id_of(entry["project"], project)


def _id_of(name: str, project: Data) -> str:
    with whole(f"project {name!r}"):
        return str(project["project_id"])


def account_name(mount: Mount, before: Data, entry: Data, project_id: str) -> str | None:
    """Return the name of the account whose keys are issued, once it is known; raises if OpenAI does not know the account.

    Credentials tell it, and one call for each is to be enough.
    """
    account_id = entry["service_account_id"]
    if account_id is None:
        return None
    same = all(before.get(name) == entry[name] for name in ("service_account_id", "project", "project_id"))
    if before.get("_service_account") and same:
        return str(before["_service_account"])
    if not mount.definitions("config"):
        return None
    account = mount.openai().find_service_account(project_id, account_id)
    if account is None:
        raise OpenAICredsError(f"service_account_id: {account_id} is not an account of {project_id} at OpenAI")
    return account.name


def defined_projects(mount: Mount) -> set[str]:
    """Return the ids of the projects that the mount may make something in, by what is defined."""
    sections = ("projects", "roles", "static_roles", "library_sets")
    entries = (entry for section in sections for entry in mount.definitions(section).values())
    return {str(entry["project_id"]) for entry in entries if entry["project_id"]}
