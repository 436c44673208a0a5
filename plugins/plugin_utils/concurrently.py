# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several calls at once."""

from __future__ import annotations

import queue
import threading
import typing as t

_T = t.TypeVar("_T")
_R = t.TypeVar("_R")


def concurrently(function: t.Callable[[_T], _R], items: t.Sequence[_T], limit: int) -> t.Iterator[_R]:
    """Yield what function returns for each item as soon as it does, at most limit at a time.

    Each is called once, also where fewer threads can be started, or none as while the interpreter ends: an executor of
    the standard library leaves open what becomes of an item that it could not start a thread for.
    """
    left = iter(items)
    taking = threading.Lock()
    over = threading.Event()
    results: queue.SimpleQueue[tuple[_R | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while not over.is_set():
            with taking:
                try:
                    item = next(left)
                except StopIteration:
                    return
            try:
                results.put((function(item), None))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                results.put((None, error))

    threads: list[threading.Thread] = []
    for _unused in range(min(limit, len(items)) if limit > 1 and len(items) > 1 else 0):
        thread = threading.Thread(target=work)
        try:
            thread.start()
        except RuntimeError:
            break
        threads.append(thread)
    if not threads:
        yield from map(function, items)
        return
    try:
        for _item in items:
            result, error = results.get()
            if error is not None:
                raise error
            yield t.cast(_R, result)
    finally:
        over.set()
        for thread in threads:
            thread.join()
