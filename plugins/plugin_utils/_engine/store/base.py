# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: documents by path, changed only by compare-and-set. Backends know nothing of leases."""

from __future__ import annotations

import abc
import dataclasses
import functools
import types
import typing as t

from ..errors import UnreadableError
from ..names import base36

Data = dict[str, t.Any]
T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Document:
    """One stored document. version counts its writes from 1."""

    path: str
    data: Data
    version: int


@dataclasses.dataclass(frozen=True)
class Stored(t.Generic[T]):
    """What a document says, as the domain knows it, and where it says so."""

    value: T
    path: str
    version: int


#: What is found where there are many documents: each, or why it cannot be read.
Found = Document | UnreadableError


def refuse_unreadable(error: UnreadableError) -> None:
    """Give up at the first document that cannot be read."""
    raise error


def readable(
    found: t.Iterable[Found], unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> t.Iterator[Document]:
    """Yield the documents; hand over why others cannot be read."""
    for one in found:
        if isinstance(one, UnreadableError):
            unreadable(one)
        else:
            yield one


#: Stands in a document that has been moved to another store and is about to be removed.
MOVED = "moved"


def converted(
    found: t.Iterable[Found],
    convert: t.Callable[[Data], T],
    unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable,
) -> t.Iterator[Stored[T]]:
    """Yield what documents say; hand over why others cannot be read, or say something else."""
    for document in readable(found, unreadable):
        try:
            value = convert({name: value for name, value in document.data.items() if name != MOVED})
            _check_types(value)
        except (KeyError, TypeError, ValueError, AttributeError):
            unreadable(UnreadableError(f"store: {document.path} does not hold what it should; somebody has edited it"))
            continue
        yield Stored(value, document.path, document.version)


def _check_types(value: t.Any) -> None:
    """Raise TypeError unless the fields of a record, and of the records in it, hold what they are declared to hold."""
    if isinstance(value, tuple):
        for one in value:
            _check_types(one)
    elif dataclasses.is_dataclass(value):
        for name, declared, has_records in _declared_types(t.cast(type, type(value))):
            field = getattr(value, name)
            if not isinstance(field, declared):
                raise TypeError(name)
            if has_records:
                _check_types(field)


@functools.cache
def _declared_types(record: type) -> list[tuple[str, tuple[type, ...], bool]]:
    """Return the fields of a record, which types each may have, without what is inside lists and dictionaries, and whether
    there may be records in it."""
    hints = t.get_type_hints(record)
    declared = {field.name: tuple(_types(hints[field.name])) for field in dataclasses.fields(record)}
    return [
        (name, each, any(issubclass(one, tuple) or dataclasses.is_dataclass(one) for one in each))
        for name, each in declared.items()
    ]


def _types(hint: t.Any) -> t.Iterator[type]:
    if isinstance(hint, types.UnionType):
        for one in t.get_args(hint):
            yield from _types(one)
    else:
        declared = t.get_origin(hint) or hint
        yield declared if isinstance(declared, type) else object
        if declared is float:
            yield int  # JSON has numbers


@dataclasses.dataclass(frozen=True)
class Write:
    """A document to be written if its stored version is still version; 0 means that it must not exist.

    due is the Unix time at which somebody has to look at the document; it can be asked for without opening it. ends says that
    the document is about to be deleted, so that nothing new need be kept together with it.
    """

    path: str
    data: Data
    version: int = 0
    due: int = 0
    ends: bool = False


@dataclasses.dataclass
class Survey:
    """What there is to do below a prefix: the documents that are due; of others how many there are, and when the first is.

    Where it takes opening a document to know when it is due, it counts among the others only after due has come to it.
    next_due may be too early, never late.
    """

    due: t.Iterator[Found] = dataclasses.field(default_factory=lambda: iter(()))
    later: int = 0
    next_due: int | None = None

    def sort(self, found: t.Iterable[tuple[Document, int] | UnreadableError], now: int) -> t.Iterator[Found]:
        """Yield what is due now of documents that come with when they are due, and what cannot be read; count the
        others."""
        for one in found:
            if isinstance(one, UnreadableError):
                yield one
            elif one[1] <= now:
                yield one[0]
            else:
                self.add_later(one[1])

    def add_later(self, due: int, count: int = 1) -> None:
        """Count documents of which the first is due then."""
        self.later += count
        self.next_due = due if self.next_due is None else min(self.next_due, due)


def bucket(due: int) -> str:
    """Return the name of the folder for documents that are due in the same hour."""
    return base36(due // 3600, 4)


class Store(abc.ABC):
    """What the domain asks of a backend.

    A path is one or more parts of lowercase letters, digits and _, separated by /; its last part may also have
    one -, and documents of one folder that share what stands before it may be kept together: they are read and
    written faster at the same time, slower one by one. Documents that are due at some time belong into a folder named
    bucket(due), so that what is due can be found without looking into the others; they stay there when that changes.

    Where there are many documents, one that cannot be read does not hide the others: it is found as an error. What
    concerns the whole store is raised.
    """

    #: Where the store is, in words for the user.
    place: str
    #: How many of many documents are best written at a time.
    batch: t.ClassVar[int]

    @abc.abstractmethod
    def read(self, path: str) -> Document | None:
        """Return the document at a path, or None."""

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Found]:
        """Yield the documents at paths, those that are there, in any order."""
        return filter(None, map(self.read_or_error, paths))

    def read_or_error(self, path: str) -> Found | None:
        """Return the document at a path, or None, or why it cannot be read."""
        try:
            return self.read(path)
        except UnreadableError as error:
            return error

    @abc.abstractmethod
    def write(self, *writes: Write) -> None:
        """Write each document, or raise Conflict if one has another version than expected.

        Each single document is written whole or not at all; after a Conflict others may have been written.
        """

    def receive(self, *writes: Write) -> None:
        """Write documents that come from another store, where some of them may have been kept together."""
        self.write(*writes)

    @abc.abstractmethod
    def delete(self, *paths: str) -> None:
        """Remove documents beyond recovery. Those that are not there count as removed."""

    @abc.abstractmethod
    def scan(self, prefix: str) -> t.Iterator[Found]:
        """Yield the documents whose path begins with a prefix that ends in /, or after the - of what is kept together."""

    @abc.abstractmethod
    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        """Return what is due now (Unix time) below a prefix, without opening what is not; tidy away what crashes have
        left and nobody would miss."""

    def due(self, folder: str, now: int, *, tidy: bool) -> t.Iterator[Found]:
        """Yield what is due now (Unix time) in a folder whose documents do not belong into one by the hour, each of which
        is due at some time; tidy as survey does."""
        return self.survey(folder, now, tidy=tidy).due

    def prepare(self, writes: int) -> None:  # noqa: B027 - most backends need not
        """Hear that so many writes will follow soon. A backend may get ready for them meanwhile."""

    def expect_reads(self, *paths: str) -> None:  # noqa: B027 - as above
        """Hear that what is kept together with these will be read soon. A backend may get ready for that meanwhile."""

    def check_rights(self) -> None:  # noqa: B027 - in files, what one may do shows with the first write
        """Raise if the store may not be read, written, listed or tidied as it has to be."""

    @abc.abstractmethod
    def new_key(self, folder: str, due: int) -> str:
        """Return an unused last part for the path of a document in a folder that will hold many, due at some time."""

    def check_writable(self, path: str) -> None:  # noqa: B027 - most backends have nothing to check
        """Raise UnreadableError if what is kept together with a new document cannot be read, so that it could not be
        written; the next new_key avoids that. To be asked before anything hangs on the write."""
