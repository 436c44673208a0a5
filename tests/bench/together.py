# SPDX-License-Identifier: GPL-3.0-or-later
"""What many hosts, many controllers and many refusals at once cost."""

from __future__ import annotations

import copy
import multiprocessing
import subprocess
import sys
import time
import typing as t

from bao import Vault
from figures import COMMUNITY, ms, row
from lab import COLLECTIONS, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke

HOSTS, FORKS = 100, 50
CONTROLLERS, LEASES = 10, 10
FORK = multiprocessing.get_context("fork")


def _play(lab: Lab, task: dict[str, t.Any], callbacks: str = "") -> tuple[float, float]:
    """Run a task on many hosts, with callbacks enabled; returns the seconds of the whole play, and the MiB of its largest process."""
    inventory = lab.path / "many-hosts.yml"
    hosts = "".join(f"    host{nth}:\n" for nth in range(HOSTS))
    inventory.write_text(
        f"all:\n  vars:\n    ansible_connection: local\n    ansible_python_interpreter: {sys.executable}\n  hosts:\n{hosts}"
    )
    play = [{"hosts": "all", "gather_facts": False, "tasks": [{**task, "no_log": True}]}]
    env = {**lab.env, "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{COMMUNITY}", "ANSIBLE_FORKS": str(FORKS)}
    if callbacks:
        env["ANSIBLE_CALLBACKS_ENABLED"] = callbacks
    # From a small process: what a process has when another one is forked from it counts as that one's, too.
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", program, "ansible-playbook", "-i", str(inventory), lab.playbook(play)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=lab.path, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, float(done.stdout)


def hosts(lab: Lab) -> None:
    """A play over many hosts that each need a key, beside one that reads a stored key, and one that makes the calls by hand."""
    lab.play([{"name": "first", "ansible.builtin.debug": {"msg": "so that what is compiled once has been"}}])
    headers = {"Authorization": f"Bearer {lab.double.admin_key}", "OpenAI-Organization": lab.double.organization}
    url = f"{lab.double.url}/organization/projects/{PROJECT}/service_accounts"
    call = {"url": url, "method": "POST", "headers": headers, "body_format": "json", "body": {"name": "uri"}}
    other, reference = "ansible.builtin.uri, an account each", _play(lab, {"ansible.builtin.uri": call})
    if lab.vault:
        lab.vault.admin().secrets.kv.v2.create_or_update_secret(f"{lab.kv_path}/bare", {"a": "b"}, mount_point="secret")
        lookup = f"lookup('community.hashi_vault.vault_kv2_get', '{lab.kv_path}/bare', engine_mount_point='secret')"
        other = "community.hashi_vault reading one stored key"
        reference = _play(lab, {"ansible.builtin.set_fact": {"key": "{{ " + lookup + " }}"}})
    shared = {"ansible.builtin.set_fact": {"key": "{{ lookup('ephemeral.openai.openai_creds', 'my-role') }}"}}
    each = {"ephemeral.openai.openai_creds": {"name": "my-role"}}
    callback = "ephemeral.openai.openai_leases"
    for what, task, callbacks in (
        ("one lease for all", shared, ""),
        ("one lease for all, with openai_leases", shared, callback),
        ("a lease each", each, ""),
    ):
        took, mebibytes = _play(lab, task, callbacks)
        row(
            f"a play over {HOSTS} hosts, {FORKS} forks, {what}",
            f"{took:.1f} s, {mebibytes:.0f} MiB",
            f"{other} {reference[0]:.1f} s, {reference[1]:.0f} MiB",
            took / reference[0],
            "",
        )


def _work(lab: Lab, count: int) -> None:
    mount = lab.mount()
    for _unused in range(count):
        lease_id = issue(mount, "my-role", 600)["lease_id"]
        (record,) = active_records(mount, [lease_id])
        revoke(mount, [renew(mount, record, 900, dry_run=False)])


def controllers(lab: Lab) -> None:
    """Several controllers that issue, renew and revoke at once, beside one that does all of it."""
    count = CONTROLLERS * LEASES
    lab = copy.copy(lab)
    if lab.vault:
        # Only the process that has started the servers can look after them.
        lab.store()
        address, ca_cert = lab.vault.address, lab.vault.ca_cert
        lab.vault = Vault()
        lab.vault.address, lab.vault.ca_cert = address, ca_cert
    began = time.perf_counter()
    _work(lab, count)
    alone = time.perf_counter() - began
    processes = [FORK.Process(target=_work, args=(lab, LEASES)) for _unused in range(CONTROLLERS)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took = time.perf_counter() - began
    assert not any(process.exitcode for process in processes)
    row(
        f"{CONTROLLERS} controllers issue, renew and revoke {LEASES} leases each at once",
        f"{took:.2f} s, {ms(took / count)} each",
        f"one controller {alone:.2f} s",
        took / alone,
        "",
    )


def storms(lab: Lab) -> None:
    """Issuing many while OpenAI answers 429 for a while: how many calls are made for nothing."""
    number, latency, refused, seconds = 64, 0.1, 8, 2.0
    lab.double.settings(latency=latency)
    mount = lab.mount()
    lab.double.fault(kind="rate_limit", method="POST", times=refused, retry_after=seconds)
    mark = lab.double.mark()
    began = time.perf_counter()
    credentials = issue_several(mount, "my-role", None, number)
    took = time.perf_counter() - began
    calls = len(lab.double.requests(mark))
    lab.double.settings(latency=0.0)
    ideal = number * latency / 8 + seconds
    row(
        f"issuing {number}, of which {refused} are answered 429 with Retry-After: {seconds:g}",
        f"{took:.2f} s, {calls} calls",
        f"n·l/8 and the wait {ideal:.2f} s, {number + refused} calls",
        took / ideal,
        "",
    )
    revoke(mount, active_records(mount, (one["lease_id"] for one in credentials)))
