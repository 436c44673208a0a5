# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End things at OpenAI, many at a time, and their records as that goes on.

    mark      the record says who is ending the thing; nobody is given it any more
    delete    OpenAI ends it
    clear     the record goes; if OpenAI refused, it says so, how often, and when to try again

Whatever is interrupted, cleanup finds the record and carries on. Of two who mark at once, one is refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

from ..errors import ApiError, OpenAICredsError, StoreError
from ..mount import Mount
from ..names import random_text
from ..openai.account_keys import end_keys, try_end_key
from ..run.processes import at_work
from ..run.threads import Gate, beside, concurrently
from .owners import Owner, this_owner
from .things import ACCOUNT, ACCOUNT_KEY, Thing, check_pins, end_thing

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

#: How many batches are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3
_FIRST_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Refusal:
    """That OpenAI has refused to end something: how many times, why lastly, and the Unix time to try again."""

    attempts: int
    error: str
    retry_at: int

    def is_due(self, now: int) -> bool:
        """Say whether it may be tried again. A time further ahead than the longest wait was written by a wrong clock."""
        return not 0 < self.retry_at - now <= _LONGEST_RETRY_SECONDS


def refused_again(before: Refusal | None, error: str, now: int) -> Refusal:
    """Return the record of one more refusal."""
    attempts = before.attempts + 1 if before else 1
    wait = 0 if attempts == 1 else min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 2, 20))
    return Refusal(attempts, error, now + wait)


class Due(t.Protocol):
    """A record of something that is to end. subject says for users what it is."""

    @property
    def subject(self) -> str: ...

    @property
    def thing(self) -> Thing: ...


_D = t.TypeVar("_D", bound=Due)


class Ended(t.NamedTuple, t.Generic[_D]):
    """What became of something that was to be ended: error is None when it and its record are gone.

    general says that the error is not about this one: nothing could be ended at all. dropped says that in spite of an
    error there is no record any more, was_gone that OpenAI did not know it any more, unrecorded that the error is of the
    store only: it is ended at OpenAI.
    """

    record: _D
    error: str | None
    general: bool = False
    dropped: bool = False
    was_gone: bool = False
    unrecorded: bool = False


class Records(t.Protocol[_D]):
    """How the records of a kind are marked and cleared."""

    @property
    def ended(self) -> str:
        """What is done, in words that follow a number, for progress."""

    def mark(self, batch: list[_D], owner: Owner, *, only_due: bool) -> list[_D]:
        """Say on records that they are being ended; returns those that are still to be."""

    def look_ahead(self, batch: list[_D]) -> None:
        """Get ready to clear them, while OpenAI works."""

    def clear(self, ended: t.Sequence[Ended[_D]], *, force: bool) -> dict[str, StoreError]:
        """Remove the records of what has ended, and with force of the rest; record why the rest has not.

        Returns by their subjects why the records of some stay though these have ended.
        """


def end(
    mount: Mount,
    due: t.Iterable[_D],
    records: Records[_D],
    *,
    force: bool = False,
    only_due: bool = False,
    concurrency: int = 16,
) -> list[Ended[_D]]:
    """End things, and their records as that goes on; returns those that were to end.

    With force their records go even if OpenAI refuses; with only_due, one that somebody else renews or ends at the same
    time is left to them. Without it somebody wants them ended whatever the store is able to record, so they end first. The
    mount's progress is told; of how many, only the caller knows where due is no sequence.
    """
    size = mount.store.batch
    batches = _batches(due, size)
    first = list(itertools.islice(batches, 1))
    if not first:
        return []
    # Before anything has happened.
    mount.openai()
    owner = this_owner(random_text(16), mount.now())
    gate = Gate(concurrency)
    #: With a dead admin key or no way to OpenAI, one failure tells of all: the others are not tried.
    failed: list[ApiError] = []
    progress = mount.progress
    if isinstance(due, t.Sequence):
        progress.expect(records.ended, len(due))

    def count(ended: Ended[_D]) -> None:
        progress.add(records.ended, int(ended.error is None), refused=int(ended.error is not None))

    def end_batch(one: tuple[int, list[_D]]) -> list[Ended[_D]]:
        number, batch = one
        try:
            if failed and not force:
                raise failed[0]
            try:
                marked = records.mark(batch, owner, only_due=only_due)
                progress.expect(records.ended, len(marked) - len(batch))
                batch = marked
            except StoreError:
                # A full disk must not prevent what was asked for. Unmarked, one may just have been renewed, so what is
                # ended for being due has to wait.
                if only_due:
                    raise
            # The client is asked for after that, as when something is made: if the mount moves, either this sees it or the
            # move sees what is marked.
            client = mount.openai()
            with beside(lambda: records.look_ahead(batch)):
                # Those of the first batch first: while its records are written, OpenAI is asked for the next one.
                ended = delete(client, batch, gate.numbered(number), failed, concurrency, count)
        except OpenAICredsError as error:
            # Others have ended and are to be told of. What was marked is finished by the next cleanup.
            progress.add(records.ended, refused=len(batch))
            return [Ended(record, str(error)) for record in batch]
        try:
            # OpenAI has refused nothing where it could not be asked. These stay marked, and so are due at once.
            left = records.clear([one for one in ended if force or not one.general], force=force)
        except StoreError as error:
            return [_unrecorded(one, error) for one in ended]
        ended = [one._replace(dropped=force and one.error is not None) for one in ended]
        return [_unrecorded(one, left[one.record.subject]) if one.record.subject in left else one for one in ended]

    # Those that are known need no more threads than there are of them.
    numbered: t.Iterable[tuple[int, list[_D]]] = enumerate(itertools.chain(first, batches))
    if isinstance(due, t.Sequence):
        numbered = list(numbered)
    at_once = max(_BATCHES, -(-concurrency // size) + 2)
    # What is ended alone is soon over, and needs no thread.
    waiting = progress.waiting if len(first[0]) > 1 else None
    with at_work(owner.work):
        return [one for some in concurrently(end_batch, numbered, at_once, waiting) for one in some]


def _unrecorded(one: Ended[_D], why: StoreError) -> Ended[_D]:
    """Return what became of something whose record stays."""
    if one.error:
        return one
    error = f"its key is ended at OpenAI, but its record stays until it can be removed: {why}"
    return one._replace(error=error, unrecorded=True)


def _batches(due: t.Iterable[_D], size: int) -> t.Iterator[list[_D]]:
    left = iter(due)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _ignore(_ended: Ended[t.Any]) -> None:
    pass


def delete(
    client: OpenAI,
    batch: list[_D],
    calls: t.ContextManager[object],
    failed: list[ApiError],
    concurrency: int,
    count: t.Callable[[Ended[t.Any]], object] = _ignore,
) -> list[Ended[_D]]:
    """Delete things at OpenAI, whatever is on record.

    calls is held during each call; failed gets what concerns all calls; count is called with what became of each. What OpenAI
    does not find, or does not delete, shares the lists that prove whether it is gone.
    """

    def delete_one(record: _D) -> tuple[_D, Ended[_D] | None]:
        thing = record.thing
        try:
            check_pins(client, thing, record.subject)
            with calls:
                if failed:
                    raise failed[0]
                if thing.kind == ACCOUNT:
                    found = client.delete_service_account(str(thing.project_id), str(thing.id), prove=False)
                elif thing.kind == ACCOUNT_KEY:
                    found = try_end_key(client, str(thing.project_id), str(thing.id))
                else:
                    end_thing(client, thing)
                    found = True
        except OpenAICredsError as error:
            known = _ended(record, error, failed)
        else:
            if not found:
                return record, None
            known = _ended(record, None, failed)
        count(known)
        return record, known

    outcomes = list(concurrently(delete_one, batch, concurrency))
    unknown: dict[str, list[tuple[str, str]]] = {ACCOUNT: [], ACCOUNT_KEY: []}
    for record, one in outcomes:
        if not one:
            unknown[record.thing.kind].append((str(record.thing.project_id), str(record.thing.id)))
    errors, gone = client.delete_unknown_accounts(unknown[ACCOUNT], calls)
    key_errors, keys_gone = end_keys(client, unknown[ACCOUNT_KEY], calls)
    errors, gone = errors | key_errors, gone | keys_gone

    def proven(record: _D) -> Ended[_D]:
        thing_id = str(record.thing.id)
        ended = _ended(record, errors.get(thing_id), failed)._replace(was_gone=thing_id in gone)
        count(ended)
        return ended

    return [one or proven(record) for record, one in outcomes]


def _ended(record: _D, error: OpenAICredsError | None, failed: list[ApiError]) -> Ended[_D]:
    general = isinstance(error, ApiError) and error.general
    if isinstance(error, ApiError) and general:
        failed.append(error)
    return Ended(record, str(error) if error else None, general)
