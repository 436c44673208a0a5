# SPDX-License-Identifier: GPL-3.0-or-later
"""The model: what must exist at OpenAI, what may, and what must not.

must        the key that somebody was given, until its end, unless somebody has begun to end it; the mount's admin key;
            what others have, as it was
may         what a record of the mount names
must not    what somebody was told has ended; anything else of ours; at the end, all that is over
"""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime

from double.inside import InsideDouble
from unit.crashes.invariants import FOLDERS, active_without_key, documents, named
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


@dataclasses.dataclass
class Promise:
    """A key that somebody was given until a Unix time; as a run's, a static role's, or a holder's of a library account."""

    lease_id: str
    value: str
    until: int
    run: int | None = None
    static_role: str | None = None
    account: str | None = None


class Model:
    """What has been promised, and to be checked after each step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._double = t.cast(InsideDouble, world.double)
        self._foreign = self._foreign_facts()
        self.promises: dict[str, Promise] = {}
        #: Values of keys that somebody was told have ended.
        self.ended: dict[str, str] = {}
        self._values: dict[str, str] = {}
        #: Leases that somebody has begun to end.
        self.unwanted: set[str] = set()
        #: Names and ids of what is not the mount's any more, or not only: a forced revocation has forgotten it though OpenAI
        #: refused, or a person has given it to a static role.
        self.may_exist: set[str] = set()
        #: Admin keys that were rotated away.
        self.replaced: set[str] = set()

    # What happens.

    def give(self, credential: Data, **to: t.Any) -> None:
        """Somebody was given a credential."""
        lease_id = credential["lease_id"]
        self._values[lease_id] = credential["api_key"]
        if lease_id not in self.unwanted:
            until = int(datetime.fromisoformat(credential["expires_at"]).timestamp())
            self.promises[lease_id] = Promise(lease_id, credential["api_key"], until, **to)

    def end(self, lease_id: str) -> None:
        """Somebody begins to end a lease."""
        self.unwanted.add(lease_id)
        self.promises.pop(lease_id, None)

    def has_ended(self, lease_id: str) -> None:
        """Somebody was told that a lease has ended."""
        if value := self._values.get(lease_id):
            self.ended[value] = lease_id

    def shorten(self, lease_id: str, until: int) -> None:
        """A lease may end so early from now on."""
        if promise := self.promises.get(lease_id):
            promise.until = min(promise.until, until)

    def lengthen(self, lease_id: str, until: int) -> None:
        if promise := self.promises.get(lease_id):
            promise.until = until

    def end_of_run(self, run: int) -> None:
        for promise in list(self.promises.values()):
            if promise.run == run:
                self.end(promise.lease_id)

    def rotate_static_role(self, name: str, overlap: int) -> None:
        """Somebody begins to rotate a static role."""
        now = int(self._world.clock.time)
        for promise in list(self.promises.values()):
            if promise.static_role == name:
                if overlap:
                    self.shorten(promise.lease_id, now + overlap)
                else:
                    self.end(promise.lease_id)

    def forget(self, record: Record) -> None:
        """A forced revocation has dropped the record of something that is left at OpenAI."""
        lease = record.lease
        named_so = (lease.service_account_id, lease.api_key_id, lease.api_key_name, lease.service_account)
        self.may_exist.update(name for name in named_so if name)

    # What is checked.

    def broken(self) -> list[str]:
        """Return what does not hold, as sentences without secrets."""
        now = self._world.clock.time
        state = self._double.server.state
        broken = at_every_instant_but(self._world, self.may_exist)
        broken += self._unrecorded_keys()
        for promise in self.promises.values():
            if now < promise.until and not state.live_project_key(promise.value):
                broken.append(f"{promise.lease_id} was given to somebody, and its key does not work")
        broken += [
            f"{lease_id} has ended, and its key works"
            for value, lease_id in self.ended.items()
            if state.live_project_key(value)
        ]
        holders = [one.account for one in self.promises.values() if one.account and now < one.until]
        broken += [f"{account} is checked out twice" for account in set(holders) if holders.count(account) > 1]
        if self._foreign_facts() != self._foreign:
            broken.append("4: something of somebody else's was changed")
        return broken

    def _unrecorded_keys(self) -> list[str]:
        """A key of an account that is not a lease's own is on record itself."""
        recorded = names_on_record(self._world)
        now = int(self._world.clock.time)
        return [
            f"1: key {key.name} is live and no record names it"
            for project in self._double.server.state.projects
            for key in project.keys
            if key.id not in self._world.foreign
            and key.name != "Secret Key"
            and not key.expired(now)
            and not (recorded | self.may_exist) & {key.id, key.name}
        ]

    def records_that_lie(self) -> list[str]:
        """Return active leases on record without a key until their end."""
        keys = (key for project in self._double.server.state.projects for key in project.keys)
        return active_without_key(self._world, {key.id: key.expires_at for key in keys}, self.unwanted)

    def left(self, *, all_of_it: bool) -> list[str]:
        """Return what is left when every lease is over; with all_of_it what static roles and library sets have as well."""
        state = self._double.server.state
        mine = set(self._world.foreign) | self.may_exist
        definitions = self._world.home().read(DEFINITIONS)
        assert definitions
        if not all_of_it:
            for library_set in definitions.data.get("library_sets", {}).values():
                mine |= set(library_set["_accounts"].values())
        left = [
            f"account {account.name} is left at OpenAI"
            for project in state.projects
            for account in project.accounts
            if account.id not in mine
        ]
        ways = FOLDERS if all_of_it else [one for one in FOLDERS if one not in ("static/", "library/")]
        left += [f"{one.path} is left in the store" for store in self._world.stores for one in documents(store, ways)]
        if definitions.data.get("rotation"):
            left.append("a rotation is left in the definitions")
        config = definitions.data["config"]["admin_api_key_id"]
        people = self._world.foreign | self._world.admin_keys_of_people
        left += [
            f"admin key {key.name} is left at OpenAI"
            for key in state.admin_keys
            if key.id != config and (key.id not in people or key.id in self.replaced)
        ]
        return left

    def _foreign_facts(self) -> list[Data]:
        state = self._double.server.state
        facts = [one.facts() for project in state.projects for kind in (project.accounts, project.keys) for one in kind]
        facts += [one.facts() for one in state.admin_keys]
        return [{**one, "last_used_at": None} for one in facts if one["id"] in self._world.foreign]


def names_on_record(world: World) -> set[str]:
    """Return every text in the stores."""
    found: set[str] = set()
    for store in world.stores:
        if definitions := store.read(DEFINITIONS):
            found.update(named(definitions.data))
        for document in documents(store):
            found.update(named(document.data))
    return found


def at_every_instant_but(world: World, may_exist: set[str]) -> list[str]:
    """Return what invariants of the design are broken, but for what was given up."""
    recorded = names_on_record(world) | may_exist | world.foreign | world.admin_keys_of_people
    state = t.cast(InsideDouble, world.double).server.state
    broken = [
        f"1: account {account.name} is live and no record names it"
        for project in state.projects
        for account in project.accounts
        if not recorded & {account.id, account.name}
    ]
    broken += [
        f"1: admin key {key.name} is live and no record names it"
        for key in state.admin_keys
        if not recorded & {key.id, key.name}
    ]
    configs = [
        one.data["config"] for store in world.stores if (one := store.read(DEFINITIONS)) and one.data.get("config")
    ]
    if not any(
        (key := state.live_admin_key(config["admin_api_key"])) and config["admin_api_key_id"] in (None, key.id)
        for config in configs
    ):
        broken.append("2: no stored admin key works under its stored id")
    return broken
