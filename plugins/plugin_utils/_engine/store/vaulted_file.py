# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The embedded store: every document in files that ansible-vault can view and rekey.

    <store_path>/<mount>/<folder>/<group>.<generation>.<count>.<due>

A file holds the documents of one folder that share a group (see Store). Its name tells its generation, which is random
so that no other file ever has it, how many documents it holds and when the first of them is due, so that counting and
finding what is due need not derive a vault key per file. A file is never changed: a new generation is written beside,
fsynced and renamed into place, then the old one is removed.

Each file says which generations it replaces. So what a crash leaves beside a newer file is known for what it is. Other
files of one group come from outside: from a backup, a version control system, a synchronized copy. Their documents are
united, and of each the highest version counts.

Readers take no lock. Writers hold one on the mount's folder, for the time of a write.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..names import base36, random_text
from ..run.shared_memory import FILES
from ..run.threads import in_background
from .base import Document, Found, Store, Survey, Write
from .combining import Combiner
from .vaulted_file_cipher import Cipher, Content, Entries, Entry, parse
from .vaulted_file_tree import File, NotAFileError, Tree, group_files

#: Documents in one file. More makes a write slower, fewer makes a listing slower.
GROUP_SIZE = 64
_CACHED_FILES = 64
#: The largest file that a run remembers, in characters of plain text: larger ones are not read by each task. In the mount's own
#: folder they are, where the definitions are.
_REMEMBERED = 16_384
_REMEMBERED_OF_ALL = 2**17
_GENERATION_DIGITS = 12

#: The folder of a group, and its name.
_Place = tuple[str, str]
#: Documents of a group by their key there: what to write, or None to remove one.
_Members = t.Mapping[str, Write | None]


class _Group(t.NamedTuple):
    """Documents that are kept together: in which files, those that newer ones replace first; what cannot be a file."""

    files: list[File]
    entries: Entries
    strange: list[NotAFileError]


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells one file from another that was at the same path."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def _has_room(files: list[File]) -> bool:
    """Say whether a group, by the names of its files, may get another document."""
    return bool(files) and max(file.documents for file in files) < GROUP_SIZE


def _ignore(_warning: str) -> None:
    pass


def _make(members: _Members, entries: Entries) -> Conflict | None:
    """Write and remove documents in the entries of a group: all of them, or none."""
    for key, write in members.items():
        if write and (entries[key].version if key in entries else 0) != write.version:
            return Conflict(f"{write.path} was changed by somebody else at the same time")
    for key, write in members.items():
        if write:
            # A copy, and what a reader of the file would get: the caller may go on changing his.
            entries[key] = Entry(json.loads(json.dumps(write.data)), write.version + 1, write.due)
        else:
            entries.pop(key, None)
    return None


class VaultedFileStore(Store):
    """Documents in vaulted files below one folder.

    secrets are the vault secrets given to Ansible, as pairs of vault id and secret; encrypt_identity chooses
    the one to encrypt with, like --encrypt-vault-id. warn is told what is wrong and stops nothing.
    """

    batch = GROUP_SIZE

    def __init__(
        self,
        store_path: str,
        mount: str,
        secrets: t.Sequence[tuple[str, t.Any]],
        encrypt_identity: str | None = None,
        warn: t.Callable[[str], None] = _ignore,
    ) -> None:
        self._cipher = Cipher(secrets, encrypt_identity, self._existing)
        self._tree = Tree(store_path, mount, warn)
        self.place = f"store_path {self._tree.root}"
        self._changes = Combiner(self._change)
        self._prefetches: dict[_Place, threading.Thread | None] = {}
        self._cache: collections.OrderedDict[str, tuple[tuple[int, ...], Content]] = collections.OrderedDict()
        #: Groups that new documents cannot be added to, by folder.
        self._unwritable: dict[str, set[str]] = {}

    def read(self, path: str) -> Document | None:
        folder, group, key = self._tree.locate(path)
        entry = self._group(folder, group).entries.get(key)
        return Document(path, entry.data, entry.version) if entry else None

    def write(self, *writes: Write) -> None:
        grouped = self._grouped({write.path: write for write in writes})
        for place in grouped:
            self._finish_prefetch(place)
        for place, members in grouped.items():
            self._changes.change(place, members)

    def delete(self, *paths: str) -> None:
        unreadable = None
        for place, members in self._grouped(dict.fromkeys(paths)).items():
            try:
                self._changes.change(place, members)
            except UnreadableError as error:
                unreadable = error
        if unreadable:
            raise unreadable

    def _change(self, place: _Place, changes: list[_Members]) -> list[Conflict | None]:
        """Write and remove documents of a group; returns which of the changes came too late."""
        with self._tree.locked(create=any(any(members.values()) for members in changes)) as exists:
            if not exists:
                return [None] * len(changes)
            current = self._group(*place)
            entries = dict(current.entries)
            outcomes = [_make(members, entries) for members in changes]
            if entries != current.entries:
                self._replace(*place, current.files, entries)
            return outcomes

    def scan(self, prefix: str) -> t.Iterator[Found]:
        for listing in self._tree.walk(prefix) if prefix.endswith("/") else self._tree.group_at(prefix):
            if isinstance(listing, UnreadableError):
                yield listing
                continue
            for _group, files in sorted(listing.groups.items()):
                for found in self._found(files, listing.relative):
                    if isinstance(found, UnreadableError):
                        yield found
                    elif found[0].path.startswith(prefix):
                        yield found[0]

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        unreadable: list[UnreadableError] = []
        to_open: list[tuple[list[File], str]] = []
        for listing in self._tree.walk(prefix):
            if isinstance(listing, UnreadableError):
                unreadable.append(listing)
                continue
            for _group, files in sorted(listing.groups.items()):
                if len(files) == 1 and (files[0].due > now or not files[0].documents):
                    if files[0].documents:
                        survey.add_later(files[0].due, files[0].documents)
                else:
                    to_open.append((files, listing.relative))

        def opened() -> t.Iterator[tuple[Document, int] | UnreadableError]:
            yield from unreadable
            for files, relative in to_open:
                yield from self._found(files, relative)

        survey.due = survey.sort(opened(), now)
        return survey

    def prepare(self, writes: int) -> None:
        self._cipher.prepare(writes)

    def expect_reads(self, *paths: str) -> None:
        for path in paths:
            folder, group, _key = self._tree.locate(path)
            self._prefetch(folder, group)

    def new_key(self, folder: str, due: int) -> str:
        folder = os.path.join(self._tree.mount, folder)
        groups = group_files(self._tree.files(folder))
        unwritable = self._unwritable.get(folder, set())
        numbered = {group for group in (*groups, *unwritable) if "_" not in group}
        # The highest with room in it: a group that cannot be read has made somebody begin a higher one.
        group = max((group for group in numbered if _has_room(groups.get(group, []))), default="")
        if not group or any(group <= other for other in unwritable):
            group = base36(int(max(numbered), 36) + 1 if numbered else 0, 3)
        else:
            # It will be needed when the document is written, and there is time until then.
            self._prefetch(folder, group)
        return f"{group}-{random_text(12)}"

    def check_writable(self, path: str) -> None:
        folder, group, _key = self._tree.locate(path)
        self._finish_prefetch((folder, group))
        try:
            self._group(folder, group)
        except UnreadableError:
            self._unwritable.setdefault(folder, set()).add(group)
            raise

    def _existing(self) -> t.Iterator[bytes]:
        """Yield what is in the files that a store has first of all, which are in no folder."""
        for file in self._tree.files(self._tree.mount):
            with contextlib.suppress(OSError, UnreadableError), self._tree.open(file.path) as stream:
                yield stream.read()

    def _prefetch(self, folder: str, group: str) -> None:
        # Whoever encrypts will hear of it if there is no secret for that.
        with contextlib.suppress(StoreError):
            secret = self._cipher.encryption_secret()[1]
            self._prefetches[folder, group] = in_background(lambda: self._derive_keys(folder, group, secret))

    def _finish_prefetch(self, place: _Place) -> None:
        if thread := self._prefetches.pop(place, None):
            thread.join()

    def _derive_keys(self, folder: str, group: str, secret: t.Any) -> None:
        """Have the keys of the files of a group derived that nobody of the run has read."""
        for file in self._tree.files(folder, group):
            if file.path not in self._cache:
                with self._tree.open(file.path) as stream:
                    if not self._recall(file.path, _identity(os.fstat(stream.fileno()))):
                        self._cipher.derive_key(stream.read(), secret)

    def _grouped(self, by_path: t.Mapping[str, t.Any]) -> dict[_Place, dict[str, t.Any]]:
        groups: dict[_Place, dict[str, t.Any]] = {}
        for path, value in by_path.items():
            folder, group, key = self._tree.locate(path)
            groups.setdefault((folder, group), {})[key] = value
        return groups

    def _found(self, files: list[File], relative: str) -> t.Iterator[tuple[Document, int] | UnreadableError]:
        """Yield the documents of a group, and when each is due."""
        try:
            try:
                group = self._merge(files, tell=False)
            except FileNotFoundError:
                group = self._group(files[0].folder, files[0].group, tell=False)
        except UnreadableError as error:
            yield error
            return
        yield from group.strange
        for key, entry in group.entries.items():
            yield Document(f"{relative}/{key}", entry.data, entry.version), entry.due

    def _group(self, folder: str, group: str, *, tell: bool = True) -> _Group:
        """Return what a group holds now. tell says whether other tasks of the run may want it, too."""
        while True:
            try:
                return self._merge(self._tree.files(folder, group), tell=tell)
            except FileNotFoundError:
                # Somebody wrote the next generation between the listing and the opening.
                continue

    def _merge(self, files: list[File], *, tell: bool) -> _Group:
        """Return what the files of a group hold together."""
        if len(files) == 1:
            return _Group(files, self._load(files[0], tell=tell).entries, [])
        loaded: list[tuple[File, Content]] = []
        failed: list[tuple[File, UnreadableError]] = []
        for file in files:
            try:
                loaded.append((file, self._load(file, tell=tell)))
            except UnreadableError as error:
                failed.append((file, error))
        replaced = {generation for _file, content in loaded for generation in content.replaces}
        strange: list[NotAFileError] = []
        for file, failure in failed:
            if file.generation in replaced:
                continue
            if not loaded or not isinstance(failure, NotAFileError):
                raise failure
            strange.append(failure)
        holders: dict[str, File] = {}
        entries: Entries = {}
        for file, content in loaded:
            if file.generation in replaced:
                continue
            for key, entry in content.entries.items():
                known = entries.get(key)
                if known and known.version == entry.version and known != entry:
                    raise UnreadableError(
                        f"store_path: {holders[key].path} and {file.path} come from two copies of the store and "
                        "contradict each other; move one of them away"
                    )
                if known is None or known.version < entry.version:
                    entries[key], holders[key] = entry, file
        kept = {file.generation for file, _content in loaded} | replaced
        ours = sorted(
            (file for file in files if file.generation in kept), key=lambda file: file.generation not in replaced
        )
        return _Group(ours, entries, strange)

    def _load(self, file: File, *, tell: bool) -> Content:
        path = file.path
        self._finish_prefetch((file.folder, file.group))
        with self._tree.open(path) as stream:
            identity = _identity(os.fstat(stream.fileno()))
            cached = self._cache.get(path)
            if cached is not None and cached[0] == identity:
                return cached[1]
            content = self._recall(path, identity)
            if content is None:
                try:
                    encrypted = stream.read()
                except OSError as error:
                    raise UnreadableError(f"store_path: cannot read {path}: {error.strerror}") from None
                content, text = self._cipher.decrypt(path, encrypted)
                if content.group != self._tree.relative(file.folder, file.group):
                    raise UnreadableError(
                        f"store_path: {path} is a copy from {content.group} of this store or another; move it away"
                    )
                if tell:
                    self._tell(file, identity, text)
        self._remember(path, identity, content)
        return content

    def _remember(self, path: str, identity: tuple[int, ...], content: Content) -> None:
        self._cache[path] = (identity, content)
        while len(self._cache) > _CACHED_FILES:
            with contextlib.suppress(KeyError):  # another thread was faster
                self._cache.popitem(last=False)

    def _tell(self, file: File, identity: tuple[int, ...], text: str) -> None:
        """Let the other processes of the run know the plain text of a file."""
        if len(text) <= (_REMEMBERED_OF_ALL if file.folder == self._tree.mount else _REMEMBERED):
            FILES.remember(self._memory_of(file.path), [file.path, identity, text])

    def _recall(self, path: str, identity: tuple[int, ...]) -> Content | None:
        """Return what another process of the run has found in a file, or put there."""
        known = FILES.recall(self._memory_of(path))
        if known is None or known[:2] != [path, list(identity)]:
            return None
        return parse(known[2])

    def _memory_of(self, path: str) -> str:
        """Return under which name the run remembers a file: the same for each generation, and for whoever has the secrets."""
        folder, name = os.path.split(path)
        return json.dumps([folder, name.partition(".")[0], self._cipher.secrets])

    def _replace(self, folder: str, group: str, files: list[File], entries: Entries) -> None:
        """Make entries the next generation of a group; nothing to hold means no file. The lock is held."""
        for file in files:
            self._cache.pop(file.path, None)
        # What is replaced goes first: a deletion that is interrupted leaves what was there.
        if entries or not self._remove_all(files):
            due = min((entry.due for entry in entries.values()), default=0)
            new = File(folder, group, random_text(_GENERATION_DIGITS), len(entries), due)
            content = Content(self._tree.relative(folder, group), entries, [file.generation for file in files])
            encrypted, text = self._cipher.encrypt(content)
            identity = _identity(self._tree.write(new, encrypted))
            self._tell(new, identity, text)
            self._remember(new.path, identity, content)
            # The write is done. What cannot be removed is known as replaced.
            self._tree.remove(files)
        self._tree.tidy(folder)
        if not entries:
            self._tree.remove_if_empty(folder)

    def _remove_all(self, files: list[File]) -> bool:
        """Remove all files, those that are replaced first; stops at one that cannot be removed."""
        return all(self._tree.remove([file]) for file in files)
