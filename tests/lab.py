# SPDX-License-Identifier: GPL-3.0-or-later
"""A control node to try things on: a home, a vault password, a mount, and real ansible-playbook processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultSecret
from double.client import Double

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config import config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions import projects, roles
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore

if t.TYPE_CHECKING:
    import hvac
    from bao import Vault

VAULT_PASSWORD = "VaultPasswordOfTheTests-7f3a"
#: In every key that the double makes, so that a leak is found by looking for it.
MARKER = "LEAKMARKER4f1c"
PROJECT = "proj_lab"
BOTH_STORES = pytest.mark.parametrize("lab_store", ["vaulted_file", "vault_kv"])
#: The same where each takes minutes.
BOTH_STORES_LONG = pytest.mark.parametrize(
    "lab_store", ["vaulted_file", pytest.param("vault_kv", marks=pytest.mark.long)]
)
_CHECKOUT = Path(__file__).resolve().parent.parent
#: Where Ansible finds the collection: the checkout itself unless make test-installed says otherwise.
COLLECTIONS = _CHECKOUT / os.environ.get("OPENAI_CREDS_TEST_COLLECTIONS", ".build/collections")

#: What a role is like unless a test says otherwise.
ROLE: dict[str, t.Any] = {
    "project": None,
    "project_id": PROJECT,
    "service_account_name_template": "vault-{{.RoleName}}-{{.RandomSuffix}}",
    "service_account_description": "",
    "ttl": "1h",
    "max_ttl": "24h",
    "renewable": True,
    "scopes": None,
    "native_expiry": True,
}


@dataclasses.dataclass
class Run:
    """A finished process. out is all that it printed."""

    rc: int
    out: str


def new_lab(path: Path, double: Double, vault: Vault | None) -> Lab:
    """Return a control node with a store that nobody else has, in files or in a Vault."""
    return Lab(path, double, vault, f"openai_creds/{secrets.token_hex(6)}")


class Lab:
    """One control node below a folder of its own, of a user who has set a vault password and nothing else.

    With a vault, the store is there, and its AppRole logs in. What a test needs beyond that, it adds to env or to ansible.cfg itself.
    """

    def __init__(self, path: Path, double: Double, vault: Vault | None = None, kv_path: str = "openai_creds") -> None:
        self.path = path
        self.double = double
        self.vault = vault
        self.kv_path = kv_path
        self._token = ""
        self.home = path / "home"
        #: The default in the home of the user, which nothing sets.
        self.store_path = self.home / ".ansible" / "openai_creds"
        self.password_file = path / "vault-password"
        self.home.mkdir(parents=True)
        self.password_file.write_text(VAULT_PASSWORD)
        self.password_file.chmod(0o600)
        # It only quiets what Ansible says of playbooks without an inventory.
        (path / "ansible.cfg").write_text(
            "[defaults]\nlocalhost_warning = False\n[inventory]\ninventory_unparsed_warning = False\n"
        )
        kept = {name: os.environ[name] for name in ("LANG", "SSL_CERT_FILE") if name in os.environ}
        self.env: dict[str, str] = {
            **kept,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.password_file),
            # Where it is by default for a user whose home this is. Ansible takes the home of a local task from the list of users.
            "ANSIBLE_REMOTE_TMP": str(self.home / ".ansible" / "tmp"),
            # The checkout is that of whoever runs the tests; no run leaves bytecode there.
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._store_env(),
        }

    def _store_env(self) -> dict[str, str]:
        """Return what tells a playbook where the store is."""
        if self.vault is None:
            return {}
        role_id, secret_id = self.vault.approle(self.kv_path)
        return {
            "OPENAI_CREDS_STORE": "vault_kv",
            "OPENAI_CREDS_KV_PATH": self.kv_path,
            "VAULT_ADDR": self.vault.address,
            **({"VAULT_CACERT": self.vault.ca_cert} if self.vault.ca_cert else {}),
            "ANSIBLE_HASHI_VAULT_AUTH_METHOD": "approle",
            "ANSIBLE_HASHI_VAULT_ROLE_ID": role_id,
            "ANSIBLE_HASHI_VAULT_SECRET_ID": secret_id,
        }

    def mount(self, name: str = "openai", clock: t.Callable[[], float] | None = None) -> Mount:
        """Return the mount as the engine sees it, in this process."""
        return Mount(name, self.store(name), **({"clock": clock} if clock else {}))

    @contextlib.contextmanager
    def at(self, seconds: float) -> t.Iterator[Mount]:
        """Let it be so many seconds from now, at OpenAI and for the mount that is returned, as long as the context lasts."""
        self.double.clock(seconds)
        try:
            yield self.mount(clock=lambda: time.time() + seconds)
        finally:
            self.double.clock(0)

    def store(self, name: str = "openai", server: Vault | None = None) -> Store:
        """Return a mount's store, opened by this process; in a vault by way of a server, or else of the one that leads."""
        if self.vault is None:
            return VaultedFileStore(str(self.store_path), name, [("default", VaultSecret(VAULT_PASSWORD.encode()))])
        # A test without a Vault does without the package.
        from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

        vault = self.vault
        self._token = self._token or vault.policy_token(self.kv_path)

        def connect(adapter: type) -> hvac.Client:
            return server.client(self._token, adapter) if server else vault.admin(self._token, adapter)

        return VaultKVStore(
            connect, engine_mount_point="secret", kv_path=self.kv_path, mount=name, log=lambda _line: None
        )

    def configure(self, **role: t.Any) -> Mount:
        """Configure the mount with the double's admin key and write a role, my-role unless it has a name."""
        mount = self.mount()
        config.write_config(
            mount,
            admin_api_key=self.double.admin_key,
            admin_api_key_id=self.double.admin_key_id,
            organization_id=self.double.organization,
            api_endpoint=self.double.url,
            replace_key=True,
            validate=False,
            dry_run=False,
        )
        projects.write_project(mount, "lab", PROJECT, "", dry_run=False)
        self.role(**role)
        return mount

    def role(self, name: str = "my-role", **role: t.Any) -> None:
        """Write a role."""
        roles.write_role(self.mount(), name, **{**ROLE, **role}, defaults={}, dry_run=False)

    def command(self, *command: str, env: t.Mapping[str, str] | None = None, timeout: float = 120) -> Run:
        """Run a command on the control node."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout.decode(errors="replace"))

    def playbook(self, plays: t.Any, name: str = "play.yml") -> str:
        """Write a playbook: plays, or tasks for localhost; returns its path."""
        if isinstance(plays, list) and plays and "hosts" not in plays[0]:
            plays = [{"hosts": "localhost", "gather_facts": False, "tasks": plays}]
        path = self.path / name
        path.write_text(plays if isinstance(plays, str) else yaml.safe_dump(plays, sort_keys=False))
        return str(path)

    def play(self, plays: t.Any, *args: str, env: t.Mapping[str, str] | None = None, timeout: float = 120) -> Run:
        """Run a playbook, given as in playbook(), in an ansible-playbook process."""
        return self.command("ansible-playbook", self.playbook(plays), *args, env=env, timeout=timeout)

    def start(self, plays: t.Any, *args: str, env: t.Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a playbook in a process group of its own."""
        return self.start_playbook(self.playbook(plays), *args, env=env)

    def start_playbook(self, *args: str, env: t.Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one that is there, by its path or name, in a process group of its own."""
        return subprocess.Popen(
            ("ansible-playbook", *args),
            cwd=self.path,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def everything_written(self, temporary: Path) -> dict[str, str]:
        """Return what makes a run leave behind all that Ansible ever writes: below the lab's folder, or a temporary one."""
        return {
            "TMPDIR": str(temporary),
            "ANSIBLE_LOG_PATH": str(self.path / "ansible.log"),
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.path / "facts"),
            "ANSIBLE_RETRY_FILES_ENABLED": "1",
            "ANSIBLE_RETRY_FILES_SAVE_PATH": str(self.path / "retry"),
            "ANSIBLE_CALLBACKS_ENABLED": "ephemeral.openai.openai_leases",
            "ANSIBLE_KEEP_REMOTE_FILES": "1",
        }

    def accounts(self) -> set[str]:
        """Return the names of the service accounts that exist at OpenAI."""
        return {account["name"] for account in self.double.state()["service_accounts"]}

    def admin_keys(self) -> set[str]:
        """Return the ids of the admin keys that exist at OpenAI."""
        return {key["id"] for key in self.double.state()["admin_keys"]}

    def admin_key_works(self) -> bool:
        """Say whether the double accepts the admin key that is stored, under the id that is stored."""
        config, state = self.mount().definitions("config"), self.double.state()
        now = time.time() + state["clock_offset"]
        for key in state["admin_keys"]:
            if key["value"] == config["admin_api_key"]:
                assert config["admin_api_key_id"] in (None, key["id"]), "the id is another key's"
                return not key["expires_at"] or now < key["expires_at"]
        return False

    def leases(self) -> dict[str, str]:
        """Return what the store holds: account name to status."""
        return {record.lease.service_account: record.status for record in records(self.mount())}
