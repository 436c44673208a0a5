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
from ..run.processes import at_work, is_running, this_process
from ..run.threads import concurrently
from ..store.base import Data, Document, Write
from .intents import clear, spent
from .lease import Record, due_at, lease_path, refused_path, retry_wait

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

#: How many batches of leases are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3


class Ended(t.NamedTuple):
    """What became of a lease that was to be ended: error is None when its account is gone.

    intent is the record of OpenAI's last refusal, if there has been one.
    """

    lease: Data
    error: str | None
    intent: Document | None = None


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
    time is left to them. run_is_over says that the run that has claimed them asks for nothing more.
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
                # Ending a key needs no record to be safe, and a full disk must not prevent it.
                if not force:
                    raise
            # As with an issue, after that: if the mount moves, either this sees it or the move sees what is marked.
            client = mount.openai()
            ended = list(concurrently(lambda record: _delete(client, calls, record), batch, concurrency))
            _record_ended(mount, ended, force, run_is_over)
        except OpenAICredsError as error:
            # Others have ended and are to be told of. What was marked is finished by the next cleanup.
            return [Ended(record.lease, str(error)) for record in batch]
        return ended

    # Those that are known need no more threads than there are of them.
    every = [*first, *batches] if isinstance(leases, t.Sequence) else itertools.chain(first, batches)
    at_once = max(_BATCHES, -(-concurrency // size) + 2)
    with at_work(work):
        ended = concurrently(end, every, at_once)
        return [one for some in ended for one in some]


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
    data = {name: value for name, value in record.data.items() if name != "api_key"}
    data["ending"] = {**ending, "at": mount.now()}
    return Write(record.path, data, record.version, due=due_at(record.path, data))


def _marked(record: Record, mark: Write) -> Record:
    document = Document(mark.path, mark.data, mark.version + 1)
    return record._replace(intent=document) if record.intent else record._replace(document=document)


def _delete(client: OpenAI, calls: threading.Semaphore, record: Record) -> Ended:
    lease = record.lease
    try:
        with calls:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
    except OpenAICredsError as error:
        return Ended(lease, str(error), record.intent)
    return Ended(lease, None, record.intent)


def _record_ended(mount: Mount, ended: t.Sequence[Ended], force: bool, run_is_over: bool) -> None:
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    _clear_claims(mount, [one.lease for one in ended if "claim" in one.lease], run_is_over)
    for one in ended:
        if one.error is not None and not force:
            with contextlib.suppress(Conflict):  # somebody else has tried as well, and said so
                mount.store.write(_refused(mount, one.lease, one.error, one.intent))
    mount.store.delete(*(lease_path(one.lease["lease_id"]) for one in ended))
    mount.store.delete(*(one.intent.path for one in ended if one.intent and (one.error is None or force)))


def _clear_claims(mount: Mount, leases: t.Sequence[Data], run_is_over: bool) -> None:
    """Clear the claims of runs on leases that have ended. Those of a run that is over go."""
    if not leases:
        return
    ended = {lease["lease_id"] for lease in leases}
    found = mount.store.read_each(list({lease["claim"]: None for lease in leases}))
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
        "lease": {name: value for name, value in lease.items() if name not in ("api_key", "ending")},
        "attempts": attempts,
        "error": error,
        "retry_at": mount.now() + retry_wait(attempts),
    }
    return Write(refused_path(lease["lease_id"]), data, before.version if before else 0)
