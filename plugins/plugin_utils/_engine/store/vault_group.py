# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups of documents that share a secret in a KV engine.

    <folder>/<group>-                          the documents <folder>/<group>-…
    <folder>/<group>-.<due>.<count>.<random>   nothing; a seal, whose name says when the first of them is due and how many
                                               there are
    <folder>/<group>-.<random>                 nothing; it says that a seal beside it does not hold any more

A group that has a seal and nothing else beside it need not be opened to know what is due. All others are opened, so a group
that is written often needs no seal. Whoever changes what the seal of a group says first puts a name beside the seal, which no
other write ever uses, and then changes the group. Whoever seals it lists what is beside it, then changes the group to say so,
which refuses all writes that are under way, then puts the seal, and then removes what he has listed. So whatever is interrupted,
or comes too late, leaves a group that is opened.

A write is a compare-and-set of the whole secret, and made again on top of what others have written to other documents of
it. Each has a mark, which the group keeps for a while and each of its documents for longer, so that a write whose answer
got lost is found below later ones.

A group that loses its last document is written once more, empty, and then removed with all its versions. One whose documents
are all about to be deleted is closed by the write that says so, and removed as it is. Nobody adds to an empty or a closed group,
nor makes one again that has gone, so that removing it can never take a document along.

Vault keeps older versions of a group until it is told not to, before the first write that changes which documents there are, or
leaves out something of one that goes on: until then an older version shows nothing more, but for what is about to end.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import re
import secrets
import threading
import time
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..names import random_text
from ..run.threads import concurrently
from .base import Data, Document, Write
from .vault_content import DUE_DIGITS, WRITES, due_text, pack, unpack
from .vault_engine import KVEngine
from .vault_http import CONCURRENCY

#: How many documents a group is filled with, and how many it takes when several writers fill it at once.
GROUP_SIZE = 64
_MOST = 128
#: A group with so many bytes takes no more documents: HashiCorp Vault with Consul stores 512 KiB in a secret.
_FULL_BYTES = 192 * 1024
_CACHED = 64
#: After it was overtaken, a write waits for up to so many seconds.
_WAIT = 0.015
_MARK_LENGTH = 8
#: How long the name of a group is at the least.
SHORTEST_GROUP = 3
#: The last part of the path of a document that may be in a group, as new_key of either store makes it.
_MEMBER = re.compile(rf"[0-9a-z]{{{SHORTEST_GROUP},12}}-[0-9a-z]{{11,12}}", re.ASCII)
_SEAL = re.compile(rf"([0-9a-z]{{{DUE_DIGITS}}})\.([0-9]+)\.[0-9a-z]+", re.ASCII)


class Entry(t.NamedTuple):
    """A document of a group; writes are the marks of its last writes, ends says that it is about to be deleted."""

    data: Data
    version: int
    due: int
    writes: list[str]
    ends: bool


class Group(t.NamedTuple):
    """What a group holds in a version of its secret, which is 0 before there is one."""

    place: str
    version: int
    entries: dict[str, Entry]
    #: The name of its seal without that of the group; empty if there is none.
    seal: str
    #: Other names that may be beside it.
    beside: list[str]
    #: The marks of the last writes.
    writes: list[str]
    size: int = 0
    #: Whether all its documents were about to be deleted once, and nothing may be added any more.
    closed: bool = False
    #: Whether Vault keeps only the newest version.
    limited: bool = False

    def documents(self) -> t.Iterator[tuple[Document, int]]:
        """Yield the documents, and when each is due."""
        for key, entry in self.entries.items():
            yield Document(f"{self.place}{key}", entry.data, entry.version), entry.due

    @property
    def due(self) -> int:
        """When the first document is due."""
        return _first_due(self.entries)

    def has_room(self) -> bool:
        """Say whether the group is to be filled further."""
        return not self.closed and 0 < len(self.entries) < GROUP_SIZE and self.size < _FULL_BYTES

    def takes(self, count: int) -> bool:
        """Say whether so many documents may be added."""
        return not self.closed and len(self.entries) + count <= _MOST and self.size < _FULL_BYTES


def place_of(path: str) -> str | None:
    """Return the path of the group that a document may be in: all of its own up to the -. None if it is in none."""
    return path[: path.rindex("-") + 1] if _MEMBER.fullmatch(path.rpartition("/")[2]) else None


def read_seal(names: t.Sequence[str]) -> tuple[int, int] | None:
    """Return when the first document of a group is due and how many it holds, if what is beside it tells."""
    match = _SEAL.fullmatch(names[0]) if len(names) == 1 else None
    return (int(match[1], 36), int(match[2])) if match else None


class Groups:
    """Groups by place, which is the path of their documents up to the -."""

    def __init__(self, engine: KVEngine) -> None:
        self._engine = engine
        #: Secrets as they were read or written last. What is built on one that is not the newest is refused by Vault.
        self._cache: collections.OrderedDict[str, Data] = collections.OrderedDict()
        self._locks: collections.defaultdict[str, threading.Lock] = collections.defaultdict(threading.Lock)

    def load(self, place: str) -> Group | None:
        """Return a group as it is; without entries if it has ended, None if it is not there."""
        secret = self._engine.read(place)
        if secret is None:
            self._cache.pop(place, None)
            return None
        group = self._unpack(place, secret)
        self._remember(place, secret)
        return group

    def write(
        self, place: str, writes: t.Sequence[Write], *, may_begin: bool
    ) -> tuple[list[Write], Group | None, bool]:
        """Write documents of a group, or raise Conflict if one has another version than expected.

        Returns those that are not in it and cannot be added, the group, and whether another writer was met. may_begin says
        that there may be a new group of this name.
        """
        mark, met = secrets.token_urlsafe(6), False
        elsewhere: list[Write] = []
        with self._locks[place]:
            group, is_fresh = self._known(place, may_begin)
            while True:
                if group and (mark in group.writes or any(mark in one.writes for one in group.entries.values())):
                    return elsewhere, group, True
                if group is None and may_begin and all(write.version == 0 for write in writes):
                    group = Group(place, 0, {}, "", [], [])
                elif group is None or not group.entries:
                    if is_fresh:
                        return list(writes), None, met
                    group, is_fresh = self.load(place), True
                    continue
                here, elsewhere, conflict = _sort(group, writes)
                if (conflict or elsewhere) and group.version and not is_fresh:
                    group, is_fresh = self.load(place), True
                    continue
                if conflict:
                    raise Conflict(f"kv_path: {conflict} was changed by somebody else at the same time")
                if not here:
                    return elsewhere, group, met
                entries = dict(group.entries)
                for write in here:
                    key = write.path[len(place) :]
                    before = entries[key].writes if key in entries else []
                    entries[key] = Entry(
                        write.data, write.version + 1, write.due, [*before, mark][-WRITES:], write.ends
                    )
                with contextlib.suppress(Conflict):
                    return elsewhere, self._change(group, entries, mark), met
                # A group that has begun may have ended meanwhile, and then does not begin again.
                may_begin, met = False, is_fresh or met
                group, is_fresh = self._again(place), True

    def delete(self, place: str, keys: t.Collection[str]) -> tuple[list[str], bool]:
        """Remove documents of a group; returns the keys of those that are not in it, and whether the group has ended."""
        with self._locks[place]:
            group, is_fresh = self._known(place, False)
            while True:
                gone = [key for key in keys if group is None or key not in group.entries]
                if gone and not is_fresh:
                    group, is_fresh = self.load(place), True
                    continue
                if group is None or len(gone) == len(keys):
                    if group and not group.entries:
                        self.remove(group, [])
                    return gone, group is None or not group.entries
                kept = {key: entry for key, entry in group.entries.items() if key not in keys}
                if group.closed and not kept:
                    self.remove(group, [])
                    return gone, True
                with contextlib.suppress(Conflict):
                    group = self._change(group, kept, secrets.token_urlsafe(6))
                    if not kept:
                        self.remove(group, [])
                    return gone, not kept
                group, is_fresh = self._again(place), True

    def remove(self, ended: Group, listed: t.Sequence[str]) -> None:
        """Remove a group that has ended, with all its versions and with what is beside it."""
        # First the group: it must at no instant be there with nothing but a seal that is not true any more.
        self._engine.destroy(ended.place)
        self._cache.pop(ended.place, None)
        self._destroy(_names_beside(ended, listed))

    def _destroy(self, paths: t.Sequence[str]) -> None:
        for _unused in concurrently(self._engine.destroy, paths, CONCURRENCY):
            pass

    def seal(self, group: Group, listed: t.Sequence[str]) -> None:
        """Seal a group that was read after the names beside it were listed, unless somebody changes it at the same time."""
        with self._locks[group.place], contextlib.suppress(Conflict):
            sealed = self._put(group._replace(seal=_new_seal(group.entries), beside=[]), limit=not group.limited)
            self._engine.put_name(f"{group.place}.{sealed.seal}")
            self._destroy(_names_beside(group, listed))

    def _change(self, group: Group, entries: dict[str, Entry], mark: str) -> Group:
        """Make entries what a group holds, and let nobody add to it if all of them end."""
        beside, seal = list(group.beside), ""
        if group.seal and read_seal([group.seal]) == (_first_due(entries), len(entries)):
            seal = group.seal
        elif group.seal:
            unsealed = random_text(_MARK_LENGTH)
            self._engine.put_name(f"{group.place}.{unsealed}")
            beside += [group.seal, unsealed]
        elif not beside and len(entries) >= GROUP_SIZE and all(entry.due for entry in entries.values()):
            seal = _new_seal(entries)
        # One that ends is removed in a moment, with all its versions.
        limit = bool(group.version and entries) and not group.limited and _hides(group.entries, entries)
        changed = self._put(
            group._replace(
                entries=entries,
                seal=seal,
                beside=beside,
                writes=[*group.writes, mark][-WRITES:],
                closed=group.closed or all(entry.ends for entry in entries.values()),
            ),
            limit=limit,
        )
        if seal and seal != group.seal:
            self._engine.put_name(f"{group.place}.{seal}")
        return changed

    def _put(self, group: Group, *, limit: bool) -> Group:
        if limit:
            self._keep_one_version(group)
            group = group._replace(limited=True)
        data = json.dumps(
            {
                "documents": {key: entry._asdict() for key, entry in group.entries.items()},
                "seal": group.seal,
                "beside": group.beside,
                "closed": group.closed,
                "limited": group.limited,
            }
        )
        # Always compressed, since all of it is sent and stored with each write.
        fields = pack(data, group.due, group.writes, large=0)
        try:
            self._engine.put(group.place, fields, group.version)
        except Conflict:
            if limit and self._engine.read(group.place) is None:
                # It had just gone, and a token that may create metadata has made some anew, which belongs to nothing.
                self._engine.destroy(group.place)
            raise
        secret = {"data": fields, "metadata": {"version": group.version + 1}}
        self._remember(group.place, secret)
        return group._replace(version=group.version + 1, size=len(fields["data"]))

    def _keep_one_version(self, group: Group) -> None:
        """Have no older version of a group kept from now on: it could show a document that has ended."""
        try:
            self._engine.keep_one_version(group.place)
        except StoreError:
            # A policy that lets nobody create metadata refuses this also for a group that has just gone.
            secret = self._engine.read(group.place)
            if secret is None or secret["metadata"]["version"] != group.version:
                raise Conflict(f"kv_path: {self._engine.shown(group.place)} has gone at the same time") from None
            raise

    def _known(self, place: str, may_begin: bool) -> tuple[Group | None, bool]:
        """Return a group, and whether it has just been read. One that may begin now need not be looked for."""
        secret = self._cache.get(place)
        if secret is not None:
            return self._unpack(place, secret), False
        return (None, False) if may_begin else (self.load(place), True)

    def _again(self, place: str) -> Group | None:
        """Return a group that somebody else has written, after a moment that keeps them from meeting again."""
        time.sleep(random.uniform(0.0, _WAIT))
        return self.load(place)

    def _unpack(self, place: str, secret: Data) -> Group:
        shown = self._engine.shown(place)
        content = unpack(secret, shown)
        try:
            entries = {key: Entry(**entry) for key, entry in content.data["documents"].items()}
            seal, beside = str(content.data["seal"]), list(content.data["beside"])
            closed, limited = bool(content.data["closed"]), bool(content.data["limited"])
        except (KeyError, TypeError, AttributeError):
            raise UnreadableError(f"kv_path: {shown} does not hold documents of this store") from None
        size = len(secret["data"]["data"])
        return Group(place, content.version, entries, seal, beside, list(content.writes), size, closed, limited)

    def _remember(self, place: str, secret: Data) -> None:
        self._cache[place] = secret
        with contextlib.suppress(KeyError):  # another thread has just removed it
            self._cache.move_to_end(place)
        while len(self._cache) > _CACHED:
            with contextlib.suppress(KeyError):  # another thread was faster
                self._cache.popitem(last=False)


def _sort(group: Group, writes: t.Sequence[Write]) -> tuple[list[Write], list[Write], str | None]:
    """Return which writes can be made in a group, which concern documents that are not in it, and the path of one whose
    document has another version."""
    here, elsewhere, added = [], [], 0
    for write in writes:
        entry = group.entries.get(write.path[len(group.place) :])
        if entry is not None and entry.version != write.version:
            return [], [], write.path
        if entry is None and (write.version or not group.takes(added + 1)):
            elsewhere.append(write)
            continue
        added += entry is None
        here.append(write)
    return here, elsewhere, None


def _names_beside(group: Group, listed: t.Sequence[str]) -> list[str]:
    """Return the secrets that are known to be beside a group, some of which were listed."""
    names = [*listed, *group.beside, *filter(None, [group.seal])]
    return [f"{group.place}.{name}" for name in dict.fromkeys(names)]


def _hides(before: t.Mapping[str, Entry], entries: t.Mapping[str, Entry]) -> bool:
    """Say whether older versions of a group would show what is not to be seen in it any more, or what would soon not be."""
    return before.keys() != entries.keys() or any(
        before[key].data.keys() - entry.data.keys() for key, entry in entries.items() if not entry.ends
    )


def _first_due(entries: t.Mapping[str, Entry]) -> int:
    return min((entry.due for entry in entries.values()), default=0)


def _new_seal(entries: t.Mapping[str, Entry]) -> str:
    return f"{due_text(_first_due(entries))}.{len(entries)}.{random_text(_MARK_LENGTH)}"
