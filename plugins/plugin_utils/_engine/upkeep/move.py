# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving a mount from one store to another.

1. The definitions of the source say that the mount is being moved, so that nobody begins to work on it; then those of
   the target say so.
2. Nobody must be at work already: an issue looks at the definitions again after writing its intent, and a revocation
   after marking the leases, so that either it sees the move or the move sees it. If somebody is, the definitions are as
   before.
3. Each document is written to the target, marked as moved in the source by compare-and-set, and then deleted there. A
   renewal that comes in between makes that fail, and the document is moved again; one that comes later fails.
4. The definitions are written to the target, which opens the mount there, and those of the source say where it is.

Until the last step nobody can use the mount in either store, so nothing is used twice. Each step can be repeated.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import Conflict, OpenAICredsError, StoreError
from ..journal.owners import is_left, is_over, run_is_over
from ..journal.watches import WATCHES
from ..leases.counts import COUNTS
from ..leases.intents import CLAIMS, INTENTS, Claim, Intent, intents_in
from ..leases.lease import LEASES, leases_in
from ..leases.refusal import REFUSALS, all_refusals
from ..library.account_making import ACCOUNT_INTENTS, account_intents
from ..library.holds import HOLDS
from ..metrics.api_errors import API_ERRORS
from ..metrics.cleanups import CLEANUPS
from ..mount import DEFINITIONS, Mount
from ..names import random_text
from ..rotation.state import read_rotation
from ..rotation.static_state import STATIC, UNFINISHED
from ..run.processes import is_running, this_process, this_run
from ..store.base import MOVED, Data, Document, Write, readable

_BATCH = 256
#: A Unix time after all that may be due: in the year 2106.
_END_OF_TIME = 2**32
#: What there is of a mount beside its definitions.
_FOLDERS = (LEASES, REFUSALS, INTENTS, CLAIMS, WATCHES, STATIC, UNFINISHED, ACCOUNT_INTENTS, HOLDS)
#: What is only counted.
_METRICS = (COUNTS, API_ERRORS, CLEANUPS)


def move(source: Mount, target: Mount, *, to: str, grace: int, dry_run: bool) -> int | None:
    """Move a mount to another store; returns how many leases and intents it had, or None if it is there already.

    to names the target's store for whoever still uses the source. What cannot be seen from here counts as at work until
    it is grace seconds old.
    """
    found, there = source.store.read(DEFINITIONS), target.store.read(DEFINITIONS)
    begun = found.data.get("move", {}) if found else {}
    if found is None or begun.get("done"):
        if there is None or "move" in there.data:
            raise OpenAICredsError(f"from: mount {source.name!r} has no state in this store that could be moved")
        return None
    if begun and begun["to"] != to:
        raise OpenAICredsError(f"to: mount {source.name!r} is being moved to {begun['to']} already; finish that first")
    # After an interruption the definitions may have arrived already, and be in use there.
    arrived = there is not None and there.data.get("arrived") == begun.get("id", "")
    if there and not arrived and not _makes_way(there.data, begun.get("id")):
        raise OpenAICredsError(f"to: mount {target.name!r} has a state in the store {to} already")
    if begun and _is_under_way(begun, source.now(), grace):
        raise OpenAICredsError(f"to: mount {source.name!r} is being moved by another process; wait for it")
    count = _count(source)
    _refuse_if_in_use(source, found.data, grace)
    if dry_run:
        return count
    moving = _Moving(source, target, found, {"id": begun.get("id") or random_text(16), "to": to, "done": False})
    moving.mark()
    if not arrived:
        try:
            if not begun:
                _refuse_if_in_use(source, found.data, grace)
            closed = Write(DEFINITIONS, {"move": moving.move}, there.version if there else 0)
            target.store.write(closed)
        except OpenAICredsError as error:
            # If the target may have been written, only this very move may go on there, so the source has to keep its id.
            written = isinstance(error, StoreError) and error.may_have_happened
            if not begun and not written:
                source.store.write(Write(DEFINITIONS, found.data, moving.version))
            raise
    moved = sum(moving.documents(prefix) for prefix in _FOLDERS)
    # After the leases, whose ends they count.
    for prefix in _METRICS:
        moving.documents(prefix)
    # No cleanup comes back here to tidy up where something was due.
    list(source.store.due(CLAIMS, _END_OF_TIME, tidy=True))
    moving.mark()
    if not arrived:
        definitions = {name: section for name, section in found.data.items() if name not in ("move", "arrived")}
        target.store.write(Write(DEFINITIONS, {**definitions, "arrived": moving.move["id"]}, closed.version + 1))
    source.store.write(Write(DEFINITIONS, {"move": {**moving.move, "done": True}}, moving.version))
    return moved


def _makes_way(there: Data, id_: str | None) -> bool:
    """Say whether what the target has of a mount is nothing, or was left by a move: this one or one in the other direction."""
    move = there.get("move", {})
    nothing = not any(section for name, section in there.items() if name not in ("move", "arrived"))
    return nothing and (not move or move["done"] or move["id"] == id_)


def _count(source: Mount) -> int:
    """Return how many documents there are to move; refuse to begin if some could not be."""
    unreadable: list[OpenAICredsError] = []
    count = sum(1 for prefix in _FOLDERS for _one in readable(source.store.scan(prefix), unreadable.append))
    for prefix in _METRICS:
        list(readable(source.store.scan(prefix), unreadable.append))
    if unreadable:
        raise OpenAICredsError(
            f"from: mount {source.name!r} cannot be moved while {len(unreadable)} place(s) in its store cannot be read; "
            f"the first: {unreadable[0]}"
        )
    return count


def _is_under_way(begun: Data, now: int, grace: int) -> bool:
    at_work = begun["owner"] != this_process() and is_running(begun["owner"])
    return not is_over(at_work, begun["created_at"], now, grace)


def _refuse_if_in_use(source: Mount, definitions: Data, grace: int) -> None:
    now = source.now()
    rotating = read_rotation(definitions).intent
    at_work = int(rotating is not None and not is_left(rotating.owner, now, grace))
    at_work += sum(not intent.value.is_left(now, grace) for intent in intents_in(source.store.scan(INTENTS)))
    at_work += sum(_run_goes_on(claim.value, now, grace) for claim in intents_in(source.store.scan(CLAIMS)))
    at_work += sum(not is_left(refused.value.ending, now, grace) for refused in all_refusals(source))
    at_work += sum(not intent.value.is_left(now, grace) for intent in account_intents(source))
    # What is being ended is due.
    due = leases_in(source.store.survey(LEASES, now, tidy=False).due)
    at_work += sum(not is_left(lease.value.ending, now, grace) for lease in due)
    if at_work:
        raise OpenAICredsError(
            f"from: mount {source.name!r} is in use by {at_work} other run(s) or task(s); try again when they have ended"
        )


def _run_goes_on(claim: Intent, now: int, grace: int) -> bool:
    run = t.cast(Claim, claim.claim).run
    # Of this very run it is known that it does nothing else at the moment.
    return run != this_run() and not run_is_over(run, claim.created_at, now, grace)


class _Moving:
    """A move that has begun: what the definitions say of it, and their version as this process wrote it."""

    def __init__(self, source: Mount, target: Mount, found: Document, move: Data) -> None:
        self._source, self._target, self._definitions = source, target, found.data
        self.move = move
        self.version = found.version

    def mark(self) -> None:
        """Say in the source that the mount is being moved, and that this process is at it."""
        self.move = {**self.move, "owner": this_process(), "created_at": self._source.now()}
        try:
            self._source.store.write(Write(DEFINITIONS, {**self._definitions, "move": self.move}, self.version))
        except Conflict:
            raise OpenAICredsError(
                f"from: mount {self._source.name!r} was changed, or is being moved, by somebody else; try again"
            ) from None
        self.version += 1

    def documents(self, prefix: str) -> int:
        """Move the documents below a prefix; returns how many."""
        moved = 0
        while documents := list(readable(self._source.store.scan(prefix))):
            for start in range(0, len(documents), _BATCH):
                # What takes longer than others would wait for is no longer this process's.
                self.mark()
                moved += _move_batch(self._source, self._target, documents[start : start + _BATCH])
        return moved


def _move_batch(source: Mount, target: Mount, documents: list[Document]) -> int:
    new = [document for document in documents if MOVED not in document.data]
    found = target.store.read_each([document.path for document in new])
    there = {document.path: document for document in readable(found)}
    target.store.receive(
        *(
            Write(
                document.path,
                document.data,
                there[document.path].version if document.path in there else 0,
                _due(document),
            )
            for document in new
            if document.path not in there or there[document.path].data != document.data
        )
    )
    marks = [Write(document.path, {**document.data, MOVED: True}, document.version, _due(document)) for document in new]
    with contextlib.suppress(Conflict):  # changed meanwhile, and found again by the next look at the source
        source.store.write(*marks)
        source.store.delete(*(document.path for document in documents))
        return len(documents)
    return 0


def _due(document: Document) -> int:
    """Return the Unix time at which somebody has to look at a document."""
    if document.path.startswith(LEASES):
        return next(leases_in([document])).value.due
    return int(document.data.get("due", 0))
