# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several calls at once."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import queue
import threading
import time
import typing as t
import weakref

_T = t.TypeVar("_T")
_R = t.TypeVar("_R")

_background: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
#: What the system calls the threads that were begun here since the process last forked.
_begun: set[int | None] = set()
#: How often it is looked whether a thread is gone, and for how long: another one may have got its number.
_EXIT_SECONDS = 0.0002
_LONGEST_EXIT_SECONDS = 1.0


def concurrently(
    function: t.Callable[[_T], _R],
    items: t.Iterable[_T],
    limit: int,
    waiting: t.Callable[[], float] | None = None,
) -> t.Iterator[_R]:
    """Yield what function returns for each item as soon as it does, at most limit at a time.

    Items are taken from where they come from one by one, when there is a thread for them. Each is called once, also where
    fewer threads can be started, or none as while the interpreter ends: an executor of the standard library leaves open
    what becomes of an item that it could not start a thread for. waiting is called by the caller's thread while it waits, and
    returns after how many seconds to call it again.
    """
    if isinstance(items, t.Sized):
        limit = min(limit, len(items))
    left = iter(items)
    taking = threading.Lock()
    over = threading.Event()
    #: What became of an item: a result or an error. None when a thread has ended.
    results: queue.SimpleQueue[tuple[_R | None, BaseException | None] | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            while not over.is_set():
                with taking:
                    try:
                        item = next(left)
                    except StopIteration:
                        return
                results.put((function(item), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            results.put((None, error))
        finally:
            results.put(None)

    threads: list[threading.Thread] = []
    for _unused in range(limit if limit > 1 or waiting else 0):
        thread = _started(work)
        if thread is None:
            break
        threads.append(thread)
    if not threads:
        for item in left:
            yield function(item)
            if waiting:
                waiting()
        return
    running = len(threads)
    try:
        while running:
            try:
                became = results.get(timeout=waiting() if waiting else None)
            except queue.Empty:
                continue
            if became is None:
                running -= 1
                continue
            result, error = became
            if error is not None:
                raise error
            yield t.cast(_R, result)
    finally:
        over.set()
        for thread in threads:
            thread.join()


class Gate:
    """Lets so many threads through at a time; of those that wait, the ones that have the lowest number first."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, threading.Event]] = []

    def numbered(self, number: int) -> t.ContextManager[None]:
        """Return the way through for threads with a number, which each of them may enter as often as it likes."""
        return _Way(self, number)

    def enter(self, number: int) -> None:
        mine = threading.Event()
        with self._lock:
            heapq.heappush(self._waiting, (number, next(self._order), mine))
            self._let_in()
        mine.wait()

    def leave(self) -> None:
        with self._lock:
            self._free += 1
            self._let_in()

    def _let_in(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            heapq.heappop(self._waiting)[2].set()


class _Way(contextlib.AbstractContextManager[None]):
    def __init__(self, gate: Gate, number: int) -> None:
        self._gate = gate
        self._number = number

    def __enter__(self) -> None:
        self._gate.enter(self._number)

    def __exit__(self, *_error: object) -> None:
        self._gate.leave()


@contextlib.contextmanager
def beside(function: t.Callable[[], object]) -> t.Iterator[None]:
    """Do in a thread, for as long as the context lasts, what is done again later if it does not succeed."""
    thread = _start(function)
    try:
        yield
    finally:
        if thread:
            thread.join()


def in_background(function: t.Callable[[], object]) -> threading.Thread | None:
    """Do something that will be done again, and complain, if it does not succeed; returns None if no thread can be had.

    The function must not use Ansible's Display: a worker process that ends, or a process that forks, while a thread
    holds the lock of Ansible's result queue leaves that locked for ever. For the same reason, and for the locks of
    libraries, both wait for the thread.
    """
    thread = _start(function)
    if thread:
        _background.add(thread)
    return thread


def _start(function: t.Callable[[], object]) -> threading.Thread | None:
    """Call a function in a thread, whatever it raises; returns None if no thread can be had."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            function()

    return _started(quietly)


def _started(target: t.Callable[[], object]) -> threading.Thread | None:
    thread = threading.Thread(target=target)
    try:
        thread.start()
    except RuntimeError:
        return None
    _begun.add(thread.native_id)
    return thread


def _finish_background() -> None:
    """Wait for what a child must not find half done, and for threads that have ended to be gone.

    Before Python 3.13, join() returns while the system still ends the thread. OpenSSL tidies up after it then, under a lock that a
    child would inherit locked for ever.
    """
    for thread in list(_background):
        thread.join()
    at_work = {thread.native_id for thread in threading.enumerate()}
    end = time.monotonic() + _LONGEST_EXIT_SECONDS
    for native_id in _begun - at_work:
        while os.path.exists(f"/proc/self/task/{native_id}") and time.monotonic() < end:
            time.sleep(_EXIT_SECONDS)
    _begun.intersection_update(at_work)


os.register_at_fork(before=_finish_background)
