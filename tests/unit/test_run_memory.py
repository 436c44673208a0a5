# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's processes know together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.shared_memory import Lock, Memory

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def memory() -> Memory:
    return Memory(2**16)


def in_workers(*functions: t.Callable[[], object]) -> None:
    workers = [FORK.Process(target=function) for function in functions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def test_nothing_is_known_at_first(memory: Memory) -> None:
    assert memory.recall("a") is None


def test_what_one_worker_remembers_the_next_one_knows(memory: Memory) -> None:
    def check() -> None:
        assert memory.recall("a") == [1, None, "x"] and memory.recall("b") == {"c": 2}

    in_workers(lambda: memory.remember("a", [1, None, "x"]))
    in_workers(lambda: memory.remember("b", {"c": 1}))
    in_workers(lambda: memory.remember("b", {"c": 2}))
    in_workers(check)
    check()


def test_a_name_is_not_in_memory(memory: Memory) -> None:
    memory.remember("a name with a secret in it", 1)
    assert b"secret" not in memory._memory[:]
    assert memory.recall("a name with a secret in it") == 1


def test_what_a_killed_worker_has_left_half_written_counts_as_forgotten(memory: Memory) -> None:
    memory.remember("a", "x" * 100)
    memory._memory[60:70] = b"y" * 10
    assert memory.recall("a") is None
    memory.remember("b", 1)
    assert memory.recall("b") == 1


def test_what_does_not_fit_beside_it_makes_way(memory: Memory) -> None:
    memory.remember("a", 1)
    memory.remember("b", "x" * 2**17)
    assert (memory.recall("a"), memory.recall("b")) == (1, None)
    memory.remember("c", "x" * (2**16 - 150))
    assert memory.recall("c") and memory.recall("a") is None


def test_nothing_is_lost_where_many_write_at_once(memory: Memory) -> None:
    def work(number: int) -> None:
        for turn in range(100):
            memory.remember(f"name{number}", {"turn": turn, "text": str(turn) * 500})
            found = memory.recall(f"name{number}")
            assert found and found["turn"] == turn
            assert memory.recall("steady") == "there"

    memory.remember("steady", "there")
    in_workers(*(lambda number=number: work(number) for number in range(6)))  # type: ignore[misc]
    assert all(memory.recall(f"name{number}")["turn"] == 99 for number in range(6))


def test_a_lock_excludes_processes_and_threads() -> None:
    lock, most, at_once = Lock(), FORK.Value("i", 0), FORK.Value("i", 0)

    def hold() -> None:
        for _unused in range(20):
            with lock:
                at_once.value += 1
                most.value = max(most.value, at_once.value)
                time.sleep(0.001)
                at_once.value -= 1

    def work() -> None:
        threads = [threading.Thread(target=hold) for _unused in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_workers(work, work, work)
    assert most.value == 1


def test_a_lock_goes_with_a_process_that_is_killed() -> None:
    lock, held = Lock(), FORK.Event()

    def hold() -> None:
        with lock:
            held.set()
            time.sleep(60)

    worker = FORK.Process(target=hold)
    worker.start()
    held.wait(10)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    with lock:
        pass
