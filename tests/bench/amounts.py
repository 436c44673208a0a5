# SPDX-License-Identifier: GPL-3.0-or-later
"""What many leases, claims, refusals and definitions cost."""

from __future__ import annotations

import secrets
import statistics
import time
import typing as t

from figures import (
    CLAIMS,
    DEFINED,
    IDLE,
    MANY,
    REPEAT,
    durations_of,
    in_new_process,
    issue_and_revoke,
    ms,
    row,
    seed,
    seeded,
)
from lab import PROJECT, Lab
from library_sets import give_in
from library_sets import write as write_pool

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.ending import Refusal
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.refusal import RefusedLease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import random_text
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, bucket
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

STATIC_DEFAULTS = {
    "rotation_period": "30d",
    "ttl": "60d",
    "overlap": 0,
    "rotation_strategy": "new_key",
    "api_key_name": "static",
    "description": "",
}


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
            one = data["static_roles"]["static"]
            others = {
                f"static-{nth}": {**one, "service_account_id": f"acct_{secrets.token_hex(8)}"}
                for nth in range(1, count)
            }
            data["static_roles"].update(others)
            return True

        mount.define(copy)
        names = [f"account-{nth}" for nth in range(count)]
        making = _timed(lambda: write_pool(mount, *names))  # noqa: B023 - it is called here
        print(f"<!-- a library set of {count} accounts made in {making:.1f} s -->")
        current_credential(mount, "static")
        seconds: dict[str, list[float]] = {"check-out": [], "check-out of the last one": []}
        task = {"ephemeral.openai.openai_static_creds": {"name": "static"}}
        names = ["warm-up"] * 2 + ["static_creds"] * REPEAT
        seconds["static_creds"] = durations_of(lab, [{"name": name, **task} for name in names])["static_creds"]
        for _unused in range(REPEAT):
            began = time.perf_counter()
            creds = check_out(lab.mount(), "pool", 3600)
            seconds["check-out"].append(time.perf_counter() - began)
            give_in(lab.mount(), creds)
        seconds["cleanup, nothing due,"] = [in_new_process(lab, IDLE)[0] for _unused in range(5)]
        for _unused in range(count - 1):
            check_out(mount, "pool", 3600)
        for _unused in range(5):
            began = time.perf_counter()
            creds = check_out(lab.mount(), "pool", 3600)
            seconds["check-out of the last one"].append(time.perf_counter() - began)
            give_in(lab.mount(), creds)
        found[count] = {what: statistics.median(each) for what, each in seconds.items()}
    for what, took in found[DEFINED].items():
        reference = found[10][what]
        row(
            f"{what} with {DEFINED:,} static roles and accounts",
            ms(took),
            f"with 10 {ms(reference)}",
            took / reference,
            "",
        )
