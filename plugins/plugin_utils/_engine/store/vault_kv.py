# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store for many controllers: secrets in a KV version 2 engine of HashiCorp Vault or OpenBao.

    <engine_mount_point>/<kv_path>/<mount>/<folder>/<group>-   documents that are kept together (see vault_group)
    <engine_mount_point>/<kv_path>/<mount>/…                   any other document (see vault_single)

Documents with a key of new_key are kept together, up to GROUP_SIZE of them. One whose group has ended before it was
written has a secret of its own. When documents are due stands in the names of empty secrets, so LISTs tell what is due and
how much is not.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..names import random_text
from ..run.threads import concurrently
from .base import Document, Found, Store, Survey, Write, bucket
from .combining import Combiner
from .vault_content import DUE_DIGITS
from .vault_engine import Connect, KVEngine
from .vault_group import GROUP_SIZE, SHORTEST_GROUP, Group, Groups, place_of, read_seal
from .vault_http import CONCURRENCY
from .vault_pool import Pool
from .vault_single import DUE_FOLDER, HOURS_FOLDER, Singles, document_in

#: How many secrets are read ahead of whoever takes them.
_AHEAD = 64
#: How many LISTs are made at a time; and for how many a connection of their own is worth its TLS handshake, where the server is
#: near. Where it is far, that is longer for a few LISTs, and shorter for none.
_LISTS = 4
_LISTS_WORTH_A_CONNECTION = 8
#: For so long a name that tells when a document is due may be without it.
_LATE_SECONDS = 86400
#: With more groups without a seal than this, a survey that opens them seals them for the next one.
_UNSEALED = 8

_BESIDE = re.compile(r"([0-9a-z_]+-)\.([0-9a-z.]+)", re.ASCII)
_DUE_NAME = re.compile(rf"([0-9a-z_-]+)\.([0-9a-z]{{{DUE_DIGITS}}})", re.ASCII)

_Dated = tuple[Document, int]


class _DueName(t.NamedTuple):
    """A secret whose name says when a document is due."""

    due: int
    secret: str


@dataclasses.dataclass(frozen=True)
class _Listing:
    """What is in a folder: folders, groups and what is beside them, the paths of single documents and the names that tell when
    each is due."""

    folder: str
    folders: list[str] = dataclasses.field(default_factory=list)
    groups: set[str] = dataclasses.field(default_factory=set)
    beside: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    singles: set[str] = dataclasses.field(default_factory=set)
    dues: dict[str, list[_DueName]] = dataclasses.field(default_factory=dict)

    def left(self) -> t.Iterator[str]:
        """Yield what crashes have left: names beside groups that are not there."""
        for name, suffixes in self.beside.items():
            if name not in self.groups:
                yield from (f"{self.folder}{name}.{suffix}" for suffix in suffixes)


class VaultKVStore(Store):
    """Documents below one path of a KV engine. log gets one line per attempt of a request, never with a secret; warn what
    a person should know."""

    batch = GROUP_SIZE

    def __init__(
        self,
        connect: Connect,
        *,
        engine_mount_point: str,
        kv_path: str,
        mount: str,
        log: t.Callable[[str], None],
        warn: t.Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._engine = KVEngine(connect, engine_mount_point, f"{kv_path}/{mount}", log, warn)
        self._warn = warn
        self.place = f"kv_path {kv_path} of engine_mount_point {engine_mount_point.strip('/')}"
        self._singles = Singles(self._engine)
        self._groups = Groups(self._engine)
        self._pool = Pool(self._engine, self._unfilled)
        self._writes = Combiner(self._write_group)
        self._removals = Combiner(self._remove_from_group)

    def read(self, path: str) -> Document | None:
        for found in self._read_together(place_of(path), [path]):
            if isinstance(found, UnreadableError):
                raise found
            return found
        return None

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Found]:
        for found in concurrently(lambda one: list(self._read_together(*one)), _together(paths), CONCURRENCY):
            yield from found

    def _read_together(self, place: str | None, paths: t.Sequence[str]) -> t.Iterator[Found]:
        """Yield those of documents that are there; they may be in one group, unless place is None."""
        there: dict[str, Document] = {}
        if place is not None:
            try:
                group = self._groups.load(place)
            except UnreadableError as error:
                yield error
                return
            there = {document.path: document for document, _due in group.documents()} if group else {}
        for path in paths:
            if path in there:
                yield there[path]
                continue
            try:
                found = self._singles.read(path)
            except UnreadableError as error:
                yield error
                continue
            if found:
                yield found[0]

    def write(self, *writes: Write) -> None:
        by_path = {write.path: write for write in writes}

        def write_together(one: tuple[str | None, list[str]]) -> None:
            place, paths = one
            alone = [by_path[path] for path in paths]
            if place is not None:
                alone = self._writes.change(place, alone)
            for write in alone:
                self._singles.write(write)

        for _unused in concurrently(write_together, _together(by_path), CONCURRENCY):
            pass

    def receive(self, *writes: Write) -> None:
        self._pool.receive(filter(None, (place_of(write.path) for write in writes)))
        self.write(*writes)

    def _write_group(self, place: str, changes: list[list[Write]]) -> list[list[Write] | Conflict]:
        """Write documents of a group; returns of each change those that have to have a secret of their own."""
        writes = list(itertools.chain(*changes))
        new = sum(not write.version for write in writes)
        may_begin = new == len(writes) and self._pool.may_begin(place)
        try:
            alone, group, met = self._groups.write(place, writes, may_begin=may_begin)
        except Conflict as error:
            if len(changes) == 1:
                return [error]
            return [outcome for change in changes for outcome in self._write_group(place, [change])]
        if new:
            self._pool.written(place, new, has_room=group is not None and group.has_room(), met=met)
        if group and group.closed:
            self._pool.ended(place)
        return [[write for write in change if write in alone] for change in changes]

    def delete(self, *paths: str) -> None:
        def delete_together(one: tuple[str | None, list[str]]) -> None:
            place, alone = one
            if place is not None:
                alone = self._removals.change(place, alone)
            for path in alone:
                self._singles.delete(path)

        for _unused in concurrently(delete_together, _together(dict.fromkeys(paths)), CONCURRENCY):
            pass

    def _remove_from_group(self, place: str, removals: list[list[str]]) -> list[list[str]]:
        """Remove documents of a group; returns of each removal those that are not in it."""
        keys = [path[len(place) :] for path in itertools.chain(*removals)]
        not_there, has_ended = self._groups.delete(place, keys)
        if has_ended:
            self._pool.ended(place)
        gone = {f"{place}{key}" for key in not_there}
        return [[path for path in removal if path in gone] for removal in removals]

    def scan(self, prefix: str) -> t.Iterator[Found]:
        folder, slash, name = prefix.rpartition("/")
        group, dash, _key = name.partition("-")
        # What is kept together in one secret has a longer name than what is in one folder.
        listings = [self._list(f"{folder}{slash}{group}-/")] if dash and len(group) < SHORTEST_GROUP else []
        if not listings:
            listings = list(self._listed(f"{folder}{slash}"))
        groups = [f"{one.folder}{name}" for one in listings for name in one.groups]
        for opened in self._open([place for place in groups if place.startswith(prefix) or prefix.startswith(place)]):
            if isinstance(opened, UnreadableError):
                yield opened
            else:
                yield from (document for document, _due in opened.documents() if document.path.startswith(prefix))
        singles = dict.fromkeys(path for one in listings for path in one.singles if path.startswith(prefix))
        for found in self._read_singles(list(singles)):
            yield found if isinstance(found, UnreadableError) else found[0]

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        to_open: dict[str, list[str]] = {}
        singles: set[str] = set()
        dues: dict[str, list[_DueName]] = {}
        left: list[str] = []
        for listing in self._listed(prefix, with_dues=True):
            for name in listing.groups:
                beside = listing.beside.get(name, [])
                sealed = read_seal(beside)
                if sealed and sealed[0] > now:
                    survey.add_later(*sealed)
                else:
                    to_open[f"{listing.folder}{name}"] = beside
            singles |= listing.singles
            for path, names in listing.dues.items():
                dues.setdefault(path, []).extend(names)
            left += listing.left()
        to_read: list[str] = []
        for path in singles:
            due = min(dues[path]).due if path in dues else 0
            if due > now:
                survey.add_later(due)
            else:
                to_read.append(path)
        if tidy:
            self._tidy(self._engine.destroy, [*left, *_of_none(dues, singles, now)])
        found = itertools.chain(self._survey_groups(to_open, now, tidy), self._read_singles(to_read))
        survey.due = survey.sort(found, now)
        return survey

    def due(self, folder: str, now: int, *, tidy: bool) -> t.Iterator[Found]:
        this_hour = bucket(now)
        hours = self._singles.hours(folder)
        dues: dict[str, list[_DueName]] = {}
        over: list[str] = []
        for listing in self._lists([f"{folder}{DUE_FOLDER}{hour}/" for hour in hours if hour <= this_hour]):
            hour = listing.folder.split("/")[-2]
            if not listing.dues and hour < this_hour:
                over.append(hour)
            for path, names in listing.dues.items():
                dues.setdefault(path, []).extend(one for one in names if one.due <= now)
        there: set[str] = set()
        all_known = True
        for found in self._read_singles([path for path, names in dues.items() if names]):
            if isinstance(found, UnreadableError):
                # It is not known which one it is, so what its name tells stays, as that of all others does.
                all_known = False
                yield found
                continue
            there.add(found[0].path)
            if found[1] <= now:
                yield found[0]
        if tidy:
            # Long after their time: a writer that was held up puts the document beside a name that it has put before.
            late = _of_none(dues, there, now - _LATE_SECONDS) if all_known else ()
            self._tidy(self._engine.destroy, list(late))
            self._tidy(lambda hour: self._singles.forget_hour(folder, hour, hours[hour]), over)

    def _survey_groups(
        self, to_open: dict[str, list[str]], now: int, tidy: bool
    ) -> t.Iterator[_Dated | UnreadableError]:
        """Yield the documents of groups; seal those in which nothing is due, if they are many, and remove those that have
        ended. The names beside each were listed before."""
        not_due: list[Group] = []
        for opened in self._open(list(to_open)):
            if isinstance(opened, UnreadableError):
                yield opened
                continue
            if not opened.entries and tidy:
                self._tidy(lambda group: self._groups.remove(group, to_open[group.place]), [opened])
            elif opened.due > now:
                # What its documents are is not needed, and there may be many groups.
                not_due.append(opened._replace(entries={}))
            yield from opened.documents()
        if tidy and len(not_due) > _UNSEALED:
            self._tidy(self._seal, [(group, to_open[group.place]) for group in not_due])

    def _seal(self, one: tuple[Group, list[str]]) -> None:
        seen, beside = one
        group = self._groups.load(seen.place)
        # Its version says that nobody has written since the names were listed and it was read.
        if group and group.version == seen.version and group.entries and not group.closed:
            self._groups.seal(group, beside)

    def _tidy(self, tidy: t.Callable[[t.Any], None], what: t.Sequence[t.Any]) -> None:
        """Tidy away each of what is in nobody's way: what ends keys must not wait for it."""
        try:
            for _unused in concurrently(tidy, what, CONCURRENCY):
                pass
        except StoreError as error:
            self._warn(f"what a crash has left in the store was not tidied away: {error}")

    def _open(self, places: t.Sequence[str]) -> t.Iterator[Group | UnreadableError]:
        """Yield groups, those that are there."""

        def load(place: str) -> Group | UnreadableError | None:
            try:
                return self._groups.load(place)
            except UnreadableError as error:
                return error

        for start in range(0, len(places), CONCURRENCY):
            yield from filter(None, concurrently(load, places[start : start + CONCURRENCY], CONCURRENCY))

    def _read_singles(self, paths: list[str]) -> t.Iterator[_Dated | UnreadableError]:
        """Yield documents that have a secret of their own, and when they are due."""

        def read(path: str) -> _Dated | UnreadableError | None:
            try:
                return self._singles.read(path)
            except UnreadableError as error:
                return error

        for start in range(0, len(paths), _AHEAD):
            yield from filter(None, concurrently(read, paths[start : start + _AHEAD], CONCURRENCY))

    def new_key(self, folder: str, due: int) -> str:
        # What is due at any time belongs to a run.
        return self._pool.new_key(folder.rstrip("/"), is_own=not due)

    def _unfilled(self, folder: str) -> list[str]:
        """Return groups of a folder that may have room: those that nobody has sealed."""
        listing = self._list(f"{folder}/")
        return [name.removesuffix("-") for name in listing.groups if name not in listing.beside]

    def check_writable(self, path: str) -> None:
        place = place_of(path)
        if place is None or self._pool.may_begin(place):
            return
        try:
            self._groups.load(place)
        except UnreadableError:
            self._pool.avoid(place)
            raise

    def check_rights(self) -> None:
        self._engine.check_rights(f"checks/{random_text(16)}")

    def _listed(self, prefix: str, *, with_dues: bool = False) -> t.Iterator[_Listing]:
        """Yield what is in a folder and in those below it; of when documents are due what is beside them, or all of it, but not
        its hours."""
        without = (HOURS_FOLDER,) if with_dues else (HOURS_FOLDER, DUE_FOLDER)
        folders = [prefix]
        while folders:
            deeper: list[str] = []
            for listing in self._lists(folders):
                deeper += (f"{listing.folder}{name}" for name in listing.folders if name not in without)
                yield listing
            folders = deeper

    def _lists(self, folders: t.Sequence[str]) -> t.Iterator[_Listing]:
        """Yield what is in folders, in any order."""
        return concurrently(self._list, folders, max(1, min(_LISTS, len(folders) // _LISTS_WORTH_A_CONNECTION)))

    def _list(self, folder: str) -> _Listing:
        listing = _Listing(folder)
        above, _due_folder, _hour = folder.partition(DUE_FOLDER)
        for name in self._engine.names(folder):
            if name.endswith("/"):
                listing.folders.append(name)
            elif name.endswith("-"):
                listing.groups.add(name)
            elif match := _BESIDE.fullmatch(name):
                listing.beside.setdefault(match[1], []).append(match[2])
            elif match := _DUE_NAME.fullmatch(name):
                due = _DueName(int(match[2], 36), f"{folder}{name}")
                listing.dues.setdefault(f"{above}{match[1]}", []).append(due)
            else:
                listing.singles.add(document_in(f"{folder}{name}"))
        return listing


def _of_none(dues: t.Mapping[str, t.Sequence[_DueName]], there: t.Container[str], now: int) -> t.Iterator[str]:
    """Yield names that tell when documents are due that are not there, once that time has come: until then the document may be
    just being written."""
    for path, names in dues.items():
        if path not in there:
            yield from (one.secret for one in names if one.due <= now)


def _together(paths: t.Iterable[str]) -> list[tuple[str | None, list[str]]]:
    """Return paths by the place of the group that they may be in; those that are in none one by one, without a place."""
    alone: list[tuple[str | None, list[str]]] = []
    by_place: dict[str, list[str]] = {}
    for path in paths:
        place = place_of(path)
        if place is None:
            alone.append((None, [path]))
        else:
            by_place.setdefault(place, []).append(path)
    return [*by_place.items(), *alone]
