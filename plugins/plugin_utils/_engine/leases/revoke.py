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
from ..run.processes import at_work, is_running, this_process
from ..run.threads import concurrently
from ..store.base import Data, Document, Write, readable
from .intents import clear, spent
from .lease import Record, check_pins, due_at, lease_path, refused_path, retry_wait

#: How many batches of leases are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3


class Ended(t.NamedTuple):
    """What became of a lease that was to be ended: error is None when its account and its record are gone.

    intent is the record of OpenAI's last refusal, if there has been one. general says that the error is not about this
    lease: nothing could be ended at all. dropped says that in spite of an error there is no record any more, was_gone that
    OpenAI did not know the account any more, unrecorded that the error is of the store only: the key is ended.
    """

    lease: Data
    error: str | None
    intent: Document | None = None
    general: bool = False
    dropped: bool = False
    was_gone: bool = False
    unrecorded: bool = False


def revoke(
    mount: Mount,
    leases: t.Iterable[Record],
    *,
    force: bool = False,
    only_due: bool = False,
    run_is_over: bool = False,
    concurrency: int = 16,
) -> list[Ended]:
    """End leases, and their records as that goes on; returns those that were to end.

    With force their records go even if OpenAI refuses; with only_due, one that somebody else renews or ends at the same
    time is left to them. Without it somebody wants the keys ended whatever the store is able to record, so they end first.
    run_is_over says that the run that has claimed them asks for nothing more.
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
            _record_ended(mount, [one for one in ended if force or not one.general], force, run_is_over)
        except StoreError as error:
            return [one if one.error else one._replace(error=_unrecorded(error), unrecorded=True) for one in ended]
        return [one._replace(dropped=force and one.error is not None) for one in ended]

    # Those that are known need no more threads than there are of them.
    every = [*first, *batches] if isinstance(leases, t.Sequence) else itertools.chain(first, batches)
    at_once = max(_BATCHES, -(-concurrency // size) + 2)
    with at_work(work):
        ended = concurrently(end, every, at_once)
        return [one for some in ended for one in some]


def end_forgotten(mount: Mount, leases: t.Sequence[Data], *, concurrency: int) -> list[Ended]:
    """End leases that a run took and the store does not know; returns those that OpenAI still knew."""
    if not leases:
        return []
    records = [Record(lease, "active", None, None) for lease in leases]
    ended = _delete(mount, threading.Semaphore(concurrency), [], records, concurrency)
    return [one for one in ended if one.error or not one.was_gone]


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
    errors, gone = client.delete_unknown_accounts(unknown, calls)
    return [
        one or _ended(record, errors.get(account_id), failed)._replace(was_gone=account_id in gone)
        for record, one in outcomes
        for account_id in [record.lease["service_account_id"]]
    ]


def _ended(record: Record, error: OpenAICredsError | None, failed: list[ApiError]) -> Ended:
    general = isinstance(error, ApiError) and error.general
    if isinstance(error, ApiError) and general:
        failed.append(error)
    return Ended(record.lease, str(error) if error else None, record.intent, general)


def _record_ended(mount: Mount, ended: t.Sequence[Ended], force: bool, run_is_over: bool) -> None:
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    _clear_claims(mount, [one.lease for one in ended if "claim" in one.lease], run_is_over)
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


def _clear_claims(mount: Mount, leases: t.Sequence[Data], run_is_over: bool) -> None:
    """Clear the claims of runs on leases that have ended. Those of a run that is over go."""
    if not leases:
        return
    ended = {lease["lease_id"] for lease in leases}
    # One that cannot be read must not keep the leases of others on record.
    found = readable(mount.store.read_each(list({lease["claim"]: None for lease in leases})), lambda _error: None)
    claims = [claim for claim in found if claim.data.get("lease", {}).get("lease_id") in ended]
    kept = [
        claim
        for claim in claims
        if claim.data["shared"] and not run_is_over and is_running(claim.data["run"]) is not False
    ]
    try:
        if kept:
            mount.store.write(*(Write(claim.path, spent(mount, claim), claim.version) for claim in kept))
    except Conflict:
        for claim in kept:
            clear(mount, claim)
    gone = [claim.path for claim in claims if claim not in kept]
    if gone:
        mount.store.delete(*gone)


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
