# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the processes of a run know together of how a server takes their requests: whether it is down, and how fast it lets
them come."""

from __future__ import annotations

import time
import typing as t

from ..run.shared_memory import REFUSALS

#: For so long after a server was given up, it is asked once and not again and again.
DOWN_SECONDS = 60.0
#: Seconds between two requests of the run after the first that a rate limit has refused.
_FIRST_INTERVAL = 0.2
_LONGEST_INTERVAL = 1.0
#: How much of the interval is left after a request that was not refused.
_FASTER = 0.97
#: For so long the run is slower than it was when a request was last refused.
_WARY_SECONDS = 60.0

_State = dict[str, float]


class Traffic:
    """Requests to one server. Times are those of the monotonic clock, which the processes of a machine share."""

    def __init__(self, server: str) -> None:
        self._name = f"traffic {server}"

    def is_down(self) -> bool:
        """Say whether the run has given the server up a short while ago."""
        return time.monotonic() < self._state().get("down_until", 0.0)

    def mark_down(self) -> None:
        """Tell the run that the server was given up."""
        self._change(lambda state: state.update(down_until=time.monotonic() + DOWN_SECONDS))

    def await_turn(self) -> None:
        """Wait until a request may be made, if a rate limit has refused one."""
        while self._state().get("interval"):
            turn = self._take_turn()
            while (left := turn - time.monotonic()) > 0:
                time.sleep(left)
            # Another request may have been refused meanwhile; then this one would be as well.
            if time.monotonic() >= self._state().get("blocked_until", 0.0):
                return

    def _take_turn(self) -> float:
        """Take the next moment that no other request of the run has; returns it, by the monotonic clock."""
        turn = 0.0

        def take(state: _State) -> None:
            nonlocal turn
            turn = max(time.monotonic(), state.get("next", 0.0), state.get("blocked_until", 0.0))
            state["next"] = turn + state.get("interval", 0.0)

        self._change(take)
        return turn

    def slow_down(self, sent_at: float, seconds: float) -> None:
        """Tell the run that a request sent at a time was refused, and for how long all of them would be."""

        def change(state: _State) -> None:
            now, interval = time.monotonic(), state.get("interval", 0.0)
            # Those that were under way when the first was refused say nothing new, nor does one that came back too early.
            if sent_at >= state.get("slowed_at", 0.0) and state.get("answered_at", now) >= state.get("slowed_at", 0.0):
                state["least"] = interval * 1.25
                state["interval"] = min(_LONGEST_INTERVAL, 1.5 * interval) or _FIRST_INTERVAL
                state["slowed_at"] = now
            state["blocked_until"] = max(state.get("blocked_until", 0.0), now + seconds)

        self._change(change)

    def speed_up(self) -> None:
        """Hear that the server has answered and not refused."""
        state = self._state()
        if not state.get("interval") and not state.get("down_until"):
            return

        def change(state: _State) -> None:
            state.pop("down_until", None)
            state["answered_at"] = time.monotonic()
            wary = time.monotonic() < state.get("slowed_at", 0.0) + _WARY_SECONDS
            interval = max(state.get("interval", 0.0) * _FASTER, state.get("least", 0.0) if wary else 0.0)
            state["interval"] = interval if interval > 0.01 else 0.0

        self._change(change)

    def _state(self) -> _State:
        return REFUSALS.recall(self._name) or {}

    def _change(self, change: t.Callable[[_State], None]) -> None:
        def changed(state: _State | None) -> _State:
            state = state or {}
            change(state)
            return state

        REFUSALS.update(self._name, changed)
