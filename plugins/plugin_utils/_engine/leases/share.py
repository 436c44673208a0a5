# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The leases that a run takes: one for all of its processes that ask for the same, or one for each that asks."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ..errors import Conflict, OpenAICredsError
from ..journal.making import recover
from ..journal.owners import GRACE_SECONDS
from ..mount import Mount
from ..run.processes import this_run
from ..run.threads import concurrently
from ..store.base import Data, Stored
from .claims import own_path, shared_path
from .intents import Claim, Failure, Intent, Replaced, intents_in
from .issue import CALLS_AT_ONCE, THREADS, Place, issue
from .lease import Lease, credential, read_lease
from .making import left_issue

#: A worker waits for another one so long at first, and twice as long each time, up to the longest wait.
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0


def _nothing(_lease: Lease | None) -> None:
    pass


def several_credentials(
    mount: Mount,
    role_names: t.Sequence[str],
    ttl: int | None,
    min_remaining: int | None,
    note: t.Callable[[Lease | None], object] = _nothing,
) -> list[Data]:
    """Return a credential for each of some roles, in their order; several are issued at a time.

    Without min_remaining each is one that the run does not share, also where a role is named twice. If one cannot be issued,
    no more are begun; those that are issued are on record, and end with the run. note is called in threads; see
    shared_credential.
    """
    calls = threading.Semaphore(CALLS_AT_ONCE)

    def take(index: int) -> tuple[int, Data]:
        if min_remaining is None:
            return index, own_credential(mount, role_names[index], ttl, note, calls=calls)
        return index, shared_credential(mount, role_names[index], ttl, min_remaining, note, calls=calls)[0]

    # Threads that ask for the same lease would only wait for each other.
    places = range(len(role_names)) if min_remaining is None else map(role_names.index, role_names)
    indexes = list(places)
    taken = dict(concurrently(take, dict.fromkeys(indexes), THREADS))
    return [taken[index] for index in indexes]


def own_credential(
    mount: Mount,
    role_name: str,
    ttl: int | None,
    note: t.Callable[[Lease | None], object] = _nothing,
    *,
    calls: threading.Semaphore | None = None,
) -> Data:
    """Issue a credential that the run does not share; for note see shared_credential, for calls issue_lease."""
    run = this_run()
    note(None)
    return issue(mount, role_name, ttl, Place(own_path(run), 0, Claim(run=run, shared=False)), note, calls=calls)


def shared_credential(
    mount: Mount,
    role_name: str,
    ttl: int | None,
    min_remaining: int,
    note: t.Callable[[Lease | None], object] = _nothing,
    *,
    calls: threading.Semaphore | None = None,
) -> tuple[Data, bool]:
    """Return the run's credential for a role and ttl, and whether it was issued by this call.

    The run's claim says which lease it is, and who is issuing it while there is none yet. min_remaining is in
    seconds; more than a lease ever has counts as half of what it has. note is called with None before anything is issued, and
    with the lease that was issued as soon as it is on record. For calls see issue_lease.
    """
    run = this_run()
    path = shared_path(run, role_name, ttl)
    wait = _FIRST_WAIT_SECONDS
    waited_for: set[str] = set()
    while True:
        claim = _read_claim(mount, path)
        if claim:
            _raise_failure(t.cast(Claim, claim.value.claim).failure, waited_for, mount.now())
        if claim and claim.value.lease:
            lease = _lease(mount, claim.value)
            if lease is None:
                if not claim.value.is_left(mount.now(), GRACE_SECONDS):
                    waited_for.add(claim.value.lease.lease_id)
                    time.sleep(wait)
                    wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                    continue
                lease = _lease(mount, claim.value)
            if lease is None:
                # Nobody is at it and there is no lease: interrupted. What it has made goes first.
                take_back(mount, claim)
                continue
            if lease.clock:
                mount.recall_far_clock(lease.clock)
            remaining = lease.expires_at - mount.now()
            if lease.api_key and remaining > 0 and remaining >= _least(min_remaining, lease.duration):
                return credential(lease, lease.api_key), False
        note(None)
        new = Claim(run=run, shared=True, replaced=_replaced(mount, claim))
        try:
            return issue(
                mount, role_name, ttl, Place(path, claim.version if claim else 0, new), note, calls=calls
            ), True
        except Conflict:
            continue


def take_back(mount: Mount, claim: Stored[Intent]) -> None:
    """Remove what an interrupted issue has made, unless somebody else is faster."""
    with contextlib.suppress(Conflict):
        recover(left_issue(mount, claim))


def _read_claim(mount: Mount, path: str) -> Stored[Intent] | None:
    document = mount.store.read(path)
    return next(intents_in([document])) if document else None


def _raise_failure(failure: Failure | None, waited_for: t.Container[str], now: int) -> None:
    """Raise why the issue that others have tried came to nothing, if this is also an answer to whoever asks here."""
    # One from after now was written by a clock that has been set back since.
    if failure and (failure.lease_id in waited_for or failure.at <= now < failure.until):
        raise OpenAICredsError(failure.error)


def _replaced(mount: Mount, claim: Stored[Intent] | None) -> tuple[Replaced, ...]:
    """Return which leases of a claim may still live when there is a new one."""
    if claim is None:
        return ()
    before = list(t.cast(Claim, claim.value.claim).replaced)
    if lease := claim.value.lease:
        before.append(Replaced(lease.lease_id, lease.max_expires_at))
    return tuple(one for one in before if mount.now() < one.until)


def _lease(mount: Mount, claim: Intent) -> Lease | None:
    if claim.taken:
        # Its issuer takes back what it may still write.
        return None
    found = read_lease(mount, t.cast(Lease, claim.lease).lease_id)
    return found.value if found else None


def _least(min_remaining: int, duration: int) -> int:
    return min_remaining if min_remaining < duration else duration // 2
