# SPDX-License-Identifier: GPL-3.0-or-later
"""The rulebook, run by the real ansible-rulebook: what is due is done within seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from lab import BOTH_STORES, MARKER, PROJECT, VAULT_PASSWORD, Lab
from pages import ROOT, blocks

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    read_static_roles,
    rotate_static_role,
    write_static_role,
)

RULEBOOK = Path(sys.executable).parent / "ansible-rulebook"
pytestmark = [
    pytest.mark.once,
    pytest.mark.alone,
    pytest.mark.skipif(
        not shutil.which("java"), reason="ansible-rulebook needs Java 17 or newer, and there is no java"
    ),
]

#: A lease ends at most so many seconds after its time.
PROMPT = 5.0
#: How long the rulebook may take to start, and a playbook to run on a machine that is busy.
PATIENCE = 60.0


class Rulebook:
    """A running ansible-rulebook."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def out(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, what: t.Callable[[], t.Any], seconds: float = PATIENCE) -> float:
        """Wait until something is so; returns the Unix time of that."""
        end = time.time() + seconds
        while time.time() < end:
            assert self.process.poll() is None, self.out
            if what():
                return time.time()
            time.sleep(0.05)
        raise AssertionError(f"it did not come to pass:\n{self.out}")

    def playbooks(self, name: str) -> int:
        """Return how many runs of a playbook have begun."""
        return self.out.count(f"PLAY [{name}]")


@contextlib.contextmanager
def running(lab: Lab, **variables: t.Any) -> t.Iterator[Rulebook]:
    """Run the rulebook on the control node, and wait until it watches."""
    (lab.path / "variables.yml").write_text(yaml.safe_dump(variables))
    log = lab.path / "rulebook.log"
    command = (str(RULEBOOK), "--rulebook", "ephemeral.openai.openai_creds", "--inventory", "inventory")
    temporary = lab.path / "tmp"
    temporary.mkdir()
    (temporary / "inventory").write_text("localhost\n")
    java_home = os.environ.get("JAVA_HOME") or Path(str(shutil.which("java"))).resolve().parent.parent
    with log.open("wb") as stream:
        process = subprocess.Popen(
            (*command, "--vars", str(lab.path / "variables.yml"), "--print-events", "-v"),
            cwd=temporary,
            env={**lab.env, "JAVA_HOME": str(java_home), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    rulebook = Rulebook(process, log)
    try:
        rulebook.wait(lambda: "Waiting for events" in rulebook.out)
        yield rulebook
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for secret in (VAULT_PASSWORD, MARKER):
        assert secret not in rulebook.out, "a secret was logged"


def plan(lab: Lab, **schedule: t.Any) -> None:
    none = dict.fromkeys(("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint"))
    write_config(lab.mount(), **none, **schedule, replace_key=False, validate=False, dry_run=False)


@BOTH_STORES
def test_a_lease_ends_within_seconds_of_its_end(lab: Lab) -> None:
    mount = lab.configure()
    with running(lab) as rulebook:
        lease = issue(mount, "my-role", ttl=5)
        ends = time.time() + 5
        assert lease["service_account"] in lab.accounts()
        gone = rulebook.wait(lambda: lease["service_account"] not in lab.accounts())
        assert gone - ends < PROMPT, rulebook.out
        # One that OpenAI refuses to end is tried again long before the minute after which its end is told of again.
        refused = issue(mount, "my-role", ttl=2)
        ends = time.time() + 2
        lab.double.fault(kind="refuse", status=403, method="DELETE", path=refused["service_account_id"], times=1)
        gone = rulebook.wait(lambda: refused["service_account"] not in lab.accounts())
        assert "cleanup_failed" in rulebook.out
        assert gone - ends < 30, rulebook.out
        rulebook.wait(lambda: not lab.leases())


@BOTH_STORES
def test_leases_that_end_at_the_same_time_are_for_few_cleanups(lab: Lab) -> None:
    mount = lab.configure()
    with running(lab) as rulebook:
        issue_several(mount, "my-role", 10, 40)
        ends = time.time() + 10
        assert len(lab.accounts()) == 40
        gone = rulebook.wait(lambda: not lab.accounts())
        assert gone - ends < PROMPT, rulebook.out
        rulebook.wait(lambda: not lab.leases())
        time.sleep(3)
        assert 1 <= rulebook.playbooks("Clean up OpenAI credentials") <= 3


def test_what_is_due_is_rotated(lab: Lab) -> None:
    mount = lab.configure()
    account = lab.double.add_service_account(PROJECT, "workload")
    defaults = {
        "api_key_name": "vault-static-key",
        "rotation_period": "24h",
        "ttl": "24h",
        "rotation_strategy": "new_key",
        "overlap": "0",
    }
    write_static_role(
        mount, "nightly", service_account_id=account["id"], project_id=PROJECT, defaults=defaults, dry_run=False
    )
    rotate_static_role(mount, "nightly", always=True)
    before = lab.admin_keys()
    (first,) = read_static_roles(mount, "nightly")
    with running(lab, openai_creds_mount="openai") as rulebook:
        time.sleep(3)
        assert rulebook.playbooks("Rotate the OpenAI admin key and the keys of static roles") == 0
        plan(lab, rotation_period="1s")
        rulebook.wait(lambda: before.isdisjoint(lab.admin_keys()))
        plan(lab, rotation_period="1h")
        write_static_role(mount, "nightly", rotation_period="1s", ttl="1h", defaults=defaults, dry_run=False)
        rulebook.wait(lambda: read_static_roles(mount, "nightly")[0]["api_key_id"] not in (None, first["api_key_id"]))
    assert lab.admin_key_works()


def test_the_rulebook_of_the_guide_is_one(lab: Lab) -> None:
    (block,) = (block for block in blocks(ROOT / "docs" / "events.md") if block.language == "yaml")
    path = lab.path / "rulebook.yml"
    path.write_text(block.text)
    (lab.path / "inventory").write_text("localhost\n")
    # Its password file is not there, so the source ends, and the rulebook with it: after it was read, and checked.
    run = lab.command(str(RULEBOOK), "--rulebook", str(path), "--inventory", "inventory", "--shutdown-delay", "0")
    assert "vault_password_file: The vault password file /etc/openai-vault-password was not found" in run.out
