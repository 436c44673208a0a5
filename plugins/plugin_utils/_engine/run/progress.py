# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far long work has come: counted in threads, and told every few seconds by the thread that waits for them."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import typing as t

#: A line is due each time so many seconds are over, and none before that.
INTERVAL_SECONDS = 5.0
#: Up to so many seconds are given as such, above that in minutes.
_MOST_SECONDS = 120


@dataclasses.dataclass
class _Count:
    """What there is of one kind: since when, how much, how much of that is done and was refused.

    look_up finds how much more there is, if nobody has looked yet; total is None if that could not be found.
    """

    began: float
    total: int | None = 0
    done: int = 0
    refused: int = 0
    look_up: t.Callable[[], int | None] | None = None

    def line(self, what: str, now: float) -> str:
        counted = f"{self.done:,} {what}" if self.total is None else f"{self.done:,} of {self.total:,} {what}"
        refused = f", {self.refused:,} refused" if self.refused else ""
        handled = self.done + self.refused
        left = 0 if self.total is None else self.total - handled
        if not handled or left <= 0:
            return counted + refused
        return f"{counted}{refused}, about {_in_words((now - self.began) * left / handled)} left"


class Progress:
    """Counts what is done, and hands show a line on it every few seconds. Without show it does nothing.

    Any thread may count. Only the thread that waits for the others calls waiting, so that show is called in one that may
    display: Ansible's display has a lock, and a process that forks or ends while another thread holds it hangs.
    """

    def __init__(
        self, show: t.Callable[[str], object] | None = None, clock: t.Callable[[], float] = time.monotonic
    ) -> None:
        self._show = show
        self._clock = clock
        self._lock = threading.Lock()
        #: By what is done, in words that follow a number: leases ended.
        self._counts: dict[str, _Count] = {}
        self._latest = ""
        self._next_line = clock() + INTERVAL_SECONDS

    def expect(self, what: str, more: int = 0, look_up: t.Callable[[], int | None] | None = None) -> None:
        """Say that there is so much more to do of a kind, or less. From now on lines are about this kind.

        Where nobody knows how much more there is, look_up finds that when the first line is due, so that short work is spared
        it. It counts what was begun meanwhile, too; None says that it could not be found.
        """
        with self._lock:
            count = self._counts.setdefault(what, _Count(self._clock()))
            count.look_up = look_up or count.look_up
            if count.total is not None:
                count.total += more
            self._latest = what

    def add(self, what: str, done: int = 0, *, refused: int = 0) -> None:
        """Count what has become of something that was expected."""
        with self._lock:
            if count := self._counts.get(what):
                count.done += done
                count.refused += refused

    @property
    def waiting(self) -> t.Callable[[], float] | None:
        """What a thread calls while it waits for others: it shows a line if one is due, and returns in how many seconds
        to call it again. None if nothing is shown."""
        return self._wait if self._show else None

    def _wait(self) -> float:
        if (left := self._next_line - self._clock()) > 0:
            return left
        with self._lock:
            count = self._counts.get(self._latest)
            look_up = count.look_up if count else None
        try:
            more = look_up() if look_up else 0
        except Exception:  # noqa: BLE001 - it must not disturb what it tells of
            more = None
        with self._lock:
            line = ""
            if count:
                if look_up:
                    count.look_up = None
                    count.total = None if count.total is None or more is None else count.total + more
                line = count.line(self._latest, self._clock())
        if line and self._show:
            self._show(line)
        self._next_line = self._clock() + INTERVAL_SECONDS
        return INTERVAL_SECONDS


def _in_words(seconds: float) -> str:
    if seconds <= _MOST_SECONDS:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60):,} min"
