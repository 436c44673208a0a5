# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordered collection that stays fast with a hundred thousand members."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    id: str


M = TypeVar("M", bound=Member)


class Collection(Generic[M]):
    """Members in the order of their creation, found by id, listed in pages.

    Positions only grow and removed members leave a gap until the next compaction, so a page, an addition and a removal
    do not depend on how many members there are.
    """

    def __init__(self) -> None:
        self._members: dict[str, M] = {}
        self._positions: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []
        self._next = 0
        self._gaps = 0
        self._added: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[M]:
        return iter(self._members.values())

    def get(self, identifier: str) -> M | None:
        return self._members.get(identifier)

    def add(self, member: M) -> None:
        if member.id in self._positions:
            raise ValueError(f"{member.id} exists, or existed")
        self._members[member.id] = member
        self._positions[member.id] = self._next
        self._order.append((self._next, member.id))
        self._next += 1
        self._added[member.id] = time.monotonic()

    def remove(self, identifier: str) -> M:
        member = self._members.pop(identifier)
        self._added.pop(identifier, None)
        # The position stays known: a deleted member may still be the cursor of someone's listing.
        self._gaps += 1
        if self._gaps > 1000 and self._gaps > len(self._members):
            self._order = [entry for entry in self._order if entry[1] in self._members]
            self._gaps = 0
        return member

    def age(self, identifier: str) -> float:
        """How many seconds ago it was added; a double that starts begins with what has been there for ever."""
        return time.monotonic() - self._added.get(identifier, float("-inf"))

    def settle(self) -> None:
        """Let all members have been there for ever."""
        self._added.clear()

    def known(self, identifier: str) -> bool:
        """Whether it is a member, or was one."""
        return identifier in self._positions

    def page(
        self,
        after: str | None,
        limit: int,
        descending: bool = False,
        wanted: Callable[[M], bool] = lambda member: True,
    ) -> tuple[list[M], bool]:
        """Up to `limit` wanted members that follow `after`, and whether there are more."""
        if after is None:
            start = len(self._order) - 1 if descending else 0
        else:
            position = self._positions[after]
            start = bisect_right(self._order, position, key=lambda entry: entry[0])
            if descending:
                start -= 1
                # With `after` itself still listed, the entry left of the insertion point is `after`.
                if start >= 0 and self._order[start][0] == position:
                    start -= 1
        found: list[M] = []
        indexes = range(start, -1, -1) if descending else range(start, len(self._order))
        for index in indexes:
            member = self._members.get(self._order[index][1])
            if member is None or not wanted(member):
                continue
            if len(found) == limit:
                return found, True
            found.append(member)
        return found, False
