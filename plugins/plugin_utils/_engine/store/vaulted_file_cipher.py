# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in a vaulted file, as ansible-vault encrypts and decrypts it."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import threading
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    AnsibleVaultFormatError,
    VaultAES256,
    VaultLib,
    match_encrypt_secret,
    parse_vaulttext_envelope,
)

from ..errors import StoreError, UnreadableError, quoted
from ..run.threads import in_background
from .base import Data
from .shrinking import shrink, unshrink

_DERIVING_SECONDS = 60.0


class Entry(t.NamedTuple):
    """A document in a file."""

    data: Data
    version: int
    due: int


Entries = dict[str, Entry]


class Content(t.NamedTuple):
    """What a file holds.

    group is the folder and group that it was written for, so that a copy somewhere else is known as one; entries are the
    documents by the last part of their path; replaces are the generations whose documents it has taken over.
    """

    group: str
    entries: Entries
    replaces: list[str]


class _Salt(t.NamedTuple):
    """A salt not used yet; derived is set when its key has been derived in the background."""

    value: bytes
    process: int
    derived: threading.Event


def parse(text: str) -> Content:
    """Return what the plain text of a file says; raises ValueError and such if it is not one of this store."""
    data = json.loads(unshrink(text))
    entries = {
        key: Entry(dict(entry["data"]), int(entry["version"]), int(entry["due"]))
        for key, entry in data["documents"].items()
    }
    replaces = [str(generation) for generation in data["replaces"]]
    return Content(str(data["group"]), entries, replaces)


def _derive_all(salts: list[_Salt], secret: t.Any) -> None:
    """Have the keys of new salts derived; Ansible remembers them."""
    for salt in salts:
        try:
            VaultAES256.encrypt(b"-", secret, salt.value)
        finally:
            salt.derived.set()


def forget_keys() -> None:
    """Forget the keys that were derived. Ansible keeps all of them, and a process that runs for months reads ever new files."""
    forget = getattr(VaultAES256._gen_key_initctr, "cache_clear", None)
    if forget:
        forget()


class Cipher:
    """Encrypts and decrypts files with the vault secrets given to Ansible.

    secrets are pairs of vault id and secret; encrypt_identity chooses the one to encrypt with, like --encrypt-vault-id. Without
    it that is the one which decrypts what the store has already, as existing yields it, or else the first.
    """

    def __init__(
        self,
        secrets: t.Sequence[tuple[str, t.Any]],
        encrypt_identity: str | None,
        existing: t.Callable[[], t.Iterable[bytes]],
    ) -> None:
        if not secrets:
            raise StoreError(
                "store vaulted_file needs a vault secret to encrypt with: give --vault-password-file, --ask-vault-pass "
                "or --vault-id, or set ANSIBLE_VAULT_PASSWORD_FILE"
            )
        self._vault = VaultLib(list(secrets))
        self._encrypt_identity = encrypt_identity
        self._existing = existing
        self._in_use: tuple[str, t.Any] | None = None
        self._salts: collections.deque[_Salt] = collections.deque()

    @property
    def secrets(self) -> list[str]:
        """What tells these secrets from others; as secret as they are."""
        return [secret.bytes.hex() for _id, secret in self._vault.secrets]

    def prepare(self, files: int) -> None:
        """Get ready to encrypt so many files."""
        # Deriving a vault key takes longer than all else here, and leaves the other cores idle.
        try:
            secret = self.encryption_secret()[1]
        except StoreError:  # Whoever writes will hear of it; others need not.
            return
        salts = [_Salt(os.urandom(32), os.getpid(), threading.Event()) for _unused in range(files)]
        if in_background(lambda: _derive_all(salts, secret)):
            self._salts.extend(salts)

    @staticmethod
    def derive_key(content: bytes, secret: t.Any) -> None:
        """Have the key of a file derived that was encrypted with a secret; Ansible remembers it."""
        VaultAES256.decrypt(parse_vaulttext_envelope(content)[0], secret)

    def encrypt(self, content: Content) -> tuple[bytes, str]:
        """Return what to write into a file, and its plain text."""
        documents = {key: entry._asdict() for key, entry in content.entries.items()}
        data = {"group": content.group, "documents": documents, "replaces": content.replaces}
        text = shrink(json.dumps(data, separators=(",", ":")))
        vault_id, secret = self.encryption_secret()
        # The salt is ours: with a fixed one (VAULT_ENCRYPT_SALT) all files would share a key stream.
        return self._vault.encrypt(text, secret, vault_id=vault_id, salt=self._new_salt()), text

    def decrypt(self, path: str, content: bytes) -> tuple[Content, str]:
        """Return what a file holds, and its plain text."""
        if not content.startswith(b"$ANSIBLE_VAULT;"):
            raise UnreadableError(f"store_path: {path} is corrupted: it is not a vaulted file; nothing was changed")
        try:
            plain = self._vault.decrypt(content)
        except AnsibleVaultFormatError:
            raise UnreadableError(
                f"store_path: {path} is corrupted: its vault format is broken; nothing was changed"
            ) from None
        except AnsibleError:
            raise self._wrong_password(path, content) from None
        try:
            text = plain.decode()
            return parse(text), text
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UnreadableError(
                f"store_path: {path} is corrupted: it does not hold documents of this store; nothing was changed"
            ) from None

    def _wrong_password(self, path: str, content: bytes) -> UnreadableError:
        label = parse_vaulttext_envelope(content)[3]
        given = ", ".join(repr(vault_id) for vault_id, _secret in self._vault.secrets)
        if C.config.get_config_value("DEFAULT_VAULT_ID_MATCH") and label not in dict(self._vault.secrets):
            return UnreadableError(
                f"vault_id_match: {path} is encrypted with the vault id {quoted(label)}, and only {given} was given; give that "
                "id as well, or leave vault_id_match out"
            )
        return UnreadableError(
            f"store_path: {path} (vault id {quoted(label)}; given: {given}) cannot be decrypted: wrong vault password, or the "
            "file is corrupted; nothing was changed"
        )

    def _new_salt(self) -> bytes:
        while self._salts:
            salt = self._salts.popleft()
            # What a parent got ready is the parent's: its other children have it as well.
            if salt.process == os.getpid():
                salt.derived.wait(_DERIVING_SECONDS)
                return salt.value
        return os.urandom(32)

    def encryption_secret(self) -> tuple[str, t.Any]:
        """Return the vault id and the secret to encrypt with."""
        if not self._encrypt_identity and len(self._vault.secrets) > 1 and (in_use := self._secret_in_use()):
            return in_use
        try:
            return t.cast(
                "tuple[str, t.Any]",
                match_encrypt_secret(self._vault.secrets, encrypt_vault_id=self._encrypt_identity),
            )
        except AnsibleError:
            given = ", ".join(repr(vault_id) for vault_id, _secret in self._vault.secrets)
            raise StoreError(
                f"vault_encrypt_identity: no vault secret with the id {quoted(self._encrypt_identity)} was given, only {given}; "
                "name one of these, or give that one"
            ) from None

    def _secret_in_use(self) -> tuple[str, t.Any] | None:
        """Return the vault id and the secret that the store is encrypted with.

        A run may be given another password for other files, before or after this one; a store in which both are used can be
        read with neither.
        """
        if self._in_use is None:
            for content in self._existing():
                with contextlib.suppress(AnsibleError):
                    _plain, vault_id, secret = self._vault.decrypt_and_get_vault_id(content)
                    self._in_use = (vault_id, secret)
        return self._in_use
