# SPDX-License-Identifier: GPL-3.0-or-later
"""Many at once, and an OpenAI that answers badly: nothing is lost, doubled or corrupted."""

from __future__ import annotations

import concurrent.futures

import pytest
from lab import BOTH_STORES_LONG, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

pytestmark = BOTH_STORES_LONG


def test_16_processes_issue_20_each(lab: Lab) -> None:
    lab.configure()
    ids = "issued.creds_list | map(attribute='lease_id')"
    playbook = lab.playbook(
        [
            {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 20}, "register": "issued"},
            {"ansible.builtin.assert": {"that": f"{ids} | unique | length == 20"}},
        ]
    )
    processes = [lab.start_playbook(playbook) for _unused in range(16)]
    for process in processes:
        out = process.communicate(timeout=240)[0]
        assert process.returncode == 0, out
    leases = lab.leases()
    assert len(leases) == 320
    assert set(leases.values()) == {"active"}
    assert set(leases) == lab.accounts()


@pytest.mark.once
def test_200_issues_and_revocations_against_faults(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """429, 500, dropped connections and malformed bodies, each a fifth of all answers."""
    monkeypatch.setattr(transport, "_BACKOFF_SECONDS", 0.01)
    lab.configure()
    mount = lab.mount()
    lab.double.seed(4)
    # The first rule that applies wins, so what comes later is asked less often.
    for kind, share in (("rate_limit", 1 / 5), ("fail_after", 1 / 4), ("drop_after", 1 / 3), ("malformed", 1 / 2)):
        lab.double.fault(kind=kind, probability=share, **({"retry_after": 0} if kind == "rate_limit" else {}))

    def one(number: int) -> str:
        try:
            creds = issue(mount, "my-role")
        except OpenAICredsError as error:
            return str(error)
        if number % 2:
            return str(revoke(mount, active_records(mount, [creds["lease_id"]]))[0].error or "")
        return ""

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(one, range(200)))
    # Some must have worked and some not, or the faults were not what they were meant to be.
    assert 0 < sum(not outcome for outcome in outcomes) < 200
    applied = {rule["kind"]: rule["applied"] for rule in lab.double.faults()}
    assert all(count > 50 for count in applied.values()), applied
    lab.double.clear_faults()

    cleanup(mount, orphans="delete", max_concurrency=16, limit=None, grace=0, dry_run=False)
    # What failed more than once waits for its next try; the time has come.
    with lab.at(600) as later:
        assert cleanup(later, orphans="delete", max_concurrency=16, limit=None, grace=0, dry_run=False)["failed"] == []
    leases = lab.leases()
    assert set(leases.values()) == {"active"}
    assert set(leases) == lab.accounts()


def test_two_cleanups_at_once_revoke_each_lease_once(lab: Lab) -> None:
    lab.configure()
    with lab.at(-7200) as past:
        issued = [issue(past, "my-role", 60)["lease_id"] for _unused in range(40)]
    lab.double.fault(kind="drop_after", method="POST", times=5)
    lab.double.fault(kind="refuse", status=403, method="GET")
    for _unused in range(5):
        with pytest.raises(OpenAICredsError, match="may exist at OpenAI"):
            issue(lab.mount(), "my-role")
    lab.double.clear_faults()
    assert len(lab.accounts()) == 45
    lab.double.settings(latency=0.02)

    def run(_number: int) -> list[str]:
        result = cleanup(lab.mount(), orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
        assert result["failed"] == []
        return list(result["revoked"])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert sorted(first + second) == sorted(issued)
    assert lab.accounts() == set()
    assert lab.leases() == {}
