# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End leases: how their records are marked and cleared as that goes on (see journal.ending)."""

from __future__ import annotations

import contextlib
import threading
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..journal import ending
from ..journal.ending import Ended
from ..journal.owners import Owner
from ..mount import Mount
from ..run.threads import concurrently
from ..store.base import Stored, Write
from .claims import clear_claims
from .counts import Ending, Look, count_ended, count_unrecorded, look_ahead
from .find import Record
from .lease import Lease, lease_path, read_lease
from .refusal import RefusedLease, find_refusal, refuse_lease

#: What revocation does, in words that follow a number, for progress.
ENDED = "leases ended"


def revoke(
    mount: Mount,
    leases: t.Iterable[Record],
    *,
    force: bool = False,
    only_due: bool = False,
    run_is_over: bool = False,
    concurrency: int = 16,
) -> list[Ended[Record]]:
    """End leases, and their records as that goes on; returns those that were to end.

    run_is_over says that the run that has claimed them asks for nothing more; for the rest see journal.ending.end.
    """
    records = _LeaseRecords(mount, run_is_over)
    return ending.end(mount, leases, records, force=force, only_due=only_due, concurrency=concurrency)


def end_forgotten(mount: Mount, taken: t.Sequence[ending.Due], *, concurrency: int) -> list[Ended[t.Any]]:
    """End leases that a run took and the store does not know; returns those that OpenAI still knew."""
    if not taken:
        return []
    ended = ending.delete(mount.openai(), list(taken), threading.Semaphore(concurrency), [], concurrency)
    left = [one for one in ended if one.error or not one.was_gone]
    for one in left:
        if not one.error:
            count_unrecorded(mount, one.record.subject)
    return left


class _LeaseRecords:
    ended = ENDED

    def __init__(self, mount: Mount, run_is_over: bool) -> None:
        self._mount = mount
        self._run_is_over = run_is_over
        #: The ids of leases of which nothing is left.
        self._gone: set[str] = set()
        #: What was seen last of the counts.
        self._looks: dict[str, Look] = {}

    def look_ahead(self, batch: list[Record]) -> None:
        self._mount.store.prepare(writes=1)
        self._looks.update(look_ahead(self._mount, [_counted(Ended(record, None)) for record in batch]))

    def mark(self, batch: list[Record], owner: Owner, *, only_due: bool) -> list[Record]:
        marked = [_marked(record, owner) for record in batch]
        try:
            self._mount.store.write(*map(_write, marked))
        except Conflict:
            each = concurrently(lambda record: self._mark_one(record, owner, only_due), batch, self._mount.store.batch)
            return [record for record in each if record]
        return [_written(record) for record in marked]

    def _mark_one(self, record: Record, owner: Owner, only_due: bool) -> Record | None:
        while True:
            found = self._reread(record, only_due)
            if found is None:
                # Somebody else has ended it.
                return None if only_due else record
            if _ending(found) == owner:
                return found
            if _version(found) != _version(record):
                if only_due:
                    return None
                record = found
            marked = _marked(record, owner)
            with contextlib.suppress(Conflict):
                self._mount.store.write(_write(marked))
                return _written(marked)

    def _reread(self, record: Record, only_due: bool) -> Record | None:
        if record.stored and not record.refused:
            if stored := read_lease(self._mount, record.subject):
                return record._replace(lease=stored.value, stored=stored)
            if only_due:
                return None
        # OpenAI may have refused somebody else meanwhile.
        refused = find_refusal(self._mount, record.subject)
        return record._replace(refused=refused, stored=None) if refused else None

    def clear(self, ended: t.Sequence[Ended[Record]], *, force: bool) -> dict[str, StoreError]:
        # Claims first: one without its lease would be taken for an issue that was interrupted.
        clear_claims(self._mount, [one.record.lease for one in ended], run_is_over=self._run_is_over)
        recorded = []
        for one in ended:
            if one.error is not None and not force:
                write = refuse_lease(self._mount, one.record.lease, one.record.refused, one.error)
                try:
                    self._mount.store.write(write)
                except Conflict:
                    pass  # somebody else has tried as well, and said so
                except UnreadableError:
                    continue  # then the lease itself stays, and is tried again
            recorded.append(one.record)
        gone = [one for one in ended if one.error is None or force]
        uncounted = count_ended(self._mount, [_counted(one) for one in gone], self._gone, self._looks)
        left = {} if force else uncounted
        gone = [one for one in gone if one.record.subject not in left]
        self._mount.store.delete(*(lease_path(one.subject) for one in recorded if one.subject not in left))
        self._mount.store.delete(*(one.record.refused.path for one in gone if one.record.refused))
        self._gone.update(one.record.subject for one in gone)
        return left


def _counted(ended: Ended[Record]) -> Ending:
    record = ended.record
    evidence = record.refused.path if record.refused else lease_path(record.subject)
    return Ending(record.subject, evidence, dropped=ended.error is not None)


def _marked(record: Record, owner: Owner) -> Record:
    """Return a record as it is when its end has begun, with the version that it has before that."""
    if refused := record.refused:
        value = RefusedLease(refused.value.lease, refused.value.refusal, owner)
        return record._replace(refused=Stored(value, refused.path, refused.version))
    stored = t.cast(Stored[Lease], record.stored)
    lease = stored.value.for_ending(owner)
    return record._replace(lease=lease, stored=Stored(lease, stored.path, stored.version))


def _written(marked: Record) -> Record:
    """Return a marked record as it is when that is written."""
    if refused := marked.refused:
        return marked._replace(refused=Stored(refused.value, refused.path, refused.version + 1))
    stored = t.cast(Stored[Lease], marked.stored)
    return marked._replace(stored=Stored(stored.value, stored.path, stored.version + 1))


def _write(marked: Record) -> Write:
    if marked.refused:
        return marked.refused.value.write(marked.refused.version)
    return marked.lease.write(t.cast(Stored[Lease], marked.stored).version)


def _ending(record: Record) -> Owner | None:
    return record.refused.value.ending if record.refused else record.lease.ending


def _version(record: Record) -> tuple[bool, int]:
    """Return which document says that a lease is to end, and its version."""
    if record.refused:
        return True, record.refused.version
    return False, record.stored.version if record.stored else 0
