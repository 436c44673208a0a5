# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is at work on something that is on record, and whether they still are."""

from __future__ import annotations

import dataclasses
import typing as t

from ..run.processes import Process, is_at_work, is_running, this_process

#: Work whose owner cannot be seen from here counts as left when it is this old, unless told otherwise.
GRACE_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that is at some work. work is a name that no other work has, since a Unix time."""

    process: Process
    work: str
    since: int

    def is_working(self) -> bool | None:
        """Say whether the process is still at the work; None if that cannot be seen from here."""
        return is_at_work(self.process, self.work)


def this_owner(work: str, now: int) -> Owner:
    """Return the calling process as the owner of some work."""
    return Owner(this_process(), work, now)


def read_owner(data: t.Mapping[str, t.Any] | None) -> Owner | None:
    """Return an owner from how it is stored."""
    return None if data is None else Owner(**data)


def is_left(owner: Owner | None, now: int, grace: int) -> bool:
    """Say whether nobody is at some work any more.

    An owner that cannot be seen from here counts as gone when grace seconds have passed.
    """
    return owner is None or is_over(owner.is_working(), owner.since, now, grace)


def run_is_over(run: Process, last_use: int, now: int, grace: int) -> bool:
    """Say whether a run has ended; one that cannot be seen from here, when grace seconds have passed since its last use."""
    return is_over(is_running(run), last_use, now, grace)


def is_over(going_on: bool | None, since: int, now: int, grace: int) -> bool:
    """Say whether something is over, from whether it goes on (None if that cannot be seen) and since when (Unix time).

    A clock that has been set back by more than the grace makes nothing last.
    """
    return abs(now - since) >= grace if going_on is None else not going_on
