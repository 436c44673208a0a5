# SPDX-License-Identifier: GPL-3.0-or-later
"""One lease per run."""

from __future__ import annotations

import os
import threading
import time
import types
import typing as t

import pytest
from lab import PROJECT, Lab
from on_record import give_owner, unfinished
from unit.wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import ApiError, OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import share as reuse
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records, find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import (
    own_credential,
    shared_credential,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import process_of, this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

Crash = t.Callable[..., t.ContextManager[None]]
DEAD = {**this_process(), "started": 1}


class Stuck(BaseException):
    """A wait that will not end."""


@pytest.fixture(autouse=True)
def no_endless_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever waits for somebody else do so 1000 times, and no longer."""
    waits = iter(range(1000))

    def sleep(seconds: float) -> None:
        if next(waits, None) is None:
            raise Stuck("waits for ever")
        time.sleep(min(seconds, 0.001))

    monkeypatch.setattr(reuse, "time", types.SimpleNamespace(sleep=sleep))


def shared(mount: Mount, role: str = "my-role", ttl: int | None = None, min_remaining: int = 300) -> dict[str, t.Any]:
    return shared_credential(mount, role, ttl, min_remaining)[0]


def end(mount: Mount, creds: dict[str, t.Any], **options: t.Any) -> None:
    revoke(mount, active_records(mount, [creds["lease_id"]]), **options)


def claim_of(mount: Mount) -> Document:
    (claim,) = mount.store.scan("claims/")
    return claim


def test_the_same_is_asked_for_often_and_issued_once(lab: Lab, mount: Mount) -> None:
    first, issued = shared_credential(mount, "my-role", None, 300)
    assert issued
    lab.double.clear_requests()
    for other in (mount, lab.mount(clock=mount.clock)):
        assert shared_credential(other, "my-role", None, 300) == (first, False)
    assert lab.double.requests() == []
    assert len(lab.leases()) == 1


def test_something_else_is_another_lease(lab: Lab, mount: Mount) -> None:
    lab.role("other")
    found = [shared(mount), shared(mount, "other"), shared(mount, ttl=600), shared(mount, ttl=601)]
    assert len({creds["lease_id"] for creds in found}) == 4
    assert found == [shared(mount), shared(mount, "other"), shared(mount, ttl=600), shared(mount, ttl=601)]
    assert issue(mount, "my-role")["lease_id"] not in {creds["lease_id"] for creds in found}


def test_what_is_wrong_is_refused_each_time_and_leaves_nothing(lab: Lab, mount: Mount) -> None:
    for role, ttl in (("nobody", None), ("my-role", 10**6), ("../x", None)):
        for _unused in range(2):
            with pytest.raises(OpenAICredsError) as caught:
                shared(mount, role, ttl)
            sentence(caught.value)
    assert not unfinished(mount.store) and lab.double.requests() == []


@pytest.mark.parametrize(
    ("ttl", "min_remaining", "kept_until"),
    [(3600, 300, 3300), (3600, 3599, 1), (3600, 3600, 1800), (60, 300, 30), (300, 300, 150), (3600, 0, 3599)],
)
def test_a_new_one_comes_when_less_than_min_remaining_is_left(
    mount: Mount, clock: Clock, ttl: int, min_remaining: int, kept_until: int
) -> None:
    """If the lease never has so much, half of what it has counts."""
    first = shared(mount, "my-role", ttl, min_remaining)
    clock.move(kept_until - 1)
    assert shared(mount, "my-role", ttl, min_remaining) == first
    clock.move(2)
    second = shared(mount, "my-role", ttl, min_remaining)
    assert second["lease_id"] != first["lease_id"]
    assert shared(mount, "my-role", ttl, min_remaining) == second


def test_exactly_min_remaining_is_not_less(mount: Mount, clock: Clock) -> None:
    first = shared(mount, ttl=3600, min_remaining=300)
    clock.move(3300)
    assert shared(mount, ttl=3600, min_remaining=300) == first


@pytest.mark.parametrize("ttl", [1, 2])
def test_the_shortest_leases_are_handed_out_at_all(mount: Mount, clock: Clock, ttl: int) -> None:
    first = shared(mount, ttl=ttl)
    assert shared(mount, ttl=ttl) == first
    clock.move(ttl)
    assert shared(mount, ttl=ttl)["lease_id"] != first["lease_id"]


def test_the_replaced_lease_still_ends_by_itself(lab: Lab, mount: Mount, clock: Clock) -> None:
    first = shared(mount)
    clock.move(3400)
    second = shared(mount)
    assert set(lab.leases()) == {first["service_account"], second["service_account"]}
    clock.move(201)
    cleanup(mount, orphans="report", max_concurrency=2, limit=None, grace=600, dry_run=False)
    assert lab.accounts() == {second["service_account"]}
    assert shared(mount) == second


def test_a_renewed_lease_goes_on(mount: Mount, clock: Clock) -> None:
    first = shared(mount)
    record = find_record(mount, first["lease_id"])
    assert record
    renew(mount, record, 7200, dry_run=False)
    clock.move(3500)
    again = shared(mount)
    assert again["lease_id"] == first["lease_id"] and again["expires_at"] > first["expires_at"]


@pytest.mark.parametrize("force", [False, True])
def test_a_revoked_lease_is_replaced(lab: Lab, mount: Mount, force: bool) -> None:
    first = shared(mount)
    end(mount, first, force=force)
    second = shared(mount)
    assert second["lease_id"] != first["lease_id"]
    assert lab.accounts() == {second["service_account"]}


def test_an_expired_lease_that_was_cleaned_up_is_replaced(lab: Lab, mount: Mount, clock: Clock) -> None:
    first = shared(mount)
    clock.move(3600)
    cleanup(mount, orphans="report", max_concurrency=2, limit=None, grace=600, dry_run=False)
    assert shared(mount)["lease_id"] != first["lease_id"]


@pytest.mark.parametrize("owner", [this_process(), DEAD])
@pytest.mark.parametrize("force", [False, True])
def test_a_lease_whose_revocation_was_refused_is_replaced(
    lab: Lab, mount: Mount, force: bool, owner: dict[str, t.Any]
) -> None:
    """Nobody issues for the claim any more, so nobody may wait for it; and that it will not go is cleanup's business."""
    first = shared(mount)
    claim = claim_of(mount)
    give_owner(mount, claim, owner)
    lab.double.fault(kind="refuse", status=403, method="DELETE", path=first["service_account_id"])
    end(mount, first, force=force)
    second = shared(mount)
    assert second["lease_id"] != first["lease_id"]
    lab.double.clear_faults()
    cleanup(mount, orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)
    kept = {first["service_account"], second["service_account"]} if force else {second["service_account"]}
    assert lab.accounts() == kept
    assert shared(mount) == second


def test_a_key_that_was_shared_is_not_kept_with_a_lease_that_will_not_go(lab: Lab, mount: Mount) -> None:
    creds = shared(mount)
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    end(mount, creds)
    left = [*mount.store.scan("leases/"), *unfinished(mount.store)]
    assert left and creds["api_key"] not in repr(left)


def test_threads_that_ask_at_once_get_one_lease(lab: Lab, mount: Mount) -> None:
    lab.double.settings(latency=0.05)
    found: list[tuple[dict[str, t.Any], bool]] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(shared_credential(lab.mount(clock=mount.clock), "my-role", None, 300))

    threads = [threading.Thread(target=ask) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({creds["api_key"] for creds, _issued in found}) == 1
    assert sum(issued for _creds, issued in found) == 1
    assert len(lab.accounts()) == 1


@pytest.mark.parametrize("after", [False, True])
def test_what_a_dead_worker_has_begun_is_taken_over(lab: Lab, mount: Mount, crash: Crash, after: bool) -> None:
    with crash("create_service_account", after=after):
        shared(mount)
    claim = claim_of(mount)
    theirs = claim.data["lease"]["service_account"] + "x"
    lab.double.add_service_account(PROJECT, theirs)
    give_owner(mount, claim, DEAD)
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"], theirs}, "only what has the very name is ours"
    assert creds["service_account"] != claim.data["lease"]["service_account"]


def test_whoever_is_at_it_is_waited_for(mount: Mount, crash: Crash) -> None:
    with crash("create_service_account", after=False):
        shared(mount)
    claim = claim_of(mount)
    give_owner(mount, claim, process_of(os.getppid()))
    with pytest.raises(Stuck):
        shared(mount)


def test_nobody_waits_for_himself(lab: Lab, mount: Mount, crash: Crash) -> None:
    """What this very process has begun and given up, it takes over: also if it could not even say that it gave up."""
    with crash("create_service_account", after=True):
        shared(mount)
    assert claim_of(mount).data["owner"]["process"] == this_process()
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"]}


@pytest.mark.parametrize("kind", ["drop_after", "fail_after", "malformed", "refuse"])
def test_unanswered_creates_are_settled(lab: Lab, mount: Mount, kind: str) -> None:
    lab.double.fault(kind=kind, times=1, method="POST", path="/service_accounts$")
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"]}
    assert shared(mount) == creds


def test_a_refused_create_can_be_tried_again(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", times=1, status=403, method="POST", path="/service_accounts$")
    with pytest.raises(OpenAICredsError):
        shared(mount)
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"]}


@pytest.fixture
def true_waits(no_endless_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "time", time)


def at_once(lab: Lab, mount: Mount, count: int) -> list[str]:
    """Have so many ask at once; returns what they are told, most of all errors."""
    told: list[str] = []
    barrier = threading.Barrier(count)

    def ask() -> None:
        barrier.wait()
        try:
            told.append(shared(lab.mount(clock=mount.clock))["lease_id"])
        except OpenAICredsError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask) for _unused in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def posts(lab: Lab) -> int:
    return sum(call["method"] == "POST" for call in lab.double.requests())


def test_one_refusal_answers_all_who_wait(lab: Lab, mount: Mount, true_waits: None) -> None:
    lab.double.settings(latency=1.0)
    lab.double.fault(kind="refuse", status=403, message="not today", method="POST", path="/service_accounts$")
    told = at_once(lab, mount, 8)
    assert len(told) == 8 and len(set(told)) == 1 and "not today" in told[0]
    assert posts(lab) == 1
    # Who asks later has not waited for that one.
    lab.double.settings(latency=0.0)
    lab.double.clear_faults()
    assert shared(mount)["service_account"] in lab.accounts()


def test_one_failure_to_find_out_answers_all_who_wait(lab: Lab, mount: Mount, true_waits: None) -> None:
    """Nobody knows whether OpenAI has made the account: the one who has tried leaves that to whoever comes next."""
    lab.double.settings(latency=1.0)
    lab.double.fault(kind="drop_after", method="POST", path="/service_accounts$", times=1)
    lab.double.fault(kind="refuse", status=403, method="GET", path="/service_accounts$")
    told = at_once(lab, mount, 8)
    assert len(told) == 8 and len(set(told)) == 1 and "may exist at OpenAI" in told[0]
    assert posts(lab) == 1
    lab.double.settings(latency=0.0)
    lab.double.clear_faults()
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"]}


def test_one_who_takes_over_in_vain_answers_all_who_wait(
    lab: Lab, mount: Mount, crash: Crash, true_waits: None
) -> None:
    with crash("create_service_account", after=True):
        shared(mount)
    claim = claim_of(mount)
    give_owner(mount, claim, DEAD)
    lab.double.settings(latency=1.0)
    lab.double.fault(kind="refuse", status=403, method="GET", path="/service_accounts$")
    lab.double.clear_requests()
    told = at_once(lab, mount, 8)
    assert len(told) == 8 and len(set(told)) == 1 and "OpenAI answered 403" in told[0]
    assert len(lab.double.requests()) == 1


def test_what_took_long_without_an_answer_is_not_tried_again_at_once(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hundred hosts, five at a time, wait for an OpenAI that cannot be reached twenty times as long."""

    def unreachable(*_args: t.Any, **_options: t.Any) -> t.Any:
        clock.move(30)
        raise ApiError("no answer from OpenAI to POST /x: ConnectError")

    began = clock()
    with monkeypatch.context() as patch:
        patch.setattr(OpenAI, "create_service_account", unreachable)
        for _unused in range(5):
            with pytest.raises(OpenAICredsError, match="ConnectError"):
                shared(mount)
        assert clock() - began == 30
    clock.move(29)
    with pytest.raises(OpenAICredsError, match="ConnectError"):
        shared(mount)
    clock.move(1)
    assert shared(mount)["service_account"] in lab.accounts()


@pytest.mark.parametrize("ahead", [-3 * 3600, 3 * 3600])
def test_a_wrong_clock_does_not_let_a_failure_last(lab: Lab, mount: Mount, clock: Clock, ahead: int) -> None:
    """Answers tell what time it is while the first one fails."""
    clock.set_wrong(ahead)
    lab.double.fault(kind="refuse", status=503, method="POST", path="/service_accounts$")
    fresh = lab.mount(clock=clock)
    with pytest.raises(OpenAICredsError, match="503"):
        shared(fresh)
    lab.double.clear_faults()
    assert shared(fresh)["service_account"] in lab.accounts()


def test_a_failure_by_a_clock_that_was_ahead_does_not_last(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_args: t.Any, **_options: t.Any) -> t.Any:
        clock.move(30)
        raise ApiError("no answer from OpenAI to POST /x: ConnectError")

    clock.set_wrong(7200)
    with monkeypatch.context() as patch:
        patch.setattr(OpenAI, "create_service_account", unreachable)
        with pytest.raises(OpenAICredsError, match="ConnectError"):
            shared(lab.mount(clock=clock))
    clock.set_wrong(0)
    assert shared(lab.mount(clock=clock))["service_account"] in lab.accounts()


def test_waiting_backs_off(lab: Lab, mount: Mount, crash: Crash, monkeypatch: pytest.MonkeyPatch) -> None:
    with crash("create_service_account", after=False):
        shared(mount)
    claim = claim_of(mount)
    give_owner(mount, claim, process_of(os.getppid()))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if sum(waits) > 5:
            raise Stuck

    monkeypatch.setattr(reuse, "time", types.SimpleNamespace(sleep=sleep))
    with pytest.raises(Stuck):
        shared(mount)
    assert len(waits) <= 12 and max(waits) <= 2 and waits[0] <= 0.1


def test_an_owner_who_cannot_be_seen_is_waited_for_as_long_as_the_grace(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash
) -> None:
    with crash("create_service_account", after=True):
        shared(mount)
    claim = claim_of(mount)
    elsewhere = {**this_process(), "machine": "elsewhere"}
    give_owner(mount, claim, elsewhere)
    clock.move(599)
    with pytest.raises(Stuck):
        shared(mount)
    clock.move(1)
    creds = shared(mount)
    assert lab.accounts() == {creds["service_account"]}


def test_a_lease_that_is_not_shared_is_claimed_and_its_key_is_not_kept(lab: Lab, mount: Mount) -> None:
    first, second = (own_credential(mount, "my-role", None) for _unused in range(2))
    assert first["lease_id"] != second["lease_id"] and len(lab.accounts()) == 2
    left = [*mount.store.scan("leases/"), *unfinished(mount.store)]
    assert len(left) == 4 and first["api_key"] not in repr(left)
    end(mount, first)
    assert [claim.data["lease"]["lease_id"] for claim in unfinished(mount.store)] == [second["lease_id"]]


def test_an_issue_is_told_of_before_it_and_after_it(mount: Mount) -> None:
    told: list[tuple[str | None, int]] = []

    def note(lease: Lease | None) -> None:
        told.append((lease and lease.lease_id, len(unfinished(mount.store))))

    first, _issued = shared_credential(mount, "my-role", None, 300, note)
    shared_credential(mount, "my-role", None, 300, note)
    assert told == [(None, 0), (first["lease_id"], 1)]
    second = own_credential(mount, "my-role", None, note)
    assert told[2:] == [(None, 1), (second["lease_id"], 2)]


def test_two_mounts_do_not_share(lab: Lab, mount: Mount) -> None:
    first = shared(mount)
    other = lab.mount("other", clock=mount.clock)
    other.define(lambda data: bool(data.update(mount.store.read("definitions").data)) or True)  # type: ignore[union-attr]
    second = shared(other)
    assert second["lease_id"].startswith("other/") and second["api_key"] != first["api_key"]
