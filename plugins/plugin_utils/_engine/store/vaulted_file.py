# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The embedded store: every document in files that ansible-vault can view and rekey.

    <store_path>/<mount>/<folder>/<group>.<generation>.<count>.<due>

A file holds the documents of one folder that share a group (see Store). Its name tells its generation, which grows
with each write, how many documents it holds and when the first of them is due, so that counting and finding what is
due need not derive a vault key per file. A file is never changed: a new generation is written beside, fsynced and
renamed into place, then the old one is removed. The highest generation counts, whatever a crash left beside it.

Readers take no lock. Writers hold one on the mount's folder, for the time of a write.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import stat
import threading
import time
import typing as t
import weakref

from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    AnsibleVaultFormatError,
    VaultAES256,
    VaultLib,
    match_encrypt_secret,
    parse_vaulttext_envelope,
)

from ..errors import Conflict, StoreError
from ..names import base36, random_text
from ..run.shared_memory import FILES
from .base import Data, Document, Store, Survey, Write

#: Documents in one file. More makes a write slower, fewer makes a listing slower.
GROUP_SIZE = 64
_CACHED_FILES = 64
#: The largest file that a run remembers, in bytes: larger ones are not read by each task.
_REMEMBERED = 16_384
_LOCK_SECONDS = 60.0
_ABANDONED_SECONDS = 3600
_LISTINGS = 100
_LARGEST_FILE = 256 * 2**20
_TEMPORARY = ".tmp-"


@dataclasses.dataclass(frozen=True)
class _File:
    folder: str
    group: str
    generation: int
    count: int
    due: int

    @property
    def path(self) -> str:
        return os.path.join(self.folder, f"{self.group}.{self.generation}.{self.count}.{self.due}")


_FILE = re.compile(r"([0-9a-z_]+)\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)


class _Entry(t.NamedTuple):
    data: Data
    version: int
    due: int


_Entries = dict[str, _Entry]


class _Salt(t.NamedTuple):
    """A salt not used yet; derived is set when its key has been derived, if that goes on in the background."""

    value: bytes
    process: int
    derived: threading.Event | None = None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells one file from another that was at the same path; lastly its size in bytes."""
    return status.st_ino, status.st_mtime_ns, status.st_size


_background: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def _in_background(function: t.Callable[[], object]) -> threading.Thread | None:
    """Do something that will be done again, and complain, if it does not succeed; returns None if no thread can be started.

    The function must not use Ansible's Display: a worker process that ends, or a process that forks, while a thread
    holds the lock of Ansible's result queue leaves that locked for ever. For the same reason, and for the locks of
    libraries, both wait for the thread.
    """

    def quietly() -> None:
        with contextlib.suppress(Exception):
            function()

    thread = threading.Thread(target=quietly)
    try:
        thread.start()
    except RuntimeError:
        return None
    _background.add(thread)
    return thread


def _finish_background() -> None:
    for thread in list(_background):
        thread.join()


os.register_at_fork(before=_finish_background)


def _derive_all(salts: list[_Salt], secret: t.Any) -> None:
    """Have the keys of new salts derived; Ansible remembers them."""
    for salt in salts:
        try:
            VaultAES256.encrypt(b"-", secret, salt.value)
        finally:
            if salt.derived:
                salt.derived.set()


class VaultedFileStore(Store):
    """Documents in vaulted files below one folder.

    secrets are the vault secrets given to Ansible, as pairs of vault id and secret; encrypt_identity chooses
    the one to encrypt with, like --encrypt-vault-id.
    """

    batch = GROUP_SIZE

    def __init__(
        self,
        store_path: str,
        mount: str,
        secrets: t.Sequence[tuple[str, t.Any]],
        encrypt_identity: str | None = None,
    ) -> None:
        if not secrets:
            raise StoreError(
                "store vaulted_file needs a vault secret to encrypt with: give --vault-password-file, --ask-vault-pass "
                "or --vault-id, or set ANSIBLE_VAULT_PASSWORD_FILE"
            )
        self._root = os.path.abspath(os.path.expanduser(store_path))
        self._mount = os.path.join(self._root, mount)
        self.place = f"store_path {self._root}"
        self._vault = VaultLib(list(secrets))
        self._encrypt_identity = encrypt_identity
        self._salts: collections.deque[_Salt] = collections.deque()
        self._prefetches: dict[tuple[str, str], threading.Thread] = {}
        self._cache: collections.OrderedDict[str, tuple[tuple[int, ...], _Entries]] = collections.OrderedDict()

    def read(self, path: str) -> Document | None:
        folder, group, key = self._locate(path)
        entries = self._entries(folder, group)[1]
        return Document(path, entries[key].data, entries[key].version) if key in entries else None

    def write(self, *writes: Write) -> None:
        if not writes:
            return
        grouped = self._grouped({write.path: write for write in writes})
        for place in grouped:
            if thread := self._prefetches.pop(place, None):
                thread.join()
        with self._locked(create=True):
            for (folder, group), members in grouped.items():
                current, entries = self._entries(folder, group)
                entries = dict(entries)
                for key, write in members.items():
                    if (entries[key].version if key in entries else 0) != write.version:
                        raise Conflict(f"{write.path} was changed by somebody else at the same time")
                    # A copy, and what a reader of the file would get: the caller may go on changing his.
                    entries[key] = _Entry(json.loads(json.dumps(write.data)), write.version + 1, write.due)
                self._replace(folder, group, current, entries)

    def delete(self, *paths: str) -> None:
        with self._locked(create=False) as exists:
            if not exists:
                return
            for (folder, group), members in self._grouped(dict.fromkeys(paths)).items():
                current, entries = self._entries(folder, group)
                kept = {key: entry for key, entry in entries.items() if key not in members}
                if len(kept) < len(entries):
                    self._replace(folder, group, current, kept)

    def scan(self, prefix: str) -> t.Iterator[Document]:
        for folder, relative in self._folders(prefix):
            for _group, file in sorted(self._files(folder).items()):
                for document, _due in self._documents(file, relative):
                    yield document

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        to_open: list[tuple[_File, str]] = []
        for folder, relative in self._folders(prefix):
            for _group, file in sorted(self._files(folder).items()):
                if file.due > now:
                    survey.add_later(file.due, file.count)
                else:
                    to_open.append((file, relative))
        opened = (found for file, relative in to_open for found in self._documents(file, relative))
        survey.due = survey.sort(opened, now)
        return survey

    def _documents(self, file: _File, relative: str) -> t.Iterator[tuple[Document, int]]:
        """Yield the documents of a group, and when each is due."""
        try:
            entries = self._load(file.path)
        except FileNotFoundError:
            entries = self._entries(file.folder, file.group)[1]
        for key, entry in entries.items():
            yield Document(f"{relative}/{key}", entry.data, entry.version), entry.due

    def prepare(self, writes: int) -> None:
        # Deriving a vault key takes longer than all else here, and leaves the other cores idle.
        secret = self._encryption_secret()[1]
        salts = [_Salt(os.urandom(32), os.getpid(), threading.Event()) for _unused in range(writes)]
        # Nobody may wait for a salt that no thread derives the key of.
        if _in_background(lambda: _derive_all(salts, secret)):
            self._salts.extend(salts)

    def new_key(self, folder: str, due: int) -> str:
        folder = os.path.join(self._mount, folder)
        files = self._files(folder)
        free = [group for group, file in files.items() if file.count < GROUP_SIZE]
        group = min(free) if free else base36(int(max(files), 36) + 1 if files else 0, 3)
        if free:
            # It will be needed when the document is written, and there is time until then.
            secret = self._encryption_secret()[1]
            thread = _in_background(lambda: self._derive_again(files[group].path, secret))
            if thread:
                self._prefetches[folder, group] = thread
        return f"{group}-{random_text(12)}"

    def _locate(self, path: str) -> tuple[str, str, str]:
        folder, _slash, key = path.rpartition("/")
        return os.path.join(self._mount, folder) if folder else self._mount, key.partition("-")[0], key

    def _grouped(self, by_path: t.Mapping[str, t.Any]) -> dict[tuple[str, str], dict[str, t.Any]]:
        groups: dict[tuple[str, str], dict[str, t.Any]] = {}
        for path, value in by_path.items():
            folder, group, key = self._locate(path)
            groups.setdefault((folder, group), {})[key] = value
        return groups

    def _folders(self, prefix: str) -> t.Iterator[tuple[str, str]]:
        """Yield the folders at and below a prefix, as full and as document paths."""
        top = os.path.join(self._mount, prefix.rstrip("/"))
        yield top, prefix.rstrip("/")
        for name in sorted(self._names(top)):
            if "." not in name:
                yield from self._folders(f"{prefix}{name}/")

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
            raise StoreError(f"store_path: cannot list {folder}: {error.strerror}") from None

    def _files(self, folder: str) -> dict[str, _File]:
        """Return the current file of every group in a folder."""
        files: dict[str, _File] = {}
        for file in self._generations(folder):
            if file.group not in files or file.generation > files[file.group].generation:
                files[file.group] = file
        return files

    def _generations(self, folder: str, group: str = "") -> list[_File]:
        """Return the files of documents in a folder, or of one group, also what a crash left beside newer ones."""
        return self._parse(folder, self._names(folder), group)

    @staticmethod
    def _parse(folder: str, names: t.Iterable[str], group: str) -> list[_File]:
        start = f"{group}." if group else ""
        matches = filter(None, (_FILE.fullmatch(name) for name in names if name.startswith(start)))
        return [_File(folder, match[1], int(match[2]), int(match[3]), int(match[4])) for match in matches]

    def _entries(self, folder: str, group: str) -> tuple[_File | None, _Entries]:
        """Return the current file of a group, if there is one, and what it holds."""
        while True:
            file = max(self._generations(folder, group), key=lambda file: file.generation, default=None)
            if file is None:
                return None, {}
            try:
                return file, self._load(file.path)
            except FileNotFoundError:
                # Somebody wrote the next generation between the listing and the opening.
                continue

    def _load(self, path: str) -> _Entries:
        with self._opened(path) as stream:
            identity = _identity(os.fstat(stream.fileno()))
            cached = self._cache.get(path)
            if cached is not None and cached[0] == identity:
                return cached[1]
            entries = self._recall(path, identity)
            if entries is None:
                entries = self._decrypt(path, stream.read())
                self._tell(path, identity, entries)
        self._remember(path, identity, entries)
        return entries

    @staticmethod
    def _opened(path: str) -> t.BinaryIO:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise StoreError(f"store_path: cannot open {path}: {why}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"store_path: {path} is not a regular file")
            if status.st_uid != os.geteuid():
                raise StoreError(f"store_path: {path} belongs to another user (uid {status.st_uid})")
            if status.st_size > _LARGEST_FILE:
                raise StoreError(f"store_path: {path} is corrupted: it is {status.st_size} bytes long")
            return open(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def _remember(self, path: str, identity: tuple[int, ...], entries: _Entries) -> None:
        self._cache[path] = (identity, entries)
        while len(self._cache) > _CACHED_FILES:
            with contextlib.suppress(KeyError):  # another thread was faster
                self._cache.popitem(last=False)

    def _tell(self, path: str, identity: tuple[int, ...], entries: _Entries) -> None:
        """Let the other processes of the run know what is in a file."""
        if identity[-1] <= _REMEMBERED:
            FILES.remember(self._memory_of(path), [path, identity, entries])

    def _recall(self, path: str, identity: tuple[int, ...]) -> _Entries | None:
        """Return what another process of the run has found in a file, or put there."""
        known = FILES.recall(self._memory_of(path))
        if known is None or known[:2] != [path, list(identity)]:
            return None
        return {key: _Entry(*entry) for key, entry in known[2].items()}

    def _memory_of(self, path: str) -> str:
        """Return under which name the run remembers a file: the same for each generation, and for whoever has the secrets."""
        folder, name = os.path.split(path)
        return json.dumps([folder, name.partition(".")[0], [secret.bytes.hex() for _id, secret in self._vault.secrets]])

    def _decrypt(self, path: str, content: bytes) -> _Entries:
        if not content.startswith(b"$ANSIBLE_VAULT;"):
            raise StoreError(f"store_path: {path} is corrupted: it is not a vaulted file; nothing was changed")
        try:
            text = self._vault.decrypt(content)
        except AnsibleVaultFormatError:
            raise StoreError(
                f"store_path: {path} is corrupted: its vault format is broken; nothing was changed"
            ) from None
        except AnsibleError:
            raise StoreError(
                f"store_path: {path} cannot be decrypted: wrong vault password, or the file is corrupted; "
                "nothing was changed"
            ) from None
        try:
            return {
                key: _Entry(dict(entry["data"]), int(entry["version"]), int(entry["due"]))
                for key, entry in json.loads(text)["documents"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StoreError(
                f"store_path: {path} is corrupted: it does not hold documents of this store; nothing was changed"
            ) from None

    def _encrypt(self, entries: _Entries) -> bytes:
        documents = {key: entry._asdict() for key, entry in entries.items()}
        text = json.dumps({"documents": documents}, separators=(",", ":"))
        vault_id, secret = self._encryption_secret()
        salt = self._new_salt()
        # The salt is ours: with a fixed one (VAULT_ENCRYPT_SALT) all files would share a key stream.
        return t.cast(bytes, self._vault.encrypt(text, secret, vault_id=vault_id, salt=salt.value))

    def _new_salt(self) -> _Salt:
        while self._salts:
            salt = self._salts.popleft()
            # What a parent got ready is the parent's: its other children have it as well.
            if salt.derived and salt.process == os.getpid():
                salt.derived.wait(_LOCK_SECONDS)
                return salt
        return _Salt(os.urandom(32), os.getpid())

    def _encryption_secret(self) -> tuple[str, t.Any]:
        try:
            return t.cast(
                "tuple[str, t.Any]",
                match_encrypt_secret(self._vault.secrets, encrypt_vault_id=self._encrypt_identity),
            )
        except AnsibleError as error:
            raise StoreError(f"vault_encrypt_identity: {error}") from None

    def _derive_again(self, path: str, secret: t.Any) -> None:
        """Have the key of a file derived; Ansible remembers it."""
        if path not in self._cache:
            with self._opened(path) as stream:
                if not self._recall(path, _identity(os.fstat(stream.fileno()))):
                    VaultAES256.decrypt(parse_vaulttext_envelope(stream.read())[0], secret)

    def _replace(self, folder: str, group: str, current: _File | None, entries: _Entries) -> None:
        """Make entries the next generation of a group; nothing to hold means no file. The lock is held."""
        if entries:
            due = min(entry.due for entry in entries.values())
            content = self._encrypt(entries)
            new = _File(folder, group, current.generation + 1 if current else 1, len(entries), due)
            self._make_folder(folder)
            temporary = os.path.join(folder, f"{_TEMPORARY}{os.getpid()}-{random_text(8)}")
            try:
                descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                with open(descriptor, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(descriptor)
                    status = os.fstat(descriptor)
                os.rename(temporary, new.path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                self._remove_if_empty(folder)
                raise
            self._tell(new.path, _identity(status), entries)
            self._remember(new.path, _identity(status), entries)
            self._sync(folder)
        # The oldest first, so that a killed deletion leaves the newest.
        names = self._names(folder)
        for file in sorted(self._parse(folder, names, group), key=lambda file: file.generation):
            if not entries or file.generation < new.generation:
                self._unlink(file.path)
        for name in names:
            if name.startswith(_TEMPORARY):
                self._remove_abandoned(os.path.join(folder, name))
        if not entries:
            self._remove_if_empty(folder)

    def _remove_if_empty(self, folder: str) -> None:
        # The mount's own folder stays: it is the lock.
        if folder != self._mount:
            with contextlib.suppress(OSError):  # other groups are still in it
                os.rmdir(folder)

    def _unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._cache.pop(path, None)

    def _remove_abandoned(self, temporary: str) -> None:
        """Remove what a killed writer left. Writers hold the lock, so an old one belongs to nobody."""
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(temporary).st_mtime < time.time() - _ABANDONED_SECONDS:
                os.unlink(temporary)

    @staticmethod
    def _sync(folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _is_ours(self, folder: str) -> bool:
        """Return whether a folder exists; raise StoreError if it, or one above it up to the root, is not this user's."""
        if folder != self._root and not self._is_ours(os.path.dirname(folder)):
            return False
        try:
            status = os.lstat(folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"store_path: cannot use {folder}: {error.strerror}") from None
        if stat.S_ISLNK(status.st_mode):
            raise StoreError(f"store_path: {folder} is a symbolic link; name the folder itself")
        if not stat.S_ISDIR(status.st_mode):
            raise StoreError(f"store_path: {folder} is not a folder")
        if status.st_uid != os.geteuid():
            raise StoreError(f"store_path: {folder} belongs to another user (uid {status.st_uid})")
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise StoreError(f"store_path: {folder} can be written by others; chmod 700 it")
        return True

    def _make_folder(self, folder: str) -> None:
        if not (os.path.isdir(folder) if len(folder) < len(self._root) else self._is_ours(folder)):
            self._make_folder(os.path.dirname(folder))
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)

    @contextlib.contextmanager
    def _locked(self, create: bool) -> t.Iterator[bool]:
        """Hold the writers' lock; yields whether the mount's folder exists."""
        try:
            if create:
                self._make_folder(self._mount)
            elif not self._is_ours(self._mount):
                yield False
                return
            # The folder itself is what is locked: no file of ours is without content.
            descriptor = os.open(self._mount, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._lock(descriptor)
                yield True
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"store_path: cannot write in {error.filename or self._mount}: {error.strerror}") from None

    def _lock(self, descriptor: int) -> None:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StoreError(
                        f"store_path: {self._mount} is locked by another process for over {_LOCK_SECONDS:.0f} s"
                    ) from None
                time.sleep(0.002)
            except OSError as error:
                raise StoreError(
                    f"store_path: {self._mount} cannot be locked ({error.strerror}); use a local file system"
                ) from None
