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
from .change import Outcome, whole, write_definition
from .in_project import account_name, check_project, merge_project, project_in_use, project_when_written

STATIC_ROLES = "static_roles"
NEW_KEY = "new_key"
NEW_ACCOUNT = "new_account"
#: Where the ttl leaves no more, a key is rotated so much before it has to be: a part of its period, at most so many seconds.
_PERIODS_PER_MARGIN = 10
_LONGEST_MARGIN = 7200


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
    def rotates_after(self) -> int:
        """Return after how many seconds a key is to be rotated."""
        return rotates_after(self.rotation_period, self.ttl, self.overlap)

    @property
    def origin(self) -> str:
        """Return which account a user has given: with another one, the key has to be another one."""
        return f"{self.project_id}/{self.service_account_id}"


def rotates_after(rotation_period: int, ttl: int, overlap: int) -> int:
    """Return after how many seconds a key is to be rotated: after the period, or a little earlier.

    Whoever rotates comes some time after that. By then OpenAI must not have ended the key, nor be about to end one that is to
    live on for the overlap.
    """
    margin = min(_LONGEST_MARGIN, rotation_period // _PERIODS_PER_MARGIN)
    return min(rotation_period, ttl - overlap - margin)


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
        with whole(f"static role {name!r}"):
            entry = _merge(before or defaults, given)
        project_id, warnings = project_when_written(entry, data, dry_run=dry_run)
        if project_id is not None:
            entry["_service_account"] = account_name(mount, before, entry, project_id)
        return entry

    outcome = write_definition(mount, STATIC_ROLES, name, make, dry_run=dry_run)
    return outcome._replace(warnings=warnings)


def _check_given(given: Data) -> None:
    """Raise if an option is wrong whatever the others are."""
    check_project(given)
    if "api_key_name" in given:
        check_name(given["api_key_name"], "api_key_name")
    if "service_account_id" in given:
        check_openai_id(given["service_account_id"], "service_account_id")


def _merge(before: Data, given: Data) -> Data:
    """Return a static role as it is stored: what is given, over what was there before."""
    nothing = dict.fromkeys(("service_account_id", "_service_account"))
    entry: Data = {**nothing, **before, **given, **merge_project(before, given)}
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


def find_static_role(mount: Mount, name: str, option: str = "name", *, definitions: Data | None = None) -> StaticRole:
    """Return a static role, or raise. definitions are those that were just read, if they were."""
    check_name(name, option)
    definitions = mount.all_definitions() if definitions is None else definitions
    entry = definitions.get(STATIC_ROLES, {}).get(name)
    if entry is None:
        # Without a config it is most likely the mount or the store that is not the one that was meant.
        mount.check_configured(definitions)
        raise OpenAICredsError(f"{option}: static role not found: {name!r}; see openai_static_role")
    with whole(f"static role {name!r}"):
        return StaticRole(
            name=name,
            project_id=project_in_use(mount, definitions, entry, f"static role {name!r}"),
            service_account_id=entry["service_account_id"],
            service_account=entry["_service_account"] or entry["service_account_id"],
            api_key_name=entry["api_key_name"],
            rotation_period=entry["rotation_period"],
            ttl=entry["ttl"],
            rotation_strategy=entry["rotation_strategy"],
            overlap=entry["overlap"],
        )
