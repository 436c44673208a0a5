# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run with many hosts does when Vault does not let it in, or does not answer."""

from __future__ import annotations

import re
import secrets
import typing as t

import pytest
from lab import Lab

HOSTS = [f"host{number}" for number in range(10)]
LOOKUP = "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"
TASKS: dict[str, dict[str, t.Any]] = {
    "lookup": {"ansible.builtin.debug": {"msg": LOOKUP}},
    "task": {"ephemeral.openai.openai_creds": {"name": "my-role"}},
}


@pytest.fixture
def lab_store() -> str:
    return "vault_kv"


def play(task: dict[str, t.Any], hosts: int) -> list[dict[str, t.Any]]:
    return [{"hosts": ",".join(HOSTS[:hosts]), "gather_facts": False, "connection": "local", "tasks": [task]}]


def sentences(out: str) -> set[str]:
    """Return what the hosts were told, on one line each."""
    flat = " ".join(out.split())
    return set(re.findall(r"(?:auth_method|url): Vault at \S+ (?:cannot be reached|refuses the [^;]*)", flat))


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_ten_hosts_with_a_wrong_password_are_one_attempt(lab: Lab, kind: str) -> None:
    vault: t.Any = lab.vault
    mount = f"userpass-{secrets.token_hex(4)}"
    vault.client().sys.enable_auth_method("userpass", path=mount)
    vault.client().auth.userpass.create_or_update_user("joe", password="right", mount_point=mount)
    task = TASKS[kind]
    env = {
        "ANSIBLE_HASHI_VAULT_AUTH_METHOD": "userpass",
        "ANSIBLE_HASHI_VAULT_MOUNT_POINT": mount,
        "ANSIBLE_HASHI_VAULT_USERNAME": "joe",
        "ANSIBLE_HASHI_VAULT_PASSWORD": "wrong",
    }
    run = lab.play(play(task, 10), "-vvv", "-f", "10", "-i", ",".join(HOSTS), env=env)
    assert run.rc != 0
    assert len(re.findall(rf"POST /v1/auth/{mount}/login", run.out)) == 1, run.out
    (text,) = sentences(run.out)
    assert "invalid username or password" in text
    assert vault.client("").auth.userpass.login("joe", "right", mount_point=mount)["auth"]["client_token"]


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_a_vault_that_is_down_is_waited_for_once(lab: Lab, kind: str) -> None:
    task = TASKS[kind]
    env = {"VAULT_ADDR": "http://127.0.0.1:1", "ANSIBLE_HASHI_VAULT_RETRIES": "5"}
    run = lab.play(play(task, 6), "-vvv", "-f", "2", "-i", ",".join(HOSTS), env=env)
    assert run.rc != 0
    assert len(sentences(run.out)) == 1
    # Those that asked at the same time, before any of them had given up.
    assert run.out.count("ms attempt 5") in (1, 2), run.out
