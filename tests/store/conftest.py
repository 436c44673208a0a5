# SPDX-License-Identifier: GPL-3.0-or-later
"""The backends that the store suite runs on. A further one is one more function in BACKENDS."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecret
from hypothesis import settings

from ansible_collections.ephemeral.openai.plugins.plugin_utils.store import Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils.vaulted_file import VaultedFileStore

settings.register_profile("store", deadline=None, print_blob=True)
settings.load_profile("store")

#: Opens the same store once more, as another process would; with a name, that of another mount beside it.
OpenStore = t.Callable[..., Store]
PASSWORD = b"PasswordOfTheStoreTests-91bd"


def vaulted_file(path: Path) -> OpenStore:
    def open_store(mount: str = "mount") -> Store:
        return VaultedFileStore(str(path / "store"), mount, [("default", VaultSecret(PASSWORD))])

    return open_store


BACKENDS: dict[str, t.Callable[[Path], OpenStore]] = {"vaulted_file": vaulted_file}


@pytest.fixture(params=sorted(BACKENDS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()
