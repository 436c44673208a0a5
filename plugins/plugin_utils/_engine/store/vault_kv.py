# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store for many controllers: a secret per document in a KV version 2 engine of HashiCorp Vault or OpenBao.

    <engine_mount_point>/<kv_path>/<mount>/<path>           {"data": the document in JSON, "due": …, "writes": […], "sum": …}
    <engine_mount_point>/<kv_path>/<mount>/<path>.<due>     nothing; it says when the document beside it is due

The version of a document is that of its secret. When a document is due stands in its name (see new_key) or, if it has
another name or is no longer due then, in that of an empty secret beside it. So LISTs tell what is due and how much is
not. What a crash leaves of such names is never later than the truth.

The document is a string for Vault, which would round large numbers in an object and write numbers to its audit log.
A request that may have been made is made again, so each write has a mark, and a document keeps the marks of its last
writes: one that was refused for its version is a success if its mark is there, also below what others have written since.
Older versions cannot be asked instead, since the engine may keep only one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import sys
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..names import base36, random_text
from ..run.threads import concurrently
from .base import Document, Found, Store, Survey, Write
from .vault_engine import Connect, KVEngine
from .vault_http import CONCURRENCY

#: How many documents are read ahead of whoever takes them.
_AHEAD = 64
#: How many writers find their mark below what others have written on top. Each that retries does so within seconds.
_WRITES = 64
_DUE_DIGITS = 7
_LISTS = 4
#: What stands before the - makes it a few files, and not one for each, if the mount is moved to vaulted files.
_DATED = re.compile(r"[0-9a-z]-([0-9a-z]{7})[0-9a-z]{11}", re.ASCII)
_DUE_NAME = re.compile(r"([0-9a-z_-]+)\.([0-9a-z]{7})", re.ASCII)


class _Seen(t.NamedTuple):
    """What is known of a version of a document."""

    version: int
    due: int
    #: The marks of its last writes, the newest last.
    writes: tuple[str, ...]


class VaultKVStore(Store):
    """Documents below one path of a KV engine. log gets one line per attempt of a request, never with a secret; warn what
    a person should know."""

    batch = CONCURRENCY

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
        self._seen: dict[str, _Seen] = {}

    def read(self, path: str) -> Document | None:
        found = self._read_document(path)
        return found[0] if found else None

    def _read_document(self, path: str) -> tuple[Document, int] | None:
        """Return a document and when it is due."""
        secret = self._engine.read(path)
        if secret is None:
            return None
        try:
            content = secret["data"]
            document = Document(path, dict(json.loads(content["data"])), int(secret["metadata"]["version"]))
            due, writes = int(content["due"]), tuple(map(str, content["writes"]))
            is_ours = content["sum"] == _sum(content["data"], due)
        except (KeyError, TypeError, ValueError):
            is_ours = False
        if not is_ours:
            raise UnreadableError(
                f"kv_path: {self._engine.shown(path)} does not hold a document of this store, or somebody has edited it; roll it "
                "back to an older version (vault kv rollback), or delete its metadata"
            )
        self._seen[path] = _Seen(document.version, due, writes)
        return document, due

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Found]:
        return filter(None, concurrently(self.read_or_error, paths, CONCURRENCY))

    def write(self, *writes: Write) -> None:
        for _unused in concurrently(self._write, writes, CONCURRENCY):
            pass

    def delete(self, *paths: str) -> None:
        for _unused in concurrently(self._delete, paths, CONCURRENCY):
            pass

    def scan(self, prefix: str) -> t.Iterator[Found]:
        folder, slash, _group = prefix.rpartition("/")
        listed = self._listed(f"{folder}{slash}")
        for found in self._read_ahead(
            [path for path, _due, is_there in listed if is_there and path.startswith(prefix)]
        ):
            yield found if isinstance(found, UnreadableError) else found[0]

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        to_read = []
        for path, at, is_there in self._listed(prefix):
            if at is not None and at > now:
                if is_there:
                    survey.add_later(at)
            elif is_there:
                to_read.append(path)
            elif at is not None and tidy:
                try:
                    self._engine.destroy(_name(path, at))
                except StoreError as error:
                    # It is in nobody's way, and what ends keys must not wait for it.
                    self._warn(f"what a crash has left in the store was not tidied away: {error}")
                    tidy = False
        survey.due = survey.sort(self._read_ahead(to_read), now)
        return survey

    def _read_ahead(self, paths: list[str]) -> t.Iterator[tuple[Document, int] | UnreadableError]:
        """Yield documents and when they are due."""

        def read(path: str) -> tuple[Document, int] | UnreadableError | None:
            try:
                return self._read_document(path)
            except UnreadableError as error:
                return error

        for start in range(0, len(paths), _AHEAD):
            yield from filter(None, concurrently(read, paths[start : start + _AHEAD], CONCURRENCY))

    def new_key(self, folder: str, due: int) -> str:
        return f"{random_text(1)}-{base36(due, _DUE_DIGITS)}{random_text(11)}"

    def check_rights(self) -> None:
        self._engine.check_rights(f"checks/{random_text(16)}")

    def _write(self, write: Write) -> None:
        seen = self._look(write.path, write.version) if write.version else None
        before = seen.due if seen else None
        old = _due_path(write.path, before) if before is not None else None
        new = _due_path(write.path, write.due)
        # At every instant the earliest time that names tell must not be later than the truth. So the name for a write
        # that is refused stays: it may be that of the other one, and goes when the document has gone.
        sooner = before is None or write.due < before
        if sooner and new is not None and new != old:
            self._put_name(new)
        if sooner and new is None and old is not None:
            self._engine.destroy(old)
        if not self._put_document(write, seen.writes if seen else ()):
            # Whoever has written on top of it has seen to the names; to remove one now could remove theirs.
            return
        if not sooner and new is not None and new != old:
            self._put_name(new)
        if old is not None and old != new:
            self._engine.destroy(old)

    def _look(self, path: str, version: int | None = None) -> _Seen | None:
        """Return what is known of a document as it is, or was at a version, as far as it is there."""
        seen = self._seen.get(path)
        if seen is None or version not in (None, seen.version):
            self._seen.pop(path, None)
            self.read(path)
            seen = self._seen.get(path)
        return seen

    def _put_name(self, path: str) -> None:
        """Write the name of a time, if it is not there yet."""
        with contextlib.suppress(Conflict):
            self._engine.put(path, {}, 0)

    def _put_document(self, write: Write, before: t.Sequence[str]) -> bool:
        """Write a document; returns whether it is still the newest version, as far as is known."""
        mark = secrets.token_urlsafe(6)
        writes = (*before, mark)[-_WRITES:]
        data = json.dumps(write.data)
        content = {"data": data, "due": write.due, "writes": writes, "sum": _sum(data, write.due)}
        try:
            self._engine.put(write.path, content, write.version)
        except Conflict:
            # It may be this very write, made by a request whose answer got lost; and others may have written on top of it.
            self._seen.pop(write.path, None)
            seen = self._look(write.path)
            if seen is None or mark not in seen.writes:
                raise
            return seen.writes[-1] == mark
        self._seen[write.path] = _Seen(write.version + 1, write.due, writes)
        return True

    def _delete(self, path: str) -> None:
        seen = self._look(path)
        self._engine.destroy(path)
        self._seen.pop(path, None)
        name = _due_path(path, seen.due) if seen else None
        if name is not None:
            self._engine.destroy(name)

    def _listed(self, prefix: str) -> t.Iterator[tuple[str, int | None, bool]]:
        """Yield the paths below a prefix, when each is due at the earliest (None where no name tells), and whether it is
        there: after a crash there may be the name of a time without its document."""
        folders = [prefix]
        while folders:
            deeper: list[str] = []
            for folder, names in concurrently(lambda at: (at, list(self._engine.names(at))), folders, _LISTS):
                keys: list[str] = []
                dues: dict[str, int] = {}
                for name in names:
                    if name.endswith("/"):
                        deeper.append(f"{folder}{name}")
                    elif match := _DUE_NAME.fullmatch(name):
                        dues[match[1]] = min(int(match[2], 36), dues.get(match[1], sys.maxsize))
                    else:
                        keys.append(name)
                for key in keys:
                    yield f"{folder}{key}", dues.pop(key) if key in dues else _told(key), True
                for key, due in dues.items():
                    yield f"{folder}{key}", due, False
            folders = deeper


def _sum(data: str, due: int) -> str:
    """Return by what it is seen that nobody else has written or edited a document: what the engine reads in it is there."""
    return hashlib.sha256(f"{due} {data}".encode()).hexdigest()[:16]


def _told(key: str) -> int | None:
    """Return when a document is due according to its own name."""
    match = _DATED.fullmatch(key)
    return int(match[1], 36) if match else None


def _due_path(path: str, due: int) -> str | None:
    """Return the secret whose name tells when a document is due; None if its own does, or it is due at any time."""
    return None if due == (_told(path.rpartition("/")[2]) or 0) else _name(path, due)


def _name(path: str, due: int) -> str:
    return f"{path}.{base36(due, _DUE_DIGITS)}"
