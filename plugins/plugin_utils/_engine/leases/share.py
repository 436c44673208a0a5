# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lease per run: however often, wherever and at whatever instant the run's processes ask for the same."""

from __future__ import annotations

import hashlib
import json
import time

from ..clocks import Comparison
from ..errors import Conflict
from ..mount import Mount
from ..run.processes import this_run
from ..store.base import Data, Document
from .intents import accounts_of, is_at_work, settle, take_over
from .issue import Claim, issue
from .lease import INTENTS, credential, read_lease

_POLL_SECONDS = 0.02


def shared_credential(mount: Mount, role_name: str, ttl: int | None, min_remaining: int) -> tuple[Data, bool]:
    """Return the run's credential for a role and ttl, and whether it was issued by this call.

    The run's claim says which lease it is, and who is issuing it while there is none yet. min_remaining is in
    seconds; more than a lease ever has counts as half of what it has.
    """
    run = this_run()
    wanted = json.dumps([run, role_name, ttl])
    path = f"{INTENTS}c{hashlib.sha256(wanted.encode()).hexdigest()[:32]}"
    while True:
        document = mount.store.read(path)
        version = document.version if document else 0
        if document and document.data["kind"] == "issue":
            lease = _lease(mount, document)
            if lease is None:
                if is_at_work(document) is not False:
                    time.sleep(_POLL_SECONDS)
                    continue
                lease = _lease(mount, document)
            if lease is None:
                # Nobody is at it and there is no lease: interrupted. What it has made goes first.
                client = mount.openai()
                try:
                    taken = take_over(mount, document)
                except Conflict:
                    continue
                if taken:
                    settle(mount, client, taken, accounts_of(client, taken.data["lease"]))
                continue
            if "clock" in lease:
                mount.recall_far_clock(Comparison(**lease["clock"]))
            remaining = lease["expires_at"] - mount.now()
            if "ending" not in lease and remaining > 0 and remaining >= _least(min_remaining, lease["duration"]):
                return credential(lease, lease["api_key"]), False
        try:
            return issue(mount, role_name, ttl, Claim(path, version, run)), True
        except Conflict:
            continue


def _lease(mount: Mount, claim: Document) -> Data | None:
    if "taken" in claim.data:
        # Its issuer takes back what it may still write.
        return None
    lease = read_lease(mount, claim.data["lease"]["lease_id"])
    return lease.data if lease else None


def _least(min_remaining: int, duration: int) -> int:
    return min_remaining if min_remaining < duration else duration // 2
