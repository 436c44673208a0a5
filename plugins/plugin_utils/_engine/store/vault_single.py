# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents that have a secret of their own in a KV engine.

    <path>                             the document
    <path>.<due>                       nothing; its name says when the document beside it is due, unless that is at any time
    <folder>/<group>-/<key>            the document <folder>/<group>-<key>, so that those kept together can be listed alone
    <folder>/.due/<hour>/<name>.<due>  nothing; when such a document is due, so that what is due can be listed alone
    <folder>/.hours/<hour>             nothing; that there may be names in .due/<hour>: a server that lists .due walks over all
                                       names in it
    <folder>/.hours/<hour>.<random>    the same, while somebody finds out whether the hour can be forgotten

A request that may have been made is made again, so each write has a mark, and a document keeps the marks of its last
writes: one that was refused for its version is a success if its mark is there, also below what others have written since.
Older versions cannot be asked instead, since the engine may keep only one.

What a crash leaves of the names is never later than the truth.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import typing as t

from ..errors import Conflict, StoreError
from ..names import random_text
from .base import Document, Write, bucket
from .vault_content import WRITES, due_text, pack, unpack
from .vault_engine import KVEngine
from .vault_group import place_of

#: The folder, below that of documents that are kept together but not in one secret, which tells when they are due.
DUE_FOLDER = ".due/"
#: The folder beside it that tells for which hours.
HOURS_FOLDER = ".hours/"


class _Seen(t.NamedTuple):
    """What is known of a version of a document."""

    version: int
    due: int
    #: The marks of its last writes, the newest last.
    writes: tuple[str, ...]


class Singles:
    """Documents by path, one secret each."""

    def __init__(self, engine: KVEngine) -> None:
        self._engine = engine
        self._seen: dict[str, _Seen] = {}

    def read(self, path: str) -> tuple[Document, int] | None:
        """Return a document and when it is due, or None."""
        secret = self._engine.read(secret_of(path))
        if secret is None:
            return None
        content = unpack(secret, self._engine.shown(secret_of(path)))
        self._seen[path] = _Seen(content.version, content.due, content.writes)
        return Document(path, content.data, content.version), content.due

    def write(self, write: Write) -> None:
        """Write a document if it still has the version that is expected, else raise Conflict."""
        seen = self._look(write.path, write.version) if write.version else None
        if write.version and (seen is None or seen.version != write.version):
            raise self._engine.changed(secret_of(write.path))
        before = seen.due if seen else None
        old = _due_path(write.path, before) if before is not None else None
        new = _due_path(write.path, write.due)
        # At every instant the earliest time that names tell must not be later than the truth. So the name for a write
        # that is refused stays beside a document that has one: it may be that of the other one, and goes when the document
        # has gone.
        sooner = before is None or write.due < before
        if sooner and new is not None and new != old:
            self._put_name(new)
        if sooner and new is None and old is not None:
            self._engine.destroy(old)
        try:
            is_newest = self.put_document(write, seen.writes if seen else ())
        except Conflict:
            there = self._seen.get(write.path)
            if new is not None and there and not there.due:
                self._engine.destroy(new)
            raise
        if not is_newest:
            # Whoever has written on top of it has seen to the names; to remove one now could remove theirs.
            return
        if not sooner and new is not None and new != old:
            self._put_name(new)
        if old is not None and old != new:
            self._engine.destroy(old)

    def put_document(self, write: Write, before: t.Sequence[str]) -> bool:
        """Write a document without its name; returns whether it is still the newest version, as far as is known."""
        mark = secrets.token_urlsafe(6)
        writes = (*before, mark)[-WRITES:]
        try:
            self._engine.put(secret_of(write.path), pack(json.dumps(write.data), write.due, writes), write.version)
        except Conflict:
            # It may be this very write, made by a request whose answer got lost; and others may have written on top of it.
            self._seen.pop(write.path, None)
            seen = self._look(write.path)
            if seen is None or mark not in seen.writes:
                raise
            return seen.writes[-1] == mark
        self._seen[write.path] = _Seen(write.version + 1, write.due, writes)
        return True

    def delete(self, path: str) -> None:
        """Remove a document and the name of its time."""
        seen = self._look(path)
        self._engine.destroy(secret_of(path))
        self._seen.pop(path, None)
        name = _due_path(path, seen.due) if seen else None
        if name is not None:
            self._engine.destroy(name)

    def _look(self, path: str, version: int | None = None) -> _Seen | None:
        """Return what is known of a document as it is, or was at a version, as far as it is there."""
        seen = self._seen.get(path)
        if seen is None or version not in (None, seen.version):
            self._seen.pop(path, None)
            self.read(path)
            seen = self._seen.get(path)
        return seen

    def forget_hour(self, folder: str, hour: str, listed: t.Iterable[str]) -> None:
        """Forget an hour of a folder in which no names were found, unless somebody puts one at the same time. listed are the
        names in .hours that stood for it."""
        names = f"{folder}{HOURS_FOLDER}"
        mine = f"{hour}.{random_text(8)}"
        # It stands for the hour until it is known whether to keep that, whatever is interrupted.
        self._engine.put_name(f"{names}{mine}")
        self._engine.destroy(f"{names}{hour}")
        if any(self._engine.names(f"{folder}{DUE_FOLDER}{hour}/")):
            self._engine.put_name(f"{names}{hour}")
        for name in (*listed, mine):
            if name != hour:
                self._engine.destroy(f"{names}{name}")

    def hours(self, folder: str) -> dict[str, list[str]]:
        """Return the hours in which something in a folder may be due, with the names that stand for each."""
        hours: dict[str, list[str]] = {}
        for name in self._engine.names(f"{folder}{HOURS_FOLDER}"):
            hours.setdefault(name.partition(".")[0], []).append(name)
        return hours

    def _put_name(self, path: str) -> None:
        """Write the name of a time, if it is not there yet, and then that of its hour.

        In this order: who forgets the hour first removes its name and then looks for names of times, so he finds this one, or
        the name of the hour is put after he has removed it.
        """
        self._engine.put_name(path)
        folder, due_folder, name = path.partition(DUE_FOLDER)
        if due_folder and self._engine.put_name(f"{folder}{HOURS_FOLDER}{name.partition('/')[0]}"):
            # Once an hour at the most, and also where no cleanup ever runs.
            with contextlib.suppress(StoreError):
                self._forget_hours(folder)

    def _forget_hours(self, folder: str) -> None:
        """Forget the hours of a folder that are over, if nothing is left in them."""
        this_hour = bucket(int(time.time()))
        for hour, listed in self.hours(folder).items():
            if hour < this_hour and not any(self._engine.names(f"{folder}{DUE_FOLDER}{hour}/")):
                self.forget_hour(folder, hour, listed)


def secret_of(path: str) -> str:
    """Return the path of the secret that holds a document."""
    folder, slash, name = path.rpartition("/")
    group, dash, key = name.partition("-")
    return f"{folder}{slash}{group}-/{key}" if dash and place_of(path) is None else path


def document_in(secret: str) -> str:
    """Return the path of the document that a secret holds."""
    return secret.replace("-/", "-")


def _due_path(path: str, due: int) -> str | None:
    """Return the secret whose name tells when a document is due; None if that is at any time."""
    if not due:
        return None
    folder, slash, name = path.rpartition("/")
    beside = path if secret_of(path) == path else f"{folder}{slash}{DUE_FOLDER}{bucket(due)}/{name}"
    return f"{beside}.{due_text(due)}"
