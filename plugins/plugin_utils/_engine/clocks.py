# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far the clock of this machine is from OpenAI's, whose keys end by OpenAI's."""

from __future__ import annotations

import dataclasses
import time

from .run.processes import this_process

#: Clocks that differ by no more seconds than this count as equal: an answer may have been under way for a while.
FAR_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How many seconds a machine's clock was ahead of OpenAI's (0 if it was not far from it) when they were compared.

    started is the Unix time at which the machine had started by that clock. It changes when somebody sets the clock, and
    then the comparison says nothing any more.
    """

    ahead: int
    machine: str
    started: int

    def holds(self, now: float) -> bool:
        """Say whether this is still true of the clock that says now."""
        return abs(_started(now) - self.started) <= FAR_SECONDS and self.machine == this_process()["machine"]

    def warning(self) -> str:
        """Return what to tell a user whose clock is far from OpenAI's."""
        minutes = round(abs(self.ahead) / 60)
        where = "ahead of" if self.ahead > 0 else "behind"
        return (
            f"the clock of this machine is {minutes} min {where} OpenAI's; set it right, and until then leases end by "
            "OpenAI's clock"
        )


def compare(now: float, openai_time: float) -> Comparison:
    """Compare a clock of this machine with OpenAI's; both say a Unix time."""
    ahead = round(now - openai_time)
    return Comparison(ahead if abs(ahead) > FAR_SECONDS else 0, str(this_process()["machine"]), _started(now))


def _started(now: float) -> int:
    # Where there is one, a clock that goes on while the machine sleeps.
    return round(now - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))
