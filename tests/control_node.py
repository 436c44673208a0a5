# SPDX-License-Identifier: GPL-3.0-or-later
"""A control node of its own for a demonstration: a home, a vault password and a store that are gone afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
COLLECTIONS = CHECKOUT / ".build" / "collections"
#: What else is set is the user's business, and would change how this runs.
_NOT_OURS = ("ANSIBLE_", "OPENAI_", "VAULT_", "BAO_")


class ControlNode:
    """Runs playbooks, with their output where this process has its own."""

    def __init__(self, path: Path) -> None:
        password_file = path / "vault-password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(32))
        (path / "home").mkdir()
        (path / "ansible.cfg").touch()
        self.env: dict[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)},
            "HOME": str(path / "home"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password_file),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "OPENAI_CREDS_STORE_PATH": str(path / "store"),
        }
        # The double is on loopback, and httpx and urllib would ask a proxy for it.
        no_proxy = self.env.get("no_proxy") or self.env.get("NO_PROXY", "")
        self.env["no_proxy"] = self.env["NO_PROXY"] = ",".join(filter(None, (no_proxy, "127.0.0.1", "localhost")))

    def play(self, playbook: Path, *args: str) -> int:
        """Run a playbook; returns ansible-playbook's exit code."""
        sys.stdout.flush()
        return subprocess.run(
            ("ansible-playbook", str(playbook), *args), env=self.env, stdin=subprocess.DEVNULL, check=False
        ).returncode

    def put_away(self, mount: str) -> bool:
        """Revoke all that a mount has left after something went wrong; says whether nothing remains."""
        if not Path(self.env["OPENAI_CREDS_STORE_PATH"], mount).exists():
            return True
        playbooks = CHECKOUT / "playbooks"
        for_mount = ("-e", f"openai_creds_mount={mount}")
        prefix = ("-e", f"openai_creds_prefix={mount}", "-e", "openai_creds_nothing_is_ok=true")
        revoked = self.play(playbooks / "revoke.yml", *for_mount, *prefix)
        cleaned = self.play(playbooks / "cleanup.yml", *for_mount, "-e", "openai_creds_orphans=delete")
        return revoked == cleaned == 0


@contextlib.contextmanager
def control_node() -> t.Iterator[ControlNode]:
    with tempfile.TemporaryDirectory(prefix="ephemeral-openai-") as path:
        yield ControlNode(Path(path))
