# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes: who is at work on a record, whether they still are, and which run they belong to."""

from __future__ import annotations

import contextlib
import os
import socket
import typing as t

#: A process, so that any other can say whether it still runs:
#: machine (boot and process id space), pid, started (the kernel's start time of the pid).
Process = dict[str, str | int]

#: The work that this process is at, by name: once for each thread that is, or tries to be. Work that is recorded as this
#: process's and is not here was given up.
_under_way: list[str] = []

#: The main process of this run, once somebody has said which that is. Workers that are forked later inherit it.
_run: Process | None = None


def _machine() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as boot_id:
            return f"{boot_id.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> int | None:
    """Return when a process was started, in kernel ticks; 0 where that cannot be seen; None if it is not running."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        # A zombie has ended; only its parent has not looked yet.
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        # There is no /proc, or it hides the processes of other users, or the process has just ended.
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return 0


def process_of(pid: int) -> Process:
    """Return the process that has a pid now."""
    return {"machine": _machine(), "pid": pid, "started": _started(pid) or 0}


def this_process() -> Process:
    """Return the calling process."""
    return process_of(os.getpid())


def set_run(pid: int) -> None:
    """Say which process is the main one of this run: ansible-playbook itself, also when called in one of its workers.

    The process tree does not tell, since a run may itself be the child of a pool of processes.
    """
    global _run
    if _run is None or _run["pid"] != pid:
        _run = process_of(pid)


def this_run() -> Process:
    """Return the main process of this run; where nobody has said which that is, the calling process."""
    return _run or this_process()


def is_running(process: t.Mapping[str, t.Any]) -> bool | None:
    """Say whether a process still runs; None when that cannot be seen from here.

    It cannot be seen of a process on another machine, nor of one whose pid is in use while /proc does not tell since when:
    then somebody else may have the pid by now.
    """
    if process.get("machine") != _machine():
        return None
    pid = int(process["pid"])
    started = _started(pid)
    if started == 0:
        return True if pid == os.getpid() else None
    return started is not None and started == process["started"]


@contextlib.contextmanager
def at_work(name: str) -> t.Iterator[None]:
    """Count this process as being at some work, whose name is its own, for as long as the context lasts."""
    _under_way.append(name)
    try:
        yield
    finally:
        _under_way.remove(name)


def is_at_work(owner: t.Mapping[str, t.Any] | None, name: str) -> bool | None:
    """Say whether the owner of some work is still at it; None if that cannot be seen from here."""
    if owner is None:
        return False
    return name in _under_way if owner == this_process() else is_running(owner)
