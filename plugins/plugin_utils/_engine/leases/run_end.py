# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: its claims, and the leases that they are for."""

from __future__ import annotations

import itertools
import time
import typing as t

from ..errors import OpenAICredsError, UnreadableError
from ..journal.ending import Due, Ended
from ..journal.owners import GRACE_SECONDS, is_left
from ..mount import Mount
from ..run.processes import this_run
from ..store.base import Stored
from .claims import claims_of, leases_of
from .find import Record
from .intents import Intent
from .lease import read_leases
from .refusal import refusal_path, refusals_in
from .revoke import end_forgotten, revoke
from .share import take_back
from .taken import TakenLease

#: A worker that has been told to end gets so long to do so.
_WORKERS_SECONDS = 5.0
_POLL_SECONDS = 0.1


def take_back_interrupted(mount: Mount) -> t.Iterator[OpenAICredsError]:
    """Remove what workers of this run, which is over, have begun to issue and not finished; yields why some of it is left."""
    end = time.monotonic() + _WORKERS_SECONDS
    for claim in _claims(mount):
        if not claim.value.lease or _has_lease(mount, claim):
            continue
        while _is_at_work(claim) and not _has_lease(mount, claim) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        if _is_at_work(claim) is False and not _has_lease(mount, claim):
            try:
                take_back(mount, claim)
            except OpenAICredsError as error:
                yield error


def revoke_taken(mount: Mount, taken: t.Sequence[TakenLease], *, concurrency: int) -> t.Iterator[Ended[t.Any]]:
    """End the leases that this run has claimed and those that it took otherwise; yields what became of each.

    taken are leases as the run knows them. One that is not in the store any more may have ended, or the store was set back
    to what it was before; like one whose record cannot be read, it is ended by what the run knows.
    """
    mount.check_is_here()
    claimed = itertools.chain(*(leases_of(claim.value) for claim in _claims(mount)))
    ids = dict.fromkeys([*claimed, *(lease.subject for lease in taken)])
    found = {lease.value.lease_id: lease for lease in read_leases(mount, list(ids), _ignore)}
    unknown = [lease for lease in taken if lease.subject not in found]
    paths = [refusal_path(lease.subject) for lease in unknown]
    refused = {one.value.subject for one in refusals_in(mount.store.read_each(paths), _ignore)}
    now = mount.now()
    records = [
        Record(lease.value, "active", lease)
        for lease in found.values()
        if is_left(lease.value.ending, now, GRACE_SECONDS)
    ]
    # One by one without threads, so that it is known what is left if somebody gives up waiting.
    size = max(1, len(records)) if concurrency > 1 else 1
    for start in range(0, len(records), size):
        yield from revoke(mount, records[start : start + size], run_is_over=True, concurrency=concurrency)
    forgotten: list[Due] = [lease for lease in unknown if lease.subject not in refused]
    yield from end_forgotten(mount, forgotten, concurrency=concurrency)


def forget_claims(mount: Mount, *, leases_stay: bool) -> None:
    """Remove the claims of this run, which is over: all but those that still have work for a cleanup.

    That is what no lease came of and, unless its leases are to stay until they end, what was not revoked.
    """
    gone = []
    for claim in _claims(mount):
        spent = claim.value.lease is None
        if (
            (spent or _has_lease(mount, claim))
            if leases_stay
            else (spent and not _may_be_there(mount, leases_of(claim.value)))
        ):
            gone.append(claim.path)
    if gone:
        mount.store.delete(*gone)


def _claims(mount: Mount) -> list[Stored[Intent]]:
    return claims_of(mount, this_run(), _ignore)


def _is_at_work(claim: Stored[Intent]) -> bool | None:
    owner = claim.value.owner
    return owner.is_working() if owner else False


def _ignore(_unreadable: object) -> None:
    """Leave to cleanup what cannot be read: it tells of it."""


def _has_lease(mount: Mount, claim: Stored[Intent]) -> bool:
    return claim.value.lease is not None and _may_be_there(mount, [claim.value.lease.lease_id])


def _may_be_there(mount: Mount, lease_ids: t.Sequence[str]) -> bool:
    """Say whether one of these leases is on record, or in what cannot be read."""
    unreadable: list[UnreadableError] = []
    return bool(list(read_leases(mount, lease_ids, unreadable.append)) or unreadable)
