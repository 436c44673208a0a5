# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task, a lookup and a credential cost."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import typing as t

from figures import REPEAT, durations_of, median_of, ms, row
from lab import COLLECTIONS, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write

EVALUATIONS = 200


def tasks_of_ours(lab: Lab) -> None:
    """A task of ours, next to one that does nothing and to ansible.builtin.uri making the same call."""
    headers = {"Authorization": f"Bearer {lab.double.admin_key}", "OpenAI-Organization": lab.double.organization}
    url = f"{lab.double.url}/organization/projects/{PROJECT}/service_accounts"
    call = {"url": url, "method": "POST", "headers": headers, "body_format": "json", "body": {"name": "uri"}}
    tasks: list[dict[str, t.Any]] = []
    for number in range(REPEAT + 1):
        name = "warm-up " if number == 0 else ""
        tasks += [
            {"name": f"{name}empty", "empty": {}},
            {"name": f"{name}issue", "ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued"},
            {"name": f"{name}info", "ephemeral.openai.openai_role_info": {}},
            {
                "name": f"{name}revoke",
                "ephemeral.openai.openai_lease": {"lease_id": "{{ issued.creds.lease_id }}"},
            },
        ]
        if number <= 5:
            tasks.append({"name": f"{name}uri", "ansible.builtin.uri": call, "no_log": True})
    durations = durations_of(lab, tasks)
    empty = median_of(durations, "empty")
    answers: dict[str, list[float]] = {"POST": [], "DELETE": []}
    for request in lab.double.requests():
        answers[request["method"]].append(request["finished"] - request["time"])
    for name, label, method in (
        ("issue", "openai_creds, without OpenAI's answer", "POST"),
        ("revoke", "openai_lease revoked, without OpenAI's answer", "DELETE"),
        ("info", "openai_role_info", ""),
    ):
        answer = statistics.median(answers[method]) if method else 0.0
        took = median_of(durations, name) - answer
        budget = (20 if name == "info" else 45) if lab.vault else (10 if name == "info" else 35)
        row(label, ms(took), f"empty action {ms(empty)}", took / empty, f"{budget} ms over: {ms(took - empty)}")
    uri, whole = median_of(durations, "uri"), median_of(durations, "issue")
    row("openai_creds, whole", ms(whole), f"ansible.builtin.uri, same call {ms(uri)}", whole / uri, "")


def lookups(lab: Lab) -> None:
    """A lookup answered by reuse, next to one that does nothing or, in Vault, to one that reads one secret."""

    def task(name: str, lookup: str, count: int) -> dict[str, t.Any]:
        return {"name": name, "ansible.builtin.set_fact": {"ids": ["{{ lookup(" + lookup + ") | length }}"] * count}}

    ours, other, name = "'ephemeral.openai.openai_creds', 'my-role'", "'empty', 'my-role'", "empty lookup"
    evaluations, budget = EVALUATIONS, "3 ms; "
    if lab.vault:
        name, evaluations, budget = "community.hashi_vault.vault_kv2_get", 20, ""
        lab.vault.admin().secrets.kv.v2.create_or_update_secret(f"{lab.kv_path}/bare", {"a": "b"}, mount_point="secret")
        other = f"'{name}', '{lab.kv_path}/bare', engine_mount_point='secret'"
    tasks = [task("first", ours, 1)]
    for _unused in range(5):
        for whose, lookup in (("ours", ours), ("other", other)):
            tasks += [task(f"{whose} one", lookup, 1), task(f"{whose} many", lookup, evaluations + 1)]
    mark = lab.double.mark()
    durations = durations_of(lab, tasks)
    each, reference = (
        (median_of(durations, f"{whose} many") - median_of(durations, f"{whose} one")) / evaluations
        for whose in ("ours", "other")
    )
    calls = len(lab.double.requests(mark))
    row(
        "lookup answered by reuse",
        ms(each),
        f"{name} {ms(reference)}",
        each / reference,
        f"{budget}{calls} call for all",
    )


def imports() -> None:
    code = (
        "import time, ansible.plugins.action, ansible.parsing.vault, ansible.cli, ansible.plugins.loader as l;"
        "l.init_plugin_loader(); import ansible.executor.task_queue_manager;"
        "b = time.perf_counter(); import ansible_collections.ephemeral.openai.plugins.action.openai_creds;"
        "print(time.perf_counter() - b)"
    )
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    took = statistics.median(
        float(
            subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, text=True, check=True).stdout
        )
        for _unused in range(5)
    )
    row("first use in a process: imports", ms(took), "", None, "150 ms")


def calls_and_writes(lab: Lab) -> None:
    """What one credential costs: calls to OpenAI, and documents written to the store."""
    lab.role("scoped", scopes=["api.model.read"])
    for role, budget in (("my-role", "1"), ("scoped", "2")):
        mount = lab.mount()
        writes: list[Write] = []
        original = mount.store.write
        mount.store.write = lambda *some: (writes.extend(some), original(*some))[1]  # type: ignore[method-assign]  # noqa: B023
        mark = lab.double.mark()
        issue(mount, role)
        calls = len(lab.double.requests(mark))
        row(
            f"one credential of {role}", f"{calls} calls, {len(writes)} writes", "", None, f"{budget} call(s), 2 writes"
        )
