# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Projects: names for OpenAI's project ids."""

from __future__ import annotations

from ..errors import OpenAICredsError
from ..mount import Mount
from ..names import check_name, check_openai_id
from ..store.base import Data
from .change import Outcome, delete_definition, write_definition

#: The sections of the definitions whose entries may name a project.
_USERS = {"roles": "roles", "static_roles": "static roles", "library_sets": "library sets"}


def write_project(
    mount: Mount, name: str, project_id: str | None, description: str | None, *, dry_run: bool
) -> Outcome:
    """Register a project id under a name. What is None stays as it is stored."""
    check_name(name, "name")
    if project_id is not None:
        check_openai_id(project_id, "project_id")

    def make(before: Data, _data: Data) -> Data:
        if project_id is None and not before:
            raise OpenAICredsError(f"project_id: give the id that the new project {name!r} has at OpenAI")
        return {
            "project_id": before["project_id"] if project_id is None else project_id,
            "description": before.get("description", "") if description is None else description,
        }

    return write_definition(mount, "projects", name, make, dry_run=dry_run)


def delete_project(mount: Mount, name: str, *, dry_run: bool) -> Outcome:
    """Forget a project, unless something uses it."""

    def refuse_if_used(data: Data) -> None:
        for section, plural in _USERS.items():
            users = sorted(user for user, entry in data.get(section, {}).items() if entry.get("project") == name)
            if users:
                raise OpenAICredsError(
                    f"project has {plural} that use it, cannot delete: {', '.join(users)} use {name!r}"
                )

    check_name(name, "name")
    return delete_definition(mount, "projects", name, refuse_if_used, dry_run=dry_run)


def project_names(mount: Mount) -> dict[str, str]:
    """Return the names of the registered projects by their ids; of several names of one, the first."""
    entries = sorted(mount.definitions("projects").items(), reverse=True)
    return {str(entry["project_id"]): name for name, entry in entries}
