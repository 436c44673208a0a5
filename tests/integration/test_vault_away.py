# SPDX-License-Identifier: GPL-3.0-or-later
"""What timers run while Vault is away: each run fails and says why, and the first ones after that make up for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bao import Cluster
from double.client import Double
from lab import Lab, Run, new_lab
from unit.test_leases import opens_models

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue

JOBS = ("cleanup", "rotate", "metrics")
#: How long leases live. In seconds, with a start of a server within.
TTL = 20


def run(lab: Lab, job: str) -> Run:
    """Run what a timer of the role schedule does."""
    textfile = ("-e", f"openai_creds_metrics_textfile={_textfile(lab)}") if job == "metrics" else ()
    return lab.command("ansible-playbook", f"ephemeral.openai.{job}", *textfile)


def _textfile(lab: Lab) -> Path:
    return lab.path / "openai_creds.prom"


@pytest.mark.slow
@pytest.mark.once
def test_timers_make_up_for_a_vault_that_was_away(tmp_path: Path, double: Double, raft: Cluster) -> None:
    lab = new_lab(tmp_path / "node", double, raft)
    lab.configure()
    scheduled = lab.play([{"ephemeral.openai.openai_config": {"rotation_period": "10s"}}])
    assert scheduled.rc == 0, scheduled.out
    for job in JOBS:
        done = run(lab, job)
        assert done.rc == 0, done.out
    keys = [issue(lab.mount(), "my-role", TTL)["api_key"] for _unused in range(3)]
    ended = time.monotonic() + TTL + 1
    metrics, admin_keys = _textfile(lab).read_text(), lab.admin_keys()
    server = raft.kill_leader()
    try:
        for job in JOBS:
            done = run(lab, job)
            assert done.rc != 0, f"{job} does not say that it could do nothing"
            assert f"url: Vault at {raft.address} cannot be reached" in done.out and "Traceback" not in done.out, (
                done.out
            )
        time.sleep(max(0.0, ended - time.monotonic()))
        # Nobody has to be there for that: OpenAI does it.
        assert not any(opens_models(lab, key) for key in keys)
        assert len(lab.accounts()) == 3 and lab.admin_keys() == admin_keys
        assert (_textfile(lab).read_text() == metrics) is True
    finally:
        raft.restart(server)
    for job in JOBS:
        done = run(lab, job)
        assert done.rc == 0, done.out
    assert lab.accounts() == set() and lab.leases() == {}
    assert len(lab.admin_keys()) == 1 and lab.admin_keys() != admin_keys and lab.admin_key_works()
    assert 'openai_creds_revoked_total{mount="openai",role="my-role"} 3.0' in _textfile(lab).read_text()
