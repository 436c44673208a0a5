# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, through real ansible-playbook processes."""

from __future__ import annotations

import pytest
from lab import BOTH_STORES, Lab

pytestmark = BOTH_STORES

LOOKUP = "lookup('ephemeral.openai.openai_creds', 'my-role'%s)"


@pytest.mark.parametrize(("reuse", "accounts"), [("", 1), (", reuse='none'", 200)])
def test_a_variable_is_one_credential_however_often_it_is_evaluated(lab: Lab, reuse: str, accounts: int) -> None:
    """20 uses over 3 tasks, 10 hosts and 10 forks; each use is a template of its own, and so an evaluation."""
    lab.configure()
    use = "{{ creds.lease_id }}"
    plays = [
        {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"creds": "{{ %s }}" % (LOOKUP % reuse)},
            "tasks": [{"ansible.builtin.debug": {"msg": [use] * uses}, "name": f"{uses} uses"} for uses in (8, 8, 4)],
        }
    ]
    hosts = ",".join(f"host{number}" for number in range(10)) + ","
    run = lab.play(plays, "-i", hosts, "-c", "local", "-f", "10")
    assert run.rc == 0, run.out
    assert len(lab.accounts()) == accounts
    assert set(lab.leases()) == lab.accounts()
