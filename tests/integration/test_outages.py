# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks that meet wrong clocks, other organizations, a store set back in time, and a revocation of what they take."""

from __future__ import annotations

import time
import typing as t

import pytest
from lab import Lab

LOOKUP = {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"}}
OTHER = {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'other').lease_id }}"}}
TASK = {"ephemeral.openai.openai_creds": {"name": "my-role"}}
CLEANUP = {"ephemeral.openai.openai_cleanup": {"orphans": "delete"}}


def test_a_clock_that_is_far_from_openais_is_said_and_nothing_ends_for_it(lab: Lab) -> None:
    lab.configure()
    lab.double.clock(-3 * 3600)
    run = lab.play([TASK])
    assert run.rc == 0, run.out
    lab.double.clock(-2 * 3600 - 1800)
    run = lab.play([CLEANUP, LOOKUP, LOOKUP])
    assert run.rc == 0, run.out
    words = " ".join(run.out.split())
    assert words.count("min ahead of OpenAI's; set it right") == 1, run.out
    assert set(lab.leases()) == lab.accounts() and len(lab.accounts()) == 2
    lab.double.clock(-3600)
    run = lab.play([CLEANUP])
    assert run.rc == 0 and lab.accounts() == set() == set(lab.leases()), run.out


def test_an_admin_key_of_another_organization_is_refused(lab: Lab) -> None:
    lab.configure()
    lab.double.add_organization("org-other", ["proj_other"])
    (other,) = lab.double.state()["others"][0]["admin_keys"]
    (lab.path / "key").write_text(other["value"])
    key = "{{ lookup('ansible.builtin.file', 'key') }}"
    config = {"admin_api_key": key, "update_admin_key": "always"}
    adopt = {"new_admin_api_key": key, "new_admin_api_key_id": other["id"]}
    mount = lab.mount()

    def forget(data: dict[str, t.Any]) -> bool:
        data["config"]["organization_id"] = None
        return True

    mount.define(forget)
    run = lab.play(
        [
            TASK,
            {"ephemeral.openai.openai_config": config, "ignore_errors": True},
            {"ephemeral.openai.openai_admin_key": adopt, "ignore_errors": True},
            CLEANUP,
        ]
    )
    words = " ".join(run.out.split())
    assert run.rc == 0 and "ignored=2" in words, run.out
    assert words.count("this key belongs to another organization than mount 'openai'") >= 2
    assert set(lab.leases()) == lab.accounts() and len(lab.accounts()) == 1
    assert other["value"] not in run.out


def test_the_end_of_a_run_ends_what_a_restored_store_has_forgotten(lab: Lab) -> None:
    lab.configure()
    lab.role("other")
    lab.env["ANSIBLE_CALLBACKS_ENABLED"] = "ephemeral.openai.openai_leases"
    backup, store = lab.path / "backup", lab.store_path
    run = lab.play(
        [
            LOOKUP,
            {"ansible.builtin.command": {"argv": ["cp", "-a", str(store), str(backup)]}},
            OTHER,
            {"ansible.builtin.shell": {"cmd": f"rm -rf {store} && mv {backup} {store}"}},
        ]
    )
    assert run.rc == 0, run.out
    assert "openai_leases: revoked 2 lease(s)" in run.out, run.out
    assert lab.accounts() == set() and lab.leases() == {}


@pytest.mark.parametrize("taken_by", [TASK, LOOKUP])
def test_break_glass_while_a_credential_is_issued(lab: Lab, taken_by: t.Any) -> None:
    lab.configure()
    lab.double.fault(kind="slow_after", delay=8, method="POST", path="/service_accounts$", times=1)
    process = lab.start([taken_by])
    end = time.monotonic() + 60
    while not lab.accounts() and time.monotonic() < end:
        time.sleep(0.05)
    run = lab.command("ansible-playbook", "ephemeral.openai.revoke", "-e", "openai_creds_prefix=openai")
    out = process.communicate(timeout=60)[0].decode()
    assert run.rc == 0 and '"not_revoked": []' in run.out, run.out
    assert process.returncode == 2 and "openai_lease has revoked it" in " ".join(out.split()), out
    assert lab.accounts() == set() and lab.leases() == {}
