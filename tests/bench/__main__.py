# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints each budget of the design that applies: the measured figure, the reference measured in the same run, the ratio.

Not a test: nothing here passes or fails, since a busy machine is no defect. BENCH_ONLY names functions of this file, with commas
between them, if not all are to be measured.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / ".build" / "collections")]

from bao import Vault, start_raft
from double.client import Double
from lab import COLLECTIONS, PROJECT, Lab, new_lab
from library_sets import give_in
from library_sets import write as write_pool

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.ending import Refusal
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.claims import shared_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.intents import Claim, Intent
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.refusal import RefusedLease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import random_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import Process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Write, bucket
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

#: Where the Makefile puts community.hashi_vault.
COMMUNITY = HERE.parent.parent / ".build" / "community"
REPEAT = 25
EVALUATIONS = 200
MANY = int(os.environ.get("BENCH_MANY", "100000"))
ONLY = os.environ.get("BENCH_ONLY")
CLAIMS = int(os.environ.get("BENCH_CLAIMS", "10000"))
DEFINED = int(os.environ.get("BENCH_DEFINED", "1000"))
STATIC_DEFAULTS = {
    "rotation_period": "30d",
    "ttl": "60d",
    "overlap": 0,
    "rotation_strategy": "new_key",
    "api_key_name": "static",
    "description": "",
}


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


def timed_cleanup(lab: Lab) -> None:
    latency, concurrency = 0.1, 16
    for number in (200, 1000):
        with lab.at(-7200) as past:
            for _unused in range(number):
                issue(past, "my-role", 60)
        lab.double.settings(latency=latency)
        began = time.perf_counter()
        result = cleanup(
            lab.mount(), orphans="report", max_concurrency=concurrency, limit=None, grace=600, dry_run=False
        )
        took = time.perf_counter() - began
        lab.double.settings(latency=0.0)
        assert len(result["revoked"]) == number
        ideal = number * latency / concurrency
        row(f"cleanup of {number} expired leases", f"{took:.2f} s", f"n·l/c {ideal:.2f} s", took / ideal, "1.25 x")


def bulk(lab: Lab) -> None:
    for number, latency in ((64, 0.1), (64, 0.4), (256, 0.1)):
        lab.double.settings(latency=latency)
        mount = lab.mount()
        began = time.perf_counter()
        credentials = issue_several(mount, "my-role", None, number)
        took = time.perf_counter() - began
        assert len(credentials) == number
        ideal = number * latency / 8
        row(f"issuing {number}, {ms(latency)} each", f"{took:.2f} s", f"n·l/8 {ideal:.2f} s", took / ideal, "1.25 x")
        revoke(mount, active_records(mount, (one["lease_id"] for one in credentials)))
    lab.double.settings(latency=0.0)


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
        "import sys, json, time, resource; sys.path[:0] = json.loads(sys.argv[1]);"
        "from pathlib import Path; import lab;"
        "import bao; node = lab.Lab.__new__(lab.Lab); node.__dict__.update(json.loads(sys.argv[2]));"
        "vault = node.vault; node.vault = vault and bao.Vault(); vault and node.vault.__dict__.update(vault);"
        "node.store_path = Path(node.store_path); mount = node.mount();"
        "from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup;"
        "from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records;"
        f"b = time.perf_counter(); n = {code};"
        "print(json.dumps([time.perf_counter() - b, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, n]))"
    )
    lab.store()
    vault = {name: getattr(lab.vault, name) for name in ("address", "ca_cert")} if lab.vault else None
    where = {"vault": vault, "kv_path": lab.kv_path, "store_path": str(lab.store_path), "_token": lab._token}
    command = [sys.executable, "-c", program, json.dumps(sys.path), json.dumps(where)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout))


def bare_lists(lab: Lab) -> float:
    """Return the seconds that it takes to list all names of leases, by hvac alone."""
    assert lab.vault
    kv = lab.vault.admin(lab._token).secrets.kv.v2
    began = time.perf_counter()
    for folder in kv.list_secrets(f"{lab.kv_path}/openai/leases", "secret")["data"]["keys"]:
        kv.list_secrets(f"{lab.kv_path}/openai/leases/{folder}", "secret")
    return time.perf_counter() - began


def many_leases(few: Lab, many: Lab) -> None:
    seed(few.mount(), 100, 1)
    began = time.perf_counter()
    seed(many.mount(), MANY, 1)
    print(f"<!-- {MANY} leases, all ending within one hour, written in {time.perf_counter() - began:.0f} s -->")
    reference = issue_and_revoke(few.mount())
    measured = issue_and_revoke(many.mount())
    for what, one, other in zip(("issue", "revoke"), measured, reference, strict=True):
        row(f"{what} with {MANY:,} live leases", ms(one), f"with 100 {ms(other)}", one / other, "1.5 x")
    took, mebibytes, active = in_new_process(many, IDLE)
    assert active == MANY, active
    bare = bare_lists(many) if many.vault else None
    row(
        f"cleanup, nothing due, {MANY:,} live leases",
        f"{took:.2f} s, {mebibytes:.0f} MiB",
        f"listing their names by hvac {bare:.2f} s" if bare else "",
        took / bare if bare else None,
        "0.5 s, 150 MiB" if many.vault else "0.2 s, 150 MiB",
    )


def listing(lab: Lab) -> None:
    seed(lab.mount(), 10_000, 8)
    took, _mebibytes, count = in_new_process(lab, "sum(1 for _ in records(mount))")
    assert count == 10_000
    row(f"listing {count:,} leases", f"{took:.2f} s", "", None, "4 s" if lab.vault else "2 s")


IDLE = "cleanup(mount, orphans='report', max_concurrency=16, limit=None, grace=600, dry_run=False)['active']"


def costs(lab: Lab) -> dict[str, float]:
    """Return the seconds of an idle cleanup, an issue and a lookup answered by reuse."""
    idle = statistics.median(in_new_process(lab, IDLE)[0] for _unused in range(3))
    mount = lab.mount()
    issued, _revoked = issue_and_revoke(mount)
    shared_credential(mount, "my-role", None, 300)
    began = time.perf_counter()
    for _unused in range(REPEAT):
        shared_credential(lab.mount(), "my-role", None, 300)
    return {"cleanup, nothing due,": idle, "issue": issued, "reuse": (time.perf_counter() - began) / REPEAT}


def claims(few: Lab, many: Lab) -> None:
    count = CLAIMS
    seed(few.mount(), count, 8)
    seed(many.mount(), count, 8, claimed=True)
    reference, measured = costs(few), costs(many)
    for what, seconds in measured.items():
        without = reference[what]
        row(
            f"{what} with {count:,} claims of runs that cannot be seen",
            ms(seconds),
            f"without {ms(without)}",
            seconds / without,
            "1.2 x",
        )
    took, _mebibytes, found = in_new_process(many, "sum(1 for _ in records(mount))")
    assert found >= count
    row(f"listing {count:,} leases with claims", f"{took:.2f} s", "", None, "4 s" if many.vault else "2 s")


def refusals(lab: Lab) -> None:
    """What leases that OpenAI has refused to end, and that are not to be tried again yet, cost everybody else."""
    mount, count = lab.mount(), 1000
    reference = costs(lab)
    hour = bucket(mount.now())
    for start in range(0, count, 50):
        key = mount.store.new_key(f"refusals/{hour}", 0)
        leases = [
            seeded(mount, f"{hour}{key[:-11]}{random_text(11)}", mount.now()) for _unused in range(start, start + 50)
        ]
        refusal = Refusal(5, "OpenAI answered 403", mount.now() + 3000)
        mount.store.write(*(RefusedLease(lease, refusal).write() for lease in leases))
    measured = costs(lab)
    for what, seconds in measured.items():
        without = reference[what]
        row(f"{what} with {count:,} refused leases", ms(seconds), f"without {ms(without)}", seconds / without, "")


def _timed(do: t.Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def definitions(few: Lab, many: Lab) -> None:
    """What many static roles, and library sets of many accounts, cost whoever uses one of them."""
    found: dict[int, dict[str, float]] = {}
    for lab, count in ((few, 10), (many, DEFINED)):
        account = lab.double.add_service_account(PROJECT, "workload")["id"]
        mount = lab.mount()
        given = {"project": "lab", "service_account_id": account}
        write_static_role(mount, "static", defaults=STATIC_DEFAULTS, dry_run=False, **given)

        def copy(data: Data, count: int = count) -> bool:
            data["static_roles"].update({f"static-{nth}": data["static_roles"]["static"] for nth in range(1, count)})
            return True

        mount.define(copy)
        names = [f"account-{nth}" for nth in range(count)]
        making = _timed(lambda: write_pool(mount, *names))  # noqa: B023 - it is called here
        print(f"<!-- a library set of {count} accounts made in {making:.1f} s -->")
        current_credential(mount, "static")
        seconds: dict[str, list[float]] = {"static_creds": [], "check-out": [], "check-out of the last one": []}
        for _unused in range(REPEAT):
            seconds["static_creds"].append(_timed(lambda: current_credential(lab.mount(), "static")))  # noqa: B023
            began = time.perf_counter()
            creds = check_out(lab.mount(), "pool", 3600)
            seconds["check-out"].append(time.perf_counter() - began)
            give_in(lab.mount(), creds)
        for _unused in range(count - 1):
            check_out(mount, "pool", 3600)
        for _unused in range(5):
            began = time.perf_counter()
            creds = check_out(lab.mount(), "pool", 3600)
            seconds["check-out of the last one"].append(time.perf_counter() - began)
            give_in(lab.mount(), creds)
        found[count] = {what: statistics.median(each) for what, each in seconds.items()}
        found[count]["cleanup, nothing due,"] = statistics.median(in_new_process(lab, IDLE)[0] for _unused in range(3))
    for what, took in found[DEFINED].items():
        reference = found[10][what]
        row(
            f"{what} with {DEFINED:,} static roles and accounts",
            ms(took),
            f"with 10 {ms(reference)}",
            took / reference,
            "",
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Double(projects=[PROJECT]) as double:
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}\n")
        labs = iter(range(100))

        def measure(store: str, vault: Vault | None) -> None:
            def lab() -> Lab:
                node = new_lab(Path(folder) / f"node{next(labs)}", double, vault)
                node.configure()
                double.clear_requests()
                return node

            print(f"\n{store}\n")
            print("| what | measured | reference in the same run | ratio | budget |")
            print("|---|---|---|---|---|")
            for measured in (
                calls_and_writes,
                tasks_of_ours,
                lookups,
                imports,
                listing,
                timed_cleanup,
                bulk,
                claims,
                refusals,
                definitions,
                many_leases,
            ):
                if (measured is imports and vault) or (ONLY and measured.__name__ not in ONLY.split(",")):
                    continue
                measured(*(lab() for _lab in inspect.signature(measured).parameters))

        measure("Vaulted files", None)
        cluster = start_raft(Path(folder) / "raft")
        try:
            measure("OpenBao with TLS and Raft storage on this machine, AppRole", cluster)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
