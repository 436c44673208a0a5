# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End leases, and their records as that goes on."""

from __future__ import annotations

import contextlib
import itertools
import threading
import typing as t

from ..errors import ApiError, Conflict, OpenAICredsError, StoreError, UnreadableError
from ..mount import Mount
from ..names import random_text
from ..run.processes import at_work, this_process
from ..run.threads import concurrently
from ..store.base import Data, Document, Write, readable
from .intents import clear
from .lease import Record, check_pins, due_at, lease_path, read_leases, refused_path, retry_wait

#: How many batches of leases are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3


class Ended(t.NamedTuple):
    """What became of a lease that was to be ended: error is None when its account and its record are gone.

    intent is the record of OpenAI's last refusal, if there has been one. general says that the error is not about this
    lease: nothing could be ended at all. dropped says that in spite of an error there is no record any more.
    """

    lease: Data
    error: str | None
    intent: Document | None = None
    general: bool = False
    dropped: bool = False


def revoke(
    mount: Mount,
    leases: t.Iterable[Record],
    *,
    force: bool = False,
    only_due: bool = False,
    concurrency: int = 16,
) -> list[Ended]:
    """End leases, and their records as that goes on; returns those that were to end.

    With force their records go even if OpenAI refuses; with only_due, one that somebody else renews or ends at the same
    time is left to them. Without it somebody wants the keys ended whatever the store is able to record, so they end first.
    """
    size = mount.store.batch
    batches = _batches(leases, size)
    first = list(itertools.islice(batches, 1))
    if not first:
        return []
    # Before anything has happened.
    mount.openai()
    work = random_text(16)
    ending = {"work": work, "owner": this_process()}
    calls = threading.Semaphore(concurrency)
    #: With a dead admin key or no way to OpenAI, one failure tells of all: the other leases are not tried.
    failed: list[ApiError] = []

    def end(batch: list[Record]) -> list[Ended]:
        try:
            if failed and not force:
                raise failed[0]
            try:
                batch = _mark(mount, batch, ending, only_due)
            except StoreError:
                # A full disk must not prevent what was asked for. Unmarked, a lease may just have been renewed, so what is
                # ended for being due has to wait.
                if only_due:
                    raise
            # The client is asked for after that, as with an issue: if the mount moves, either this sees it or the move sees
            # what is marked.
            ended = _delete(mount, calls, failed, batch, concurrency)
        except OpenAICredsError as error:
            # Others have ended and are to be told of. What was marked is finished by the next cleanup.
            return [Ended(record.lease, str(error)) for record in batch]
        try:
            # OpenAI has refused nothing where it could not be asked. These leases stay marked, and so are due at once.
            _record_ended(mount, [one for one in ended if force or not one.general], force)
        except StoreError as error:
            return [one._replace(error=one.error or _unrecorded(error)) for one in ended]
        return [one._replace(dropped=force and one.error is not None) for one in ended]

    # Those that are known need no more threads than there are of them.
    every = [*first, *batches] if isinstance(leases, t.Sequence) else itertools.chain(first, batches)
    at_once = max(_BATCHES, -(-concurrency // size) + 2)
    with at_work(work):
        ended = concurrently(end, every, at_once)
        return [one for some in ended for one in some]


def revoke_taken(mount: Mount, taken: t.Sequence[Data], *, concurrency: int) -> list[Ended]:
    """End the leases that a run took; returns those that were to end.

    taken are the leases as the run knows them. One that the store does not know any more may have ended, or the store was
    set back to what it was before: it is ended by what the run knows, as is one whose record cannot be read.
    """
    known = read_leases(mount, [one["lease_id"] for one in taken], lambda _error: None)
    found = {document.data["lease_id"]: document for document in known}
    mount.check_is_here()
    active = [Record(one.data, "active", one, None) for one in found.values() if "ending" not in one.data]
    ended = revoke(mount, active, concurrency=concurrency)
    paths = {refused_path(one["lease_id"]): one for one in taken if one["lease_id"] not in found}
    refused = {document.path for document in readable(mount.store.read_each(list(paths)), lambda _error: None)}
    lost = [Record(one, "active", None, None) for path, one in paths.items() if path not in refused]
    if lost:
        ended += _delete(mount, threading.Semaphore(concurrency), [], lost, concurrency)
    return ended


def _unrecorded(error: StoreError) -> str:
    return f"its key is ended at OpenAI, but its record stays until it can be removed: {error}"


def _batches(leases: t.Iterable[Record], size: int) -> t.Iterator[list[Record]]:
    left = iter(leases)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _mark(mount: Mount, batch: list[Record], ending: Data, only_due: bool) -> list[Record]:
    """Say on the records of leases that they are being ended; returns those that are still to be."""
    marks = [
        (record, _being_ended(mount, record.intent or t.cast(Document, record.document), ending)) for record in batch
    ]
    try:
        mount.store.write(*(write for _record, write in marks))
    except Conflict:
        marked = concurrently(lambda one: _mark_one(mount, *one, ending, only_due), marks, mount.store.batch)
        return [record for record in marked if record]
    return [_marked(record, write) for record, write in marks]


def _mark_one(mount: Mount, record: Record, mark: Write, ending: Data, only_due: bool) -> Record | None:
    while True:
        found = mount.store.read(mark.path)
        if found is None and not only_due and not record.intent:
            # OpenAI may have refused somebody else meanwhile.
            found = mount.store.read(refused_path(record.lease["lease_id"]))
            record = record._replace(intent=found, document=None)
        if found is None:
            # Somebody else has ended it.
            return None if only_due else record
        if found.data.get("ending", {}).get("work") == ending["work"]:
            return _marked(record, mark)
        if (found.path, found.version) != (mark.path, mark.version):
            if only_due:
                return None
            mark = _being_ended(mount, found, ending)
        with contextlib.suppress(Conflict):
            mount.store.write(mark)
            return _marked(record, mark)


def _being_ended(mount: Mount, record: Document, ending: Data) -> Write:
    # Nobody is given the key any more.
    data = {name: value for name, value in record.data.items() if name not in ("api_key", "renewing")}
    data["ending"] = {**ending, "at": mount.now()}
    return Write(record.path, data, record.version, due=due_at(record.path, data))


def _marked(record: Record, mark: Write) -> Record:
    document = Document(mark.path, mark.data, mark.version + 1)
    return record._replace(intent=document) if record.intent else record._replace(document=document)


def _delete(
    mount: Mount, calls: threading.Semaphore, failed: list[ApiError], batch: list[Record], concurrency: int
) -> list[Ended]:
    """Delete the accounts of leases. Those that OpenAI does not find share the lists that prove whether they are gone."""
    client = mount.openai()

    def delete(record: Record) -> tuple[Record, Ended | None]:
        lease = record.lease
        try:
            check_pins(client, lease)
            with calls:
                if failed:
                    raise failed[0]
                found = client.delete_service_account(lease["project_id"], lease["service_account_id"], prove=False)
        except OpenAICredsError as error:
            return record, _ended(record, error, failed)
        return record, _ended(record, None, failed) if found else None

    outcomes = list(concurrently(delete, batch, concurrency))
    unknown = [(record.lease["project_id"], record.lease["service_account_id"]) for record, one in outcomes if not one]
    errors = client.delete_unknown_accounts(unknown, calls)
    return [one or _ended(record, errors.get(record.lease["service_account_id"]), failed) for record, one in outcomes]


def _ended(record: Record, error: OpenAICredsError | None, failed: list[ApiError]) -> Ended:
    general = isinstance(error, ApiError) and error.general
    if isinstance(error, ApiError) and general:
        failed.append(error)
    return Ended(record.lease, str(error) if error else None, record.intent, general)


def _record_ended(mount: Mount, ended: t.Sequence[Ended], force: bool) -> None:
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    for one in ended:
        if "claim" in one.lease:
            # One that cannot be read must not keep the leases of others on record.
            with contextlib.suppress(UnreadableError):
                claim = mount.store.read(one.lease["claim"])
                if claim and claim.data.get("lease", {}).get("lease_id") == one.lease["lease_id"]:
                    clear(mount, claim)
    recorded = []
    for one in ended:
        if one.error is not None and not force:
            try:
                mount.store.write(_refused(mount, one.lease, one.error, one.intent))
            except Conflict:
                pass  # somebody else has tried as well, and said so
            except UnreadableError:
                continue  # then the lease itself stays, and is tried again
        recorded.append(one)
    mount.store.delete(*(lease_path(one.lease["lease_id"]) for one in recorded))
    mount.store.delete(*(one.intent.path for one in ended if one.intent and (one.error is None or force)))


def _refused(mount: Mount, lease: Data, error: str, before: Document | None) -> Write:
    """Return the record of a lease that OpenAI has refused to end: apart from the others, and tried again by cleanup."""
    attempts = before.data["attempts"] + 1 if before else 1
    data = {
        "kind": "revoke",
        "lease": {name: value for name, value in lease.items() if name not in ("api_key", "ending", "renewing")},
        "attempts": attempts,
        "error": error,
        "retry_at": mount.now() + retry_wait(attempts),
    }
    return Write(refused_path(lease["lease_id"]), data, before.version if before else 0)
