# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles: how to make a dynamic credential."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..durations import parse_duration
from ..errors import OpenAICredsError
from ..mount import Mount
from ..names import check_name, check_openai_id, check_template
from ..store.base import Data
from .change import Outcome, delete_definition, whole, write_definition
from .in_project import account_name, check_project, merge_project, project_in_use, project_when_written

_SCOPE = re.compile(r"[A-Za-z0-9_.:*-]{1,128}")


@dataclasses.dataclass(frozen=True)
class Role:
    """A role as it is used: durations in seconds, its project looked up."""

    name: str
    project_id: str
    project_name: str
    #: The account whose keys are issued, and its name as far as it is known; None if each lease has an account of its own.
    service_account_id: str | None
    service_account: str | None
    template: str
    ttl: int
    max_ttl: int
    renewable: bool
    scopes: list[str] | None
    native_expiry: bool


def write_role(mount: Mount, name: str, *, defaults: Data, dry_run: bool, **given: t.Any) -> Outcome:
    """Write a role from options as users give them. What is not given, or None, stays as it is stored; a new role has
    the defaults instead.

    The role's project must be registered. A dry run only warns, since a task before it may register it.
    """
    check_name(name, "name")
    given = {option: value for option, value in given.items() if value is not None}
    _check_given(given)
    warnings: tuple[str, ...] = ()

    def make(before: Data, data: Data) -> Data:
        nonlocal warnings
        with whole(f"role {name!r}"):
            entry = _merge(name, before or defaults, given)
        project_id, warnings = project_when_written(entry, data, dry_run=dry_run)
        if project_id is not None:
            entry["_service_account"] = account_name(mount, before, entry, project_id)
        return entry

    outcome = write_definition(mount, "roles", name, make, dry_run=dry_run)
    return outcome._replace(warnings=warnings)


def _check_given(given: Data) -> None:
    """Raise if an option is wrong whatever the others are."""
    check_project(given)
    if "service_account_id" in given:
        check_openai_id(given["service_account_id"], "service_account_id")
    if "scopes" in given and not given["scopes"]:
        raise OpenAICredsError(
            "scopes: an empty list would mean all permissions at OpenAI; name scopes, or leave the option out when you "
            "define the role anew"
        )
    for scope in given.get("scopes", ()):
        if not _SCOPE.fullmatch(scope):
            raise OpenAICredsError(f"scopes: {scope!r} is not a scope such as api.model.read")


def _merge(name: str, before: Data, given: Data) -> Data:
    """Return a role as it is stored: what is given, over what was there before."""
    nothing = dict.fromkeys(("service_account_id", "_service_account", "scopes"))
    entry: Data = {**nothing, **before, **given, **merge_project(before, given)}
    project = entry["project"] or entry["project_id"]
    check_template(entry["service_account_name_template"], "service_account_name_template", name, project)
    ttl, max_ttl = (parse_duration(entry[option], option) for option in ("ttl", "max_ttl"))
    if ttl > max_ttl:
        raise OpenAICredsError(f"ttl: {_shown(entry['ttl'])} is longer than max_ttl ({_shown(entry['max_ttl'])})")
    return {**entry, "ttl": ttl, "max_ttl": max_ttl}


def _shown(duration: t.Any) -> str:
    """Return a duration as it was written, or in seconds where it was stored."""
    return f"{duration} s" if isinstance(duration, int) else str(duration)


def delete_role(mount: Mount, name: str, *, dry_run: bool) -> Outcome:
    """Forget a role. Its leases carry all that their end needs, and end as they would have."""
    check_name(name, "name")
    return delete_definition(mount, "roles", name, dry_run=dry_run)


def find_role(mount: Mount, name: str, option: str = "name", *, definitions: Data | None = None) -> Role:
    """Return a role to issue from, or raise. definitions are those that were just read, if they were."""
    check_name(name, option)
    definitions = mount.all_definitions() if definitions is None else definitions
    entry = definitions.get("roles", {}).get(name)
    if entry is None:
        # Without a config it is most likely the mount or the store that is not the one that was meant.
        mount.check_configured(definitions)
        raise OpenAICredsError(f"{option}: role not found: {name!r}; see openai_role")
    with whole(f"role {name!r}"):
        project_id = project_in_use(mount, definitions, entry, f"role {name!r}")
        return Role(
            name=name,
            project_id=project_id,
            project_name=entry["project"] or project_id,
            service_account_id=entry["service_account_id"],
            service_account=entry["_service_account"],
            template=entry["service_account_name_template"],
            ttl=entry["ttl"],
            max_ttl=entry["max_ttl"],
            renewable=entry["renewable"],
            scopes=entry["scopes"],
            native_expiry=entry["native_expiry"],
        )
