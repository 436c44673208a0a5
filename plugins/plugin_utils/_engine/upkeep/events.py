# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events: what is due in a mount, told when it becomes due. The store alone is asked, never OpenAI."""

from __future__ import annotations

import itertools
import time
import typing as t

from ..durations import rfc3339
from ..errors import OpenAICredsError, StoreError, UnreadableError
from ..leases.lease import LEASES, Lease, lease_path, leases_in
from ..leases.refusal import RefusedLease, all_refusals
from ..metrics.cleanups import last_cleanup
from ..mount import Mount
from ..rotation.schedule import next_rotation
from ..rotation.state import rotation_of
from ..rotation.static_role import next_rotations
from ..store.base import Data, bucket

EXPIRING = "lease_expiring"
EXPIRED = "lease_expired"
ROTATION_DUE = "rotation_due"
CLEANUP_FAILED = "cleanup_failed"

#: What is still so after this long is told again, so that a failed cleanup is tried again.
REPEAT_SECONDS = 60
#: The same for rotations, each of which may make a key at OpenAI.
REPEAT_ROTATION_SECONDS = 600
#: A lease that is on record so long after its end shows that no cleanup ends it.
OVERDUE_SECONDS = 120
#: Looking at the whole store takes at most this part of the time, but for one look in so many seconds.
_SHARE_OF_TIME = 0.05
_LONGEST_BETWEEN_LOOKS = 30.0
#: After a poll that took long, a pause is at least so many times as long, up to so many seconds.
_PAUSE_PER_POLL = 4.0
_LONGEST_FOR_RELIEF = 3.0
#: Leases are known at least so long before they end, which is longer than what may be between two looks at the whole store.
_KNOWN_SECONDS = 60


class EventWatcher:
    """Finds the events of a mount; poll returns those that nobody has been told of.

    ahead is how many seconds before its end a lease is told of as expiring.
    """

    def __init__(self, mount: Mount, ahead: int, timer: t.Callable[[], float] = time.monotonic) -> None:
        self._mount = mount
        self._ahead = ahead
        self._horizon = max(ahead, _KNOWN_SECONDS)
        self._timer = timer
        self._look_again_at = float("-inf")
        #: The leases that end within the horizon or have ended, by id.
        self._leases: dict[str, Lease] = {}
        #: When the first of the other leases ends, or somebody has to look at it.
        self._next_due: int | None = None
        self._refused: list[RefusedLease] = []
        #: The end of which a lease was told of as expiring. A renewed lease has another one.
        self._told_ends: dict[str, int] = {}
        self._told: dict[tuple[str, ...], _Told] = {}
        self._rotations = _Rotations(mount, self._unreadable)
        #: Events that were found by a poll that failed.
        self._untold: list[Data] = []
        self._took = 0.0

    def poll(self) -> list[Data]:
        """Return the events since the last call. Raises OpenAICredsError if the store cannot be read."""
        mount = self._mount
        mount.check_is_here()
        began = self._timer()
        if everything := began >= self._look_again_at:
            self._next_due = self._look(LEASES)
            self._refused = [one.value for one in all_refusals(mount, self._unreadable)]
        else:
            # Most leases are issued and not changed until they end, in the folder of the hour in which they do.
            now = mount.now()
            for hour in dict.fromkeys((bucket(now), bucket(now + _KNOWN_SECONDS))):
                self._look(f"{LEASES}{hour}/")
        now = mount.now()
        # One by one, since what has been found counts as told, whatever becomes of the rest.
        for event in itertools.chain(self._of_leases(now), self._of_cleanups(now)):
            self._untold.append(event)
        try:
            for event in self._of_rotations(now, everything):
                self._untold.append(event)
        except StoreError:
            raise
        except OpenAICredsError as error:
            # Leases end all the same.
            self._say(str(error))
        self._took = self._timer() - began
        if everything:
            self._look_again_at = self._timer() + min(_LONGEST_BETWEEN_LOOKS, self._took / _SHARE_OF_TIME)
            self._forget()
        events, self._untold = self._untold, []
        return events

    def pause(self, longest: float) -> float:
        """Return for how many seconds to wait until the next poll: until something becomes due that is known, or the longest wait.

        Where there is so much to look at that a poll takes long, most of the time is still a pause.
        """
        clock = self._mount.clock()
        by_mount = clock - int(clock) + self._mount.now()
        times = [time for lease in self._leases.values() for time in (lease.expires_at - self._ahead, lease.expires_at)]
        if self._next_due is not None:
            times.append(self._next_due - self._horizon)
        wait = min([time - by_mount for time in times if time > by_mount] + [longest])
        return max(wait, min(_LONGEST_FOR_RELIEF, self._took * _PAUSE_PER_POLL))

    def _look(self, prefix: str) -> int | None:
        """Find the leases below a prefix that end soon or have ended, in the place of those that were known there.

        Returns when the first of the others there is due.
        """
        survey = self._mount.store.survey(prefix, self._mount.now() + self._horizon, tidy=False)
        found = {one.value.lease_id: one.value for one in leases_in(survey.due, self._unreadable)}
        others = {
            lease_id: lease for lease_id, lease in self._leases.items() if not lease_path(lease_id).startswith(prefix)
        }
        self._leases = {**others, **found}
        for lease in found.values():
            if lease.clock:
                self._mount.recall_far_clock(lease.clock)
        return survey.next_due

    def _unreadable(self, error: UnreadableError) -> None:
        self._say(str(error))

    def _say(self, warning: str) -> None:
        if self._is_news(("warning", warning), 0, self._mount.now(), REPEAT_ROTATION_SECONDS):
            self._mount.warn(warning)

    def _of_leases(self, now: int) -> t.Iterator[Data]:
        for lease_id, lease in self._leases.items():
            if now >= lease.expires_at:
                if self._is_news((EXPIRED, lease_id), lease.expires_at, now):
                    yield self._event(EXPIRED, **_lease_facts(lease))
            elif (
                now + self._ahead >= lease.expires_at
                and not lease.ending
                and self._told_ends.get(lease_id) != lease.expires_at
            ):
                self._told_ends[lease_id] = lease.expires_at
                yield self._event(EXPIRING, **_lease_facts(lease))

    def _of_cleanups(self, now: int) -> t.Iterator[Data]:
        for refused in self._refused:
            refusal = refused.refusal
            if refusal.is_due(now) and self._is_news((CLEANUP_FAILED, refused.subject), refusal.attempts, now):
                facts = {"error": refusal.error, "attempts": refusal.attempts}
                yield self._event(CLEANUP_FAILED, **_lease_facts(refused.lease), **facts)
        overdue = sum(now >= lease.expires_at + OVERDUE_SECONDS for lease in self._leases.values())
        if overdue and self._is_news((CLEANUP_FAILED,), 0, now):
            last = last_cleanup(self._mount, self._unreadable)
            facts = {
                "error": f"leases that are on record {OVERDUE_SECONDS} s after their end: {overdue}; no cleanup has ended them",
                "overdue": overdue,
                "last_cleanup": rfc3339(last) if last else None,
            }
            yield self._event(CLEANUP_FAILED, **facts)

    def _of_rotations(self, now: int, everything: bool) -> t.Iterator[Data]:
        for facts, due, subject in self._rotations.due(now, everything):
            if self._is_news((ROTATION_DUE, *facts.values()), subject, now, REPEAT_ROTATION_SECONDS):
                yield self._event(ROTATION_DUE, **facts, due_at=rfc3339(due))

    def _event(self, kind: str, **facts: t.Any) -> Data:
        return {"type": kind, "mount": self._mount.name, **facts}

    def _is_news(self, key: tuple[str, ...], what: int, now: int, repeat: int = REPEAT_SECONDS) -> bool:
        """Say whether to tell of something: it was not told of, or something else of it, or long ago. It counts as told then."""
        told = self._told.get(key)
        if told and told.what == what and 0 <= now - told.at < repeat:
            return False
        self._told[key] = _Told(what, now, repeat)
        return True

    def _forget(self) -> None:
        """Forget what was told of things that are there no more, so that memory does not grow."""
        now = self._mount.now()
        self._told_ends = {key: end for key, end in self._told_ends.items() if key in self._leases}
        self._told = {key: told for key, told in self._told.items() if now - told.at < told.repeat}


class _Told(t.NamedTuple):
    """What of a thing was told, the Unix time of that, and after how many seconds it is told again."""

    what: int
    at: int
    repeat: int


class _Rotations:
    """Which rotations are due, and when each was."""

    def __init__(self, mount: Mount, unreadable: t.Callable[[UnreadableError], object]) -> None:
        self._mount = mount
        self._unreadable = unreadable
        self._definitions: tuple[t.Mapping[str, t.Any], ...] = ({}, {})
        self._static_roles: dict[str, int] = {}

    def due(self, now: int, everything: bool) -> t.Iterator[tuple[dict[str, str], int, int]]:
        """Yield what is due, as an event says it, since what Unix time, and a number that is another one after a rotation.

        Raises OpenAICredsError if the mount has no admin key, without which nothing can be rotated.

        A due time is not such a number: where a wrong clock has set it, it is now, whenever that is.
        """
        config = self._mount.check_configured()
        planned = next_rotation(config, now)
        if planned is not None and planned <= now:
            yield {"what": "admin_key"}, planned, config.created_at
        for ending in rotation_of(self._mount).endings:
            if ending.has_ended(now) and (ending.refusal is None or ending.refusal.is_due(now)):
                yield {"what": "previous_admin_key", "admin_api_key_id": ending.id}, min(ending.ends_at, now), 0
        if everything:
            self._look(now)
        for name, due in self._static_roles.items():
            if due <= now:
                yield {"what": "static_role", "static_role": name}, due or now, due

    def _look(self, now: int) -> None:
        """Find when static roles are due. A rotation only makes that later, so it is looked up when one was due, or defined."""
        definitions = (self._mount.definitions("static_roles"), self._mount.definitions("projects"))
        if definitions != self._definitions or any(due <= now for due in self._static_roles.values()):
            self._static_roles = next_rotations(self._mount, self._unreadable)
            self._definitions = definitions


def _lease_facts(lease: Lease) -> Data:
    others = {name: value for name in ("library_set", "static_role") if (value := getattr(lease, name))}
    return {"lease_id": lease.lease_id, "role": lease.role, **others, "expires_at": rfc3339(lease.expires_at)}
