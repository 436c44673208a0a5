# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's processes know together."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import pytest
from lab import COLLECTIONS

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import shared_memory, taken_leases
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.shared_memory import Lock, Memory

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def no_notes_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken_leases, "_notes", None)


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


def test_an_interrupt_while_waiting_releases_the_lock() -> None:
    """Who is interrupted asks for it again when he ends his leases."""
    lock, held, over = Lock(), FORK.Event(), FORK.Event()

    class Interrupt(Exception):
        pass

    def hold() -> None:
        with lock:
            held.set()
            over.wait(60)

    def interrupt(_number: int, _frame: object) -> None:
        raise Interrupt

    worker = FORK.Process(target=hold)
    worker.start()
    assert held.wait(60)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupt), lock:
            raise AssertionError("somebody else holds it")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        over.set()
        worker.join()
    entered = threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(30)


def test_workers_that_inherit_nothing_share_a_file(tmp_path: Path) -> None:
    """What only workers import, such as a lookup, they do not have from before the fork."""
    begun, most, at_once = FORK.Barrier(3), FORK.Value("i", 0), FORK.Value("i", 0)

    def opened() -> int:
        return os.open(tmp_path / "shared", os.O_RDWR | os.O_CREAT, 0o600)

    def work(number: int) -> None:
        memory = Memory(2**12)
        memory.share(opened())
        begun.wait(60)
        for _unused in range(50):
            memory.update("n", lambda known: (known or 0) + 1)
        memory.remember(f"worker{number}", number)
        lock = Lock()
        lock.share(os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        with lock:
            at_once.value += 1
            most.value = max(most.value, at_once.value)
            time.sleep(0.05)
            at_once.value -= 1

    in_workers(*(lambda number=number: work(number) for number in range(3)))  # type: ignore[misc]
    memory = Memory(2**12)
    memory.share(opened())
    assert memory.recall("n") == 150 and memory.recall("worker2") == 2
    assert most.value == 1


def test_only_those_that_inherit_nothing_share_a_file(tmp_path: Path) -> None:
    shared_memory.share_files(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_the_files_of_workers_are_in_the_folder_of_the_run(tmp_path: Path, there: bool) -> None:
    folder = tmp_path if there else tmp_path / "gone"

    def work(number: int) -> None:
        # As if this worker had imported it for itself.
        importlib.reload(shared_memory)
        shared_memory.share_files(str(folder))
        shared_memory.REFUSALS.remember(f"worker{number}", number)
        with shared_memory.LOGIN:
            assert shared_memory.REFUSALS.recall("worker0") == (0 if there or number == 0 else None)

    for number in range(2):
        in_workers(lambda number=number: work(number))  # type: ignore[misc]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == ({"ephemeral.openai-refusals", "ephemeral.openai-login"} if there else set())


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit
head -c 1M /dev/zero > "$1/filling" 2> /dev/null
exec "$2" -c "$3" "$1"
"""
SHARE = """
import sys
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import shared_memory
shared_memory._is_apart = True
shared_memory.share_files(sys.argv[1])
print(shared_memory.REFUSALS.recall("a"))
shared_memory.REFUSALS.remember("a", 1)
print(shared_memory.REFUSALS.recall("a"))
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run((*NAMESPACE, "true"), capture_output=True, check=False).returncode != 0,
    reason="no namespace can be had in which to mount a full disk",
)
def test_a_full_disk_ends_no_worker(tmp_path: Path) -> None:
    """The kernel would kill a process that reads memory for which the disk has no place."""
    command = (*NAMESPACE, "sh", "-c", FULL, "sh", str(tmp_path), sys.executable, SHARE)
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, check=False
    )
    assert (run.returncode, run.stdout) == (0, "None\n1\n"), run.stderr


@pytest.fixture
def no_place_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose folder for temporary files cannot be written."""
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(OSError, match="nonexistent"), tempfile.TemporaryFile():
        pass


def test_locks_and_notes_need_no_disk(no_place_for_files: None) -> None:
    lock = Lock()
    assert lock._descriptor is not None
    taken_leases.begin_notes()
    in_workers(lambda: taken_leases.note({"from": "a worker"}))
    assert taken_leases.note({"from": "this one"})
    assert taken_leases.notes() == [{"from": "a worker"}, {"from": "this one"}]


def test_a_note_that_is_lost_is_told_of_and_spoils_no_other() -> None:
    taken_leases.begin_notes()
    assert taken_leases.note({"n": 1})

    def full() -> None:
        # Half of a line still fits.
        size = os.fstat(taken_leases._notes[0]).st_size if taken_leases._notes else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
        assert not taken_leases.note({"n": 2})
        assert not taken_leases.note({"n": 3})

    in_workers(full)
    assert taken_leases.note({"n": 4})
    assert taken_leases.notes() == [{"n": 1}, {"n": 4}]


def test_a_system_without_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    taken_leases.begin_notes()
    assert taken_leases.note({"n": 1}) and taken_leases.notes() == [{"n": 1}]
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert Lock()._descriptor is None
    with pytest.raises(OSError, match="nonexistent"):
        taken_leases.begin_notes()
    assert taken_leases.note({"n": 1}) and taken_leases.notes() == []


def test_no_secret_is_in_the_notes() -> None:
    taken_leases.begin_notes()
    assert taken_leases.note({"secret_id": "a secret"}) and taken_leases._notes
    assert b"secret" not in os.pread(taken_leases._notes[0], 10_000, 0)
