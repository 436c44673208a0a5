# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folders and files of a vaulted file store: what they are called, whose they are, who may write in them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import stat
import time
import typing as t

from ..errors import StoreError, UnreadableError, quoted
from ..names import random_text
from .file_system import unfit_file_system

_LOCK_SECONDS = 60.0
_ABANDONED_SECONDS = 3600
_LISTINGS = 100
_LARGEST_FILE = 256 * 2**20
_TEMPORARY = ".tmp-"
_IGNORE_FILE = ".gitignore"
_IGNORE_ALL = b"*\n"
_OTHERS = 0o077
_OTHERS_WRITE = 0o022
#: How many strange names a warning gives.
_STRAYS = 20

_FILE = re.compile(r"([0-9a-z_]+)\.([0-9a-z]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)
_FOLDER = re.compile(r"[0-9a-z_]+", re.ASCII)


class NotAFileError(UnreadableError):
    """What has the name of a file of ours is none, so that it never held a document."""


class File(t.NamedTuple):
    """A file by its name: how many documents it holds, and the Unix time at which the first of them is due."""

    folder: str
    group: str
    generation: str
    documents: int
    due: int

    @property
    def path(self) -> str:
        return os.path.join(self.folder, f"{self.group}.{self.generation}.{self.documents}.{self.due}")


class Listing(t.NamedTuple):
    """A folder: its path in documents, and its files by group."""

    relative: str
    groups: dict[str, list[File]]


class _Names(t.NamedTuple):
    """What is in a folder: our files, what may be folders of ours, and the names of what is not of the store."""

    files: list[File]
    folders: list[str]
    others: list[str]


class Tree:
    """The folders of one mount. warn hears, once, what others have put there."""

    def __init__(self, store_path: str, mount: str, warn: t.Callable[[str], None]) -> None:
        self.root = os.path.abspath(os.path.expanduser(store_path))
        self.mount = os.path.join(self.root, mount)
        self._warn = warn
        self._known_strays: set[str] = set()
        self._is_checked = False

    def locate(self, path: str) -> tuple[str, str, str]:
        """Return the folder of a document, its group, and its key there."""
        folder, _slash, key = path.rpartition("/")
        return os.path.join(self.mount, folder) if folder else self.mount, key.partition("-")[0], key

    def relative(self, folder: str, group: str) -> str:
        """Return a group's place below the mount."""
        return f"{folder[len(self.mount) :]}/{group}".lstrip("/")

    def files(self, folder: str, group: str | None = None) -> list[File]:
        """Return the files in a folder, or those of one group: mostly one for each, after a crash two."""
        start = "" if group is None else f"{group}."
        return _sort(folder, (name for name in self._names(folder) if name.startswith(start))).files

    def group_at(self, prefix: str) -> t.Iterator[Listing | UnreadableError]:
        """Yield the one folder, with its one group, that the documents are in whose path begins with a prefix."""
        folder, group, _key = self.locate(prefix)
        try:
            yield Listing(prefix.rpartition("/")[0], group_files(self.files(folder, group)))
        except UnreadableError as error:
            yield error

    def walk(self, prefix: str) -> t.Iterator[Listing | UnreadableError]:
        """Yield the folders at and below a prefix.

        Only what has a name that may be ours is looked at, and a folder that cannot be used hides nothing but itself.
        """
        strays = [os.path.join(self.mount, name) for name in _sort(self.mount, self._names(self.mount)).others]
        folders = [prefix.rstrip("/")]
        while folders:
            relative = folders.pop()
            folder = os.path.join(self.mount, relative)
            try:
                names = _sort(folder, self._names(folder))
            except UnreadableError as error:
                yield error
                continue
            strays += (os.path.join(folder, name) for name in names.others)
            for name in sorted(names.folders, reverse=True):
                if os.path.isfile(os.path.join(folder, name)):
                    strays.append(os.path.join(folder, name))
                else:
                    folders.append(f"{relative}/{name}")
            yield Listing(relative, group_files(names.files))
        if strays := [stray for stray in strays if stray not in self._known_strays]:
            self._known_strays.update(strays)
            named = ", ".join(quoted(os.path.relpath(stray, self.mount)) for stray in sorted(strays)[:_STRAYS])
            more = f" and {len(strays) - _STRAYS} more" if len(strays) > _STRAYS else ""
            self._warn(
                f"store_path: not everything in {self.mount} is of the store; move this away, it is left alone: {named}{more}"
            )

    def open(self, path: str) -> t.BinaryIO:
        """Open a file of the store to read it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotAFileError(f"store_path: cannot open {path}: it is a symbolic link") from None
            raise UnreadableError(f"store_path: cannot open {path}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFileError(f"store_path: {path} is not a regular file")
            if status.st_uid != os.geteuid():
                raise UnreadableError(f"store_path: {path} belongs to another user (uid {status.st_uid})")
            if status.st_size > _LARGEST_FILE:
                raise UnreadableError(f"store_path: {path} is corrupted: it is {status.st_size} bytes long")
            if status.st_mode & _OTHERS:
                with contextlib.suppress(OSError):  # The folder is closed to others, and the file is encrypted.
                    os.fchmod(descriptor, 0o600)
            return open(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def write(self, file: File, content: bytes) -> os.stat_result:
        """Write a file, so that it is there as a whole or not at all. The lock is held."""
        self._make_folder(file.folder)
        temporary = os.path.join(file.folder, f"{_TEMPORARY}{os.getpid()}-{random_text(8)}")
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(descriptor)
                status = os.fstat(descriptor)
            os.rename(temporary, file.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            self.remove_if_empty(file.folder)
            raise
        # The file is there, and whoever said that it is not would be wrong.
        with contextlib.suppress(OSError):
            _sync(file.folder)
        return status

    def remove(self, files: t.Iterable[File]) -> bool:
        """Remove files as far as they can be removed; returns whether they are gone. The lock is held."""
        gone = True
        for file in files:
            try:
                os.unlink(file.path)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone

    def tidy(self, folder: str) -> None:
        """Remove what killed writers left in a folder. Writers hold the lock, so what is old belongs to nobody."""
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name.startswith(_TEMPORARY):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):
                        if os.lstat(path).st_mtime < time.time() - _ABANDONED_SECONDS:
                            os.unlink(path)

    def remove_if_empty(self, folder: str) -> None:
        """Remove a folder that holds nothing any more."""
        # The mount's own folder stays: it is the lock. Those in it will be needed again, and making one is not free.
        if folder != self.mount and os.path.dirname(folder) != self.mount:
            with contextlib.suppress(OSError):  # other groups are still in it
                os.rmdir(folder)

    @contextlib.contextmanager
    def locked(self, create: bool) -> t.Iterator[bool]:
        """Hold the writers' lock; yields whether the mount's folder exists."""
        try:
            self._check_file_system()
            if create:
                self._make_folder(self.mount)
            elif not self._is_ours(self.mount):
                yield False
                return
            # The folder itself is what is locked: no file of ours is without content.
            descriptor = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._lock(descriptor)
                yield True
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"store_path: cannot write in {error.filename or self.mount}: {error.strerror}") from None

    def _lock(self, descriptor: int) -> None:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StoreError(
                        f"store_path: {self.mount} is locked by another process for over {_LOCK_SECONDS:.0f} s"
                    ) from None
                time.sleep(0.002)
            except OSError as error:
                raise StoreError(
                    f"store_path: {self.mount} cannot be locked ({error.strerror}); use a local file system"
                ) from None

    def _check_file_system(self) -> None:
        if not self._is_checked:
            if kind := unfit_file_system(self.root):
                raise StoreError(
                    f"store_path: {self.root} is on a file system of the type {kind}, where locks and renames do not hold "
                    "between machines; use a local one, or store: vault_kv"
                )
            self._is_checked = True

    def _names(self, folder: str) -> list[str]:
        if not self._is_ours(folder):
            return []
        try:
            names: list[str] = []
            for _unused in range(_LISTINGS):
                before = os.stat(folder).st_mtime_ns
                names = os.listdir(folder)
                # A large folder is not listed at one instant: what is renamed meanwhile might show under neither name.
                # The kernel's clock for this may tick only every 4 ms, but a writer takes longer than that.
                if os.stat(folder).st_mtime_ns == before:
                    break
            return names
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._error(folder, f"cannot list {folder}: {error.strerror}") from None

    def _is_ours(self, folder: str) -> bool:
        """Return whether a folder exists; raise if it, or one above it up to the root, is not this user's."""
        if folder != self.root and not self._is_ours(os.path.dirname(folder)):
            return False
        try:
            status = os.lstat(folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error(folder, f"cannot use {folder}: {error.strerror}") from None
        if stat.S_ISLNK(status.st_mode):
            raise self._error(folder, f"{folder} is a symbolic link; name the folder itself")
        if not stat.S_ISDIR(status.st_mode):
            raise self._error(folder, f"{folder} is not a folder")
        if status.st_uid != os.geteuid():
            raise self._error(folder, f"{folder} belongs to another user (uid {status.st_uid})")
        if status.st_mode & _OTHERS:
            self._close_to_others(folder, status.st_mode)
        return True

    def _error(self, folder: str, why: str) -> StoreError:
        """Return an error on a folder: it concerns the whole mount, or only what is below the folder."""
        return (StoreError if len(folder) <= len(self.mount) else UnreadableError)(f"store_path: {why}")

    def _close_to_others(self, folder: str, mode: int) -> None:
        """Take from others what a umask, a copy or Kubernetes' fsGroup has given them; refuse a folder that they can
        write in and that cannot be closed."""
        if folder == self.root and not self._is_only_a_store(mode):
            if mode & _OTHERS_WRITE:
                raise StoreError(
                    f"store_path: {folder} can be written by others and holds more than a store; name a folder of its own"
                )
            return
        why = "its file system keeps no permissions"
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o700)
                mode = os.fstat(descriptor).st_mode
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno == errno.EROFS:  # Nobody can write there.
                return
            why = error.strerror or ""
        if mode & _OTHERS_WRITE:
            raise self._error(
                folder,
                f"{folder} can be written by others, and this cannot be changed here ({why}); run "
                f"chmod -R go-rwx {shlex.quote(self.root)}, and in Kubernetes leave fsGroup out",
            )

    def _is_only_a_store(self, mode: int) -> bool:
        """Say whether the root may be closed to others: it could also be a folder that they need, such as /tmp."""
        if mode & stat.S_ISVTX:
            return False
        try:
            names = set(os.listdir(self.root)) - {os.path.basename(self.mount)}
            if _IGNORE_FILE not in names:
                return not names
            with open(os.path.join(self.root, _IGNORE_FILE), "rb") as stream:
                return stream.read(len(_IGNORE_ALL) + 1) == _IGNORE_ALL
        except OSError:
            return False

    def _make_folder(self, folder: str) -> None:
        missing = []
        at = folder
        while not (os.path.isdir(at) if len(at) < len(self.root) else self._is_ours(at)):
            missing.append(at)
            at = os.path.dirname(at)
        for new in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(new, 0o700)
        for new in missing:
            # Without this, a power failure could take a new folder, and with it a lease that somebody was told of.
            _sync(os.path.dirname(new))
        if self.mount in missing:
            with contextlib.suppress(OSError):
                self._keep_out_of_git()

    def _keep_out_of_git(self) -> None:
        """Have git ignore the store: it would go back in time with a checkout. In a folder that holds something else as
        well, that would be ignored too."""
        if os.listdir(self.root) == [os.path.basename(self.mount)]:
            ignore = os.path.join(self.root, _IGNORE_FILE)
            descriptor = os.open(ignore, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(_IGNORE_ALL)


def group_files(files: t.Iterable[File]) -> dict[str, list[File]]:
    """Return files by their group."""
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.group, []).append(file)
    return groups


def _sort(folder: str, names: t.Iterable[str]) -> _Names:
    """Return the names in a folder by what they may be; those of files that are being written are in none of it."""
    sorted_names = _Names([], [], [])
    for name in names:
        if match := _FILE.fullmatch(name):
            group, generation, count, due = match.groups()
            sorted_names.files.append(File(folder, group, generation, int(count), int(due)))
        elif _FOLDER.fullmatch(name):
            sorted_names.folders.append(name)
        elif not name.startswith(_TEMPORARY):
            sorted_names.others.append(name)
    return sorted_names


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
