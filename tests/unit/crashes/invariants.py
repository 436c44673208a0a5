# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants of the design, looked at from outside: in the double's own state and in what the stores hold.

Each function returns what is broken, as sentences without secrets.
"""

from __future__ import annotations

import typing as t

from lab import MARKER, PROJECT
from unit.crashes.world import ANOTHER_MACHINE, World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record, records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.holds import HOLDS, hold_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.counters import lease_numbers
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_state import STATIC, state_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Document, Store

FOLDERS = (
    "leases/",
    "refusals/",
    "intents/",
    "claims/",
    "watches/",
    "static/",
    "unfinished/",
    "library_intents/",
    "library/",
)
#: What the double calls a key that is made with its account.
_WITH_ACCOUNT = "Secret Key"
#: Returns what is broken in a world.
Check = t.Callable[[World], list[str]]
#: Others may be at work while one asks OpenAI first and the stores after that: what holds at each instant is broken if it is three times.
_LOOKS = 3


def documents(store: Store, folders: t.Iterable[str] = FOLDERS) -> list[Document]:
    """Return all documents beside the definitions, or those of some folders."""
    found = [one for folder in folders for one in store.scan(folder)]
    unreadable = [one for one in found if not isinstance(one, Document)]
    assert not unreadable, unreadable
    return t.cast("list[Document]", found)


def named(data: t.Any) -> t.Iterator[str]:
    """Yield every text that a document holds, at any depth."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, (dict, list, tuple)):
        for item in data.values() if isinstance(data, dict) else data:
            yield from named(item)


def at_every_instant(world: World) -> list[str]:
    """Invariants 1 to 4, which hold at each instant, whoever is in the middle of something."""
    for look in range(_LOOKS):
        broken = _accounted_for(world.look())
        if not broken or look == _LOOKS - 1:
            return broken
    raise AssertionError("unreachable")


def _accounted_for(world: World) -> list[str]:
    state = world.double.state()
    recorded: set[str] = set()
    configs: list[Data] = []
    broken: list[str] = []
    for store in world.stores:
        definitions = store.read(DEFINITIONS)
        if definitions:
            recorded.update(named(definitions.data))
            configs += [definitions.data["config"]] if definitions.data.get("config") else []
        found = documents(store)
        for document in found:
            recorded.update(named(document.data))
        if definitions:
            broken += _static_keys(world, state, definitions.data, found)
    theirs = world.foreign | world.handed_over
    broken += [
        f"1: account {account['name']} is live and no record names it"
        for account in state["service_accounts"]
        if account["id"] not in theirs and not recorded & {account["id"], account["name"]}
    ]
    broken += [
        f"1: key {key['name']} is live and no record names it"
        for key in _live(world, state)
        if key["name"] != _WITH_ACCOUNT and not recorded & {key["id"], key["name"]}
    ]
    broken += _lent_twice(world, state)
    broken += [
        f"1: admin key {key['name']} is live and no record names it"
        for key in state["admin_keys"]
        if key["id"] not in world.foreign | world.admin_keys_of_people and not recorded & {key["id"], key["name"]}
    ]
    now = world.clock.time
    works = {key["value"]: key["id"] for key in state["admin_keys"] if not key["expires_at"] or now < key["expires_at"]}
    if not any(
        config["admin_api_key"] in works and config["admin_api_key_id"] in (None, works[config["admin_api_key"]])
        for config in configs
    ):
        broken.append("2: no stored admin key works under its stored id")
    there = {one["id"] for kind in ("service_accounts", "api_keys", "admin_keys") for one in state[kind]}
    if not world.foreign <= there:
        broken.append("4: something of somebody else's is gone")
    return broken


def _live(world: World, state: Data) -> list[Data]:
    """Return the keys of accounts that work, but for those that others have made."""
    theirs = world.foreign | world.handed_over
    return [key for key in state["api_keys"] if key["id"] not in theirs and not _has_ended(world, key)]


def _has_ended(world: World, key: Data) -> bool:
    return bool(key["expires_at"]) and world.clock.time >= key["expires_at"]


def _static_keys(world: World, state: Data, definitions: Data, found: list[Document]) -> t.Iterator[str]:
    """Look whether the current key of each static role works: until its ttl is over, or somebody revokes it."""
    there = {document.path: document.data for document in found}
    works = {key["value"]: key["id"] for key in state["api_keys"] if not _has_ended(world, key)}
    for name, role in definitions.get("static_roles", {}).items():
        current = there.get(state_path(name), {})
        if current.get("current") is None or world.clock.time >= current["last_rotated"] + role["ttl"]:
            continue
        lease = there.get(lease_path(current["current"]), {})
        if lease.get("api_key_id") is None or works.get(lease.get("api_key")) != lease["api_key_id"]:
            yield f"2: the current key of static role {name} does not work"


def _lent_twice(world: World, state: Data) -> t.Iterator[str]:
    """Look whether somebody was given an account of a set while somebody else still has it."""
    works = {key["value"] for key in _live(world, state)}
    lent = [one for one in world.credentials if "checkout_time" in one and one["api_key"] in works]
    accounts = [one["service_account_id"] for one in lent]
    yield from (f"3: account {one} is lent twice" for one in sorted(set(accounts)) if accounts.count(one) > 1)


def at_rest(world: World, *more: Check) -> list[str]:
    """What holds when nobody is in the middle of anything, be it that somebody was killed there; and what more is to hold."""
    seen = world.look()
    return [broken for check in (_accounted_for, _at_rest, *more) for broken in check(seen)]


def _at_rest(world: World) -> list[str]:
    """A lease that is on record as active has a key that works until its end; and no secret is outside."""
    broken = active_without_key(
        world, {key["id"]: key["expires_at"] for key in world.double.state()["api_keys"]}, world.unwanted
    )
    if any(MARKER in text for text in world.said):
        broken.append("5: a secret was logged, shown or raised")
    if world.lab.vault is None and _on_disk(world):
        broken.append("5: a secret is on the disk in plain text")
    return broken


def active_without_key(world: World, ends: t.Mapping[str, int | None], unwanted: set[str]) -> list[str]:
    """Return which leases are on record as active without a key that works until their end, but for those that somebody wants
    ended. ends are when the keys that there are end, by their ids."""
    broken = []
    taken = _being_taken_back(world)
    for record in known(world):
        lease = record.lease
        if record.status != "active" or lease.lease_id in unwanted | taken:
            continue
        key_id = str(lease.api_key_id)
        end = ends.get(key_id)
        if key_id not in ends:
            broken.append(f"1: {lease.lease_id} is on record as active and has no key")
        elif end and end < lease.expires_at:
            broken.append(f"1: {lease.lease_id} is on record as active for longer than its key")
    return broken


def is_moving(world: World) -> bool:
    return any(
        "move" in document.data and not document.data["move"]["done"]
        for store in world.stores
        if (document := store.read(DEFINITIONS))
    )


def known(world: World) -> list[Record]:
    """Return all leases on record; none while the mount is being moved, since it cannot be listed then."""
    return [] if is_moving(world) else list(records(world.other(world.home())))


def _being_taken_back(world: World) -> set[str]:
    """Return the leases whose issue somebody is taking back: who issues it gives it to nobody."""
    found = (one.data for store in world.stores for one in documents(store, ("intents/", "claims/")))
    return {data["lease"]["lease_id"] for data in found if data["lease"] and (data["taken"] or not data["owner"])}


def _on_disk(world: World) -> bool:
    files = (path for path in world.lab.home.rglob("*") if path.is_file())
    return any(MARKER.encode() in path.read_bytes() for path in files)


def when_cleaned(world: World) -> list[str]:
    """What holds when cleanups have finished what was interrupted: a key of a static role or of a set is one that somebody
    can have, though it has not expired."""
    records = known(world)
    if not records:
        return []
    kept: set[str] = set()
    for document in documents(world.home()):
        if document.path.startswith((STATIC, HOLDS)):
            kept.update(named(document.data))
    return [
        f"1: {record.lease.lease_id} is on record as active and nobody can have its key"
        for record in records
        if record.status == "active"
        and (record.lease.static_role or record.lease.library_set)
        and record.lease.lease_id not in kept
    ]


def _lendable(definitions: Data) -> dict[str, str]:
    """Return the ids of the accounts that sets have, by where it is recorded who has them."""
    return {
        hold_path(name, account): account
        for name, library_set in definitions.get("library_sets", {}).items()
        for account in library_set["_accounts"].values()
    }


def unseen_work(world: World) -> list[tuple[str, int]]:
    """Return what processes on the other machine are at, as it is on record. An account that a set has dropped is nobody's."""
    found: list[tuple[str, int]] = []
    for store in world.stores:
        definitions = store.read(DEFINITIONS)
        lendable = _lendable(definitions.data) if definitions else {}
        found += [
            (one.path, one.version)
            for one in documents(store)
            if (owner := one.data.get("owner"))
            and owner["process"]["machine"] == ANOTHER_MACHINE
            and (not one.path.startswith(HOLDS) or one.path in lendable)
        ]
    # In whichever order the store tells of them.
    return sorted(found)


def at_the_end(world: World) -> list[str]:
    """What holds when all that was due has been done and every lease is over: neither side has anything left, but for the
    accounts of library sets, and what is on record of them and of static roles."""
    state = world.double.state()
    definitions = world.home().read(DEFINITIONS)
    assert definitions
    accounts = set(_lendable(definitions.data).values())
    stays = {*_lendable(definitions.data), *(state_path(name) for name in definitions.data.get("static_roles", {}))}
    broken = [
        f"1: account {account['name']} is left at OpenAI"
        for account in state["service_accounts"]
        if account["id"] not in world.foreign | world.handed_over | accounts
    ]
    assert all(account["project_id"] == PROJECT for account in state["service_accounts"])
    broken += [f"1: key {key['name']} is left at OpenAI" for key in _live(world, state)]
    if not accounts <= {account["id"] for account in state["service_accounts"]}:
        broken.append("1: a library set has an account that is not there")
    for store in world.stores:
        broken += [
            f"1: {document.path} is left in the store" for document in documents(store) if document.path not in stays
        ]
    if definitions.data.get("library_endings"):
        broken.append("1: an account that a library set has dropped is left in the definitions")
    numbers = lease_numbers(world.other(world.home()))
    issued, revoked = sum((numbers.issued or {}).values()), sum(numbers.revoked.values())
    made, deleted = world.accounts_made_and_deleted() or (issued, revoked)
    # An issue that comes to nothing while nothing can be written is not counted at all.
    missed = made - issued if world.store_was_down else 0
    if missed not in (0, 1) or (issued, revoked) != (made - missed, deleted - missed):
        broken.append(f"counters: {issued} issued and {revoked} revoked are counted, {made} and {deleted} were")
    if definitions.data.get("rotation"):
        broken.append("2: a rotation is left in the definitions")
    known = {definitions.data["config"]["admin_api_key_id"], *world.foreign, *world.admin_keys_of_people}
    broken += [f"1: admin key {key['name']} is left at OpenAI" for key in state["admin_keys"] if key["id"] not in known]
    return broken
