# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress: what is counted, when a line is due, and what it says."""

from __future__ import annotations

import re
import threading
import time
import typing as t

import pytest
from lab import BOTH_STORES, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import progress as progress_module
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.progress import Progress
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.threads import concurrently
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

ENDED = "leases ended"
CREATE = {"method": "POST", "path": "/service_accounts$"}


class Watched:
    """A progress whose lines are kept, and whose clock moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lines: list[str] = []
        self.progress = Progress(self.lines.append, lambda: self.now)

    def after(self, seconds: float) -> list[str]:
        """Let so many seconds pass; returns the lines that this brings."""
        before = len(self.lines)
        self.now += seconds
        assert self.progress.waiting
        assert 0 < self.progress.waiting() <= 5
        return self.lines[before:]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_line_says_what_is_done_left_and_refused_and_the_time_left(watched: Watched) -> None:
    watched.progress.expect(ENDED, 1000)
    for _unused in range(400):
        watched.progress.add(ENDED, 1)
    watched.progress.add(ENDED, refused=3)
    # 403 took 8 s, so the other 597 take 11.9 s.
    assert watched.after(8) == ["400 of 1,000 leases ended, 3 refused, about 12 s left"]


def test_lines_come_every_interval_and_not_before(watched: Watched) -> None:
    watched.progress.expect(ENDED, 1000)
    watched.progress.add(ENDED, 10)
    assert watched.after(4.9) == []
    assert len(watched.after(0.1)) == 1
    assert watched.after(4.9) == []
    assert len(watched.after(0.1)) == 1
    assert watched.after(0) == []


def test_what_does_not_move_is_told_as_well(watched: Watched) -> None:
    watched.progress.expect("leases issued", 64)
    assert watched.after(5) == watched.after(5) == ["0 of 64 leases issued"]


def test_long_times_are_given_in_minutes(watched: Watched) -> None:
    watched.progress.expect(ENDED, 10_000)
    watched.progress.add(ENDED, 100)
    assert watched.after(10) == ["100 of 10,000 leases ended, about 17 min left"]


def test_more_of_a_kind_adds_up_and_another_kind_counts_for_itself(watched: Watched) -> None:
    watched.progress.expect(ENDED, 5)
    watched.progress.add(ENDED, 5)
    watched.progress.expect("accounts deleted", 4)
    watched.progress.add("accounts deleted", refused=1)
    assert watched.after(6) == ["0 of 4 accounts deleted, 1 refused, about 18 s left"]
    watched.progress.expect(ENDED, 7)
    # Two of these somebody else has ended.
    watched.progress.expect(ENDED, -2)
    assert watched.after(6) == ["5 of 10 leases ended, about 12 s left"]
    watched.progress.add(ENDED, 5)
    assert watched.after(6) == ["10 of 10 leases ended"]


def test_the_total_is_looked_up_once_and_only_for_long_work(watched: Watched) -> None:
    asked: list[float] = []

    def look_up() -> int:
        asked.append(watched.now)
        return 40

    watched.progress.expect(ENDED, 10)
    watched.progress.expect(ENDED, look_up=look_up)
    watched.progress.add(ENDED, 20)
    assert watched.after(4) == [] and asked == []
    assert watched.after(1) == ["20 of 50 leases ended, about 8 s left"]
    watched.progress.add(ENDED, 5)
    assert watched.after(5) == ["25 of 50 leases ended, about 10 s left"]
    assert asked == [1005.0]


def test_where_the_total_cannot_be_found_the_line_does_without(watched: Watched) -> None:
    watched.progress.expect(ENDED, look_up=lambda: None)
    watched.progress.add(ENDED, 1234)
    watched.progress.add(ENDED, refused=2)
    assert watched.after(5) == ["1,234 leases ended, 2 refused"]


def test_without_somebody_to_show_it_to_nobody_is_called() -> None:
    silent = Progress()
    silent.expect(ENDED, 1, look_up=lambda: pytest.fail("nobody reads it"))
    assert silent.waiting is None


def test_threads_count_together(watched: Watched) -> None:
    watched.progress.expect(ENDED, 8000)

    def count() -> None:
        for _unused in range(1000):
            watched.progress.add(ENDED, 1)

    threads = [threading.Thread(target=count) for _unused in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.after(5) == ["8,000 of 8,000 leases ended"]


@pytest.mark.parametrize("count", [1, 3])
def test_lines_are_shown_by_the_thread_that_waits_while_others_work(count: int) -> None:
    shown: list[threading.Thread] = []
    called: list[threading.Thread] = []

    def waiting() -> float:
        shown.append(threading.current_thread())
        return 0.01

    def work(item: int) -> int:
        called.append(threading.current_thread())
        time.sleep(0.2)
        return item

    assert sorted(concurrently(work, range(count), 8, waiting)) == list(range(count))
    assert len(shown) > 5 and set(shown) == {threading.current_thread()}
    assert threading.current_thread() not in called


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a mount's progress, which come every tenth of a second."""
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 0.1)
    return []


def with_lines(mount: Mount, lines: list[str]) -> Mount:
    mount.progress = Progress(lines.append)
    return mount


@BOTH_STORES
def test_issue_and_revocation_count_to_their_end(lab: Lab, lines: list[str]) -> None:
    lab.configure()
    mount = with_lines(lab.mount(), lines)
    lab.double.settings(latency=0.15)
    issue_several(mount, "my-role", None, 24)
    assert lines and all(" of 24 leases issued" in line for line in lines)
    lines.clear()
    lab.double.fault(kind="refuse", status=403, method="DELETE", times=2)
    ended = revoke(mount, list(records(mount)), concurrency=4)
    lab.double.settings(latency=0.0)
    assert len(ended) == 24
    assert lines and all(" of 24 leases ended" in line for line in lines)
    done = [int(line.split()[0]) for line in lines]
    assert done == sorted(done) and done[-1] > 10 and ", 2 refused" in lines[-1], lines


@BOTH_STORES
def test_cleanup_finds_out_how_many_are_due(lab: Lab, lines: list[str]) -> None:
    lab.configure()
    with lab.at(-7200) as past:
        issue_several(past, "my-role", 60, 24)
    issue_several(lab.mount(), "my-role", None, 3)
    lab.double.settings(latency=0.15)
    mount = with_lines(lab.mount(), lines)

    def clean(limit: int | None) -> dict[str, t.Any]:
        return cleanup(mount, orphans="delete", max_concurrency=2, limit=limit, grace=600, dry_run=False)

    assert len(clean(8)["revoked"]) == 8
    assert lines and all(" of 8 leases ended" in line for line in lines), lines
    lines.clear()
    mount = with_lines(lab.mount(), lines)
    assert len(clean(None)["revoked"]) == 16
    lab.double.settings(latency=0.0)
    assert lines and all(" of 16 leases ended" in line for line in lines), lines


def test_cleanup_tells_of_interrupted_work_too(lab: Lab, lines: list[str]) -> None:
    lab.configure()
    lab.double.fault(kind="drop_after", **CREATE)
    lab.double.fault(kind="refuse", status=403, method="GET")
    for _unused in range(6):
        with pytest.raises(OpenAICredsError, match="may exist at OpenAI"):
            issue(lab.mount(), "my-role")
    lab.double.clear_faults()
    assert len(lab.accounts()) == 6
    lab.double.settings(latency=0.15)
    with lab.at(3600) as later:
        mount = with_lines(later, lines)
        result = cleanup(mount, orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)
    lab.double.settings(latency=0.0)
    assert len(result["recovered"]) == 6 and lab.accounts() == set()
    assert lines and all(re.match(r"\d of 6 interrupted operations looked at", line) for line in lines), lines
