# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measures share: rows of the printed table, plays and processes that are timed, leases that are seeded."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from lab import COLLECTIONS, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.claims import shared_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.intents import Claim, Intent
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import random_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import Process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write, bucket

HERE = Path(__file__).parent
#: Where the Makefile puts community.hashi_vault.
COMMUNITY = HERE.parent.parent / ".build" / "community"
REPEAT = 25
MANY = int(os.environ.get("BENCH_MANY", "100000"))
CLAIMS = int(os.environ.get("BENCH_CLAIMS", "10000"))
DEFINED = int(os.environ.get("BENCH_DEFINED", "1000"))
IDLE = "cleanup(mount, orphans='report', max_concurrency=16, limit=None, grace=600, dry_run=False)['active']"


def row(what: str, measured: str, reference: str, ratio: float | None, budget: str) -> None:
    shown = f"{ratio:.2f}" if ratio is not None else ""
    print(f"| {what} | {measured} | {reference} | {shown} | {budget} |", flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def median_of(durations: dict[str, list[float]], name: str) -> float:
    return statistics.median(durations[name])


def durations_of(lab: Lab, tasks: list[dict[str, t.Any]]) -> dict[str, list[float]]:
    """Run tasks in one play and return how long each took, by its name."""
    log = lab.path / "durations"
    log.unlink(missing_ok=True)
    run = lab.play(
        tasks,
        env={
            "BENCH_DURATIONS": str(log),
            "ANSIBLE_ACTION_PLUGINS": str(HERE / "action_plugins"),
            "ANSIBLE_LOOKUP_PLUGINS": str(HERE / "lookup_plugins"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{COMMUNITY}",
        },
        timeout=600,
    )
    assert run.rc == 0, run.out
    found: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        name, seconds = json.loads(line)
        found.setdefault(name, []).append(seconds)
    return found


def seeded(mount: Mount, unique: str, ends: int) -> Lease:
    """Return a live lease as if it had been issued."""
    return Lease(
        lease_id=f"{mount.name}/creds/my-role/{unique}",
        role="my-role",
        issued_at=mount.now(),
        expires_at=ends,
        duration=3600,
        max_expires_at=ends + 86400,
        renewable=True,
        native_expiry=True,
        service_account=f"vault-my-role-{random_text(8)}",
        service_account_id=f"svc_acct_{random_text(24)}",
        api_key_id=f"key_{random_text(24)}",
        project_id=PROJECT,
        api_endpoint="https://api.openai.com/v1",
        issued_by=mount.issued_by,
    )


def seed(mount: Mount, count: int, hours: int, *, claimed: bool = False) -> None:
    """Put live leases into the store as if they had been issued over some hours, by runs that cannot be seen if claimed."""
    now = mount.now()
    made = 0
    while made < count:
        ends = now + 3600 + (made * hours * 3600) // count
        hour = bucket(ends)
        key = mount.store.new_key(f"leases/{hour}", ends)
        writes: list[Write] = []
        for number in range(made, min(made + 64, count)):
            # In each store a key ends in so many random characters.
            lease = seeded(mount, f"{hour}{key[:-11]}{random_text(11)}", ends)
            if claimed:
                run: Process = {"machine": f"elsewhere-{number}", "pid": 1, "started": 1}
                path = shared_path(run, "my-role", None)
                claim = Intent(lease=lease, created_at=now, claim=Claim(run=run, shared=True), due=ends + 86400)
                writes.append(claim.write(path))
                lease = dataclasses.replace(lease, claim=path, api_key="sk-seeded-by-the-bench")
            writes.append(lease.write())
        mount.store.write(*writes)
        made += 64


def issue_and_revoke(mount: Mount) -> tuple[float, float]:
    """Return the median seconds of an issue and of a revocation."""
    issues, revocations = [], []
    for _unused in range(REPEAT):
        began = time.perf_counter()
        creds = issue(mount, "my-role")
        issues.append(time.perf_counter() - began)
        began = time.perf_counter()
        revoke(mount, active_records(mount, [creds["lease_id"]]))
        revocations.append(time.perf_counter() - began)
    return statistics.median(issues), statistics.median(revocations)


def in_new_process(lab: Lab, code: str) -> list[float]:
    """Return the seconds that some code takes on a lab's mount, in a process that has seen nothing of it, its MiB, and n."""
    program = (
        "import sys, json, re, time; sys.path[:0] = json.loads(sys.argv[1]);"
        "from pathlib import Path; import lab;"
        "import bao; node = lab.Lab.__new__(lab.Lab); node.__dict__.update(json.loads(sys.argv[2]));"
        "vault = node.vault; node.vault = vault and bao.Vault(); vault and node.vault.__dict__.update(vault);"
        "node.store_path = Path(node.store_path); mount = node.mount();"
        "from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup;"
        "from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records;"
        f"b = time.perf_counter(); n = {code};"
        "took = time.perf_counter() - b;"
        # Not getrusage: it knows of the process that this one was forked from, too.
        "most = int(re.search('VmHWM:[^0-9]*([0-9]+)', Path('/proc/self/status').read_text())[1]) / 1024;"
        "print(json.dumps([took, most, n]))"
    )
    lab.store()
    vault = {name: getattr(lab.vault, name) for name in ("address", "ca_cert")} if lab.vault else None
    where = {"vault": vault, "kv_path": lab.kv_path, "store_path": str(lab.store_path), "_token": lab._token}
    command = [sys.executable, "-c", program, json.dumps(sys.path), json.dumps(where)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout))
