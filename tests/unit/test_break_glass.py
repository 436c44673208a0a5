# SPDX-License-Identifier: GPL-3.0-or-later
"""Revocation that somebody asks for: of leases that are being issued, and where the store cannot be written."""

from __future__ import annotations

import contextlib
import resource
import threading
import typing as t

import pytest
from ansible.parsing.vault import VaultSecret
from lab import VAULT_PASSWORD, Lab
from on_record import give_owner, unfinished
from unit.test_leases import intents, opens_models, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.ending import Ended
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record, find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.run_end import (
    revoke_taken,
    take_back_interrupted,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.withdraw import revoke_found
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.progress import Progress
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

Crash = t.Callable[..., t.ContextManager[None]]
CREATE = {"method": "POST", "path": "/service_accounts$"}
OWNERS = {
    "dead": {**this_process(), "started": 1},
    "alive": this_process(),
    "unseen": {**this_process(), "machine": "elsewhere"},
}


def break_glass(mount: Mount, force: bool = False) -> list[Ended[Record]]:
    return revoke_found(mount, matching(mount, None), lambda: matching(mount, None), force=force)


def take(mount: Mount, shared: bool) -> dict[str, t.Any]:
    return shared_credential(mount, "my-role", None, 300)[0] if shared else issue(mount, "my-role")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("owner", [*OWNERS, None])
@pytest.mark.parametrize("after", [True, False])
def test_a_pending_lease_is_revoked_whoever_was_at_it(
    lab: Lab, mount: Mount, crash: Crash, shared: bool, owner: str | None, after: bool
) -> None:
    with crash("create_service_account", after=after):
        take(mount, shared)
    (intent,) = unfinished(mount.store)
    give_owner(mount, intent, OWNERS[owner] if owner else None)
    assert [one.error for one in break_glass(mount)] == [None]
    assert lab.accounts() == set() and lab.leases() == {}
    assert find_record(mount, intent.data["lease"]["lease_id"]) is None


def test_many_pending_leases_are_revoked_at_a_time(lab: Lab, mount: Mount, crash: Crash) -> None:
    # Long enough for a busy machine to begin four.
    count, latency = 12, 1.0
    for _unused in range(count):
        with crash("create_service_account", after=True):
            issue(mount, "my-role")
    assert len(lab.accounts()) == count
    lab.double.clear_requests()
    lab.double.settings(latency=latency)
    lines: list[str] = []
    now = [0.0]
    mount.progress = Progress(lines.append, lambda: now[0])
    now[0] = 60.0
    assert [one.error for one in break_glass(mount)] == [None] * count
    lab.double.settings(latency=0.0)
    assert lab.accounts() == set() and lab.leases() == {} and unfinished(mount.store) == []
    deletions = sorted(request["time"] for request in lab.double.requests() if request["method"] == "DELETE")
    assert len(deletions) == count
    assert any(later - first < latency for first, later in zip(deletions, deletions[3:])), "four are under way together"
    assert lines[0] == f"0 of {count} leases ended"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "when", ["before the effect", "after it", "before the record", "after the record", "unanswered"]
)
def test_an_issuer_takes_back_what_was_revoked_meanwhile(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, shared: bool, when: str
) -> None:
    other, done = lab.mount(clock=mount.clock), []

    def revoke_it() -> None:
        monkeypatch.undo()
        done.extend(break_glass(other))

    create, write = OpenAI.create_service_account, mount.store.write

    def creating(self: OpenAI, *args: t.Any) -> t.Any:
        if when == "before the effect":
            revoke_it()
        try:
            return create(self, *args)
        finally:
            if when in ("after it", "unanswered"):
                revoke_it()

    def writing(*writes: Write) -> None:
        its_lease = writes[0].path.startswith("leases/")
        if its_lease and when == "before the record":
            revoke_it()
        write(*writes)
        if its_lease and when == "after the record":
            revoke_it()

    monkeypatch.setattr(OpenAI, "create_service_account", creating)
    monkeypatch.setattr(mount.store, "write", writing)
    if when == "unanswered":
        lab.double.fault(kind="drop_after", times=1, **CREATE)
    if when == "after the record" and not shared:
        # It was issued, and is over.
        assert not opens_models(lab, take(mount, shared)["api_key"])
    else:
        assert "openai_lease has revoked it" in refused(take, mount, shared)
    assert [one.error for one in done] == [None]
    assert lab.accounts() == set() and lab.leases() == {}
    cleanup(mount, orphans="delete", max_concurrency=2, limit=None, grace=0, dry_run=False)
    assert lab.accounts() == set() and "issue" not in intents(mount)


def test_somebody_who_waits_for_an_issue_that_is_revoked_is_not_forgotten(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the workers of a run, one issues and the others wait; they must not issue behind the back of a revocation."""
    lab.double.fault(kind="slow_after", delay=1.0, times=1, **CREATE)
    results: list[t.Any] = []

    def ask() -> None:
        try:
            results.append(shared_credential(lab.mount(clock=mount.clock), "my-role", None, 300)[0])
        except OpenAICredsError as error:
            results.append(error)

    threads = [threading.Thread(target=ask) for _unused in range(3)]
    for thread in threads:
        thread.start()
    while not lab.accounts():
        pass
    ended = break_glass(mount)
    for thread in threads:
        thread.join()
    recorded = set(lab.leases())
    assert lab.accounts() == recorded, "whatever is left is on record"
    assert ended[0].error is None
    for creds in results:
        if not isinstance(creds, OpenAICredsError):
            assert opens_models(lab, creds["api_key"]) is (creds["service_account"] in recorded)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("fault", [{"method": "GET", "path": "/service_accounts"}, {"method": "DELETE"}])
def test_what_is_left_of_a_pending_lease_is_named(
    lab: Lab, mount: Mount, crash: Crash, shared: bool, force: bool, fault: dict[str, str]
) -> None:
    with crash("create_service_account", after=True):
        take(mount, shared)
    lab.double.fault(kind="refuse", status=403, **fault)
    (ended,) = break_glass(mount, force)
    assert "403" in str(ended.error) and ended.dropped is force
    assert list(lab.leases().values()) == ([] if force else ["pending"])
    if not force:
        lab.double.clear_faults()
        assert [one.error for one in break_glass(mount)] == [None]
        assert lab.accounts() == set()


def test_a_pending_lease_that_is_finished_meanwhile_is_revoked(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = OpenAI.create_service_account
    found: list[t.Any] = []

    def creating(self: OpenAI, *args: t.Any) -> t.Any:
        found.extend(matching(lab.mount(clock=mount.clock), None))
        return true(self, *args)

    monkeypatch.setattr(OpenAI, "create_service_account", creating)
    issue(mount, "my-role")
    became = revoke_found(mount, found, lambda: matching(mount, None), force=False)
    assert [ended.error for ended in became] == [None]
    assert lab.accounts() == set() and lab.leases() == {}


# A store that cannot be written.


@contextlib.contextmanager
def full_disk() -> t.Iterator[None]:
    """Let no file of this process grow. What pytest itself writes is not to be met by it, so this is no fixture."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("shared", [True, False])
def test_break_glass_on_a_full_disk(lab: Lab, mount: Mount, shared: bool) -> None:
    first, second = take(mount, shared), issue(mount, "my-role")
    with full_disk():
        ended = break_glass(lab.mount(clock=mount.clock))
    assert len(ended) == 2 and lab.accounts() == set()
    assert not any(opens_models(lab, creds["api_key"]) for creds in (first, second))
    left = {str(one.error) for one in ended if one.error}
    assert bool(left) == bool(lab.leases()), "what stays on record is named, and nothing else"
    assert all("its key is ended at OpenAI, but its record stays" in error for error in left)
    assert all(one.unrecorded == bool(one.error) for one in ended), "a change all the same"


def test_break_glass_of_a_pending_lease_on_a_full_disk(lab: Lab, mount: Mount, crash: Crash) -> None:
    with crash("create_service_account", after=True):
        issue(mount, "my-role")
    with full_disk():
        (ended,) = break_glass(lab.mount(clock=mount.clock))
    assert lab.accounts() == set() and "could not be stopped" in str(ended.error)


def test_break_glass_with_a_vault_id_to_encrypt_with_that_is_not_there(lab: Lab, mount: Mount) -> None:
    issue(mount, "my-role")
    issue(mount, "my-role")
    secrets = [("default", VaultSecret(VAULT_PASSWORD.encode()))]
    wrong = Mount("openai", VaultedFileStore(str(lab.store_path), "openai", secrets, "production"), clock=mount.clock)
    ended = break_glass(wrong)
    assert len(ended) == 2 and lab.accounts() == set()
    for one in ended:
        assert one.error is None or "vault_encrypt_identity" in one.error
    assert len([one for one in ended if one.error]) == len(lab.leases())


# The end of a run.


def test_one_that_cannot_be_taken_back_stops_no_other(lab: Lab, mount: Mount, crash: Crash) -> None:
    for role in ("a", "b", "c"):
        lab.role(role)
        with crash("create_service_account", after=True):
            shared_credential(mount, role, None, 300)
    lab.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    assert ["403" in str(error) for error in take_back_interrupted(mount)] == [True]
    assert len(lab.accounts()) == 1


# A store that goes back in time.


def test_what_a_run_took_and_the_store_has_forgotten_ends(lab: Lab, mount: Mount) -> None:
    facts = []
    for _unused in range(3):
        creds = issue(mount, "my-role")
        record = find_record(mount, creds["lease_id"])
        assert record
        facts.append(record.lease)
    for path in [document.path for document in mount.store.scan("leases/")][:2]:
        mount.store.delete(path)
    assert [one.error for one in revoke_taken(mount, facts, concurrency=2)] == [None] * 3
    assert lab.accounts() == set() and lab.leases() == {}
    assert list(revoke_taken(mount, facts, concurrency=2)) == [], "once more does no harm"


def test_what_openai_refuses_to_end_of_that_is_told(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    record = find_record(mount, creds["lease_id"])
    assert record and record.stored
    mount.store.delete(record.stored.path)
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    (ended,) = revoke_taken(mount, [record.lease], concurrency=2)
    assert ended.record.subject == creds["lease_id"] and "403" in str(ended.error)
