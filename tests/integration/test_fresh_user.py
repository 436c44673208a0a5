# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody's first five minutes: a new user, a new environment, the tarball, the playbook of the README, a vault password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import typing as t
import warnings
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from double.client import Double
from lab import Lab
from pages import ROOT, Session, blocks

pytestmark = pytest.mark.long

PASSWORD = "PasswordOfAFreshUser-5d20"
#: Where Debian and others have them, which need not be in root's PATH.
USERADD, USERDEL = (f"/usr/sbin/{name}" for name in ("useradd", "userdel"))
#: The interpreter has to be one that another user can run, too.
PYTHON = next(
    (found for found in ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11") if Path(found).exists()),
    "",
)


@pytest.fixture
def session() -> t.Iterator[Session]:
    """A shell of a user that did not exist before; without root, of this user in a home that is empty."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "HTTPS_PROXY", "https_proxy"))
    }
    env = {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    if os.geteuid() == 0:
        name = f"fresh-{secrets.token_hex(4)}"
        subprocess.run((USERADD, "--create-home", "--shell", "/bin/bash", name), check=True)
        home = Path(pwd.getpwnam(name).pw_dir)
        try:
            yield Session(
                home,
                {**env, "HOME": str(home), "USER": name},
                ("setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups"),
            )
        finally:
            subprocess.run((USERDEL, "--remove", name), check=True, stderr=subprocess.DEVNULL)
    else:
        warnings.warn("only root can add a user, so this user gets an empty home instead", stacklevel=1)
        with tempfile.TemporaryDirectory() as folder:
            # Ansible looks up the home of who runs local tasks, which this is not.
            yield Session(Path(folder), {**env, "HOME": folder, "ANSIBLE_REMOTE_TMP": f"{folder}/.ansible/tmp"})


@pytest.mark.skipif(not PYTHON, reason="no Python 3.11 or newer that another user may run")
def test_the_readme_works_for_a_new_user(lab: Lab, session: Session) -> None:
    built = lab.command("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(lab.path))
    assert built.rc == 0, built.out
    (tarball,) = lab.path.glob("ephemeral-openai-*.tar.gz")
    (ask,) = (block.text for block in blocks(ROOT / "README.md") if block.file == "ask.yml")
    with Double(organization="org-123456", projects=["proj_abc123"]) as double:
        vault = VaultLib([("default", VaultSecret(PASSWORD.encode()))])
        files = {
            tarball.name: tarball.read_bytes(),
            "ask.yml": ask.replace("https://api.openai.com/v1", double.url).encode(),
            "secrets.yml": vault.encrypt(yaml.safe_dump({"vault_openai_admin_key": double.admin_key})),
        }
        for name, content in files.items():
            (session.home / name).write_bytes(content)
            shutil.chown(session.home / name, session.home.stat().st_uid, session.home.stat().st_gid)
        session.env |= {"OPENAI_BASE_URL": double.url, "no_proxy": "127.0.0.1"}
        do(session, f"{PYTHON} -m venv openai && . openai/bin/activate && pip install --quiet ansible-core httpx")
        do(session, f"ansible-galaxy collection install {tarball.name}")
        said = do(session, "ansible-playbook --ask-vault-pass -e @secrets.yml ask.yml", f"{PASSWORD}\n")
        assert "failed=0" in said
        assert len(double.state()["service_accounts"]) == 1
        # Once more: what is configured is there, and nothing changes.
        assert "changed=0" in do(session, "ansible-playbook --ask-vault-pass -e @secrets.yml ask.yml", f"{PASSWORD}\n")
    state = session.home / ".ansible" / "openai_creds"
    assert list((state / "openai").glob("definitions.*"))
    assert state.stat().st_uid == session.home.stat().st_uid and state.stat().st_mode & 0o777 == 0o700


def do(session: Session, commands: str, stdin: str = "") -> str:
    code, said = session.run(commands, stdin, timeout=300)
    assert code == 0, said
    return said
