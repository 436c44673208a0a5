# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a scenario takes place: a mount whose every call and write can go wrong, and other people beside it."""

from __future__ import annotations

import collections
import contextlib
import copy
import subprocess
import threading
import traceback
import typing as t

from ansible.parsing.vault import VaultSecret
from double.client import Double
from lab import PROJECT, ROLE, VAULT_PASSWORD, Lab
from unit.conftest import Clock

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions import roles
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS, Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import processes
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import (
    Data,
    Document,
    Found,
    Store,
    Survey,
    Write,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

_T = t.TypeVar("_T")

ANOTHER_MACHINE = "another machine"
#: Called around each call to OpenAI ("call") and each change of the store ("write"): with the kind of event, what it is
#: in words, what does it, and for a write of several documents what does the first half of it.
OnEvent = t.Callable[[str, str, t.Callable[[], t.Any], "t.Callable[[], t.Any] | None"], t.Any]


class WatchedStore(Store):
    """A store whose writes and deletions are events."""

    def __init__(self, true: Store, on_event: OnEvent) -> None:
        self._true = true
        self._on_event = on_event
        self.place = true.place
        self.batch = true.batch  # type: ignore[misc]

    def write(self, *writes: Write) -> None:
        if writes:
            self._event("write", self._true.write, writes, [write.path for write in writes])

    def delete(self, *paths: str) -> None:
        if paths:
            self._event("delete", self._true.delete, paths, paths)

    def _event(self, verb: str, do: t.Callable[..., None], items: t.Sequence[t.Any], paths: t.Sequence[str]) -> None:
        half = (lambda: do(*items[: len(items) // 2])) if len(items) > 1 else None
        self._on_event("write", f"{verb} {' '.join(paths)}", lambda: do(*items), half)

    def read(self, path: str) -> Document | None:
        return self._true.read(path)

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Found]:
        return self._true.read_each(paths)

    def scan(self, prefix: str) -> t.Iterator[Found]:
        return self._true.scan(prefix)

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        return self._true.survey(prefix, now, tidy=tidy)

    def prepare(self, writes: int) -> None:
        self._true.prepare(writes)

    def expect_reads(self, *paths: str) -> None:
        self._true.expect_reads(*paths)

    def check_rights(self) -> None:
        self._true.check_rights()

    def new_key(self, folder: str, due: int) -> str:
        return self._true.new_key(folder, due)

    def check_writable(self, path: str) -> None:
        self._true.check_writable(path)


class ReadOnce(Store):
    """A store for one look at another: it reads each document and each folder once, and writes nothing."""

    def __init__(self, true: Store) -> None:
        self._true = true
        self.place = true.place
        self.batch = true.batch  # type: ignore[misc]
        self._documents: dict[str, Document | None] = {}
        self._folders: dict[str, list[Found]] = {}

    def read(self, path: str) -> Document | None:
        if path not in self._documents:
            self._documents[path] = self._true.read(path)
        return self._documents[path]

    def scan(self, prefix: str) -> t.Iterator[Found]:
        if prefix not in self._folders:
            self._folders[prefix] = list(self._true.scan(prefix))
        return iter(self._folders[prefix])

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        return self._true.survey(prefix, now, tidy=False)

    def due(self, folder: str, now: int, *, tidy: bool) -> t.Iterator[Found]:
        return self._true.due(folder, now, tidy=False)

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Found]:
        return self._true.read_each(paths)

    def write(self, *writes: Write) -> None:
        raise NotImplementedError

    def delete(self, *paths: str) -> None:
        raise NotImplementedError

    def new_key(self, folder: str, due: int) -> str:
        raise NotImplementedError


class World:
    """One mount of its own, with the role my-role, and what others have in the same organization.

    mount is whose calls and writes go wrong; keys and lease ids that somebody was given are in credentials.
    """

    def __init__(self, lab: Lab, clock: Clock, name: str, definitions: Data, on_event: OnEvent) -> None:
        self.lab = lab
        self.clock = clock
        self.name = name
        self.double: Double = lab.double
        self._on_event = on_event
        #: Where the mount's state is, or may be while it is moved.
        self.stores = [lab.store(name)]
        self.said: list[str] = []
        self.credentials: list[Data] = []
        #: Leases that somebody wants ended: they may stay on record for a while after they have ended.
        self.unwanted: set[str] = set()
        #: Ids of admin keys that people have made; they may be left.
        self.admin_keys_of_people = {lab.double.admin_key_id}
        #: Ids of accounts that people have made and handed over to the mount, which may delete them; and of their keys.
        self.handed_over: set[str] = set()
        #: What somebody else does while the process stands still for so long that it is taken for dead.
        self.while_stalled: t.Callable[[], object] = lambda: None
        self.errors: list[BaseException] = []
        #: Whether the store may have refused every write for a while.
        self.store_was_down = False
        self._first_request = lab.double.mark()
        self._exempt: set[int] = set()
        self._counts: collections.Counter[str] = collections.Counter()
        self._meanwhile: dict[tuple[str, int], t.Callable[[], object]] = {}
        self._threads: list[threading.Thread] = []
        self._run: subprocess.Popen[bytes] | None = None
        self.stores[0].write(Write(DEFINITIONS, definitions))
        self.foreign = self._add_foreign()
        self.mount = self.open(self.stores[0])

    def _add_foreign(self) -> set[str]:
        """Make what others have: accounts and admin keys whose names look like the mount's own; returns all ids."""
        accounts = [
            self.double.add_service_account(PROJECT, "vault-my-role-0a1b2c3d"),
            self.double.add_service_account(PROJECT, "vault-my-role-00000000"),
        ]
        keys = [account["api_key"]["id"] for account in accounts]
        admin_key = self.double.add_admin_key(f"ephemeral-openai-{self.name}-0123456789abcdef")
        return {*(account["id"] for account in accounts), *keys, admin_key["id"]}

    def account(self, *, handed_over: bool = False) -> str:
        """Make an account with a key, as a person does; returns its id. One that is not handed over is never touched."""
        with self.others():
            account = self.double.add_service_account(PROJECT, "workload")
        ids = {account["id"], account["api_key"]["id"]}
        (self.handed_over if handed_over else self.foreign).update(ids)
        return str(account["id"])

    def open(self, store: Store) -> Mount:
        """Return the mount in a store, for whose calls and writes can go wrong."""
        return Mount(
            self.name,
            WatchedStore(store, self.event),
            {"user": "somebody"},
            log=self.said.append,
            warn=self.said.append,
            clock=self.clock,
        )

    def other(self, store: Store | None = None) -> Mount:
        """Return the mount as somebody else opens it, to whom nothing happens as long as others() lasts."""
        store = store or self.stores[0]
        return Mount(self.name, store, {}, log=self.said.append, warn=self.said.append, clock=self.clock)

    def look(self) -> World:
        """Return this world for one look at it, which does not ask the stores twice for the same."""
        seen = copy.copy(self)
        seen.stores = [ReadOnce(store) for store in self.stores]
        return seen

    def add_store(self, store: Store) -> Store:
        """Let the mount's state be in another store as well."""
        self.stores.append(store)
        return store

    def event(self, kind: str, what: str, do: t.Callable[[], _T], half: t.Callable[[], _T] | None = None) -> _T:
        """Do something that may go wrong."""
        if threading.get_ident() in self._exempt:
            return do()
        self._counts[kind] += 1
        if meanwhile := self._meanwhile.pop((kind, self._counts[kind]), None):
            with self.others():
                meanwhile()
        return t.cast(_T, self._on_event(kind, what, do, half))

    def before_call(self, nth: int, meanwhile: t.Callable[[], object]) -> None:
        """Let somebody else do something just before the n-th call to OpenAI from now on."""
        self._meanwhile["call", self._counts["call"] + nth] = meanwhile

    def before_write(self, nth: int, meanwhile: t.Callable[[], object]) -> None:
        """Let somebody else do something just before the n-th write from now on."""
        self._meanwhile["write", self._counts["write"] + nth] = meanwhile

    @contextlib.contextmanager
    def others(self) -> t.Iterator[None]:
        """What happens in this context is done by somebody else: nothing goes wrong, and it is not counted."""
        me = threading.get_ident()
        inner = me in self._exempt
        self._exempt.add(me)
        try:
            yield
        finally:
            if not inner:
                self._exempt.discard(me)

    @contextlib.contextmanager
    def on_another_machine(self) -> t.Iterator[None]:
        """Let what happens in this context happen on another machine: it cannot see who works here."""
        true = processes._machine
        processes._machine = lambda: ANOTHER_MACHINE
        try:
            yield
        finally:
            processes._machine = true

    def beside(self, do: t.Callable[[], object]) -> None:
        """Do something in another process meanwhile; what it raises is kept."""

        def work() -> None:
            with self.others():
                try:
                    do()
                except Exception as error:  # noqa: BLE001 - it is looked at when all is over
                    self.errors.append(error)

        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def await_others(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "another process waits for ever"
        self._threads.clear()

    @contextlib.contextmanager
    def in_a_run(self) -> t.Iterator[None]:
        """Let what is done here be a run's, which is over when end_run is called."""
        self._run = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        before = processes._run
        processes.set_run(self._run.pid)
        try:
            yield
        finally:
            processes._run = before

    def end_run(self) -> None:
        if self._run:
            assert self._run.stdin
            self._run.stdin.close()
            self._run.wait(10)
            self._run = None

    def given(self, credential: Data) -> Data:
        """Keep a credential that somebody was given."""
        self.credentials.append(credential)
        return credential

    def hear(self, error: BaseException) -> None:
        """Keep all that a user might see of an error."""
        self.errors.append(error)
        self.said += traceback.format_exception(error)

    def role(self, **role: t.Any) -> None:
        """Write my-role anew."""
        with self.others():
            roles.write_role(self.other(), "my-role", **{**ROLE, **role}, defaults={}, dry_run=False)

    def accounts_made_and_deleted(self) -> tuple[int, int] | None:
        """Return how many accounts the collection has made at OpenAI in this world, and how many it has deleted.

        None if keys of accounts were made too: then accounts are not leases.
        """
        requests = [one for one in self.double.requests(self._first_request) if "/service_accounts" in one["path"]]
        alone = (one["body"].get("create_service_account_only") for one in requests if isinstance(one["body"], dict))
        if any(one["path"].endswith("/api_keys") for one in requests) or any(alone):
            return None
        done = collections.Counter(one["method"] for one in requests if one["effect"])
        return done["POST"], done["DELETE"]

    def home(self) -> Store:
        """Return the store that holds the mount's config: while it is moved, where it comes from."""
        for store in self.stores:
            definitions = store.read(DEFINITIONS)
            if definitions and definitions.data.get("config"):
                return store
        raise AssertionError("no store has the mount's config")

    def clean(self, **options: t.Any) -> Data:
        """Let somebody clean up."""
        given = {"orphans": "delete", "max_concurrency": 4, "limit": None, "grace": 600, "dry_run": False, **options}
        with self.others():
            result = cleanup(self.other(self.home()), **given)
        self.said.append(repr(result))
        return result


def another_store(world: World) -> Store:
    """Return vaulted files in another place, for the same mount."""
    path = str(world.lab.home / "elsewhere" / world.name)
    return VaultedFileStore(path, world.name, [("default", VaultSecret(VAULT_PASSWORD.encode()))])
