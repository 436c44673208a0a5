# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants of the design, looked at from outside: in the double's own state and in what the stores hold.

Each function returns what is broken, as sentences without secrets.
"""

from __future__ import annotations

import typing as t

from lab import MARKER, PROJECT
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.counters import lease_numbers
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Document, Store

FOLDERS = ("leases/", "refusals/", "intents/", "claims/", "watches/")
#: Others may be at work while one looks, so that the two looks differ.
_LOOKS = 3


def documents(store: Store) -> list[Document]:
    """Return all documents beside the definitions."""
    found = [one for folder in FOLDERS for one in store.scan(folder)]
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
    """Invariants 1, 2 and 4, which hold at each instant, whoever is in the middle of something."""
    for look in range(_LOOKS):
        broken = _accounted_for(world)
        if not broken or look == _LOOKS - 1:
            return broken
    raise AssertionError("unreachable")


def _accounted_for(world: World) -> list[str]:
    state = world.double.state()
    recorded: set[str] = set()
    configs: list[Data] = []
    for store in world.stores:
        definitions = store.read(DEFINITIONS)
        if definitions:
            recorded.update(named(definitions.data))
            configs += [definitions.data["config"]] if definitions.data.get("config") else []
        for document in documents(store):
            recorded.update(named(document.data))
    broken = [
        f"1: account {account['name']} is live and no record names it"
        for account in state["service_accounts"]
        if account["id"] not in world.foreign and not recorded & {account["id"], account["name"]}
    ]
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


def at_rest(world: World) -> list[str]:
    """What holds when nobody is in the middle of anything, be it that somebody was killed there: a lease that is on record as
    active has a key that works until its end; and no secret is outside."""
    keys = {key["id"]: key for key in world.double.state()["api_keys"]}
    broken = []
    taken = _being_taken_back(world)
    for record in _records(world):
        lease = record.lease
        if record.status != "active" or lease.lease_id in world.unwanted | taken:
            continue
        key = keys.get(str(lease.api_key_id))
        if key is None:
            broken.append(f"1: {lease.lease_id} is on record as active and has no key")
        elif key["expires_at"] and key["expires_at"] < lease.expires_at:
            broken.append(f"1: {lease.lease_id} is on record as active for longer than its key")
    if any(MARKER in text for text in world.said):
        broken.append("5: a secret was logged, shown or raised")
    if world.lab.vault is None and _on_disk(world):
        broken.append("5: a secret is on the disk in plain text")
    return broken


def _records(world: World) -> list[t.Any]:
    # A mount that is being moved cannot be listed.
    moving = any("move" in (document.data if (document := store.read(DEFINITIONS)) else {}) for store in world.stores)
    return [] if moving else list(records(world.other(world.home())))


def _being_taken_back(world: World) -> set[str]:
    """Return the leases whose issue somebody is taking back: who issues it gives it to nobody."""
    intents = (one.data for store in world.stores for folder in ("intents/", "claims/") for one in store.scan(folder))  # type: ignore[union-attr]
    return {data["lease"]["lease_id"] for data in intents if data["lease"] and (data["taken"] or not data["owner"])}


def _on_disk(world: World) -> bool:
    files = (path for path in world.lab.home.rglob("*") if path.is_file())
    return any(MARKER.encode() in path.read_bytes() for path in files)


def at_the_end(world: World) -> list[str]:
    """What holds when all that was due has been done and every lease is over: neither side has anything left."""
    state = world.double.state()
    broken = [
        f"1: account {account['name']} is left at OpenAI"
        for account in state["service_accounts"]
        if account["id"] not in world.foreign
    ]
    assert all(account["project_id"] == PROJECT for account in state["service_accounts"])
    for store in world.stores:
        broken += [f"1: {document.path} is left in the store" for document in documents(store)]
    numbers = lease_numbers(world.other(world.home()))
    issued, revoked = sum((numbers.issued or {}).values()), sum(numbers.revoked.values())
    made, deleted = world.accounts_made_and_deleted()
    # An issue that comes to nothing while nothing can be written is not counted at all.
    missed = made - issued if world.store_was_down else 0
    if missed not in (0, 1) or (issued, revoked) != (made - missed, deleted - missed):
        broken.append(f"counters: {issued} issued and {revoked} revoked are counted, {made} and {deleted} were")
    definitions = world.home().read(DEFINITIONS)
    assert definitions
    if definitions.data.get("rotation"):
        broken.append("2: a rotation is left in the definitions")
    known = {definitions.data["config"]["admin_api_key_id"], *world.foreign, *world.admin_keys_of_people}
    broken += [f"1: admin key {key['name']} is left at OpenAI" for key in state["admin_keys"] if key["id"] not in known]
    return broken
