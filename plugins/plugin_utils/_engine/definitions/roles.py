# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles: how to make a dynamic credential."""

from __future__ import annotations

import dataclasses
import re

from ..durations import parse_duration
from ..errors import OpenAICredsError
from ..mount import Mount
from ..names import check_name, check_openai_id, check_template
from ..store.base import Data
from .change import Outcome, delete_definition, write_definition

_SCOPE = re.compile(r"[A-Za-z0-9_.:*-]{1,128}")


@dataclasses.dataclass(frozen=True)
class Role:
    """A role as it is used: durations in seconds, its project looked up."""

    name: str
    project_id: str
    project_name: str
    template: str
    ttl: int
    max_ttl: int
    renewable: bool
    scopes: list[str]
    native_expiry: bool


def write_role(
    mount: Mount,
    name: str,
    *,
    project: str | None,
    project_id: str | None,
    service_account_name_template: str,
    service_account_description: str,
    ttl: str,
    max_ttl: str,
    renewable: bool,
    scopes: list[str],
    native_expiry: bool,
    dry_run: bool,
) -> Outcome:
    """Write a role. Its project must be registered; a dry run only warns, since a task before it may register it."""
    check_name(name, "name")
    if (project is None) == (project_id is None):
        raise OpenAICredsError("project, project_id: give exactly one of them")
    if project is not None:
        check_name(project, "project")
    else:
        check_openai_id(project_id, "project_id")
    check_template(service_account_name_template, "service_account_name_template", name, project or project_id or "")
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise OpenAICredsError(f"scopes: {scope!r} is not a scope such as api.model.read")
    entry: Data = {
        "project": project,
        "project_id": project_id,
        "service_account_name_template": service_account_name_template,
        "service_account_description": service_account_description,
        "ttl": parse_duration(ttl, "ttl"),
        "max_ttl": parse_duration(max_ttl, "max_ttl"),
        "renewable": renewable,
        "scopes": scopes,
        "native_expiry": native_expiry,
    }
    if entry["ttl"] > entry["max_ttl"]:
        raise OpenAICredsError(f"ttl: {ttl} is longer than max_ttl ({max_ttl})")
    warnings: list[str] = []

    def refuse_unknown_project(data: Data) -> None:
        if project is not None and project not in data.get("projects", {}):
            if not dry_run:
                raise OpenAICredsError(f"project: project not found: {project!r} is not registered; see openai_project")
            warnings.append(f"project {project!r} is not registered; a real run fails unless it has been by then")

    outcome = write_definition(mount, "roles", name, entry, refuse_unknown_project, dry_run=dry_run)
    return outcome._replace(warnings=tuple(warnings))


def delete_role(mount: Mount, name: str, *, dry_run: bool) -> Outcome:
    """Forget a role. Its leases carry all that their end needs, and end as they would have."""
    check_name(name, "name")
    return delete_definition(mount, "roles", name, dry_run=dry_run)


def find_role(mount: Mount, name: str, option: str = "name") -> Role:
    """Return a role to issue from, or raise."""
    check_name(name, option)
    entry = mount.definitions("roles").get(name)
    if entry is None:
        raise OpenAICredsError(f"{option}: role not found: {name!r}; see openai_role")
    project_id = entry["project_id"]
    if entry["project"] is not None:
        project = mount.definitions("projects").get(entry["project"])
        if project is None:
            raise OpenAICredsError(f"project not found: role {name!r} uses {entry['project']!r}; see openai_project")
        project_id = project["project_id"]
    return Role(
        name=name,
        project_id=project_id,
        project_name=entry["project"] or project_id,
        template=entry["service_account_name_template"],
        ttl=entry["ttl"],
        max_ttl=entry["max_ttl"],
        renewable=entry["renewable"],
        scopes=entry["scopes"],
        native_expiry=entry["native_expiry"],
    )
