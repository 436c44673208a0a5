# SPDX-License-Identifier: GPL-3.0-or-later
"""Several calls at once: each once, whatever threads there are."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import sys
import threading
import time
import typing as t

import pytest
from lab import Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.threads import Gate, concurrently


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


#: Issues, lists and revokes in a process of which the system refuses every thread.
WITHOUT_THREADS = """
import json, sys, threading
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
import lab
threading.stack_size(2**46)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    sys.exit("threads can be started")
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import find, issue, revoke, share
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
node = lab.Lab.__new__(lab.Lab)
node.vault, node.store_path = None, Path(sys.argv[2])
mount = node.mount()
for _unused in range(3):
    issue.issue(mount, "my-role")
share.shared_credential(mount, "my-role", None, 300)
share.own_credential(mount, "my-role", None)
cleanup(mount, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
found = list(find.records(mount))
assert len(found) == 5 and not any(one.error for one in revoke.revoke(mount, found))
"""


def test_where_the_system_refuses_every_thread(lab: Lab) -> None:
    lab.configure()
    done = subprocess.run(
        (sys.executable, "-c", WITHOUT_THREADS, json.dumps(sys.path), str(lab.store_path)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert lab.accounts() == set()
    assert sum(call["method"] == "DELETE" for call in lab.double.requests()) == 5


#: Has threads that the system takes a while to end, as OpenSSL's tidying up may, and then forks. Prints how many of them a child
#: would find.
THREADS_THAT_LINGER = """
import contextlib, ctypes, json, os, sys, threading
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import threads
libc = ctypes.CDLL(None)
key = ctypes.c_uint()
# What the system calls as a thread ends, with the number that the thread has put there.
assert libc.pthread_key_create(ctypes.byref(key), libc.usleep) == 0
ids = set()
def linger(_item=None):
    ids.add(threading.get_native_id())
    libc.pthread_setspecific(key, ctypes.c_void_p(200_000))
def begin(kind):
    if kind == "in_background":
        assert threads.in_background(linger)
    elif kind == "beside":
        with threads.beside(linger):
            pass
    else:
        list(threads.concurrently(linger, range(4), 2))
begin(sys.argv[2])
there = set()
os.register_at_fork(after_in_parent=lambda: there.update(os.listdir("/proc/self/task")))
if os.fork() == 0:
    os._exit(0)
os.wait()
print(len(ids) > 0, len(there & {str(one) for one in ids}))
"""


@pytest.mark.parametrize("kind", ["in_background", "beside", "concurrently"])
def test_a_process_forks_when_the_system_has_ended_its_threads(kind: str) -> None:
    args = (sys.executable, "-c", THREADS_THAT_LINGER, json.dumps(sys.path), kind)
    done = subprocess.run(args, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("True 0\n", "")


def test_a_gate_lets_the_lowest_numbers_in_first() -> None:
    gate = Gate(1)
    order: list[int] = []
    ways = {number: gate.numbered(number) for number in range(4)}

    def go(number: int) -> None:
        with ways[number]:
            order.append(number)

    with ways[3]:
        threads = [threading.Thread(target=go, args=(number,)) for number in (2, 0, 1)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while len(gate._waiting) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not order
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]


def test_a_gate_lets_so_many_in_at_a_time_and_goes_on_after_an_error() -> None:
    gate = Gate(2)
    inside, most, lock = 0, 0, threading.Lock()

    def go(number: int) -> None:
        nonlocal inside, most
        with contextlib.suppress(ValueError), gate.numbered(number):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1
            raise ValueError

    assert len(list(concurrently(go, range(20), 8))) == 20
    assert most == 2
