# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters are exact: whoever issues and revokes, however many at once, and whoever is killed."""

from __future__ import annotations

import collections
import multiprocessing
import os
import random
import signal
import time
import typing as t

import pytest
from ansible.parsing.vault import VaultSecret
from lab import BOTH_STORES, VAULT_PASSWORD, Lab
from unit.conftest import Clock, Crash

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    OpenAICredsError,
    StoreError,
    UnreadableError,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import counts
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import LEASES, lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.api_errors import (
    API_ERRORS,
    read_api_errors,
    record_api_errors,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.cleanups import LAST, last_cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.counters import lease_numbers
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.gauges import collect
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move


def clean(mount: Mount, **options: t.Any) -> dict[str, t.Any]:
    given = {"orphans": "delete", "max_concurrency": 16, "limit": None, "grace": 0, "dry_run": False, **options}
    return cleanup(mount, **given)


def counted(mount: Mount) -> tuple[int, int]:
    numbers = lease_numbers(mount)
    assert numbers.issued is not None
    return numbers.issued["my-role"], numbers.revoked["my-role"]


def seen(lab: Lab, since: int) -> tuple[int, int]:
    """Return how many accounts were made and deleted at OpenAI."""
    done = collections.Counter(
        one["method"] for one in lab.double.requests(since) if one["effect"] and "/service_accounts" in one["path"]
    )
    return done["POST"], done["DELETE"]


def work(lab: Lab, count: int) -> None:
    """Be one of many processes: issue so many leases, and revoke two thirds of them."""
    mount = lab.mount()
    for number in range(count):
        credential = issue(mount, "my-role")
        if number % 3:
            revoke(mount, active_records(mount, [credential["lease_id"]]))


def work_at_once(lab: Lab, processes: int, count: int, kill: int) -> None:
    """Let processes work at once, of which so many are killed in the middle."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=work, args=(lab, count)) for _unused in range(processes)]
    for process in started:
        process.start()
    goal = lab.double.mark()
    for process in started[:kill]:
        # When so many more calls have been made.
        goal += random.randint(2, count)
        while lab.double.mark() < goal and process.is_alive():
            time.sleep(0.01)
        os.kill(t.cast(int, process.pid), signal.SIGKILL)
    for process in started:
        process.join(280)
    assert [process.exitcode for process in started] == [-signal.SIGKILL] * kill + [0] * (processes - kill)


def check_all_are_counted(lab: Lab, since: int) -> None:
    """What was interrupted is found by cleanup; then the counters say what OpenAI has seen."""
    assert not clean(lab.mount())["failed"]
    assert counted(lab.mount()) == seen(lab, since)
    with lab.at(7200) as later:
        assert not clean(later)["failed"]
        made, deleted = seen(lab, since)
        assert made == deleted and counted(later) == (made, deleted)


@BOTH_STORES
def test_processes_that_are_killed(lab: Lab) -> None:
    lab.configure()
    since = lab.double.mark()
    work_at_once(lab, processes=4, count=9, kill=2)
    check_all_are_counted(lab, since)


@pytest.mark.long
@pytest.mark.timeout(900)
@BOTH_STORES
def test_16_processes_issue_and_revoke_1000_leases(lab: Lab) -> None:
    lab.configure()
    since = lab.double.mark()
    work_at_once(lab, processes=20, count=64, kill=4)
    assert seen(lab, since)[0] >= 16 * 64 >= 1000
    check_all_are_counted(lab, since)


def test_a_lease_that_two_end_counts_once(mount: Mount, lab: Lab) -> None:
    """Both have read its record before either has ended it, and what was counted has been forgotten meanwhile."""
    lease_id = issue(mount, "my-role")["lease_id"]
    [first], [second] = (active_records(mount, [lease_id]) for _unused in range(2))
    assert not revoke(mount, [first])[0].error
    for shard in mount.store.scan(counts.COUNTS):
        assert isinstance(shard, Document)
        mount.store.write(Write(shard.path, {**shard.data, "counted": {}}, shard.version))
    assert not revoke(lab.mount(), [second])[0].error
    assert counted(mount) == (1, 1)


def test_a_crash_after_counting_counts_once(
    mount: Mount, lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_id = issue(mount, "my-role")["lease_id"]

    def crashed(*_paths: str) -> None:
        raise Crash

    monkeypatch.setattr(mount.store, "delete", crashed)
    with pytest.raises(Crash):
        revoke(mount, active_records(mount, [lease_id]))
    monkeypatch.undo()
    assert lab.leases() and counted(mount) == (1, 1)
    clock.move(7200)
    assert clean(mount)["revoked"] == [lease_id]
    assert not lab.leases() and counted(mount) == (1, 1)


def test_what_was_counted_is_forgotten_when_its_record_has_gone(
    mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "_KEPT", 4)
    for _unused in range(3):
        ids = [one["lease_id"] for one in issue_several(mount, "my-role", None, 8)]
        revoke(mount, active_records(mount, ids[:5]))
        for lease_id in ids[5:]:
            revoke(mount, active_records(mount, [lease_id]))
    kept = [lease_id for shard in counts.read_counts(mount) for lease_id in shard.counted]
    assert 0 < len(kept) < 16 * 8
    assert any(shard.forgotten for shard in counts.read_counts(mount))
    assert counted(mount) == (24, 24)


def test_what_cannot_be_read_keeps_nothing_else_from_being_counted(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are only forgotten to keep the counts small."""
    monkeypatch.setattr(counts, "_KEPT", 1)
    first, second = (issue(mount, "my-role")["lease_id"] for _unused in range(2))
    revoke(mount, active_records(mount, [first]))
    records = active_records(mount, [second])
    true = mount.store.read_each

    def read_each(paths: t.Sequence[str]) -> t.Iterator[t.Any]:
        if lease_path(first) in paths:
            yield UnreadableError("store_path: it is corrupted")
        yield from true(paths)

    monkeypatch.setattr(mount.store, "read_each", read_each)
    assert not revoke(mount, records)[0].error
    monkeypatch.undo()
    assert counted(mount) == (2, 2) and not list(mount.store.scan(LEASES))


def test_what_the_store_cannot_count_stays_on_record(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    [record] = active_records(mount, [issue(mount, "my-role")["lease_id"]])
    true = mount.store.write

    def refuse(*writes: Write) -> None:
        if writes[0].path.startswith(counts.COUNTS):
            raise StoreError("store_path: No space left on device")
        true(*writes)

    monkeypatch.setattr(mount.store, "write", refuse)
    assert revoke(mount, [record])[0].unrecorded
    assert counted(mount) == (1, 0)
    monkeypatch.undo()
    assert clean(mount)["revoked"] and counted(mount) == (1, 1)


def test_a_record_that_is_dropped_was_not_revoked(mount: Mount, lab: Lab) -> None:
    records = active_records(mount, [issue(mount, "my-role")["lease_id"]])
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    assert revoke(mount, records, force=True)[0].dropped
    assert counted(mount) == (1, 0)


def test_what_cannot_be_read_never_lets_the_counter_go_back(mount: Mount, on_disk: t.Any, lab: Lab) -> None:
    issue(mount, "my-role")
    [path] = [name for name in on_disk() if f"/{LEASES}" in f"/{name}"]
    (lab.store_path / path).write_bytes(b"torn")
    numbers = lease_numbers(lab.mount())
    assert numbers.issued is None and numbers.unreadable == 1


def test_issuing_writes_no_more_than_it_did(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    true = mount.store.write
    monkeypatch.setattr(
        mount.store, "write", lambda *writes: (written.extend(one.path for one in writes), true(*writes))
    )
    issue(mount, "my-role")
    record_api_errors(mount)
    assert [path.partition("/")[0] for path in written] == ["intents", "leases"]


@BOTH_STORES
def test_failed_calls_are_counted_by_endpoint_and_code(lab: Lab) -> None:
    lab.configure()
    mounts = [lab.mount() for _unused in range(3)]
    for status, mount in zip((403, 403, 400), mounts, strict=True):
        lab.double.fault(kind="refuse", status=status, method="POST", times=1)
        with pytest.raises(OpenAICredsError):
            issue(mount, "my-role")
    for mount in mounts:
        record_api_errors(mount)
        record_api_errors(mount)
    endpoint = "/organization/projects/{project_id}/service_accounts"
    assert read_api_errors(lab.mount()) == {(endpoint, "403"): 2, (endpoint, "400"): 1}


def test_nothing_of_metrics_is_lost_with_a_move(mount: Mount, lab: Lab) -> None:
    ids = [one["lease_id"] for one in issue_several(mount, "my-role", None, 3)]
    revoke(mount, active_records(mount, ids[:1]))
    clean(mount)
    cleaned = last_cleanup(mount)
    lab.double.fault(kind="refuse", status=403, method="POST", times=1)
    with pytest.raises(OpenAICredsError):
        issue(mount, "my-role")
    record_api_errors(mount)
    there = VaultedFileStore(str(lab.path / "there"), "openai", [("default", VaultSecret(VAULT_PASSWORD.encode()))])
    target = Mount("openai", there, clock=mount.clock)
    assert move(mount, target, to="there", grace=0, dry_run=False) == 2
    assert counted(target) == (3, 1)
    assert last_cleanup(target) == cleaned and read_api_errors(target).total() == 1
    assert not list(mount.store.scan(counts.COUNTS)) and not list(mount.store.scan(API_ERRORS))


def test_a_cleanup_that_comes_soon_after_another_writes_nothing(mount: Mount, on_disk: t.Any, clock: Clock) -> None:
    clean(mount)
    before, first = on_disk(), last_cleanup(mount)
    clock.move(30)
    clean(mount)
    assert on_disk() == before
    clock.move(40)
    clean(mount)
    assert last_cleanup(mount) == first + 70


@pytest.fixture
def unreadable(mount: Mount, lab: Lab) -> tuple[list[str], list[str]]:
    """Issue leases of which some are counted where the counts cannot be read; returns their ids, and those of the others."""
    ids: list[str] = []
    by_shard: dict[str, list[str]] = {}
    for hour in range(8):
        ids = [one["lease_id"] for one in issue_several(mount, "my-role", 3600 * (hour + 1), 2)]
        by_shard.setdefault(counts._shard_path(ids[0]), []).extend(ids)
    path = counts._shard_path(ids[0])
    bad = by_shard.pop(path)
    revoke(mount, active_records(mount, [issue(mount, "my-role", 3600 * 8)["lease_id"]]))
    file = next(lab.store_path.glob(f"openai/{path}.*"))
    file.write_bytes(b"\0" * file.stat().st_size)
    return bad, [lease_id for some in by_shard.values() for lease_id in some]


def test_counts_that_cannot_be_read_keep_only_their_own_leases_on_record(
    lab: Lab, clock: Clock, unreadable: tuple[list[str], list[str]]
) -> None:
    bad, good = unreadable
    clock.move(3600 * 9)
    for due in (good, []):
        done = clean(lab.mount(clock=clock))
        assert sorted(done["revoked"]) == sorted(due)
        assert sorted(one["lease_id"] for one in done["failed"]) == sorted(bad)
        assert all("its record stays until it can be removed: " in one["error"] for one in done["failed"])
        assert all("/counters/" in one["error"] for one in done["failed"])
    assert not lab.accounts()


def test_force_drops_what_cannot_be_counted(lab: Lab, clock: Clock, unreadable: tuple[list[str], list[str]]) -> None:
    bad, good = unreadable
    mount = lab.mount(clock=clock)
    ended = revoke(mount, active_records(mount, [*bad, *good]), force=True)
    assert len(ended) == 16 and not any(one.error for one in ended)
    assert not lab.accounts() and not list(mount.store.scan(LEASES))


def test_counts_that_cannot_be_read_leave_out_only_their_metrics(
    lab: Lab, clock: Clock, unreadable: tuple[list[str], list[str]]
) -> None:
    clean(lab.mount(clock=clock))
    whole = {metric.name for metric in collect(lab.mount("other"), None).metrics}
    lab.double.fault(kind="refuse", status=403, method="POST", times=1)
    mount = lab.mount(clock=clock)
    with pytest.raises(OpenAICredsError):
        issue(mount, "my-role")
    record_api_errors(mount)
    for file in (*lab.store_path.glob("openai/api_errors/*"), *lab.store_path.glob("openai/cleanups/*")):
        file.write_bytes(b"\0" * file.stat().st_size)
    found = collect(lab.mount(clock=clock), None)
    left_out = {
        "openai_creds_issued_total",
        "openai_creds_revoked_total",
        "openai_api_error_total",
        "openai_creds_last_cleanup_timestamp_seconds",
    }
    names = {metric.name for metric in found.metrics}
    assert left_out <= whole and whole - left_out <= names and not names & left_out
    for name in left_out:
        (warning,) = [text for text in found.warnings if text.startswith(f"{name} is left out, ")]
        assert str(lab.store_path) in warning
    assert len(found.warnings) == 4
    (leases,) = [metric for metric in found.metrics if metric.name == "openai_creds_leases"]
    assert {sample.labels["status"]: sample.value for sample in leases.samples}["active"] == 16


@pytest.mark.parametrize("content", [{}, {"succeeded_at": "yesterday"}, {"succeeded_at": None}])
def test_a_last_cleanup_that_says_something_else_counts_as_none(mount: Mount, clock: Clock, content: t.Any) -> None:
    clean(mount)
    document = mount.store.read(LAST)
    assert document
    mount.store.write(Write(LAST, content, document.version))
    assert not clean(mount)["failed"]
    assert last_cleanup(mount) == clock.time
