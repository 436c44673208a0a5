# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs killed at every instant that matters: whatever happened, one cleanup later OpenAI and the store agree."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from lab import BOTH_STORES_LONG, PROJECT, Lab, new_lab
from on_record import kinds, unfinished

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import LEASES
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import is_running
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

pytestmark = BOTH_STORES_LONG

KILLER = Path(__file__).parent.parent / "killer"


def _issue(lab: Lab) -> list[t.Any]:
    return [{"ephemeral.openai.openai_creds": {"name": "my-role"}}]


def _issue_scoped(lab: Lab) -> list[t.Any]:
    lab.role(scopes=["api.model.read"])
    return _issue(lab)


def _issue_by_lookup(lab: Lab) -> list[t.Any]:
    return [{"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"}}]


def _renew(lab: Lab) -> list[t.Any]:
    creds = issue(lab.mount(), "my-role")
    return [{"ephemeral.openai.openai_lease": {"lease_id": creds["lease_id"], "state": "renewed", "increment": "2h"}}]


def _revoke(lab: Lab) -> list[t.Any]:
    creds = [issue(lab.mount(), "my-role") for _unused in range(2)]
    return [{"ephemeral.openai.openai_lease": {"prefix": creds[0]["lease_id"].rpartition("/")[0]}}]


def _cleanup(lab: Lab) -> list[t.Any]:
    """Due, failed and interrupted leases at once."""
    with lab.at(-7200) as past:
        issue(past, "my-role", 60)
    live = issue(lab.mount(), "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    record = find_record(lab.mount(), live["lease_id"])
    assert record and revoke(lab.mount(), [record])[0].error
    lab.double.fault(kind="drop_after", method="POST", times=1)
    lab.double.fault(kind="refuse", status=403, method="GET")
    with pytest.raises(Exception, match="service account creation failed"):
        issue(lab.mount(), "my-role")
    lab.double.clear_faults()
    issue(lab.mount(), "my-role")
    return [{"ephemeral.openai.openai_cleanup": {"orphans": "delete", "max_concurrency": 2}}]


def _rotate(lab: Lab) -> list[t.Any]:
    return [{"ephemeral.openai.openai_admin_key": {"rotate": "always"}}]


#: What is killed, and how many events it has at the least: if it had fewer, this would test less than it says.
SCENARIOS: dict[str, tuple[t.Callable[[Lab], list[t.Any]], int]] = {
    "issue": (_issue, 5),
    "issue_scoped": (_issue_scoped, 6),
    "issue_by_lookup": (_issue_by_lookup, 4),
    "renew": (_renew, 3),
    "revoke": (_revoke, 6),
    "cleanup": (_cleanup, 9),
    "rotate": (_rotate, 9),
}


def _events(lab: Lab, tasks: list[t.Any], kill_at: int) -> tuple[int, list[str]]:
    log = lab.path / "events"
    log.unlink(missing_ok=True)
    run = lab.play(
        tasks,
        env={
            "PYTHONPATH": str(KILLER),
            "KILL_LOG": str(log),
            "KILL_AT": str(kill_at),
            "KILL_STORE": str(lab.store_path),
        },
    )
    return run.rc, log.read_text().splitlines()


def _agree(lab: Lab) -> None:
    """One cleanup later exactly the accounts of live leases exist, every lease is live, and there is one admin key."""
    lab.double.clear_faults()
    assert lab.admin_key_works()
    result = cleanup(lab.mount(), orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
    assert result["failed"] == []
    leases = lab.leases()
    assert set(leases.values()) <= {"active"}, leases
    assert set(leases) == lab.accounts()
    assert result["active"] == len(leases)
    assert set(kinds(lab.store())) <= {"watch"}
    assert lab.admin_key_works()
    assert lab.admin_keys() == {lab.mount().definitions("config")["admin_api_key_id"]}
    assert lab.mount().definitions("rotation") == {}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.once
def test_killed_before_every_event(lab: Lab, scenario: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    prepare, at_least = SCENARIOS[scenario]
    lab.configure()
    code, events = _events(lab, prepare(lab), 0)
    assert code == 0
    assert len(events) >= at_least, events
    _agree(lab)
    for kill_at in range(1, len(events) + 1):
        lab.double.reset()
        node = new_lab(tmp_path_factory.mktemp("node") / "node", lab.double, lab.vault)
        node.configure()
        code, seen = _events(node, prepare(node), kill_at)
        if not (code == 0 and "OPENAI_CREDS_TEST_YOUNG" in os.environ):
            # Else it had to repeat fewer calls than the run that was counted, and was over before.
            assert code == -signal.SIGKILL, (kill_at, code, seen)
            assert len(seen) >= kill_at, seen  # threads go on while one of them dies
        _wait_for_workers(node)
        _agree(node)


@pytest.mark.parametrize("kind", ["kill_before", "kill_after"])
@pytest.mark.parametrize("nth", [0, 1])
def test_killed_by_process_group_while_a_call_is_under_way(lab: Lab, kind: str, nth: int) -> None:
    """The main process dies, its worker is left: it finishes what it is at, and that is on record."""
    lab.configure(scopes=["api.model.read"])
    gate = lab.path / "gate"
    os.mkfifo(gate)
    tasks = [
        {"ansible.builtin.command": {"argv": ["cat", str(gate)]}},
        {"ephemeral.openai.openai_creds": {"name": "my-role"}},
    ]
    process = lab.start(tasks)
    lab.double.fault(kind=kind, method="POST", path=PROJECT, skip=nth, times=1, pgid=process.pid)
    gate.write_text("go")
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    _wait_for_workers(lab)
    _agree(lab)


def _wait_for_workers(lab: Lab) -> None:
    """Wait until no process of the lab's home runs any more."""
    home = f"HOME={lab.home}".encode()
    for _unused in range(600):
        busy = [
            pid
            for pid in os.listdir("/proc")
            if pid.isdecimal() and pid != str(os.getpid()) and home in _environment(pid)
        ]
        # While it exits, a process has no environment any more, but it is not gone yet.
        found = [document.data for document in (*lab.store().scan(LEASES), *unfinished(lab.store()))]
        owners = [data.get("owner") or data.get("ending") for data in found]
        owners.append((lab.mount().definitions("rotation").get("intent") or {}).get("owner"))
        if not busy and not any(owner and is_running(owner["process"]) for owner in owners):
            return
        time.sleep(0.1)
    raise AssertionError(
        f"still running: {subprocess.run(['ps', '-f', *busy], capture_output=True, check=False).stdout!r}"
    )


def _environment(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
