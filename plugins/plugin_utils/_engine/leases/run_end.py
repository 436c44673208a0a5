# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: its claims, and the leases that they are for."""

from __future__ import annotations

import itertools
import time
import typing as t

from ..errors import UnreadableError
from ..mount import Mount
from ..run.processes import this_run
from ..store.base import Data, Document, readable
from .intents import is_at_work
from .lease import Record, is_being_ended, read_lease, read_leases, refused_path
from .revoke import Ended, end_forgotten, revoke
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


def revoke_taken(mount: Mount, taken: t.Sequence[Data], *, concurrency: int) -> t.Iterator[Ended]:
    """End the leases that this run has claimed and those that it took otherwise; yields what became of each.

    taken are leases as the run knows them. One that is not in the store any more may have ended, or the store was set back
    to what it was before; like one whose record cannot be read, it is ended by what the run knows.
    """
    mount.check_is_here()
    ids = dict.fromkeys([*itertools.chain(*map(leases_of, _claims(mount))), *(lease["lease_id"] for lease in taken)])
    found = {lease.data["lease_id"]: lease for lease in read_leases(mount, list(ids), _ignore)}
    paths = {refused_path(one["lease_id"]): one for one in taken if one["lease_id"] not in found}
    refused = {document.path for document in readable(mount.store.read_each(list(paths)), _ignore)}
    now = mount.now()
    records = [
        Record(lease.data, "active", lease, None)
        for lease in found.values()
        if not is_being_ended(lease, now, _GRACE_SECONDS)
    ]
    # One by one without threads, so that it is known what is left if somebody gives up waiting.
    size = max(1, len(records)) if concurrency > 1 else 1
    for start in range(0, len(records), size):
        yield from revoke(mount, records[start : start + size], run_is_over=True, concurrency=concurrency)
    forgotten = [lease for path, lease in paths.items() if path not in refused]
    yield from end_forgotten(mount, forgotten, concurrency=concurrency)


def forget_claims(mount: Mount, *, leases_stay: bool) -> None:
    """Remove the claims of this run, which is over: all but those that still have work for a cleanup.

    That is what no lease came of and, unless its leases are to stay until they end, what was not revoked.
    """
    gone = []
    for claim in _claims(mount):
        spent = claim.data["kind"] == "spent"
        if (spent or _has_lease(mount, claim)) if leases_stay else (spent and not _may_live(mount, claim)):
            gone.append(claim.path)
    if gone:
        mount.store.delete(*gone)


def _claims(mount: Mount) -> list[Document]:
    return list(readable(mount.store.scan(run_folder(this_run())), _ignore))


def _ignore(_unreadable: object) -> None:
    """Leave to cleanup what cannot be read: it tells of it."""


def _may_live(mount: Mount, claim: Document) -> bool:
    """Say whether a lease of a claim may still be on record."""
    unread: list[UnreadableError] = []
    return any(True for _lease in read_leases(mount, leases_of(claim), unread.append)) or bool(unread)


def _has_lease(mount: Mount, claim: Document) -> bool:
    try:
        return read_lease(mount, claim.data["lease"]["lease_id"]) is not None
    except UnreadableError:
        return True  # There is one.
