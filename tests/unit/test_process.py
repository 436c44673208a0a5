# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at work, and whether they still are."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.owners import is_over
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import (
    Process,
    at_work,
    is_at_work,
    is_running,
    set_run,
    this_process,
    this_run,
)

FORK = multiprocessing.get_context("fork")


def report(pipe: t.Any) -> None:
    pipe.send((this_process(), this_run()))
    time.sleep(60)


@pytest.fixture
def child() -> t.Iterator[tuple[t.Any, Process, Process]]:
    """A child forked as Ansible forks its workers, what it says it is, and which run it says it is of."""
    set_run(os.getpid())
    here, there = FORK.Pipe()
    process = FORK.Process(target=report, args=(there,))
    process.start()
    try:
        yield process, *here.recv()
    finally:
        process.kill()
        process.join()


def wait_for_state(pid: int, state: str) -> None:
    for _unused in range(500):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            if stat.read().rpartition(")")[2].split()[0] == state:
                return
        time.sleep(0.002)
    raise AssertionError(f"{pid} does not become {state}")


def test_this_process_runs() -> None:
    me = this_process()
    assert me["pid"] == os.getpid()
    assert is_running(me) is True
    assert is_running(json.loads(json.dumps(me))) is True


def test_a_child_runs_until_it_has_ended(child: tuple[t.Any, Process, Process]) -> None:
    process, said, _run = child
    assert said["pid"] == process.pid != os.getpid()
    assert is_running(said) is True
    os.kill(process.pid, signal.SIGSTOP)
    wait_for_state(process.pid, "T")
    assert is_running(said) is True
    process.kill()
    wait_for_state(process.pid, "Z")
    assert is_running(said) is False, "a zombie does not work any more"
    process.join()
    assert is_running(said) is False


def test_a_worker_belongs_to_the_run_of_its_parent(child: tuple[t.Any, Process, Process]) -> None:
    _process, said, run = child
    assert run == this_process() == this_run()
    assert run != said


def test_a_pid_used_again_is_somebody_else() -> None:
    me = this_process()
    assert is_running({**me, "started": int(me["started"]) - 1}) is False
    assert is_running({**me, "started": 0}) is False


def test_a_child_of_a_pool_is_a_run_of_its_own() -> None:
    """Also where the owner of the pool was a run itself."""
    here, there = FORK.Pipe()

    def run() -> None:
        set_run(os.getpid())
        there.send((this_process(), this_run()))

    set_run(os.getpid())
    process = FORK.Process(target=run)
    process.start()
    its, its_run = here.recv()
    process.join()
    assert its == its_run != this_run()


def test_another_machine_cannot_be_seen() -> None:
    assert is_running({**this_process(), "machine": "elsewhere"}) is None
    assert is_running({**this_process(), "machine": ""}) is None


def test_another_container_is_another_machine() -> None:
    machine = str(this_process()["machine"])
    assert machine.count("/") == 1, "the boot and the process id space"
    assert is_running({**this_process(), "machine": machine + "1"}) is None


def test_a_process_that_calls_itself_strangely() -> None:
    """The kernel does not quote the name of a process in its stat file."""
    here, there = FORK.Pipe()

    def strange() -> None:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:
            comm.write("a) Z 1 (b\n")
        there.send(this_process())
        time.sleep(60)

    process = FORK.Process(target=strange)
    process.start()
    try:
        said = here.recv()
        assert said["pid"] == process.pid
        assert said["started"] != 0
        assert is_running(said) is True
    finally:
        process.kill()
        process.join()


def test_work_that_this_process_is_not_at_was_given_up() -> None:
    me = this_process()
    assert is_at_work(me, "some work") is False
    with at_work("some work"):
        assert is_at_work(me, "some work") is True
        assert is_at_work(me, "other work") is False
    assert is_at_work(me, "some work") is False


def test_work_of_others(child: tuple[t.Any, Process, Process]) -> None:
    process, its, _run = child
    assert is_at_work(None, "some work") is False
    assert is_at_work(its, "some work") is True
    process.kill()
    process.join()
    assert is_at_work(its, "some work") is False
    assert is_at_work({**its, "machine": "elsewhere"}, "some work") is None


def test_what_is_over() -> None:
    assert is_over(False, 1000, 1000, 600)
    assert not is_over(True, 0, 10**9, 600)
    assert not is_over(None, 1000, 1599, 600)
    assert is_over(None, 1000, 1600, 600)
    assert not is_over(None, 1000, 401, 600), "clocks differ a little"
    assert is_over(None, 1000, 400, 600), "a clock was set back"


#: Prints what a process on its own says of itself, of another user's process, and of one that has ended.
LOOK = """
import json, os, subprocess, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import processes
other = subprocess.Popen(["sleep", "300"], user=65534)
ended = subprocess.Popen(["true"])
ended.wait()
os.setgroups([])
os.setegid(65533)
os.seteuid(65533)
me = processes.this_process()
there = {name: {**me, "pid": process.pid, "started": 12345} for name, process in (("other", other), ("ended", ended))}
print(json.dumps({name: processes.is_running(one) for name, one in {"me": me, **there}.items()}))
os.seteuid(0)
other.kill()
"""


@pytest.mark.parametrize(
    "proc",
    [
        "mount -t proc -o hidepid=1 proc /proc",
        "mount -t proc -o hidepid=2 proc /proc",
        "mount -t tmpfs none /proc",
    ],
)
def test_a_proc_that_tells_less_or_nothing(proc: str) -> None:
    """Whose pid it is cannot be seen, so that it is neither running nor dead."""
    if subprocess.run(("unshare", "-m", "sh", "-c", proc), capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a /proc")
    command = f'{proc}; exec "$@"'
    done = subprocess.run(
        ("unshare", "-m", "sh", "-c", command, "sh", sys.executable, "-c", LOOK, json.dumps(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"me": True, "other": None, "ended": False}
