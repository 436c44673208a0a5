# SPDX-License-Identifier: GPL-3.0-or-later
"""The backends that the store suite runs on. A further one is one more function in BACKENDS."""

from __future__ import annotations

import secrets
import typing as t
from pathlib import Path

import hvac
import pytest
from ansible.parsing.vault import VaultSecret
from gateway import Opened, Proxy
from hypothesis import settings
from memory_store import MemoryStore

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore

if t.TYPE_CHECKING:
    from bao import Bao

settings.register_profile("store", deadline=None, print_blob=True)
settings.load_profile("store")

#: Opens the same store once more, as another process would; with a name, that of another mount beside it.
OpenStore = t.Callable[..., Store]
PASSWORD = b"PasswordOfTheStoreTests-91bd"


def vaulted_file(request: pytest.FixtureRequest, path: Path) -> OpenStore:
    def open_store(mount: str = "mount") -> Store:
        return VaultedFileStore(str(path / "store"), mount, [("default", VaultSecret(PASSWORD))])

    return open_store


def vault_kv(request: pytest.FixtureRequest, path: Path) -> OpenStore:
    """With a token that may do what the documentation says is needed, and nothing else."""
    bao: Bao = request.getfixturevalue("bao")
    kv_path = f"openai_creds/{secrets.token_hex(8)}"
    token = bao.policy_token(kv_path)

    def connect(adapter: type) -> hvac.Client:
        return hvac.Client(url=bao.address, token=token, adapter=adapter)

    def open_store(mount: str = "mount") -> Store:
        return VaultKVStore(connect, engine_mount_point="secret", kv_path=kv_path, mount=mount, log=lambda _line: None)

    return open_store


def memory(request: pytest.FixtureRequest, path: Path) -> OpenStore:
    """The one of the model test."""
    mounts: dict[str, MemoryStore] = {}

    def open_store(mount: str = "mount") -> Store:
        return MemoryStore(mounts.setdefault(mount, MemoryStore({})).documents)

    return open_store


BACKENDS: dict[str, t.Callable[[pytest.FixtureRequest, Path], OpenStore]] = {
    "memory": memory,
    "vaulted_file": vaulted_file,
    "vault_kv": vault_kv,
}
#: For tests that need other processes: memory is not shared with them.
SHARED = pytest.mark.parametrize("open_store", sorted({*BACKENDS} - {"memory"}), indirect=True)


@pytest.fixture(params=sorted(BACKENDS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    return BACKENDS[request.param](request, tmp_path)


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


@pytest.fixture
def proxy(bao: Bao) -> t.Iterator[Proxy]:
    proxy = Proxy(bao.address)
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


@pytest.fixture
def opened(bao: Bao, proxy: Proxy) -> Opened:
    """Open a store of this test through the proxy, anew each time."""
    kv_path = f"openai_creds/{secrets.token_hex(8)}"

    def open_store(
        token: str | None = None,
        engine: str = "secret",
        lines: list[str] | None = None,
        warnings: list[str] | None = None,
    ) -> VaultKVStore:
        def connect(adapter: type) -> hvac.Client:
            return hvac.Client(url=proxy.url, token=token or bao.policy_token(kv_path, engine), adapter=adapter)

        log = [] if lines is None else lines
        warn = [] if warnings is None else warnings
        return VaultKVStore(
            connect, engine_mount_point=engine, kv_path=kv_path, mount="mount", log=log.append, warn=warn.append
        )

    return open_store
