# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleanup, with a clock that is moved by hand."""

from __future__ import annotations

import itertools
import os
import threading
import typing as t
from dataclasses import replace

import pytest
from lab import PROJECT, Lab
from on_record import give_owner, give_run, kinds, unfinished

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import delete_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import rfc3339
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.owners import Owner
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.things import ACCOUNT, Thing
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.watches import WATCH_SECONDS, watch_for
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.counts import COUNTS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records, find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.intents import Intent
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import (
    own_credential,
    shared_credential,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import process_of, this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Survey, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

Crash = t.Callable[..., t.ContextManager[None]]
OnDisk = t.Callable[[], dict[str, bytes]]
Data = dict[str, t.Any]

DEAD = {**this_process(), "started": 1}
#: Somebody else who certainly runs.
PARENT = process_of(os.getppid())
ELSEWHERE = {"machine": "elsewhere", "pid": 1, "started": 1}
EMPTY: Data = {
    **{name: [] for name in ("revoked", "checked_in", "recovered", "orphans", "failed", "admin_api_keys")},
    "rotated": False,
    "active": 0,
}


def clean(mount: Mount, **options: t.Any) -> Data:
    defaults = {"orphans": "report", "max_concurrency": 4, "limit": None, "grace": 600, "dry_run": False}
    return cleanup(mount, **{**defaults, **options})


def intents(mount: Mount) -> list[Document]:
    return unfinished(mount.store)


def left_by(mount: Mount, owner: Data | None, member: str = "owner") -> None:
    """Let the one unfinished work be somebody else's."""
    (intent,) = intents(mount)
    if member == "run":
        give_run(mount, intent, owner or {})
    else:
        give_owner(mount, intent, owner)


@pytest.mark.parametrize(
    ("field", "value"), [("expires_at", "soon"), ("project_id", 7), ("issued_by", []), ("ending", {"process": 1})]
)
def test_a_lease_that_somebody_has_edited_stops_no_other(mount: Mount, clock: Clock, field: str, value: t.Any) -> None:
    edited, other = issue(mount, "my-role", 60)["lease_id"], issue(mount, "my-role", 60)["lease_id"]
    path = lease_path(edited)
    document = mount.store.read(path)
    assert document
    mount.store.write(Write(path, {**document.data, field: value}, document.version, int(clock.time) + 60))
    clock.move(60)
    cleaned = clean(mount)
    assert cleaned["revoked"] == [other]
    (failed,) = cleaned["failed"]
    assert f"{path} does not hold what it should" in failed["error"]


@pytest.fixture
def interrupted(mount: Mount, crash: Crash) -> t.Callable[..., str]:
    """Return how to leave an issue behind; returns the name of its account."""

    def interrupt(owner: Data | None, *, after: bool, **options: t.Any) -> str:
        with crash("create_service_account", after=after):
            issue(mount, "my-role", **options)
        left_by(mount, owner)
        return str(intents(mount)[0].data["lease"]["service_account"])

    return interrupt


# What is due.


def test_nothing_to_do_calls_nobody(lab: Lab, mount: Mount) -> None:
    assert clean(mount) == {**EMPTY, "next_expiry": None}
    assert lab.double.requests() == []
    never_used = clean(lab.mount("never-used"))
    assert "OpenAI client not configured: mount 'never-used'" in never_used.pop("unconfigured")
    assert never_used == {**EMPTY, "next_expiry": None}


@pytest.mark.parametrize("limit", [None, 1])
def test_leases_of_a_mount_without_a_config_are_told_of_and_end_when_it_has_one(
    lab: Lab, mount: Mount, clock: Clock, limit: int | None
) -> None:
    due = [issue(mount, "my-role", 60)["lease_id"] for _unused in range(2)]
    issue(mount, "my-role")
    delete_config(mount, force=True, dry_run=False)
    clock.move(61)
    result = clean(mount, limit=limit)
    assert "OpenAI client not configured" in result["unconfigured"]
    assert sorted(one["lease_id"] for one in result["failed"]) == sorted(due)
    assert (result["active"], result["revoked"]) == (1, [])
    assert len(lab.accounts()) == 3
    lab.configure()
    assert clean(mount)["revoked"] == sorted(due)
    assert len(lab.accounts()) == 1


def test_what_is_due_ends_and_nothing_else(lab: Lab, mount: Mount, clock: Clock) -> None:
    start = clock()
    first, second, third = (issue(mount, "my-role", ttl) for ttl in (600, 601, 7200))
    clock.move(599)
    lab.double.clear_requests()
    assert clean(mount) == {**EMPTY, "active": 3, "next_expiry": rfc3339(start + 600)}
    assert lab.double.requests() == []
    clock.move(1)
    assert clean(mount) == {
        **EMPTY,
        "revoked": [first["lease_id"]],
        "active": 2,
        "next_expiry": rfc3339(start + 601),
    }
    clock.move(10_000)
    result = clean(mount)
    assert result["revoked"] == sorted([second["lease_id"], third["lease_id"]])
    assert (result["active"], result["next_expiry"]) == (0, None)
    assert lab.accounts() == set() and lab.leases() == {}


def test_a_renewed_lease_is_due_when_it_now_ends(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role", 600)
    record = find_record(mount, creds["lease_id"])
    assert record
    renew(mount, record, 20_000, dry_run=False)
    clock.move(19_999)
    assert clean(mount)["revoked"] == []
    clock.move(1)
    assert clean(mount)["revoked"] == [creds["lease_id"]]


def test_a_limit_bounds_one_call(lab: Lab, mount: Mount, clock: Clock) -> None:
    issue_several(mount, "my-role", None, 5)
    clock.move(3600)
    assert [len(clean(mount, limit=2)["revoked"]) for _unused in range(4)] == [2, 2, 1, 0]
    assert lab.accounts() == set()


def test_what_a_limit_leaves_is_next(lab: Lab, mount: Mount, clock: Clock) -> None:
    issue_several(mount, "my-role", 600, 3)
    issue(mount, "my-role", 7200)
    due = clock() + 600
    clock.move(600)
    result = clean(mount, limit=1)
    assert (len(result["revoked"]), result["active"], result["next_expiry"]) == (1, 1, rfc3339(due))


def test_what_cannot_be_read_stops_only_what_comes_after_it(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    creds = issue_several(mount, "my-role", 600, 5)
    clock.move(600)
    true = mount.store.survey

    def broken(*args: t.Any, **kwargs: t.Any) -> Survey:
        survey = true(*args, **kwargs)
        good = survey.due

        def due() -> t.Iterator[Document]:
            yield from itertools.islice(good, 2)
            raise StoreError("store_path: a file is corrupted")

        survey.due = due()
        return survey

    monkeypatch.setattr(mount.store, "survey", broken)
    result = clean(mount)
    assert len(result["revoked"]) == 2 and len(lab.accounts()) == len(creds) - 2
    assert result["failed"] == [{"lease_id": None, "error": "store_path: a file is corrupted"}]
    monkeypatch.undo()
    assert len(clean(mount)["revoked"]) == 3


def test_a_disk_that_fills_up_is_told_of_for_each_lease_that_did_not_end(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    creds = issue_several(mount, "my-role", 600, 2 * mount.store.batch)
    clock.move(600)
    true, allowed = mount.store.write, [1]

    def full(*writes: t.Any) -> None:
        # What has been marked can also be counted.
        if not writes[0].path.startswith(COUNTS):
            if not allowed:
                raise StoreError("store_path: No space left on device")
            allowed.pop()
        true(*writes)

    monkeypatch.setattr(mount.store, "write", full)
    result = clean(mount)
    monkeypatch.undo()
    assert len(result["revoked"]) == len(result["failed"]) == mount.store.batch
    assert len(lab.accounts()) == mount.store.batch
    assert len(clean(mount)["revoked"]) == mount.store.batch
    assert lab.accounts() == set() and len(creds) == 2 * mount.store.batch


def test_orphans_that_are_only_reported_do_not_use_up_the_limit(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str]
) -> None:
    """Otherwise what is due never ends, however often cleanup runs."""
    name = interrupted(DEAD, after=True, ttl=86400)
    creds = issue(mount, "my-role", 60)
    clock.move(60)
    revoked = [clean(mount, limit=1)["revoked"] for _unused in range(3)]
    assert [creds["lease_id"]] in revoked
    assert lab.accounts() == {name}


def test_two_cleanups_at_once_do_not_hurt_each_other(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue_several(mount, "my-role", None, 12)
    clock.move(3600)
    lab.double.settings(latency=0.02)
    results: list[Data] = []
    threads = [
        threading.Thread(target=lambda: results.append(clean(lab.mount(clock=clock), orphans="delete")))
        for _unused in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and not any(result["failed"] for result in results)
    assert sorted(one["lease_id"] for one in creds) == sorted(one for result in results for one in result["revoked"])
    assert lab.accounts() == set() and lab.leases() == {} and intents(mount) == []


# What will not go.


def test_failures_wait_longer_each_time_and_stop_nobody(lab: Lab, mount: Mount, clock: Clock) -> None:
    bad, *others = issue_several(mount, "my-role", None, 4)
    clock.move(3600)
    lab.double.fault(kind="refuse", status=403, message="not today", method="DELETE", path=bad["service_account_id"])
    result = clean(mount)
    assert result["revoked"] == sorted(one["lease_id"] for one in others)
    assert [one["lease_id"] for one in result["failed"]] == [bad["lease_id"]]
    assert "not today" in result["failed"][0]["error"]
    assert lab.leases() == {bad["service_account"]: "failed"}

    waits = []
    for _unused in range(14):
        (intent,) = intents(mount)
        waits.append(intent.data["refusal"]["retry_at"] - clock())
        lab.double.clear_requests()
        if waits[-1]:
            clock.move(waits[-1] - 1)
            assert [one["lease_id"] for one in clean(mount)["failed"]] == [bad["lease_id"]], "it is told of every time"
            assert lab.double.requests() == []
            clock.move(1)
        assert [one["lease_id"] for one in clean(mount)["failed"]] == [bad["lease_id"]]
        assert len(lab.double.requests()) == 1
    assert waits == sorted(waits) and waits[0] <= 60 and waits[6] > waits[3] > waits[1], waits
    assert 600 <= waits[-1] <= 7200, "and yet it is tried again"
    record = find_record(mount, bad["lease_id"])
    assert record and record.public()["attempts"] == 15

    lab.double.clear_faults()
    assert clean(mount)["failed"], "it still waits"
    clock.move(3601)
    assert clean(mount) == {**EMPTY, "revoked": [bad["lease_id"]], "next_expiry": None}
    assert lab.accounts() == set() and intents(mount) == []


def test_a_failed_one_that_has_gone_meanwhile_is_revoked(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    revoke(mount, active_records(mount, [creds["lease_id"]]))
    mount.openai().delete_service_account(PROJECT, creds["service_account_id"])
    assert clean(mount)["revoked"] == [creds["lease_id"]]
    assert lab.leases() == {}


def test_a_project_that_was_archived_takes_its_leases_along(lab: Lab, mount: Mount, clock: Clock) -> None:
    issue_several(mount, "my-role", None, 2)
    lab.double.call("POST", "/projects", {"id": "proj_other", "name": "other"})
    import urllib.request

    request = urllib.request.Request(
        f"{lab.double.url}/organization/projects/{PROJECT}/archive",
        method="POST",
        headers={"Authorization": f"Bearer {lab.double.admin_key}"},
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    clock.move(3600)
    result = clean(mount)
    assert len(result["revoked"]) == 2 and not result["failed"]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(("owner", "after"), [(DEAD, 0), (this_process(), 0), (ELSEWHERE, 600), (PARENT, None)])
def test_a_revocation_that_was_interrupted_goes_on(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash, owner: Data, after: int | None, refused: bool
) -> None:
    """At once where its owner has ended or given up, after grace where that cannot be seen, never while he is at it."""
    creds = issue(mount, "my-role", 86400)
    if refused:
        lab.double.fault(kind="refuse", status=403, method="DELETE", times=1)
        revoke(mount, active_records(mount, [creds["lease_id"]]))
    record = find_record(mount, creds["lease_id"])
    assert record
    with crash("delete_service_account", after=False):
        revoke(mount, [record])
    (left,) = (record for prefix in ("leases/", "refusals/") for record in mount.store.scan(prefix))
    ending = {**left.data["ending"], "process": owner}
    due = 0 if refused else clock()
    mount.store.write(Write(left.path, {**left.data, "ending": ending}, left.version, due=int(due)))
    if after:
        clock.move(after - 1)
        assert clean(mount)["revoked"] == []
        clock.move(1)
    elif after is None:
        clock.move(7200)
        assert clean(mount)["revoked"] == []
        assert lab.accounts() == {creds["service_account"]}
        return
    assert clean(mount)["revoked"] == [creds["lease_id"]]
    assert lab.accounts() == set() and lab.leases() == {} and intents(mount) == []


# What was interrupted.


@pytest.mark.parametrize("orphans", ["report", "delete", "ignore"])
@pytest.mark.parametrize("owner", [DEAD, None])
def test_orphans(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str], orphans: str, owner: Data | None
) -> None:
    name = interrupted(owner, after=True)
    for _unused in range(2):
        result = clean(mount, orphans=orphans)
        assert result["revoked"] == [] and result["failed"] == []
        if orphans == "delete":
            break
        assert [one["name"] for one in result["orphans"]] == ([name] if orphans == "report" else [])
        assert lab.accounts() == {name} and list(lab.leases().values()) == ["pending"]
    if orphans == "delete":
        assert len(result["recovered"]) == 1
    clock.move(3600)
    clean(mount, orphans=orphans)
    assert lab.accounts() == set(), "whatever was asked for, at the lease's end it ends"
    assert lab.leases() == {}


@pytest.mark.parametrize("after", [True, False])
def test_whoever_is_still_at_it_is_left_alone(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str], after: bool
) -> None:
    interrupted(PARENT, after=after)
    clock.move(3000)
    assert clean(mount, orphans="delete", grace=0) == {**EMPTY, "next_expiry": None}
    assert len(intents(mount)) == 1 and len(lab.accounts()) == int(after)


def test_another_machine_is_given_grace(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str]
) -> None:
    name = interrupted(ELSEWHERE, after=True)
    clock.move(599)
    assert clean(mount, orphans="delete") == {**EMPTY, "next_expiry": None}
    assert lab.accounts() == {name}
    clock.move(1)
    assert len(clean(mount, orphans="delete")["recovered"]) == 1
    assert lab.accounts() == set()


def test_a_grace_of_nothing(lab: Lab, mount: Mount, interrupted: t.Callable[..., str]) -> None:
    interrupted(ELSEWHERE, after=True)
    assert len(clean(mount, orphans="delete", grace=0)["recovered"]) == 1
    assert lab.accounts() == set()


def test_a_recorded_lease_is_adopted(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after the lease was recorded, before its intent went."""
    creds = issue(mount, "my-role")
    record = find_record(mount, creds["lease_id"])
    assert record
    owner = Owner(DEAD, creds["lease_id"], mount.now())
    intent = Intent(lease=replace(record.lease, service_account_id=None), created_at=mount.now(), owner=owner)
    mount.store.write(intent.write("intents/left"))
    assert len(lab.leases()) == 1
    assert clean(mount, orphans="delete")["recovered"] == [creds["lease_id"]]
    assert lab.leases() == {creds["service_account"]: "active"} and lab.accounts() == {creds["service_account"]}
    assert intents(mount) == []


@pytest.mark.parametrize("orphans", ["report", "delete"])
def test_an_account_that_comes_late_is_watched_for(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str], orphans: str
) -> None:
    name = interrupted(DEAD, after=False)
    assert clean(mount, orphans=orphans)["orphans"] == []
    assert kinds(mount.store) == ["watch"]
    assert lab.leases() == {}, "a watch is not a lease"
    lab.double.add_service_account(PROJECT, name)
    result = clean(mount, orphans=orphans)
    assert [one["name"] for one in result["orphans"]] == [name]
    assert lab.accounts() == (set() if orphans == "delete" else {name})
    clock.move(3600)
    clean(mount, orphans=orphans)
    assert lab.accounts() == set() and intents(mount) == []


def test_a_watch_ends(lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str]) -> None:
    interrupted(DEAD, after=False)
    clean(mount)
    clock.move(WATCH_SECONDS - 1)
    clean(mount)
    assert len(intents(mount)) == 1
    clock.move(1)
    clean(mount)
    assert intents(mount) == []


def test_only_what_is_recorded_is_ours(lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str]) -> None:
    """Names that look like ours, in our project, made by somebody else."""
    name = interrupted(DEAD, after=True)
    theirs = {"vault-my-role-abcd1234", name + "x", name[:-1], name.upper(), f" {name}"}
    for other in theirs:
        lab.double.add_service_account(PROJECT, other)
    lab.double.add_project("elsewhere", "proj_elsewhere")
    lab.double.add_service_account("proj_elsewhere", name)
    clock.move(7200)
    clean(mount, orphans="delete")
    clean(mount, orphans="delete")
    assert lab.accounts() == theirs | {name}
    assert {one["project_id"] for one in lab.double.state()["service_accounts"] if one["name"] == name} == {
        "proj_elsewhere"
    }


def test_a_recovery_that_fails_is_told_and_stops_nobody(
    lab: Lab, mount: Mount, clock: Clock, interrupted: t.Callable[..., str]
) -> None:
    name = interrupted(DEAD, after=True, ttl=86400)
    creds = issue(mount, "my-role", 60)
    clock.move(60)
    lab.double.fault(kind="refuse", status=403, method="GET", path="/service_accounts")
    result = clean(mount, orphans="delete")
    assert result["revoked"] == [creds["lease_id"]] and len(result["failed"]) == 1
    assert lab.accounts() == {name}
    lab.double.clear_faults()
    assert len(clean(mount, orphans="delete")["recovered"]) == 1
    assert lab.accounts() == set()


# Claims of runs.


def test_the_claim_of_a_run_that_goes_on_is_left(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    assert clean(mount, orphans="delete")["recovered"] == []
    assert shared_credential(mount, "my-role", None, 300) == (creds, False)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("limit", [None, 1])
def test_the_leases_of_a_run_that_is_over_end_with_their_claims(
    lab: Lab, mount: Mount, limit: int | None, shared: bool
) -> None:
    task = issue(mount, "my-role")
    creds = shared_credential(mount, "my-role", None, 300)[0] if shared else own_credential(mount, "my-role", None)
    left_by(mount, DEAD)
    assert clean(mount)["revoked"] == [], "the worker has ended, the run goes on"
    left_by(mount, DEAD, "run")
    planned = clean(mount, orphans="delete", limit=limit, dry_run=True)
    assert (planned["revoked"], planned["active"]) == ([creds["lease_id"]], 1)
    lab.double.clear_requests()
    result = clean(mount, orphans="delete", limit=limit)
    assert (result["recovered"], result["revoked"], result["active"]) == ([], [creds["lease_id"]], 1)
    assert [call["method"] for call in lab.double.requests()] == ["DELETE"]
    assert intents(mount) == [] and lab.accounts() == {task["service_account"]}
    assert result["next_expiry"] == task["expires_at"]


def test_the_leases_that_a_run_has_replaced_end_with_it(lab: Lab, mount: Mount, clock: Clock) -> None:
    """Whatever is left of them: min_remaining may be as long as the lease."""
    first, _issued = shared_credential(mount, "my-role", 86400, 86000)
    clock.move(3600)
    second, issued = shared_credential(mount, "my-role", 86400, 86000)
    assert issued
    revoke(mount, active_records(mount, [second["lease_id"]]))
    third, issued = shared_credential(mount, "my-role", 86400, 86000)
    assert issued
    left_by(mount, DEAD, "run")
    left_by(mount, DEAD)
    result = clean(mount)
    assert result["revoked"] == sorted([first["lease_id"], third["lease_id"]])
    assert intents(mount) == [] and lab.accounts() == set()


def test_a_run_whose_work_the_limit_has_ended_first_still_ends_what_it_replaced(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash
) -> None:
    first, _issued = shared_credential(mount, "my-role", 86400, 86000)
    clock.move(3600)
    with crash("create_service_account", after=True):
        shared_credential(mount, "my-role", 86400, 86000)
    left_by(mount, DEAD, "run")
    left_by(mount, DEAD)
    result = clean(mount, orphans="delete", limit=1)
    assert (len(result["recovered"]), result["revoked"]) == (1, [])
    assert lab.accounts() == {first["service_account"]}
    assert clean(mount)["revoked"] == [first["lease_id"]]
    assert lab.accounts() == set() and intents(mount) == []


def test_a_dry_run_with_a_limit_counts_what_the_limit_leaves(mount: Mount) -> None:
    for ttl in (600, 700, 800):
        shared_credential(mount, "my-role", ttl, 300)
    for intent in intents(mount):
        give_run(mount, intent, DEAD)
    planned = clean(mount, limit=1, dry_run=True)
    result = clean(mount, limit=1)
    assert len(planned["revoked"]) == len(result["revoked"]) == 1
    assert planned["active"] == result["active"] == 2


def test_without_a_config_each_lease_is_counted_once(mount: Mount) -> None:
    shared_credential(mount, "my-role", None, 300)
    issue(mount, "my-role")
    (claim,) = intents(mount)
    give_run(mount, claim, DEAD)
    delete_config(mount, force=True, dry_run=False)
    result = clean(mount)
    assert (len(result["failed"]), result["active"]) == (1, 1)


def test_a_lease_of_a_run_that_is_over_and_will_not_go(lab: Lab, mount: Mount) -> None:
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    left_by(mount, DEAD, "run")
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    for _unused in range(2):
        assert [one["lease_id"] for one in clean(mount)["failed"]] == [creds["lease_id"]]
    assert kinds(mount.store) == ["refusal"]


@pytest.mark.parametrize("member", ["run", "owner"])
def test_the_lease_of_a_run_that_cannot_be_seen_lives(lab: Lab, mount: Mount, clock: Clock, member: str) -> None:
    """Nobody can say that it is over, however long ago it began."""
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    left_by(mount, ELSEWHERE, member)
    clock.move(3599)
    assert clean(mount, grace=0)["revoked"] == []
    assert lab.accounts() == {creds["service_account"]}


def test_a_renewed_lease_of_a_run_that_cannot_be_seen_lives(lab: Lab, mount: Mount, clock: Clock) -> None:
    """It may live for days after the end that its claim tells."""
    lab.role(max_ttl="7d")
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    left_by(mount, ELSEWHERE, "run")
    record = find_record(mount, creds["lease_id"])
    assert record
    renew(mount, record, 3 * 86400, dry_run=False)
    clock.move(2 * 86400)
    assert clean(mount)["revoked"] == []
    assert lab.accounts() == {creds["service_account"]}
    clock.move(86400)
    assert clean(mount)["revoked"] == [creds["lease_id"]]


def test_a_clock_days_ahead_does_not_end_the_leases_of_a_run_that_cannot_be_seen(
    lab: Lab, mount: Mount, clock: Clock
) -> None:
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    left_by(mount, ELSEWHERE, "run")
    clock.set_wrong(3 * 86400)
    assert clean(lab.mount(clock=clock))["revoked"] == []
    assert lab.accounts() == {creds["service_account"]}


def test_the_claim_of_a_run_that_cannot_be_seen_goes_a_day_later(lab: Lab, mount: Mount, clock: Clock) -> None:
    shared_credential(mount, "my-role", None, 300)
    left_by(mount, ELSEWHERE, "run")
    left_by(mount, ELSEWHERE)
    clock.move(86399)
    clean(mount, orphans="delete")
    assert len(intents(mount)) == 1 and lab.accounts() == set()
    clock.move(86401)
    clean(mount, orphans="delete")
    assert intents(mount) == []


def test_a_spent_claim_goes_with_its_run(lab: Lab, mount: Mount) -> None:
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    revoke(mount, active_records(mount, [creds["lease_id"]]))
    clean(mount)
    assert kinds(mount.store) == ["spent"]
    left_by(mount, DEAD, "run")
    assert clean(mount) == {**EMPTY, "next_expiry": None}
    assert intents(mount) == []


@pytest.mark.parametrize("run", [DEAD, this_process()])
def test_a_claim_that_was_left_half_done(lab: Lab, mount: Mount, clock: Clock, crash: Crash, run: Data) -> None:
    with crash("create_service_account", after=True):
        shared_credential(mount, "my-role", None, 300)
    left_by(mount, run, "run")
    left_by(mount, DEAD)
    assert len(clean(mount, orphans="delete")["recovered"]) == 1
    assert lab.accounts() == set() and lab.leases() == {}
    if intents(mount):
        left_by(mount, DEAD, "run")
    clean(mount, orphans="delete")
    assert intents(mount) == []


# Looking only.


@pytest.mark.parametrize("orphans", ["report", "delete", "ignore"])
def test_a_dry_run_says_what_a_run_does_and_changes_nothing(
    lab: Lab, mount: Mount, clock: Clock, on_disk: OnDisk, interrupted: t.Callable[..., str], orphans: str
) -> None:
    interrupted(DEAD, after=True, ttl=86400)
    issue_several(mount, "my-role", 60, 3)
    shared_credential(mount, "my-role", 60, 0)
    clock.move(60)
    before, accounts = on_disk(), lab.accounts()
    lab.double.clear_requests()
    planned = clean(mount, orphans=orphans, dry_run=True)
    assert on_disk() == before and lab.accounts() == accounts
    assert not [call for call in lab.double.requests() if call["method"] != "GET"]
    done = clean(mount, orphans=orphans)
    for name in ("revoked", "recovered", "orphans", "failed"):
        assert planned[name] == done[name], name


def test_a_watch_that_cannot_be_read_stops_nothing_else(lab: Lab, mount: Mount, clock: Clock) -> None:
    issue(mount, "my-role", 60)
    watch_for(mount, "openai/creds/my-role/x", Thing(ACCOUNT, "vault-x", lab.double.url, None, PROJECT), int(clock()))
    (watch,) = (path for path in lab.store_path.rglob("*") if path.is_file() and "watches" in path.parts)
    watch.write_text("nonsense")
    clock.move(61)
    result = clean(mount)
    assert len(result["revoked"]) == 1 and lab.accounts() == set()
    (failure,) = result["failed"]
    assert "is corrupted" in failure["error"]
