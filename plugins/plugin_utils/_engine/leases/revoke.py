# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End leases, and their records as that goes on."""

from __future__ import annotations

import contextlib
import itertools
import threading
import typing as t

from ..errors import Conflict, OpenAICredsError, StoreError
from ..mount import Mount
from ..names import random_text
from ..run.processes import at_work, this_process
from ..run.threads import concurrently
from ..store.base import Data, Document, Write
from .intents import clear
from .lease import Record, check_pins, due_at, lease_path, read_leases, refused_path, retry_wait

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

#: How many batches of leases are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3


class Ended(t.NamedTuple):
    """What became of a lease that was to be ended: error is None when its account and its record are gone.

    intent is the record of OpenAI's last refusal, if there has been one; dropped says that in spite of an error there is no
    record any more.
    """

    lease: Data
    error: str | None
    intent: Document | None = None
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

    def end(batch: list[Record]) -> list[Ended]:
        try:
            try:
                batch = _mark(mount, batch, ending, only_due)
            except StoreError:
                # A full disk must not prevent what was asked for. Unmarked, a lease may just have been renewed, so what is
                # ended for being due has to wait.
                if only_due:
                    raise
            # As with an issue, after that: if the mount moves, either this sees it or the move sees what is marked.
            client = mount.openai()
        except OpenAICredsError as error:
            # Others have ended and are to be told of. What was marked is finished by the next cleanup.
            return [Ended(record.lease, str(error)) for record in batch]
        ended = list(concurrently(lambda record: _delete(client, calls, record), batch, concurrency))
        try:
            _record_ended(mount, ended, force)
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
    set back to what it was before: it is ended by what the run knows.
    """
    found = {document.data["lease_id"]: document for document in read_leases(mount, [one["lease_id"] for one in taken])}
    mount.check_is_here()
    active = [Record(known.data, "active", known, None) for known in found.values() if "ending" not in known.data]
    ended = revoke(mount, active, concurrency=concurrency)
    paths = {refused_path(one["lease_id"]): one for one in taken if one["lease_id"] not in found}
    refused = {document.path for document in mount.store.read_each(list(paths))}
    lost = [Record(one, "active", None, None) for path, one in paths.items() if path not in refused]
    if lost:
        client, calls = mount.openai(), threading.Semaphore(concurrency)
        ended += concurrently(lambda record: _delete(client, calls, record), lost, concurrency)
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


def _delete(client: OpenAI, calls: threading.Semaphore, record: Record) -> Ended:
    lease = record.lease
    try:
        check_pins(client, lease)
        with calls:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
    except OpenAICredsError as error:
        return Ended(lease, str(error), record.intent)
    return Ended(lease, None, record.intent)


def _record_ended(mount: Mount, ended: t.Sequence[Ended], force: bool) -> None:
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    for one in ended:
        if "claim" in one.lease:
            claim = mount.store.read(one.lease["claim"])
            if claim and claim.data.get("lease", {}).get("lease_id") == one.lease["lease_id"]:
                clear(mount, claim)
    for one in ended:
        if one.error is not None and not force:
            with contextlib.suppress(Conflict):  # somebody else has tried as well, and said so
                mount.store.write(_refused(mount, one.lease, one.error, one.intent))
    mount.store.delete(*(lease_path(one.lease["lease_id"]) for one in ended))
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
