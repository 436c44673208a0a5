# SPDX-License-Identifier: GPL-3.0-or-later
"""Several calls at once: each once, whatever threads there are."""

from __future__ import annotations

import collections
import threading
import time
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.threads import concurrently


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_each_is_called_once(count: int, limit: int) -> None:
    called: list[int] = []
    assert sorted(concurrently(lambda item: (called.append(item), item)[1], range(count), limit)) == list(range(count))
    assert sorted(called) == list(range(count))


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_where_few_threads_can_be_started(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    called: t.Counter[int] = collections.Counter()
    assert sorted(concurrently(lambda item: (called.update([item]), item)[1], range(9), 4)) == list(range(9))
    assert set(called.values()) == {1}


def test_an_error_is_raised_and_no_more_is_begun() -> None:
    called: list[int] = []

    def act(item: int) -> int:
        called.append(item)
        if item == 3:
            raise ValueError(item)
        time.sleep(0.001)
        return item

    with pytest.raises(ValueError, match="3"):
        list(concurrently(act, range(1000), 2))
    assert len(called) < 1000
    assert threading.active_count() == 1 or not [one for one in threading.enumerate() if "work" in one.name]
