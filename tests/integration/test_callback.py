# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback ends with the run the leases that the run took."""

from __future__ import annotations

import os
import re
import signal
import time
import typing as t

import pytest
from lab import BOTH_STORES, Lab

pytestmark = BOTH_STORES

LOOKUP = {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"}}
EVERY_TIME = {
    "ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role', reuse='none').lease_id }}"}
}
TASK = {"ephemeral.openai.openai_creds": {"name": "my-role"}}
FAIL = {"ansible.builtin.fail": {"msg": "no"}}


@pytest.fixture
def node(lab: Lab) -> Lab:
    lab.configure()
    lab.env["ANSIBLE_CALLBACKS_ENABLED"] = "ephemeral.openai.openai_leases"
    return lab


@pytest.mark.parametrize(
    ("env", "ending", "left"),
    [
        ({}, None, 1),
        ({}, FAIL, 1),
        ({"OPENAI_CREDS_INCLUDE_TASKS": "true"}, None, 0),
        ({"OPENAI_CREDS_REVOKE": "on_success"}, None, 1),
        ({"OPENAI_CREDS_REVOKE": "on_success"}, FAIL, 4),
        ({"OPENAI_CREDS_REVOKE": "on_failure"}, None, 4),
        ({"OPENAI_CREDS_REVOKE": "on_failure"}, FAIL, 1),
    ],
)
def test_what_is_left_of_three_leases_of_lookups_and_one_of_a_task(
    node: Lab, env: dict[str, str], ending: t.Any, left: int
) -> None:
    tasks = [LOOKUP, EVERY_TIME, EVERY_TIME, TASK, *([ending] if ending else [])]
    run = node.play(tasks, env=env)
    assert run.rc == (2 if ending else 0), run.out
    assert len(node.accounts()) == left
    assert set(node.leases()) == node.accounts()
    if left < 4:
        assert f"openai_leases: revoked {4 - left} lease(s)" in run.out


def test_settings_of_a_play_are_known_to_the_callback(node: Lab) -> None:
    """What is in play variables never reaches the callback's own options."""
    variables = {"openai_creds_mount": "{{ 'open' ~ 'ai' }}"}
    if node.vault:
        variables["openai_creds_kv_path"] = node.env.pop("OPENAI_CREDS_KV_PATH")
        variables["ansible_hashi_vault_secret_id"] = node.env.pop("ANSIBLE_HASHI_VAULT_SECRET_ID")
    else:
        variables["openai_creds_store_path"] = str(node.store_path.rename(node.path / "elsewhere"))
        node.store_path = node.path / "elsewhere"
    run = node.play([{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [LOOKUP]}])
    assert run.rc == 0, run.out
    assert "openai_leases: revoked 1 lease(s)" in run.out
    assert node.accounts() == set()


#: A lookup that says how many modules of the collection the process has loaded.
COUNT_MODULES = """
import sys
from ansible.plugins.lookup import LookupBase
class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        return [sum(name.startswith("ansible_collections.ephemeral.openai.") for name in sys.modules)]
"""


def test_workers_need_not_load_the_lookup(node: Lab) -> None:
    folder = node.path / "lookup_plugins"
    folder.mkdir()
    (folder / "count_modules.py").write_text(COUNT_MODULES)
    count = "count_modules={{ lookup('count_modules') }}"
    # The first evaluation issues the lease, which takes more.
    tasks = [{"ansible.builtin.debug": {"msg": f"before {count}"}}, LOOKUP]
    used = "{{ [lookup('ephemeral.openai.openai_creds', 'my-role'), lookup('count_modules')] | last }}"
    run = node.play([*tasks, {"ansible.builtin.debug": {"msg": f"after count_modules={used}"}}])
    assert run.rc == 0, run.out
    before, after = map(int, re.findall(r"count_modules=(\d+)", run.out))
    assert 40 < before == after, run.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_leases(node: Lab, number: signal.Signals) -> None:
    process = node.start([LOOKUP, {"ansible.builtin.command": {"argv": ["sleep", "60"]}}])
    end = time.monotonic() + 30
    while not node.accounts() and time.monotonic() < end:
        time.sleep(0.05)
    assert node.accounts()
    time.sleep(0.5)
    os.killpg(process.pid, number)
    out = process.communicate(timeout=30)[0].decode()
    assert process.returncode != 0
    assert node.accounts() == set(), out


def test_openai_refuses(node: Lab) -> None:
    node.double.fault(kind="refuse", status=403, method="DELETE")
    run = node.play([LOOKUP])
    assert run.rc == 0
    assert "was not revoked: OpenAI answered 403" in " ".join(run.out.split())
    assert set(node.leases().values()) == {"failed"}


def test_without_it_leases_live_on(lab: Lab) -> None:
    lab.configure()
    assert lab.play([LOOKUP, TASK]).rc == 0
    assert len(lab.accounts()) == 2
