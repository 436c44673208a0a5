# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that threads make in one place at the same time."""

from __future__ import annotations

import itertools
import threading
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import Conflict, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.threads import concurrently
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.combining import Combiner


class Slow:
    """Makes changes one batch after the other, the first one only when all have come."""

    def __init__(self, callers: int) -> None:
        self.batches: list[list[int]] = []
        self.outcome: t.Callable[[int], t.Any] = str
        self._first = threading.Event()
        self._callers = callers
        self.combiner = Combiner(self.make)

    def make(self, place: str, changes: list[int]) -> list[t.Any]:
        self.batches.append(changes)
        if len(self.batches) == 1:
            self._first.set()
            while len(self.combiner._waiting.get(place, [])) < self._callers - len(changes):
                self._first.wait(0.001)
        return [self.outcome(change) for change in changes]

    def ask(self, change: int) -> t.Any:
        try:
            return self.combiner.change("here", change)
        except (StoreError, Conflict) as error:
            return error


def test_what_comes_meanwhile_is_made_at_once_and_each_hears_its_own() -> None:
    slow = Slow(20)
    heard = dict(concurrently(lambda change: (change, slow.ask(change)), range(20), 20))
    assert heard == {change: str(change) for change in range(20)}
    assert len(slow.batches) == 2 and sorted(itertools.chain(*slow.batches)) == list(range(20))


def test_the_failure_of_one_is_not_that_of_others() -> None:
    slow = Slow(10)
    slow.outcome = lambda change: Conflict("too late") if change == 7 else None
    heard = dict(concurrently(lambda change: (change, slow.ask(change)), range(10), 10))
    assert [change for change, outcome in heard.items() if outcome] == [7]


def test_a_failure_of_all_is_told_to_all_and_the_next_ones_go_on() -> None:
    slow = Slow(1)

    def fail(_change: int) -> t.NoReturn:
        raise StoreError("the disk is full")

    slow.outcome = fail
    assert isinstance(slow.ask(1), StoreError)
    slow.outcome = str
    assert slow.ask(2) == "2"


def test_of_many_who_write_a_document_at_the_same_time_one_succeeds(store: Store) -> None:
    """And whoever writes another one beside it is not disturbed."""
    key = store.new_key("leases/0001", 3600)[:-1]
    paths = [f"leases/0001/{key}{number}" for number in range(9)]

    def write(path: str) -> str | None:
        try:
            store.write(Write(path, {"path": path}, 0, 3600))
        except Conflict:
            return None
        return path

    written = list(concurrently(write, [paths[0]] * 8 + paths, 20))
    assert sorted(filter(None, written)) == sorted(set(paths))
    assert {path: store.read(path).data for path in paths} == {path: {"path": path} for path in paths}  # type: ignore[union-attr]
    assert set(concurrently(store.delete, paths, 20)) == {None}
    assert list(store.scan("leases/")) == []


@pytest.mark.parametrize("times", range(3))
def test_what_one_thread_removes_another_may_write_anew(store: Store, times: int) -> None:
    key = store.new_key("leases/0001", 3600)[:-1]
    kept = f"leases/0001/{key}z"
    store.write(Write(kept, {}, 0, 3600))
    others = [f"leases/0001/{key}{number}" for number in range(9)]
    for path in others:
        store.write(Write(path, {}, 0, 3600))

    def change(number: int) -> None:
        if number < 9:
            store.delete(others[number])
        else:
            store.write(Write(kept, {"now": True}, 1, 3600))

    list(concurrently(change, range(10), 10))
    assert [one.path for one in store.scan("leases/")] == [kept]  # type: ignore[union-attr]
