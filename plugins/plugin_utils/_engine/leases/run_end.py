# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: its claims, and the leases that they are for."""

from __future__ import annotations

import time
import typing as t

from ..mount import Mount
from ..run.processes import this_run
from ..store.base import Document
from .intents import is_at_work
from .lease import Record, is_being_ended, read_lease, read_leases
from .share import leases_of, run_folder, take_back

#: A worker that has been told to end gets so long to do so.
_WORKERS_SECONDS = 5.0
_POLL_SECONDS = 0.1
#: As in cleanup, unless told otherwise.
_GRACE_SECONDS = 600


def take_back_interrupted(mount: Mount) -> None:
    """Remove what workers of this run, which is over, have begun to issue and not finished."""
    end = time.monotonic() + _WORKERS_SECONDS
    for claim in _claims(mount):
        if claim.data["kind"] != "issue" or _has_lease(mount, claim):
            continue
        while is_at_work(claim) and not _has_lease(mount, claim) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        if is_at_work(claim) is False and not _has_lease(mount, claim):
            take_back(mount, claim)


def leases_of_run(mount: Mount, others: t.Iterable[str]) -> list[Record]:
    """Return the leases that this run has claimed, and others by their ids, as far as they are to be ended."""
    mount.check_is_here()
    wanted = [lease_id for claim in _claims(mount) for lease_id in leases_of(claim)]
    return [
        Record(document.data, "active", document, None)
        for document in read_leases(mount, [*wanted, *others])
        if not is_being_ended(document, mount.now(), _GRACE_SECONDS)
    ]


def forget_claims(mount: Mount, *, leases_stay: bool) -> None:
    """Remove the claims of this run, which is over: all but those that still have work for a cleanup.

    That is what no lease came of and, unless its leases are to stay until they end, what was not revoked.
    """
    gone = []
    for claim in _claims(mount):
        spent = claim.data["kind"] == "spent"
        if (spent or _has_lease(mount, claim)) if leases_stay else (spent and not _live_leases(mount, claim)):
            gone.append(claim.path)
    if gone:
        mount.store.delete(*gone)


def _claims(mount: Mount) -> list[Document]:
    return list(mount.store.scan(run_folder(this_run())))


def _live_leases(mount: Mount, claim: Document) -> list[Document]:
    return list(read_leases(mount, leases_of(claim)))


def _has_lease(mount: Mount, claim: Document) -> bool:
    return read_lease(mount, claim.data["lease"]["lease_id"]) is not None
