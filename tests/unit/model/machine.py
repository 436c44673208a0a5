# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations by several controllers and runs, with random accidents, a moved clock, and others at work meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import typing as t

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lab import MARKER, PROJECT, Lab
from unit.conftest import Clock, Crash
from unit.crashes.invariants import documents, is_moving, known
from unit.crashes.world import WatchedStore, World
from unit.model.actors import MACHINES, TROUBLES, Actor, Actors, Meanwhile, Trouble
from unit.model.expectations import Model

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.ending import Ended
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record, find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.run_end import (
    forget_claims,
    revoke_taken,
    take_back_interrupted,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import (
    own_credential,
    shared_credential,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.taken import TakenLease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.withdraw import revoke_found
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS, Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import adopt, rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    delete_static_role,
    rotate_static_role,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_state import read_state
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import Process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move

#: Roles of the mount, with what they have beside the lab's. Accounts have fixed ids, so that they can be named.
ROLES: dict[str, Data] = {
    "my-role": {},
    "scoped": {"scopes": ["api.model.read"]},
    "lasting": {"native_expiry": False},
    "keys": {"service_account_id": "svc_acct_roles"},
}
ACCOUNTS = ("svc_acct_roles", "svc_acct_static")
#: Static roles with their strategy and overlap.
STATIC_ROLES = {"by-key": ("new_key", 600), "by-account": ("new_account", 0)}
_STATIC_DEFAULTS = {"api_key_name": "vault-static-key", "rotation_period": "24h", "ttl": "48h"}
_SET_DEFAULTS = {"max_ttl": "24h", "description": ""}
_GRACE = 600
_A_DAY = 86400
_names = itertools.count(1)

MACHINE = st.sampled_from(MACHINES)
ROLE = st.sampled_from(sorted(ROLES))
TTL = st.sampled_from([None, 60, 1800, 7200])
RUN = st.integers(0, 2)
STATIC = st.sampled_from(sorted(STATIC_ROLES))
CHOICE = st.integers(0, 7)
LIBRARY_ACCOUNTS = ("one", "two", "three")
CLEANUP = st.fixed_dictionaries(
    {
        "orphans": st.sampled_from(["delete", "report", "ignore"]),
        "max_concurrency": st.sampled_from([1, 4]),
        "limit": st.sampled_from([None, None, 1, 2]),
        "grace": st.sampled_from([_GRACE, _GRACE, 60, 0]),
    }
)


@dataclasses.dataclass
class Run:
    """A run that goes on. taken are the leases that it remembers."""

    number: int
    machine: str
    process: Process
    taken: list[TakenLease] = dataclasses.field(default_factory=list)

    def note(self, lease: Lease | None) -> None:
        if lease:
            self.taken.append(TakenLease(lease.lease_id, lease.thing))


class Operations:
    """What can be done: each is called with the mount as whoever does it has opened it, and what it tells the model."""

    lab: Lab
    clock: Clock
    actors: Actors
    world: World
    model: Model
    runs: dict[int, Run]
    _run_numbers: t.Iterator[int]

    def issue(self, mount: Mount, role: str, ttl: int | None) -> None:
        self.model.give(issue(mount, role, ttl))

    def shared(self, mount: Mount, run: Run, role: str, ttl: int | None) -> None:
        credential, _new = shared_credential(mount, role, ttl, 300, run.note)
        if run.number in {one.number for one in self.runs.values()}:
            self.model.give(credential, run=run.number)

    def own(self, mount: Mount, run: Run, role: str, ttl: int | None) -> None:
        credential = own_credential(mount, role, ttl, run.note)
        if run.number in {one.number for one in self.runs.values()}:
            self.model.give(credential, run=run.number)

    def end_run(self, mount: Mount, run: Run) -> None:
        """As the callback does it."""
        errors = list(take_back_interrupted(mount))
        ended = list(revoke_taken(mount, run.taken, concurrency=16))
        self._has_ended(ended)
        forget_claims(mount, leases_stay=False)
        errors += [OpenAICredsError(str(one.error)) for one in ended if one.error]
        if errors:
            raise errors[0]

    def renew(self, mount: Mount, lease_id: str, increment: int | None) -> None:
        record = find_record(mount, lease_id)
        if record is None:
            raise OpenAICredsError("lease_id: it has ended")
        now = int(self.clock.time)
        before = self.model.promises.get(lease_id)
        self.model.shorten(lease_id, now + (increment or record.lease.duration))
        disturbed = len(self.actors.stack) > 1
        renewed = renew(mount, record, increment, dry_run=False)
        if before and not disturbed and not self.actors.stack[-1].disturbed:
            self.model.lengthen(lease_id, renewed.lease.expires_at)
        else:
            self.model.shorten(lease_id, renewed.lease.expires_at)

    def revoke(self, mount: Mount, records: t.Sequence[Record], prefix: str | None, *, force: bool) -> None:
        for record in records:
            self.model.end(record.subject)

        def find() -> list[Record]:
            found = matching(mount, prefix) if prefix else []
            for record in found:
                self.model.end(record.subject)
            return found

        found = find() if prefix else list(records)
        ended = revoke_found(mount, found, find, force=force)
        for one in ended:
            if one.dropped:
                self.model.forget(one.record)
        self._has_ended(ended)
        if errors := [one.error for one in ended if one.error]:
            raise OpenAICredsError(errors[0])

    def rotate(self, mount: Mount, overlap: int, expires_in: int | None) -> None:
        report = rotate(mount, always=True, overlap=overlap, expires_in=expires_in, dry_run=False)
        self.model.replaced.update(filter(None, [report.replaced]))

    def adopt(self, mount: Mount, overlap: int) -> None:
        key = self._admin_key("made elsewhere")
        report = adopt(mount, key["value"], key["id"], overlap=overlap, dry_run=False)
        self.model.replaced.update(filter(None, [report.replaced]))

    def write_config(self, mount: Mount, validate: bool) -> None:
        key = self._admin_key("made by hand")
        write_config(
            mount,
            admin_api_key=key["value"],
            admin_api_key_id=key["id"],
            organization_id=None,
            api_endpoint=None,
            replace_key=True,
            validate=validate,
            dry_run=False,
        )

    def clean(self, mount: Mount, **options: t.Any) -> Data:
        result = cleanup(mount, **{**_CLEAN, **options})
        if not options.get("dry_run"):
            for lease_id in (*result["revoked"], *result["checked_in"]):
                self.model.has_ended(lease_id)
        return result

    def write_static_role(self, mount: Mount, name: str) -> None:
        strategy, overlap = STATIC_ROLES[name]
        self.model.rotate_static_role(name, overlap)
        write_static_role(
            mount,
            name,
            defaults={**_STATIC_DEFAULTS, "rotation_strategy": strategy, "overlap": str(overlap)},
            dry_run=False,
            project_id=PROJECT,
            service_account_id=self._given_account(mount, name),
        )

    def _given_account(self, mount: Mount, name: str) -> str:
        """Return the account that a user gives a static role. With new_account it ends when that is rotated."""
        if name == "by-key":
            return ACCOUNTS[1]
        defined = mount.definitions("static_roles").get(name)
        if defined:
            return str(defined["service_account_id"])
        account = self.world.double.add_service_account(PROJECT, "taken-over")
        self.model.may_exist |= {account["id"], account["api_key"]["id"]}
        return str(account["id"])

    def rotate_static_role(self, mount: Mount, name: str, always: bool) -> None:
        self.model.rotate_static_role(name, STATIC_ROLES[name][1])
        rotate_static_role(mount, name, always=always)

    def delete_static_role(self, mount: Mount, name: str) -> None:
        self.model.rotate_static_role(name, 0)
        delete_static_role(mount, name, dry_run=False)

    def read_static_role(self, mount: Mount, name: str) -> None:
        credential = current_credential(mount, name)
        # One that is being rotated just now may be replaced at any time.
        if len(self.actors.stack) == 1 and read_state(mount, name).value.next is None:
            self.model.give(credential, static_role=name)

    def write_library_set(self, mount: Mount, names: t.Sequence[str]) -> None:
        write_library_set(
            mount, "pool", defaults=_SET_DEFAULTS, dry_run=False, project="lab", service_account_names=list(names)
        )

    def delete_library_set(self, mount: Mount) -> None:
        delete_library_set(mount, "pool", dry_run=False)

    def check_out(self, mount: Mount, ttl: int) -> None:
        credential = check_out(mount, "pool", ttl)
        self.model.give(credential, account=credential["service_account_id"])

    def check_in(self, mount: Mount, account: str) -> None:
        definitions = mount.definitions("library_sets").get("pool", {})
        account_id = definitions.get("_accounts", {}).get(account)
        for promise in list(self.model.promises.values()):
            if promise.account == account_id:
                self.model.end(promise.lease_id)
        lease_id = check_in(mount, "pool", account=account, account_id=None, force=False, dry_run=False)
        if lease_id:
            self.model.has_ended(lease_id)

    def move(self, mount: Mount, there: Store) -> None:
        target = self._mount(there)
        move(mount, target, to=f"store {self.world.stores.index(there)}", grace=_GRACE, dry_run=False)

    # What these need.

    def _has_ended(self, ended: t.Iterable[Ended[t.Any]]) -> None:
        for one in ended:
            if one.error is None:
                self.model.has_ended(one.record.subject)

    def _admin_key(self, name: str) -> Data:
        key: Data = self.world.double.add_admin_key(name)
        self.world.admin_keys_of_people.add(key["id"])
        return key

    def _mount(self, store: Store) -> Mount:
        return Mount(
            self.world.name,
            WatchedStore(store, self.actors.event),
            {"user": "somebody"},
            log=self.world.said.append,
            warn=self.world.said.append,
            clock=self.clock,
        )


_CLEAN = {"orphans": "delete", "max_concurrency": 4, "limit": None, "grace": _GRACE, "dry_run": False}
#: What somebody else may do while a process stands still.
MEANWHILE = (
    "clean",
    "issue",
    "revoke",
    "revoke all",
    "renew",
    "rotate",
    "write_config",
    "end run",
    "share",
    "rotate_static_role",
    "delete_static_role",
    "write_library_set",
    "delete_library_set",
    "check_out",
    "check_in",
    "move",
)
TROUBLE = st.one_of(
    st.none(),
    st.builds(Trouble, st.sampled_from(TROUBLES), st.integers(1, 8)),
    st.builds(
        Meanwhile,
        st.sampled_from(MEANWHILE),
        st.integers(1, 12),
        st.booleans(),
        st.sampled_from([0, 0, 1, _GRACE + 1, 3600, _A_DAY + 1]),
        MACHINE,
        CHOICE,
    ),
)


class Machine(Operations, RuleBasedStateMachine):
    """One mount, and all who work on it."""

    definitions: t.ClassVar[Data]
    another_store: t.ClassVar[t.Callable[[World], Store]]
    start_time: t.ClassVar[float]
    steps: t.ClassVar[int] = 0

    @initialize(refuses=st.booleans())
    def start(self, refuses: bool) -> None:
        double = self.lab.double
        double.reset()
        # OpenAI may delete keys of service accounts, or only let them end.
        double.settings(refuse_service_account_key_delete=refuses)
        self.clock.time = self.start_time
        self.clock.move(0)
        foreign = [double.add_service_account(PROJECT, account, id=account) for account in ACCOUNTS]
        self.actors.stack.clear()
        self.actors.meanwhile = self._meanwhile
        self.world = World(self.lab, self.clock, f"m{next(_names)}", self.definitions, self.actors.event)
        self.world.foreign |= {one["id"] for one in foreign} | {one["api_key"]["id"] for one in foreign}
        self.world.add_store(type(self).another_store(self.world))
        self.model = Model(self.world)
        self.runs = {}
        self._run_numbers = itertools.count()
        self._latest: list[str] = []

    # How things are done.

    def do(
        self,
        machine: str,
        trouble: Trouble | Meanwhile | None,
        what: t.Callable[[Mount], object],
        *,
        run: Run | None = None,
        process: Process | None = None,
        succeeds: bool = False,
    ) -> bool:
        """Let a new process of a machine do something; returns whether it succeeded."""
        type(self).steps += not self.actors.stack
        actor = Actor(self.world, trouble, run.number if run else None)
        moving = is_moving(self.world)
        error: BaseException | None = None
        with self.actors.at_work(actor, process or self.actors.process(machine), run and run.process):
            try:
                what(self._mount(self.world.home()))
            except (OpenAICredsError, Crash) as failure:
                error = failure
        self.world.double.clear_faults()
        stack, self.actors.stack = self.actors.stack, []
        for call in actor.here.late:
            with contextlib.suppress(Exception):
                call()
        self.actors.stack = stack
        if error:
            note(f"    {type(error).__name__}: {error}")
            self.world.said.append(str(error))
        if succeeds and not actor.disturbed and not stack and not moving:
            assert error is None, f"nothing was in its way: {error}"
        return error is None

    def _meanwhile(self, meanwhile: Meanwhile) -> None:
        """Do what somebody else does while the others stand still."""
        machine, choice = meanwhile.machine, meanwhile.choice
        self.clock.move(meanwhile.seconds)
        others: dict[str, t.Callable[[], object]] = {
            "clean": lambda: self.do(machine, None, self.clean),
            "issue": lambda: self.do(machine, None, lambda mount: self.issue(mount, "my-role", None)),
            "revoke": lambda: self._revoke_one(machine, None, choice, force=False),
            "revoke all": lambda: self._revoke_all(machine, None),
            "renew": lambda: self._renew(machine, None, choice, 1200),
            "rotate": lambda: self.do(machine, None, lambda mount: self.rotate(mount, 0, None)),
            "write_config": lambda: self.do(machine, None, lambda mount: self.write_config(mount, True)),
            "end run": lambda: self._end_run(choice % 3, None),
            "share": lambda: self._lookup(self.shared, choice % 3, None, "my-role", None),
            "write_library_set": lambda: self.do(machine, None, lambda mount: self.write_library_set(mount, ["one"])),
            "delete_library_set": lambda: self.do(machine, None, self.delete_library_set),
            "check_out": lambda: self.do(machine, None, lambda mount: self.check_out(mount, 600)),
            "check_in": lambda: self.do(
                machine, None, lambda mount: self.check_in(mount, LIBRARY_ACCOUNTS[choice % 3])
            ),
            "move": lambda: self._move(machine, None),
        }
        static = sorted(STATIC_ROLES)[choice % 2]
        others["rotate_static_role"] = lambda: self.do(
            machine, None, lambda mount: self.rotate_static_role(mount, static, True)
        )
        others["delete_static_role"] = lambda: self.do(
            machine, None, lambda mount: self.delete_static_role(mount, static)
        )
        note(f"    meanwhile: {meanwhile.what}")
        others[meanwhile.what]()

    def _lease(self, machine: str, choice: int) -> Record | None:
        """Choose a lease on record, the latest first."""
        with self.actors.watching(machine):
            found = known(self.world)
        return found[-1 - choice % len(found)] if found else None

    # Rules.

    @rule(machine=MACHINE, role=ROLE, ttl=TTL, trouble=TROUBLE)
    def issues(self, machine: str, role: str, ttl: int | None, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.issue(mount, role, ttl), succeeds=True)

    @rule(number=RUN, role=ROLE, ttl=TTL, trouble=TROUBLE)
    def looks_up_shared(self, number: int, role: str, ttl: int | None, trouble: t.Any) -> None:
        self._lookup(self.shared, number, trouble, role, ttl)

    @rule(number=RUN, role=ROLE, ttl=TTL, trouble=TROUBLE)
    def looks_up_own(self, number: int, role: str, ttl: int | None, trouble: t.Any) -> None:
        self._lookup(self.own, number, trouble, role, ttl)

    def _lookup(self, ask: t.Callable[..., None], number: int, trouble: t.Any, role: str, ttl: int | None) -> None:
        if number not in self.runs:
            machine = MACHINES[number // 2]
            self.runs[number] = Run(next(self._run_numbers), machine, self.actors.process(machine))
        run = self.runs[number]
        if any(actor.run == run.number for actor in self.actors.stack):
            return  # it would wait for a process that stands still
        self.do(run.machine, trouble, lambda mount: ask(mount, run, role, ttl), run=run)

    @rule(number=RUN, trouble=TROUBLE)
    def run_ends(self, number: int, trouble: t.Any) -> None:
        self._end_run(number, trouble)

    def _end_run(self, number: int, trouble: t.Any) -> None:
        run = self.runs.get(number)
        if run and not any(actor.run == run.number for actor in self.actors.stack):
            del self.runs[number]
            self.model.end_of_run(run.number)
            self.do(run.machine, trouble, lambda mount: self.end_run(mount, run), run=run, process=run.process)

    @rule(number=RUN)
    def run_is_killed(self, number: int) -> None:
        if run := self.runs.pop(number, None):
            self.model.end_of_run(run.number)
            self.actors.end(run.process)

    @rule(machine=MACHINE, choice=CHOICE, increment=st.sampled_from([None, 60, 1200, 7200]), trouble=TROUBLE)
    def renews(self, machine: str, choice: int, increment: int | None, trouble: t.Any) -> None:
        self._renew(machine, trouble, choice, increment)

    def _renew(self, machine: str, trouble: t.Any, choice: int, increment: int | None) -> None:
        if record := self._lease(machine, choice):
            self.do(machine, trouble, lambda mount: self.renew(mount, record.subject, increment))

    @rule(machine=MACHINE, choice=CHOICE, force=st.booleans(), trouble=TROUBLE)
    def revokes(self, machine: str, choice: int, force: bool, trouble: t.Any) -> None:
        self._revoke_one(machine, trouble, choice, force=force)

    def _revoke_one(self, machine: str, trouble: t.Any, choice: int, *, force: bool) -> None:
        if record := self._lease(machine, choice):
            self.do(machine, trouble, lambda mount: self.revoke(mount, [record], None, force=force))

    @rule(machine=MACHINE, trouble=TROUBLE)
    def revokes_all(self, machine: str, trouble: t.Any) -> None:
        self._revoke_all(machine, trouble)

    def _revoke_all(self, machine: str, trouble: t.Any) -> None:
        prefix = f"{self.world.name}/creds"
        self.do(machine, trouble, lambda mount: self.revoke(mount, [], prefix, force=False))

    @rule(
        machine=MACHINE,
        overlap=st.sampled_from([0, 0, 3600]),
        expires_in=st.sampled_from([None, 365 * _A_DAY]),
        trouble=TROUBLE,
    )
    def rotates(self, machine: str, overlap: int, expires_in: int | None, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.rotate(mount, overlap, expires_in))

    @rule(machine=MACHINE, overlap=st.sampled_from([0, 3600]), trouble=TROUBLE)
    def adopts(self, machine: str, overlap: int, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.adopt(mount, overlap))

    @rule(machine=MACHINE, validate=st.booleans(), trouble=TROUBLE)
    def writes_config(self, machine: str, validate: bool, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.write_config(mount, validate))

    @rule(machine=MACHINE, options=CLEANUP, trouble=TROUBLE)
    def cleans_up(self, machine: str, options: Data, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.clean(mount, **options), succeeds=True)

    @rule(machine=MACHINE, name=STATIC, trouble=TROUBLE)
    def writes_static_role(self, machine: str, name: str, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.write_static_role(mount, name))

    @rule(machine=MACHINE, name=STATIC, always=st.booleans(), trouble=TROUBLE)
    def rotates_static_role(self, machine: str, name: str, always: bool, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.rotate_static_role(mount, name, always))

    @rule(machine=MACHINE, name=STATIC, trouble=TROUBLE)
    def deletes_static_role(self, machine: str, name: str, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.delete_static_role(mount, name))

    @rule(machine=MACHINE, name=STATIC)
    def reads_static_role(self, machine: str, name: str) -> None:
        self.do(machine, None, lambda mount: self.read_static_role(mount, name))

    @rule(
        machine=MACHINE,
        names=st.lists(st.sampled_from(LIBRARY_ACCOUNTS), min_size=1, unique=True),
        trouble=TROUBLE,
    )
    def writes_library_set(self, machine: str, names: list[str], trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.write_library_set(mount, names))

    @rule(machine=MACHINE, trouble=TROUBLE)
    def deletes_library_set(self, machine: str, trouble: t.Any) -> None:
        self.do(machine, trouble, self.delete_library_set)

    @rule(machine=MACHINE, ttl=st.sampled_from([600, 7200]), trouble=TROUBLE)
    def checks_out(self, machine: str, ttl: int, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.check_out(mount, ttl))

    @rule(machine=MACHINE, account=st.sampled_from(LIBRARY_ACCOUNTS), trouble=TROUBLE)
    def checks_in(self, machine: str, account: str, trouble: t.Any) -> None:
        self.do(machine, trouble, lambda mount: self.check_in(mount, account))

    @rule(machine=MACHINE, trouble=TROUBLE)
    def moves(self, machine: str, trouble: t.Any) -> None:
        self._move(machine, trouble)

    def _move(self, machine: str, trouble: t.Any) -> None:
        home = self.world.home()
        there = next(store for store in self.world.stores if store is not home)
        self.do(machine, trouble, lambda mount: self.move(mount, there))

    @rule(seconds=st.sampled_from([1, 61, _GRACE + 1, 3601, _A_DAY + 1]))
    def time_passes(self, seconds: int) -> None:
        type(self).steps += 1
        self.clock.move(seconds)

    @rule(machine=MACHINE, options=CLEANUP, choice=CHOICE, what=st.sampled_from(["clean", "rotate", "renew", "delete"]))
    def dry_run(self, machine: str, options: Data, choice: int, what: str) -> None:
        """A dry run changes nothing."""
        record = self._lease(machine, choice)
        static = sorted(STATIC_ROLES)[choice % 2]
        runs: dict[str, t.Callable[[Mount], object]] = {
            "clean": lambda mount: self.clean(mount, **options, dry_run=True),
            "rotate": lambda mount: rotate(mount, always=True, overlap=0, expires_in=None, dry_run=True),
            "renew": lambda mount: record and renew(mount, record, None, dry_run=True),
            "delete": lambda mount: delete_static_role(mount, static, dry_run=True),
        }
        before = self._everything()
        self.do(machine, None, runs[what])
        assert self._everything() == before, f"a dry run of {what} has changed something"

    def _everything(self) -> t.Any:
        stored = [(one.path, one.version) for store in self.world.stores for one in documents(store)]
        definitions = [one and (one.version) for store in self.world.stores for one in [store.read(DEFINITIONS)]]
        return stored, definitions, t.cast(t.Any, self.world.double).server.state.version

    # What holds.

    @invariant()
    def holds(self) -> None:
        with self.actors.watching(MACHINES[0]):
            broken = self.model.broken() + self.model.records_that_lie()
        if any(MARKER in text for text in self.world.said):
            broken.append("5: a secret was logged, shown or raised")
        self.world.said.clear()
        assert not broken, broken[0] if len(broken) == 1 else broken

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for number in list(self.runs):
            self.run_is_killed(number)
        self.clock.move(_GRACE + 1)
        self.holds()
        if is_moving(self.world):
            self._move(MACHINES[0], None)
            assert not is_moving(self.world), "a move that was interrupted cannot be finished"
        self._clean_to_the_end()
        self._check_left(all_of_it=False)
        for name in STATIC_ROLES:
            assert self.do(MACHINES[0], None, lambda mount, name=name: self.delete_static_role(mount, name))  # type: ignore[misc]
        self.do(MACHINES[0], None, self.delete_library_set)
        self._clean_to_the_end()
        self._check_left(all_of_it=True)

    def _clean_to_the_end(self) -> None:
        self.clock.move(2 * _A_DAY)
        failed: list[Data] = []

        def clean(mount: Mount) -> None:
            nonlocal failed
            failed = self.clean(mount)["failed"]

        for _round in range(6):
            assert self.do(MACHINES[0], None, clean, succeeds=True)
            self.clock.move(3601)
        # What is known of a run that nobody sees is forgotten a day after its leases have ended.
        self.clock.move(2 * _A_DAY)
        self.do(MACHINES[0], None, clean)
        assert not failed, f"9: cleanup does not come to an end: {failed}"
        self.holds()

    def _check_left(self, *, all_of_it: bool) -> None:
        left = self.model.left(all_of_it=all_of_it)
        assert not left, left
