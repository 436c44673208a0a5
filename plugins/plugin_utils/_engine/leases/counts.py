# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts: how many leases of each role there were, exactly, whoever ended them.

    counters/<shard>    by role, how many leases have ended; which were counted last

A lease that is on record is counted by its record, so issuing one writes nothing more. Whoever removes the record counts the
lease first, by one compare-and-set that also keeps its id: after a crash in between, whoever ends it again finds the id and
does not count it twice. The id may be forgotten when the record has gone, since only what is still on record is counted.

What OpenAI has made and no record ever told of, since its issue came to nothing, is counted as issued and ended when it is
removed. Nothing proves then that it was not counted, so its id is kept for longer than any process lives. Only this is not counted
if the store refuses every write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import zlib

from ..errors import StoreError, UnreadableError
from ..mount import Mount
from ..store.base import Data, Document, converted, readable, refuse_unreadable
from ..store.changing import change_document
from .lease import LEASES, lease_path
from .refusal import refusal_path

COUNTS = "counters/"
SHARDS = 16
#: So many ids are kept in a shard without looking which of them are needed.
_KEPT = 96
#: For how long the id of a lease that was never on record is kept.
_UNRECORDED_SECONDS = 7 * 86400
#: What an id has between the mount and the unique part, and how its role is called in metrics.
_KINDS = {"creds": "", "library": "library/", "static": "static/"}


@dataclasses.dataclass(frozen=True)
class Count:
    """How many leases of a role have ended, and of how many the record was dropped though OpenAI refused to end them."""

    ended: int = 0
    dropped: int = 0

    def plus(self, other: Count) -> Count:
        return Count(self.ended + other.ended, self.dropped + other.dropped)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of the counts, by role.

    counted are ids of leases that were counted, each with the Unix time until which it is kept whatever is on record; forgotten
    says how often some were taken out.
    """

    counts: dict[str, Count] = dataclasses.field(default_factory=dict)
    counted: dict[str, int] = dataclasses.field(default_factory=dict)
    forgotten: int = 0


@dataclasses.dataclass(frozen=True)
class Ending:
    """A lease that is to be counted: evidence is the path of the record that is about to go, None if there never was one."""

    lease_id: str
    evidence: str | None
    dropped: bool = False


def role_label(lease_id: str) -> str | None:
    """Return what the role of a lease is called in metrics; None if this is not the id of a lease.

    That of a lease of a role is the role's name, others are library/<set> and static/<static role>.
    """
    kind, _slash, rest = lease_id.partition("/")[2].partition("/")
    name, slash, _unique = rest.rpartition("/")
    return f"{_KINDS[kind]}{name}" if slash and kind in _KINDS else None


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen of a shard, and after that of records: of which leases it was looked for them, and the paths of those that
    were there."""

    document: Document | None
    leases: set[str]
    there: set[str]


def look_ahead(mount: Mount, endings: t.Sequence[Ending]) -> dict[str, Look]:
    """Look at what count_ended will need; returns it by the paths of the shards that can be read."""
    looks = {}
    for path, members in _by_shard(endings).items():
        with contextlib.suppress(UnreadableError):
            looks[path] = _look(mount, path, members)
    return looks


def count_ended(
    mount: Mount, endings: t.Sequence[Ending], gone: t.Container[str] = (), looks: t.Mapping[str, Look] | None = None
) -> dict[str, StoreError]:
    """Count leases whose records are about to be removed; returns by their ids why some could not be counted, since what is
    needed for that cannot be read.

    gone are ids of which this process knows that none is left; looks is what was seen before, by the paths of the shards: where
    somebody has counted since, the store refuses the write, and it is looked again.
    """
    uncounted: dict[str, StoreError] = {}
    for path, members in _by_shard(endings).items():
        try:
            _count(mount, path, members, gone, (looks or {}).get(path))
        except UnreadableError as error:
            uncounted.update((ending.lease_id, error) for ending in members)
    return uncounted


def _by_shard(endings: t.Sequence[Ending]) -> dict[str, list[Ending]]:
    by_shard: dict[str, list[Ending]] = {}
    for ending in endings:
        by_shard.setdefault(_shard_path(ending.lease_id), []).append(ending)
    return by_shard


def _look(mount: Mount, path: str, endings: t.Sequence[Ending]) -> Look:
    document = mount.store.read(path)
    # After the shard was read: whoever counts one of these meanwhile writes the shard, and the write of this one is refused.
    there = _there(mount, [ending.evidence for ending in endings if ending.evidence])
    return Look(document, {ending.lease_id for ending in endings}, there)


def count_unrecorded(mount: Mount, lease_id: str) -> None:
    """Count as issued and ended what OpenAI has made for a lease that is on record nowhere. To be called before it ends."""
    if role_label(lease_id) is None:
        return
    # What must end has to end also when the store cannot be written; but a store may fail only once.
    for _attempt in range(2):
        with contextlib.suppress(StoreError):
            count_ended(mount, [Ending(lease_id, None)])
            return


def read_counts(mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable) -> list[Shard]:
    """Return all counts of leases that have ended."""
    return [one.value for one in converted(mount.store.read_each(list(map(_path, range(SHARDS)))), _read, unreadable)]


def _count(mount: Mount, path: str, endings: list[Ending], gone: t.Container[str], before: Look | None) -> None:
    looks = [before] if before and before.leases.issuperset(ending.lease_id for ending in endings) else []
    there: set[str] = set()

    def read() -> Document | None:
        nonlocal there
        look = looks.pop() if looks else _look(mount, path, endings)
        there = look.there
        return look.document

    def change(document: Document | None) -> Data | None:
        shard = next(converted([document], _read)).value if document else Shard()
        new = [ending for ending in endings if ending.lease_id not in shard.counted]
        new = [ending for ending in new if ending.evidence is None or ending.evidence in there]
        return _stored(_with(_without_spent(mount, shard, gone), new, mount.now())) if new else None

    change_document(mount.store, path, change, read, f"mount {mount.name}: its counts")


def _with(shard: Shard, endings: t.Sequence[Ending], now: int) -> Shard:
    counts, counted = dict(shard.counts), dict(shard.counted)
    for ending in endings:
        role = role_label(ending.lease_id) or ""
        more = Count(dropped=1) if ending.dropped else Count(ended=1)
        counts[role] = counts.get(role, Count()).plus(more)
        counted[ending.lease_id] = 0 if ending.evidence else now + _UNRECORDED_SECONDS
    return dataclasses.replace(shard, counts=counts, counted=counted)


def _without_spent(mount: Mount, shard: Shard, gone: t.Container[str]) -> Shard:
    """Return a shard without the ids of leases that are not on record any more, if it has many."""
    if len(shard.counted) < _KEPT:
        return shard
    now = mount.now()
    over = [lease_id for lease_id, until in shard.counted.items() if until <= now]
    unsure = [lease_id for lease_id in over if lease_id not in gone]
    try:
        there = _there(mount, [path(lease_id) for lease_id in unsure for path in (lease_path, refusal_path)])
    except UnreadableError:
        # What cannot be read may be one of them; and it must not keep others from being counted.
        return shard
    spent = {
        lease_id for lease_id in over if lease_id in gone or not {lease_path(lease_id), refusal_path(lease_id)} & there
    }
    if not spent:
        return shard
    kept = {lease_id: until for lease_id, until in shard.counted.items() if lease_id not in spent}
    return dataclasses.replace(shard, counted=kept, forgotten=shard.forgotten + 1)


def _there(mount: Mount, paths: t.Sequence[str]) -> set[str]:
    return {document.path for document in readable(mount.store.read_each(paths))}


def _shard_path(lease_id: str) -> str:
    """Return where a lease is counted. Those that are kept together are, so that a batch takes few writes."""
    return _path(shard_of(lease_path(lease_id).removeprefix(LEASES).partition("-")[0]))


def shard_of(group: str) -> int:
    """Return the number of the shard in which the leases of a group are counted."""
    return zlib.crc32(group.encode()) % SHARDS


def _path(shard: int) -> str:
    return f"{COUNTS}{shard:x}"


def _read(data: Data) -> Shard:
    counts = {role: Count(*count) for role, count in data["counts"].items()}
    return Shard(counts, dict(data["counted"]), data["forgotten"])


def _stored(shard: Shard) -> Data:
    counts = {role: [count.ended, count.dropped] for role, count in shard.counts.items()}
    return {"counts": counts, "counted": shard.counted, "forgotten": shard.forgotten}
