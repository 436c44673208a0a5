# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which group a new document goes to, so that writers who work at the same time rarely meet in one.

The processes of a run hand each other the groups that they have begun: each has a group for itself, and a single one that
comes after another carries on with the same. What other runs have left unfilled is looked up once per run and folder, and
taken up at random: what they began some time ago, as the names say, since they may be at work on the rest, and their leases are
renewed and ended where they are. A group in which somebody else was met is left to them, and so are all the others that were
found.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import threading
import time
import typing as t

from ..names import base36, random_text
from ..run.shared_memory import FILES
from .vault_engine import KVEngine
from .vault_group import GROUP_SIZE

#: The name of a group begins with the minute in which that was begun.
_MINUTE_DIGITS, _NAME_LENGTH = 5, 10
#: For so many minutes a group is left to the run that has begun it.
_LEFT_ALONE = 3
_KEY_LENGTH = 11
#: How many groups of others a run takes up in a folder, and how many of its own it keeps in mind.
_OTHERS = 8
_OWN = 64

_random = random.SystemRandom()


@dataclasses.dataclass
class _Taken:
    """A group that this process fills: how many keys it has given away, and how many of them are not written yet."""

    group: str
    given: int = 0
    open: int = 0


class Pool:
    """Groups with room. unfilled lists the groups of a folder that may have some."""

    def __init__(self, engine: KVEngine, unfilled: t.Callable[[str], list[str]]) -> None:
        self._engine = engine
        self._unfilled = unfilled
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._taken: dict[str, _Taken] = {}
        self._begun: set[str] = set()
        self._joined: set[str] = set()

    def new_key(self, folder: str, *, is_own: bool) -> str:
        """Return an unused key in a group with room. is_own says that no other run writes in the folder."""
        with self._lock:
            if self._owner != os.getpid():
                # What the parent has taken is the parent's.
                self._owner, self._taken, self._begun = os.getpid(), {}, set()
            taken = self._taken.get(folder)
            if taken is None or taken.given >= GROUP_SIZE:
                taken = self._taken[folder] = _Taken(self._choose(folder, is_own))
            taken.given += 1
            taken.open += 1
            return f"{taken.group}-{random_text(_KEY_LENGTH)}"

    def may_begin(self, place: str) -> bool:
        """Say whether there may be a new group for new documents. One of others that is not there any more has ended."""
        return place in self._begun

    def receive(self, places: t.Iterable[str]) -> None:
        """Let groups be begun that come from another store."""
        self._begun.update(place for place in places if place not in self._joined)

    def written(self, place: str, documents: int, *, has_room: bool, met: bool) -> None:
        """Hear that new documents are in a group, and whether somebody else was met there."""
        folder, _slash, name = place.rpartition("/")
        with self._lock:
            if place in self._begun:
                self._begun.discard(place)
                self._joined.add(place)
            taken = self._taken.get(folder)
            if taken is None or f"{taken.group}-" != name:
                return
            taken.open -= documents
            if met:
                # Others are at work at the same time, and so in the groups that were found with room.
                self._change(folder, lambda known: known["others"].clear())
            if met or not has_room:
                del self._taken[folder]
            elif taken.open <= 0:
                del self._taken[folder]
                self._change(folder, lambda known: known["own"].append(taken.group))

    def ended(self, place: str) -> None:
        """Hear that a group has ended: nobody of the run is to take it up."""
        folder, _slash, name = place.rpartition("/")
        group = name.removesuffix("-")
        known = FILES.recall(self._name(folder)) or {}
        if group in known.get("own", ()) or group in known.get("others", ()):
            self._change(
                folder,
                lambda known: known.update(
                    {whose: [one for one in known[whose] if one != group] for whose in ("own", "others")}
                ),
            )

    def avoid(self, place: str) -> None:
        """Give no further keys in a group."""
        with self._lock:
            self._taken.pop(place.rpartition("/")[0], None)

    def _choose(self, folder: str, is_own: bool) -> str:
        chosen: list[str] = []

        def take(known: dict[str, t.Any]) -> None:
            if known["own"]:
                chosen.append(known["own"].pop())
            elif known["others"] and _random.randrange(len(known["others"]) + 1):
                # Otherwise a new one, so that there are the more of them the more runs there are at a time.
                chosen.append(known["others"].pop())

        if not is_own and not (FILES.recall(self._name(folder)) or {}).get("listed"):
            others = [group for group in self._unfilled(folder) if not _is_new(group)]
            others = _random.sample(others, min(_OTHERS, len(others)))
            self._change(folder, lambda known: known["listed"] or known.update(others=others, listed=True))
        self._change(folder, take)
        if chosen:
            self._joined.add(f"{folder}/{chosen[0]}-")
            return chosen[0]
        name = f"{_minute()}{random_text(_NAME_LENGTH - _MINUTE_DIGITS)}"
        self._begun.add(f"{folder}/{name}-")
        return name

    def _change(self, folder: str, change: t.Callable[[dict[str, t.Any]], object]) -> None:
        def changed(known: dict[str, t.Any] | None) -> dict[str, t.Any]:
            known = known or {"own": [], "others": [], "listed": False}
            change(known)
            known["own"] = known["own"][-_OWN:]
            return known

        FILES.update(self._name(folder), changed)

    def _name(self, folder: str) -> str:
        return json.dumps([self._engine.shown_server(), self._engine.shown(folder)])


def _minute(ago: int = 0) -> str:
    """Return what the name of a group begins with that was begun so many minutes ago."""
    return base36(int(time.time()) // 60 - ago, _MINUTE_DIGITS)


def _is_new(group: str) -> bool:
    return len(group) == _NAME_LENGTH and _minute(_LEFT_ALONE) < group[:_MINUTE_DIGITS] <= _minute()
