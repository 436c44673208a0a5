# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Library sets: pools of service accounts that are lent to one holder at a time.

A set's definition holds the ids of its accounts beside their names. An account that is dropped from a set moves, in the same
write, to those that are to be deleted; so each account that was made for a set is on record until OpenAI has deleted it.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..durations import parse_duration
from ..errors import OpenAICredsError
from ..journal.ending import Refusal
from ..journal.things import ACCOUNT, Thing
from ..mount import Mount
from ..names import check_name
from ..store.base import Data
from .change import Outcome, delete_definition, whole, write_definition
from .in_project import check_project, merge_project, project_when_written

SETS = "library_sets"
#: The accounts that no set has any more, by their ids.
ENDINGS = "library_endings"


class NotHeld(OpenAICredsError):
    """Accounts would be dropped that the caller does not keep from being lent; ids holds their ids by name."""

    def __init__(self, ids: dict[str, str]) -> None:
        super().__init__(f"{', '.join(ids)}: not held")
        self.ids = ids


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the accounts of a set are: what is made there is only ever ended there."""

    project_id: str
    endpoint: str
    organization_id: str | None


@dataclasses.dataclass(frozen=True)
class LibrarySet:
    """A library set as it is used. max_ttl is in seconds; accounts holds the ids of those that have been made, by name."""

    name: str
    origin: Origin
    max_ttl: int
    names: tuple[str, ...]
    accounts: dict[str, str]

    def thing(self, name: str | None, account_id: str | None = None) -> Thing:
        """Return an account of the set, or one to be made for it under a unique name."""
        at = self.origin
        return Thing(ACCOUNT, name, at.endpoint, at.organization_id, at.project_id, account_id)


@dataclasses.dataclass(frozen=True)
class AccountEnding:
    """An account that no set has any more, and that is to be deleted. refusal says that OpenAI has refused to."""

    subject: str
    thing: Thing
    refusal: Refusal | None = None

    def stored(self) -> Data:
        """Return it as JSON data."""
        return dataclasses.asdict(self)


def read_endings(mount: Mount) -> list[AccountEnding]:
    """Return the accounts that are to be deleted."""
    return [
        AccountEnding(data["subject"], Thing(**data["thing"]), data["refusal"] and Refusal(**data["refusal"]))
        for data in mount.definitions(ENDINGS).values()
    ]


def projects_with_accounts(mount: Mount) -> set[str]:
    """Return the ids of the projects in which sets have accounts, or had ones that are not deleted yet."""
    left = (str(ending.thing.project_id) for ending in read_endings(mount))
    return {*(one.origin.project_id for one in all_library_sets(mount) if one.accounts), *left}


def subject_of(mount: Mount, set_name: str, account: str) -> str:
    """Return what an account of a set is called in reports."""
    return f"{mount.name}/library/{set_name}/{account}"


def define_library_set(
    mount: Mount, name: str, *, defaults: Data, held: t.Container[str], dry_run: bool, **given: t.Any
) -> Outcome:
    """Write a set's definition from options as users give them. What is not given, or None, stays as it is stored; a new
    set has the defaults instead. Raises NotHeld if it would drop an account whose id is not in held.
    """
    check_name(name, "name")
    given = {option: value for option, value in given.items() if value is not None}
    _check_given(given)
    warnings: tuple[str, ...] = ()

    def make(before: Data, data: Data) -> Data:
        nonlocal warnings
        with whole(f"library set {name!r}"):
            entry = _merge(before or defaults, given)
        stored = read_library_set(name, before) if before else None
        project_id, warnings = project_when_written(entry, data, dry_run=dry_run)
        if project_id is None:
            return entry
        config = data.get("config") or {}
        origin = Origin(project_id, config.get("api_endpoint", ""), config.get("organization_id"))
        had: dict[str, str] = {}
        if stored and stored.accounts:
            had, origin = stored.accounts, stored.origin
            if origin.project_id != project_id:
                raise OpenAICredsError(
                    f"project, project_id: the accounts of library set {name!r} are in {origin.project_id}; delete the set first "
                    f"to have accounts in {project_id}"
                )
        dropped = {account: id_ for account, id_ in had.items() if account not in entry["service_account_names"]}
        entry["_accounts"] = {account: id_ for account, id_ in had.items() if account not in dropped}
        entry["_at"] = dataclasses.asdict(origin)
        _drop(mount, name, origin, dropped, data, held)
        return entry

    outcome = write_definition(mount, SETS, name, make, dry_run=dry_run)
    return outcome._replace(warnings=warnings)


def drop_library_set(mount: Mount, name: str, *, held: t.Container[str], dry_run: bool) -> Outcome:
    """Forget a set; its accounts are to be deleted. Raises NotHeld if one of them has an id that is not in held."""
    check_name(name, "name")

    def check(data: Data) -> None:
        library_set = read_library_set(name, data[SETS][name])
        _drop(mount, name, library_set.origin, library_set.accounts, data, held)

    return delete_definition(mount, SETS, name, check, dry_run=dry_run)


def _drop(mount: Mount, name: str, origin: Origin, dropped: dict[str, str], data: Data, held: t.Container[str]) -> None:
    """Move accounts to those that are to be deleted."""
    if missing := {account: id_ for account, id_ in dropped.items() if id_ not in held}:
        raise NotHeld(missing)
    for account, id_ in dropped.items():
        thing = Thing(ACCOUNT, account, origin.endpoint, origin.organization_id, origin.project_id, id_)
        data.setdefault(ENDINGS, {})[id_] = AccountEnding(subject_of(mount, name, account), thing).stored()


def _check_given(given: Data) -> None:
    """Raise if an option is wrong whatever the others are."""
    check_project(given)
    if "service_account_names" in given:
        names = given["service_account_names"]
        if not names:
            raise OpenAICredsError(
                "service_account_names: give at least one name; to delete the set, use state: absent"
            )
        for account in names:
            check_name(account, "service_account_names")
        if twice := sorted({account for account in names if names.count(account) > 1}):
            raise OpenAICredsError(f"service_account_names: {', '.join(twice)} is given more than once")


def _merge(before: Data, given: Data) -> Data:
    """Return a set as it is stored: what is given, over what was there before."""
    entry: Data = {"_accounts": {}, "_at": None, **before, **given, **merge_project(before, given)}
    if "service_account_names" not in entry:
        raise OpenAICredsError("service_account_names: give the names of the new library set's accounts")
    return {**entry, "max_ttl": parse_duration(entry["max_ttl"], "max_ttl")}


def warn_undefined(mount: Mount, name: str) -> list[str]:
    """Return a warning if there is no such library set, for a dry run, in which an earlier task may define it."""
    if name in mount.definitions(SETS):
        return []
    return [f"name: library set not found: {name!r} (a real run fails unless it has been defined by then)"]


def find_library_set(mount: Mount, name: str) -> LibrarySet:
    """Return a set to lend accounts of, or raise."""
    check_name(name, "name")
    library_set = defined_library_set(mount, name)
    if library_set is None:
        # Without a config it is most likely the mount or the store that is not the one that was meant.
        mount.check_configured()
        raise OpenAICredsError(f"name: library set not found: {name!r}; see openai_library_set")
    return library_set


def defined_library_set(mount: Mount, name: str) -> LibrarySet | None:
    """Return a set, or None if there is none of this name."""
    entry = mount.definitions(SETS).get(name)
    return read_library_set(name, entry) if entry else None


def all_library_sets(mount: Mount) -> list[LibrarySet]:
    """Return all sets of a mount."""
    return [read_library_set(name, entry) for name, entry in mount.definitions(SETS).items()]


def read_library_set(name: str, entry: Data) -> LibrarySet:
    """Return a set from how it is stored."""
    with whole(f"library set {name!r}"):
        names = tuple(entry["service_account_names"])
        return LibrarySet(name, Origin(**entry["_at"]), entry["max_ttl"], names, dict(entry["_accounts"]))


def put_account(mount: Mount, library_set: LibrarySet, account: str, account_id: str, replaces: str | None) -> bool:
    """Record the id of an account that was made for a set, in the place of another one; returns whether it is on record then.

    It is not if the set does not want it any more, or another one was made meanwhile.
    """
    ours = False

    def change(data: Data) -> bool:
        nonlocal ours
        entry = data.get(SETS, {}).get(library_set.name)
        ours = False
        if entry is None or account not in entry["service_account_names"]:
            return False
        now = entry["_accounts"].get(account)
        ours = now == account_id
        if ours or now != replaces or Origin(**entry["_at"]) != library_set.origin:
            return False
        entry["_accounts"][account] = account_id
        ours = True
        return True

    mount.define(change)
    return ours
