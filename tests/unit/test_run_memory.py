# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's processes know together."""

from __future__ import annotations

import multiprocessing

from ansible_collections.ephemeral.openai.plugins.plugin_utils import run_memory
from ansible_collections.ephemeral.openai.plugins.plugin_utils.run_memory import recall, remember

FORK = multiprocessing.get_context("fork")


def in_a_worker(function: object, *args: object) -> None:
    worker = FORK.Process(target=function, args=args)  # type: ignore[arg-type]
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def test_nothing_is_known_at_first() -> None:
    assert recall("a") is None


def test_what_one_worker_remembers_the_next_one_knows() -> None:
    def check() -> None:
        assert recall("a") == [1, None, "x"] and recall("b") == {"c": 2}

    in_a_worker(remember, "a", [1, None, "x"])
    in_a_worker(remember, "b", {"c": 1})
    in_a_worker(remember, "b", {"c": 2})
    in_a_worker(check)
    check()


def test_a_name_is_not_in_memory() -> None:
    remember("a name with a secret in it", 1)
    assert b"secret" not in run_memory._memory[:]
    assert recall("a name with a secret in it") == 1


def test_what_is_torn_counts_as_forgotten() -> None:
    remember("a", "x" * 100)
    run_memory._memory[60:70] = b"y" * 10
    assert recall("a") is None
    remember("b", 1)
    assert recall("b") == 1


def test_what_does_not_fit_is_not_kept() -> None:
    remember("a", 1)
    remember("b", "x" * 2**17)
    assert (recall("a"), recall("b")) == (1, None)


def test_writers_at_once_lose_at_most_what_they_wrote() -> None:
    def write(number: int) -> None:
        for turn in range(200):
            remember(f"name{number}", {"number": number, "text": str(turn) * 50})
            found = recall(f"name{number}")
            assert found is None or found["number"] == number

    workers = [FORK.Process(target=write, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    remember("after", 1)
    assert recall("after") == 1
