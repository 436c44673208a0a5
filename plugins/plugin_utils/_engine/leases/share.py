# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The leases that a run takes: one for all of its processes that ask for the same, or one for each that asks.

    intents/c<run>/shared-<what>    the claim of a run on the lease that its processes share
    intents/c<run>/each/<key>       the claim of a run on a lease of one evaluation

A claim is the intent of the lease, which stays behind when the lease is on record. It says which run the lease belongs to,
so that the lease is found and ended when the run is over, also if the run could not do that itself (see run_end, cleanup).
"""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

from ..clocks import Comparison
from ..errors import ApiError, Conflict, OpenAICredsError
from ..mount import Mount
from ..run.processes import at_work, this_run
from ..store.base import Data, Document
from .intents import abandon, accounts_of, failure, is_left, settle, take_over
from .issue import Claim, issue
from .lease import INTENTS, credential, read_lease

#: A worker waits for another one so long at first, and twice as long each time, up to the longest wait.
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 1.0
#: A worker that cannot be seen from here counts as dead when its intent is so old.
_GRACE_SECONDS = 600


def _nothing() -> None:
    pass


def run_folder(run: Data) -> str:
    """Return the folder of a run's claims."""
    return f"{INTENTS}c{_digest(run)}/"


def own_credential(
    mount: Mount, role_name: str, ttl: int | None, before_issue: t.Callable[[], None] = _nothing
) -> Data:
    """Issue a credential that the run does not share; before_issue is called before anything happens."""
    run = this_run()
    folder = f"{run_folder(run)}each"
    before_issue()
    return issue(mount, role_name, ttl, Claim(f"{folder}/{mount.store.new_key(folder, 0)}", 0, run, False, []))


def shared_credential(
    mount: Mount,
    role_name: str,
    ttl: int | None,
    min_remaining: int,
    before_issue: t.Callable[[], None] = _nothing,
) -> tuple[Data, bool]:
    """Return the run's credential for a role and ttl, and whether it was issued by this call.

    The run's claim says which lease it is, and who is issuing it while there is none yet. min_remaining is in
    seconds; more than a lease ever has counts as half of what it has. before_issue is called before anything happens.
    """
    run = this_run()
    path = f"{run_folder(run)}shared-{_digest([role_name, ttl])}"
    wait = _FIRST_WAIT_SECONDS
    waited_for: set[str] = set()
    while True:
        document = mount.store.read(path)
        if document:
            _raise_failure(document.data.get("failed"), waited_for, mount.now())
        if document and document.data["kind"] == "issue":
            lease = _lease(mount, document)
            if lease is None:
                if not is_left(document, mount.now(), _GRACE_SECONDS):
                    waited_for.add(document.data["lease"]["lease_id"])
                    time.sleep(wait)
                    wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                    continue
                lease = _lease(mount, document)
            if lease is None:
                # Nobody is at it and there is no lease: interrupted. What it has made goes first.
                take_back(mount, document)
                continue
            if "clock" in lease:
                mount.recall_far_clock(Comparison(**lease["clock"]))
            remaining = lease["expires_at"] - mount.now()
            if "ending" not in lease and remaining > 0 and remaining >= _least(min_remaining, lease["duration"]):
                return credential(lease, lease["api_key"]), False
        before_issue()
        claim = Claim(path, document.version if document else 0, run, True, _replaced(mount, document))
        try:
            return issue(mount, role_name, ttl, claim), True
        except Conflict:
            continue


def take_back(mount: Mount, claim: Document) -> None:
    """Remove what an interrupted issue has made, unless somebody else is faster."""
    began = mount.clock()
    lease = claim.data["lease"]
    with at_work(lease["lease_id"]):
        try:
            taken = take_over(mount, claim)
        except Conflict:
            return
        if taken is None:
            return
        try:
            client = mount.openai()
            settle(mount, client, taken, accounts_of(client, lease))
        except OpenAICredsError as error:
            # Those who wait for this must not try the same one after the other.
            unanswered = isinstance(error, ApiError) and error.status is None
            abandon(mount, taken, failure(mount, lease, error, began if unanswered else None))
            raise


def leases_of(claim: Document) -> list[str]:
    """Return the ids of the leases that a claim is for: those that were replaced come first."""
    own = [claim.data["lease"]["lease_id"]] if "lease" in claim.data else []
    return [*(one["lease_id"] for one in claim.data["replaced"]), *own]


def _raise_failure(failed: Data | None, waited_for: t.Container[str], now: int) -> None:
    """Raise why the issue that others have tried came to nothing, if this is also an answer to whoever asks here."""
    # One from after now was written by a clock that has been set back since.
    if failed and (failed["lease_id"] in waited_for or failed["at"] <= now < failed["until"]):
        raise OpenAICredsError(failed["error"])


def _replaced(mount: Mount, claim: Document | None) -> list[Data]:
    """Return which leases of a claim may still live when there is a new one."""
    if claim is None:
        return []
    before = list(claim.data["replaced"])
    if "lease" in claim.data:
        lease = claim.data["lease"]
        before.append({"lease_id": lease["lease_id"], "until": lease["max_expires_at"]})
    return [one for one in before if mount.now() < one["until"]]


def _lease(mount: Mount, claim: Document) -> Data | None:
    if "taken" in claim.data:
        # Its issuer takes back what it may still write.
        return None
    lease = read_lease(mount, claim.data["lease"]["lease_id"])
    return lease.data if lease else None


def _least(min_remaining: int, duration: int) -> int:
    return min_remaining if min_remaining < duration else duration // 2


def _digest(value: t.Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
