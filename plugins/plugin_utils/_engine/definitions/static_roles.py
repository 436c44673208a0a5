# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Static roles: which account's key is rotated, how and when. Their keys and rotations are in rotation.static_role."""

from __future__ import annotations

import dataclasses
import typing as t

from ..durations import parse_duration
from ..errors import OpenAICredsError
from ..mount import Mount
from ..names import check_name, check_openai_id
from ..store.base import Data
from .change import Outcome, write_definition

STATIC_ROLES = "static_roles"
NEW_KEY = "new_key"
NEW_ACCOUNT = "new_account"


@dataclasses.dataclass(frozen=True)
class StaticRole:
    """A static role as it is used: durations in seconds, its project looked up."""

    name: str
    project_id: str
    #: The account that a user has given, and its name.
    service_account_id: str
    service_account: str
    #: What the names of its keys begin with.
    api_key_name: str
    rotation_period: int
    ttl: int
    rotation_strategy: str
    overlap: int

    @property
    def origin(self) -> str:
        """Return which account a user has given: with another one, the key has to be another one."""
        return f"{self.project_id}/{self.service_account_id}"


def define_static_role(mount: Mount, name: str, *, defaults: Data, dry_run: bool, **given: t.Any) -> Outcome:
    """Write a static role's definition from options as users give them. What is not given, or None, stays as it is stored;
    a new one has the defaults instead.
    """
    check_name(name, "name")
    given = {option: value for option, value in given.items() if value is not None}
    _check_given(given)
    warnings: tuple[str, ...] = ()

    def make(before: Data, data: Data) -> Data:
        nonlocal warnings
        entry = _merge(before or defaults, given)
        project = entry["project"]
        if project is not None and project not in data.get("projects", {}):
            if not dry_run:
                raise OpenAICredsError(f"project: project not found: {project!r} is not registered; see openai_project")
            warnings = (f"project {project!r} is not registered; a real run fails unless it has been by then",)
            return entry
        project_id = entry["project_id"] if project is None else data["projects"][project]["project_id"]
        entry["_service_account"] = _account_name(mount, before, entry, project_id)
        return entry

    outcome = write_definition(mount, STATIC_ROLES, name, make, dry_run=dry_run)
    return outcome._replace(warnings=warnings)


def _account_name(mount: Mount, before: Data, entry: Data, project_id: str) -> str | None:
    """Return the name of the account; raises if OpenAI does not know the account."""
    same = all(before.get(name) == entry[name] for name in ("service_account_id", "project", "project_id"))
    if before.get("_service_account") and same:
        return str(before["_service_account"])
    if not mount.definitions("config"):
        return None
    account = mount.openai().find_service_account(project_id, entry["service_account_id"])
    if account is None:
        raise OpenAICredsError(
            f"service_account_id: {entry['service_account_id']} is not an account of {project_id} at OpenAI"
        )
    return account.name


def _check_given(given: Data) -> None:
    """Raise if an option is wrong whatever the others are."""
    if "project" in given and "project_id" in given:
        raise OpenAICredsError("project, project_id: give exactly one of them")
    for option in ("project", "api_key_name"):
        if option in given:
            check_name(given[option], option)
    for option in ("project_id", "service_account_id"):
        if option in given:
            check_openai_id(given[option], option)


def _merge(before: Data, given: Data) -> Data:
    """Return a static role as it is stored: what is given, over what was there before."""
    nothing = dict.fromkeys(("project", "project_id", "service_account_id", "_service_account"))
    entry: Data = {**nothing, **before, **given}
    # The one takes the place of the other.
    if "project" in given:
        entry["project_id"] = None
    elif "project_id" in given:
        entry["project"] = None
    if entry["project"] is None and entry["project_id"] is None:
        raise OpenAICredsError("project, project_id: give exactly one of them")
    if entry["service_account_id"] is None:
        raise OpenAICredsError("service_account_id: give the id of the service account whose key is to be rotated")
    period, ttl = (parse_duration(entry[option], option) for option in ("rotation_period", "ttl"))
    overlap = parse_duration(entry["overlap"], "overlap", least=0)
    if ttl < period + overlap:
        raise OpenAICredsError(
            f"ttl: {ttl} s must not be shorter than rotation_period and overlap together ({period} s + {overlap} s), else a "
            "key ends before the next one has taken its place"
        )
    return {**entry, "rotation_period": period, "ttl": ttl, "overlap": overlap}


def find_static_role(mount: Mount, name: str, option: str = "name") -> StaticRole:
    """Return a static role, or raise."""
    check_name(name, option)
    entry = mount.definitions(STATIC_ROLES).get(name)
    if entry is None:
        # Without a config it is most likely the mount or the store that is not the one that was meant.
        mount.check_configured()
        raise OpenAICredsError(f"{option}: static role not found: {name!r}; see openai_static_role")
    project_id = entry["project_id"]
    if entry["project"] is not None:
        project = mount.definitions("projects").get(entry["project"])
        if project is None:
            mount.check_configured()
            raise OpenAICredsError(
                f"project not found: static role {name!r} uses {entry['project']!r}; see openai_project"
            )
        project_id = project["project_id"]
    return StaticRole(
        name=name,
        project_id=project_id,
        service_account_id=entry["service_account_id"],
        service_account=entry["_service_account"] or entry["service_account_id"],
        api_key_name=entry["api_key_name"],
        rotation_period=entry["rotation_period"],
        ttl=entry["ttl"],
        rotation_strategy=entry["rotation_strategy"],
        overlap=entry["overlap"],
    )
