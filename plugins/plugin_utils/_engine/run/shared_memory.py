# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the processes of a run know together, in memory that workers inherit and that no file shows.

The memory is there from when this module is imported. Ansible imports actions and callbacks before it forks, so that all
workers share it; what only a worker imports, such as a lookup, may have one of its own. Workers that have imported it for
themselves still share what holds no secret, by way of files in a folder of the run's (see share_files).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import multiprocessing
import os
import tempfile
import threading
import typing as t

_DIGEST = hashlib.sha256().digest_size
_LENGTH = 4


def anonymous_file() -> int:
    """Return the descriptor of a file without a name: in memory where the system has such files, as a disk may be full.

    Raises OSError if there is no place for it at all.
    """
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.memfd_create("openai_creds")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Lock:
    """Excludes the other processes of the run, and the threads of this one; it goes with a process that dies."""

    def __init__(self) -> None:
        self._threads = threading.Lock()
        #: Of a file that is only there to be locked. Where there is no place for it, threads alone are excluded.
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = anonymous_file()

    def share(self, file: int) -> None:
        """Exclude from now on all processes that share a file, given by its descriptor, and not those that inherited the
        lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = file

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._descriptor is not None:
                # Not flock, whose locks belong to all processes that have inherited the file.
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            # An interrupt while another process holds the lock. This process asks for it again when it ends its leases.
            self._threads.release()
            raise

    def __exit__(self, *_error: object) -> None:
        try:
            if self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()


class Memory:
    """JSON data by name. When it is full, all but the newest is forgotten."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, size)
        self._lock = Lock()

    def share(self, file: int) -> None:
        """Be from now on what is in a file, given by its descriptor. Raises OSError if there is no place for it."""
        os.ftruncate(file, self._size)
        if hasattr(os, "posix_fallocate"):
            # Where the disk is full, the kernel would end a process that only reads what has no place there yet.
            os.posix_fallocate(file, 0, self._size)
        self._memory = mmap.mmap(file, self._size)
        self._lock.share(file)

    def recall(self, name: str) -> t.Any:
        """Return what has been remembered under a name, or None."""
        everything = self._read()
        if everything is None:
            with self._lock:
                everything = self._read()
        return (everything or {}).get(_hidden(name))

    def remember(self, name: str, value: t.Any) -> None:
        """Keep JSON data for the other processes of the run."""
        self.update(name, lambda _known: value)

    def update(self, name: str, change: t.Callable[[t.Any], t.Any]) -> None:
        """Keep what change makes of the JSON data under a name (None if there is none), with no other change in between."""
        with self._lock:
            everything = self._read() or {}
            value = change(everything.get(_hidden(name)))
            for known in (everything, {}):
                content = json.dumps({**known, _hidden(name): value}).encode()
                if _DIGEST + _LENGTH + len(content) <= self._size:
                    record = hashlib.sha256(content).digest() + len(content).to_bytes(_LENGTH, "big") + content
                    self._memory[: len(record)] = record
                    return

    def _read(self) -> dict[str, t.Any] | None:
        """Return all there is; None while it is being written, or if that was never finished."""
        length = int.from_bytes(self._memory[_DIGEST : _DIGEST + _LENGTH], "big")
        content = self._memory[_DIGEST + _LENGTH : _DIGEST + _LENGTH + length]
        if not length:
            return {}
        whole = hashlib.sha256(content).digest() == self._memory[:_DIGEST]
        return dict(json.loads(content)) if whole else None


def _hidden(name: str) -> str:
    """Return what stands for a name, which may be long and have secrets in it."""
    return hashlib.sha256(name.encode()).hexdigest()


#: Of the servers that state is on, and the logins there.
SERVERS = Memory(2**15)
#: Of files that state is in.
FILES = Memory(2**18)
#: Of servers that do not answer, or refuse: never a secret, nor a name from which one could be guessed.
REFUSALS = Memory(2**15)
#: Held while one logs in. It is here because all workers must have the same one, whenever they import what logs in.
LOGIN = Lock()

#: Whether a worker has imported this for itself, and does not share files yet.
_is_apart = multiprocessing.parent_process() is not None


def share_files(folder: str) -> None:
    """Let workers that have imported this for themselves share what holds no secret, in files of a folder that is there for
    as long as the run and that nobody else can write."""
    global _is_apart
    if not _is_apart:
        return
    _is_apart = False
    shared: tuple[tuple[str, Memory | Lock], ...] = (("refusals", REFUSALS), ("login", LOGIN))
    for name, one in shared:
        with contextlib.suppress(OSError):
            path = os.path.join(folder, f"ephemeral.openai-{name}")
            one.share(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
