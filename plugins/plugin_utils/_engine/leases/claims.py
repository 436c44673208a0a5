# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims: which leases belong to which run.

    claims/<number>-<machine><run>_shared_<what>    the lease that the processes of a run share
    claims/<number>-<machine><run>_<random>         the lease of one evaluation

A claim is the intent of the lease, which stays behind when the lease is on record. So the leases of a run are found and ended
when it is over, also if the run could not do that itself (see run_end, cleanup). Those of one machine are kept together, since
cleanup looks at all of its own machine's: there it can see which runs have ended. At those of others it looks when they are
due.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import typing as t

from ..errors import Conflict, UnreadableError
from ..mount import Mount
from ..names import base36, random_text
from ..run.processes import Process, is_running, this_process
from ..store.base import Stored, Write, refuse_unreadable
from .intents import CLAIMS, Claim, Failure, Intent, intents_in
from .lease import Lease, read_leases

#: So many machines, and those that share a number with them, have their claims apart.
_MACHINES = 1024
#: While its lease is being issued a claim is due within so many seconds, also by a clock that is in another time zone.
_ISSUE_SECONDS = 43200
#: A claim of a run that cannot be seen from here is forgotten when its lease has ended for so long.
_FORGET_SECONDS = 86400


def shared_path(run: Process, *what: t.Any) -> str:
    """Return where the claim of a run is on the lease that its processes share for what they ask."""
    return f"{_prefix(run)}shared_{_digest(what)}"


def own_path(run: Process) -> str:
    """Return where a new claim of a run may be on a lease that it does not share."""
    return f"{_prefix(run)}{random_text(16)}"


def claims_of(
    mount: Mount, run: Process, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> list[Stored[Intent]]:
    """Return the claims of a run."""
    return list(intents_in(mount.store.scan(_prefix(run)), unreadable))


def claims_of_this_machine() -> str:
    """Return the beginning of the paths of the claims of this machine's runs."""
    return _machine(this_process())


def claims_of_issues(mount: Mount, unreadable: t.Callable[[UnreadableError], object]) -> t.Iterator[Stored[Intent]]:
    """Yield the claims whose leases may not be on record yet. Others are due after their lease has ended (see look_later)."""
    return intents_in(mount.store.due(CLAIMS, mount.now() + _ISSUE_SECONDS, tidy=False), unreadable)


def claims_to_look_at(
    mount: Mount, now: int, *, tidy: bool, unreadable: t.Callable[[UnreadableError], object]
) -> list[Stored[Intent]]:
    """Return the claims of runs of this machine, and those of others that are due."""
    machine = this_process()["machine"]
    found = intents_in(mount.store.scan(claims_of_this_machine()), unreadable)
    own = (claim for claim in found if t.cast(Claim, claim.value.claim).run["machine"] == machine)
    due = intents_in(mount.store.due(CLAIMS, now, tidy=tidy), unreadable)
    return list({claim.path: claim for found in (own, due) for claim in found}.values())


def leases_of(claim: Intent) -> list[str]:
    """Return the ids of the leases that a claim is for: those that were replaced come first."""
    own = [claim.lease.lease_id] if claim.lease else []
    return [*(one.lease_id for one in t.cast(Claim, claim.claim).replaced), *own]


def goes_on(claim: Intent, now: int) -> bool:
    """Say whether the run of a claim may go on."""
    running = is_running(t.cast(Claim, claim.claim).run)
    return now < _last_use(claim) + _FORGET_SECONDS if running is None else running


def look_later(claim: Stored[Intent]) -> Write:
    """Have a claim whose lease is on record looked at when it may be forgotten."""
    intent = dataclasses.replace(claim.value, due=_last_use(claim.value) + _FORGET_SECONDS)
    return intent.write(claim.path, claim.version)


def spent(intent: Intent, now: int, failure: Failure | None = None) -> Intent:
    """Return what a claim becomes when its lease has ended, or none came of it.

    It stays so that its version goes on growing: were it removed while the run goes on, somebody slow could take a new claim
    for the one that he knew.
    """
    claim = dataclasses.replace(t.cast(Claim, intent.claim), failure=failure)
    return Intent(lease=None, created_at=now, claim=claim, due=now + _FORGET_SECONDS)


def clear_claims(mount: Mount, leases: t.Sequence[Lease], *, run_is_over: bool) -> None:
    """Clear the claims of runs on leases that have ended. Those of a run that is over go."""
    ended = {lease.lease_id for lease in leases}
    paths = list({lease.claim: None for lease in leases if lease.claim})
    if not paths:
        return
    # One that cannot be read must not keep the leases of others on record.
    found = list(intents_in(mount.store.read_each(paths), lambda _error: None))
    claims = [claim for claim in found if claim.value.lease and claim.value.lease.lease_id in ended]
    kept: list[Stored[Intent]] = []
    gone: list[Stored[Intent]] = []
    for one in claims:
        claim = t.cast(Claim, one.value.claim)
        (kept if claim.shared and not run_is_over and is_running(claim.run) is not False else gone).append(one)
    now = mount.now()
    writes = [spent(claim.value, now).write(claim.path, claim.version) for claim in kept]
    try:
        if writes:
            mount.store.write(*writes)
    except Conflict:
        for write in writes:
            write_if_unchanged(mount, write)
    if gone:
        mount.store.delete(*(claim.path for claim in gone))


def write_if_unchanged(mount: Mount, write: Write) -> None:
    """Write, unless somebody else has been faster and gone on."""
    with contextlib.suppress(Conflict):
        mount.store.write(write)


def have_lease(mount: Mount, claims: t.Sequence[Intent], unreadable: t.Callable[[UnreadableError], object]) -> set[str]:
    """Return the ids of those leases of claims that are on record."""
    wanted = [claim.lease.lease_id for claim in claims if claim.lease]
    return {lease.value.lease_id for lease in read_leases(mount, wanted, unreadable)}


def _last_use(claim: Intent) -> int:
    return claim.lease.expires_at if claim.lease else claim.created_at


def _machine(run: Process) -> str:
    machine = _digest(run["machine"])
    return f"{CLAIMS}{base36(int(machine, 16) % _MACHINES, 2)}-{machine}"


def _prefix(run: Process) -> str:
    return f"{_machine(run)}{_digest(run)}_"


def _digest(value: t.Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
