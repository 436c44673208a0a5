# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks that meet wrong clocks, other organizations, a store set back in time, and a revocation of what they take."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t

from lab import Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.withdraw import revoke_found

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


def issuing(lab: Lab, task: t.Any) -> subprocess.Popen[bytes]:
    """Return a run that waits for OpenAI's answer to a create that has happened."""
    lab.double.fault(kind="slow_after", delay=20, method="POST", path="/service_accounts$", times=1)
    process = lab.start([task])
    end = time.monotonic() + 60
    while not lab.accounts() and time.monotonic() < end:
        time.sleep(0.05)
    assert lab.accounts()
    return process


def test_break_glass_while_a_task_waits_for_its_credential(lab: Lab) -> None:
    mount = lab.configure()
    process = issuing(lab, TASK)
    ended = revoke_found(mount, matching(mount, None), lambda: matching(mount, None), force=False)
    assert [one.error for one in ended] == [None] and lab.accounts() == set()
    out = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 2 and "openai_lease has revoked it" in " ".join(out.split()), out
    assert lab.accounts() == set() and lab.leases() == {}


def test_break_glass_after_a_run_was_killed_while_a_lookup_waited(lab: Lab) -> None:
    lab.configure()
    process = issuing(lab, LOOKUP)
    # Its workers are in sessions of their own.
    for child in subprocess.run(("pgrep", "-P", str(process.pid)), capture_output=True, check=True).stdout.split():
        os.kill(int(child), signal.SIGKILL)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    run = lab.command("ansible-playbook", "ephemeral.openai.revoke", "-e", "openai_creds_prefix=openai")
    assert run.rc == 0 and '"not_revoked": []' in run.out, run.out
    assert lab.accounts() == set() and lab.leases() == {}
