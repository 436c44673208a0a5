# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What threads of a process want to change in the same place at the same time is changed by one of them, at once."""

from __future__ import annotations

import collections
import dataclasses
import threading
import typing as t

_K = t.TypeVar("_K", bound=t.Hashable)
_C = t.TypeVar("_C")
_R = t.TypeVar("_R")


@dataclasses.dataclass(eq=False)
class _Waiting(t.Generic[_C, _R]):
    change: _C
    outcome: _R | BaseException | None = None
    is_done: bool = False


class Combiner(t.Generic[_K, _C, _R]):
    """Combines changes. make is called with a place and one or more changes of it, and returns what became of each: a
    result, or what is to be raised for it."""

    def __init__(self, make: t.Callable[[_K, list[_C]], t.Sequence[_R | BaseException]]) -> None:
        self._make = make
        self._waiting: collections.defaultdict[_K, list[_Waiting[_C, _R]]] = collections.defaultdict(list)
        self._busy: collections.defaultdict[_K, threading.Lock] = collections.defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def change(self, place: _K, change: _C) -> _R:
        """Make a change, with all those that other threads have been waiting to make there; returns its own result."""
        mine: _Waiting[_C, _R] = _Waiting(change)
        with self._lock:
            self._waiting[place].append(mine)
            busy = self._busy[place]
        with busy:
            if not mine.is_done:
                with self._lock:
                    all_of_them = self._waiting.pop(place)
                self._make_all(place, all_of_them)
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        return t.cast(_R, mine.outcome)

    def _make_all(self, place: _K, all_of_them: list[_Waiting[_C, _R]]) -> None:
        outcomes: t.Sequence[_R | BaseException]
        try:
            outcomes = self._make(place, [one.change for one in all_of_them])
        except BaseException as error:  # noqa: BLE001 - it is raised by each
            outcomes = [error] * len(all_of_them)
        for one, outcome in zip(all_of_them, outcomes):
            one.outcome, one.is_done = outcome, True
