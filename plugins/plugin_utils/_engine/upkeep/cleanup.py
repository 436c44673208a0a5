# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cleanup: end what is due, finish what was interrupted, report what is left."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t
from functools import partial

from ..definitions.library_sets import ENDINGS, AccountEnding, read_endings
from ..durations import rfc3339
from ..errors import Conflict, OpenAICredsError, StoreError, UnreadableError
from ..journal.ending import Ended
from ..journal.owners import is_left
from ..journal.things import ADMIN_KEY
from ..journal.watches import find_watches
from ..leases.claims import claims_of_this_machine, claims_to_look_at, goes_on, have_lease, leases_of, look_later
from ..leases.find import Record, stored_record
from ..leases.intents import INTENTS, Claim, Intent, intents_in
from ..leases.lease import LEASES, leases_in, read_leases
from ..leases.refusal import RefusedLease, all_refusals
from ..leases.revoke import ENDED, revoke
from ..library.account_making import AccountIntent, account_intents
from ..library.accounts import end_accounts
from ..metrics.cleanups import LAST, record_cleanup
from ..mount import Mount
from ..rotation.admin_key import recover
from ..rotation.state import read_rotation
from ..rotation.static_role import recover_static_role
from ..rotation.static_state import unfinished
from ..run.processes import is_running
from ..store.base import Data, Stored, Survey
from .recovery import Recovery, is_issued


def cleanup(
    mount: Mount,
    *,
    orphans: str,
    max_concurrency: int,
    limit: int | None,
    grace: int,
    dry_run: bool,
) -> Data:
    """Do one round; returns what the module returns.

    orphans is report, delete or ignore; grace is in seconds; limit bounds how many leases are acted on. A dry run
    only looks. A mount without a config may have leases left all the same: what takes no admin key is done, the rest
    is in failed, and unconfigured, which is there only then, says why.
    """
    result: Data = {name: [] for name in ("revoked", "checked_in", "recovered", "orphans", "failed", "admin_api_keys")}
    result["rotated"] = False
    unreadable = partial(_add_unreadable, result)
    # While the definitions are read.
    mount.store.expect_reads(claims_of_this_machine(), LAST)
    definitions = mount.all_definitions()
    unconfigured = None if definitions.get("config") else str(mount.unconfigured())
    if unconfigured:
        result["unconfigured"] = unconfigured
    all_watches = find_watches(mount, unreadable)
    if read_rotation(definitions) or any(watch.value.thing.kind == ADMIN_KEY for watch in all_watches):
        _recover_rotation(mount, grace, dry_run, result)
    if _recover_static_roles(mount, grace, dry_run or unconfigured is not None, result):
        all_watches = find_watches(mount, unreadable)
    watches = [watch for watch in all_watches if watch.value.thing.kind != ADMIN_KEY]
    todo = _look(mount, grace, dry_run, result)
    of_runs, without_lease = _leases_of_runs(mount, todo.over, grace, result)
    recovery = Recovery(mount, orphans, dry_run, result)
    left = recovery.run([*todo.interrupted, *without_lease], watches, todo.accounts, limit)
    if definitions.get(ENDINGS):
        _end_accounts(mount, max_concurrency, dry_run, result)

    # Without an admin key nothing is acted on, but all of it is told.
    left = None if unconfigured else left

    def end(records: t.Iterable[Record]) -> list[Ended[Record]]:
        if dry_run or unconfigured:
            return [Ended(record, unconfigured) for record in records]
        return revoke(mount, records, only_due=True, concurrency=max_concurrency)

    # First, so that the survey finds no more of them.
    of_runs_now = of_runs[:left]
    ended = end(of_runs_now)
    left = None if left is None else left - len(ended)
    now = mount.now()
    survey = mount.store.survey(LEASES, now, tidy=not dry_run)
    done = {one.record.subject for one in ended}
    found: list[str] = []

    def due_now() -> t.Iterator[Record]:
        for record in itertools.islice(_due(mount, survey, todo, done, grace, result), left):
            found.append(record.subject)
            yield record

    def count_due() -> int | None:
        # What has been found may have ended since, and then is in the store no more.
        before = set(found)
        others = _count_due(mount, todo, done | before, grace)
        if others is None:
            return None
        return len(before) + others if left is None else min(len(before) + others, left)

    mount.progress.expect(ENDED, look_up=count_due)
    ended += end(due_now())

    gone = [one.record for one in ended if one.error is None]
    result["revoked"] = sorted(record.subject for record in gone if not record.lease.library_set)
    result["checked_in"] = sorted(record.subject for record in gone if record.lease.library_set)
    result["failed"] += [{"lease_id": one.record.subject, "error": one.error} for one in ended if one.error]
    result["failed"] += [{"lease_id": one.value.subject, "error": one.value.refusal.error} for one in todo.waiting]
    if not dry_run:
        _tidy(mount, todo, {one.record.subject for one in ended}, of_runs, result)
    # What the limit has left. It may be kept together with what is not due yet, which is counted on the way.
    due = leases_in(survey.due, unreadable)
    ends: list[int] = []
    try:
        ends += (lease.value.expires_at for lease in due)
    except StoreError as error:
        _add_unreadable(result, error)
    if survey.next_due is not None:
        ends.append(survey.next_due)
    # What was only told of is still there to be counted, as a dry run leaves it, or a mount without an admin key.
    told = [record.lease for record in of_runs_now] if dry_run or unconfigured else []
    result["active"] = survey.later - sum(not lease.ending and lease.expires_at > now for lease in told)
    result["next_expiry"] = rfc3339(min(ends)) if ends else None
    if not (dry_run or unconfigured or result["failed"]):
        try:
            record_cleanup(mount)
        except StoreError as error:
            _add_unreadable(result, error)
    return result


@dataclasses.dataclass
class _ToDo:
    """What a look at the records has found, apart from the leases: what was interrupted; refusals to try again now, and
    others; claims of runs that are over; claims of runs that go on, whose leases are on record; accounts of library sets whose
    making was interrupted."""

    interrupted: list[Stored[Intent]] = dataclasses.field(default_factory=list)
    refused: list[Stored[RefusedLease]] = dataclasses.field(default_factory=list)
    waiting: list[Stored[RefusedLease]] = dataclasses.field(default_factory=list)
    over: list[Stored[Intent]] = dataclasses.field(default_factory=list)
    kept: list[Stored[Intent]] = dataclasses.field(default_factory=list)
    accounts: list[Stored[AccountIntent]] = dataclasses.field(default_factory=list)


def _look(mount: Mount, grace: int, dry_run: bool, result: Data) -> _ToDo:
    now = mount.now()
    todo = _ToDo()
    unreadable = partial(_add_unreadable, result)
    for refused in all_refusals(mount, unreadable):
        again = refused.value.refusal.is_due(now) and is_left(refused.value.ending, now, grace)
        (todo.refused if again else todo.waiting).append(refused)
    todo.interrupted += [
        one for one in intents_in(mount.store.scan(INTENTS), unreadable) if one.value.is_left(now, grace)
    ]
    todo.accounts += [one for one in account_intents(mount, unreadable) if one.value.is_left(now, grace)]
    going_on: list[Stored[Intent]] = []
    try:
        for claim in claims_to_look_at(mount, now, tidy=not dry_run, unreadable=unreadable):
            (going_on if goes_on(claim.value, now) else todo.over).append(claim)
    except StoreError as error:
        # What is due ends all the same.
        _add_unreadable(result, error)
    # A run's claims are its own while it goes on, but for work that one of its processes has left.
    left = [claim for claim in going_on if claim.value.lease and claim.value.is_left(now, grace)]
    unissued = _unissued(mount, left, result)
    todo.interrupted += unissued
    paths = {claim.path for claim in unissued}
    todo.kept += [claim for claim in left if claim.path not in paths and 0 < claim.value.due <= now]
    return todo


def _tidy(mount: Mount, todo: _ToDo, done: t.Container[str], of_runs: t.Sequence[Record], result: Data) -> None:
    """Remove claims that nobody needs, and look at others later. That comes last: what cannot be removed must not keep a
    key alive."""
    live = {record.subject for record in of_runs if record.subject not in done}
    spent = [claim for claim in todo.over if claim.value.lease is None]
    try:
        mount.store.delete(*(claim.path for claim in spent if live.isdisjoint(leases_of(claim.value))))
        if todo.kept:
            mount.store.write(*map(look_later, todo.kept))
    except Conflict:
        pass  # whoever has changed one sees to it
    except StoreError as error:
        result["failed"].append({"lease_id": None, "error": str(error)})


def _leases_of_runs(
    mount: Mount, over: t.Sequence[Stored[Intent]], grace: int, result: Data
) -> tuple[list[Record], list[Stored[Intent]]]:
    """Return the leases of claims whose runs are over, and the claims that no lease came of, for nobody is at them.

    A run that cannot be seen from here is only thought to be over. Its leases may have been renewed, or this machine's clock
    may be wrong, so they end when they are due.
    """
    now = mount.now()
    certain = [claim for claim in over if is_running(t.cast(Claim, claim.value.claim).run) is False]
    wanted = list(dict.fromkeys(itertools.chain(*(leases_of(claim.value) for claim in certain))))
    # What cannot be read is told of where the claims without a lease are looked for, and by the survey.
    found = {stored.value.lease_id: stored for stored in read_leases(mount, wanted, lambda _error: None)}
    records = [
        stored_record(stored, now)
        for lease_id in wanted
        if (stored := found.get(lease_id)) and is_left(stored.value.ending, now, grace)
    ]
    unfinished = [
        claim
        for claim in over
        if claim.value.lease and claim.value.lease.lease_id not in found and claim.value.is_left(now, grace)
    ]
    return records, _unissued(mount, unfinished, result)


def _unissued(mount: Mount, claims: t.Sequence[Stored[Intent]], result: Data) -> list[Stored[Intent]]:
    """Return the claims that no lease is on record for. One whose lease cannot be read is left alone."""
    unread: list[UnreadableError] = []
    issued = have_lease(mount, [claim.value for claim in claims], unread.append)
    left = [claim for claim in claims if claim.value.lease and claim.value.lease.lease_id not in issued]
    if not unread:
        return left
    unissued = []
    # An error does not say which lease it is about, so they are read one by one.
    for claim in left:
        try:
            if not is_issued(mount, claim.value):
                unissued.append(claim)
        except UnreadableError as error:
            _add_unreadable(result, error)
    return unissued


def _due(
    mount: Mount, survey: Survey, todo: _ToDo, done: t.AbstractSet[str], grace: int, result: Data
) -> t.Iterator[Record]:
    """Yield what has to be ended now: what was refused and is to be tried again, and leases that are due or were being
    ended.

    What this machine's clock says is due may not be by OpenAI's, which counts; it is asked for once something is.
    """
    for refused in todo.refused:
        yield Record(refused.value.lease, "failed", None, refused)
    known = {refused.value.subject for refused in (*todo.refused, *todo.waiting)} | done
    try:
        asked = False
        for stored in leases_in(survey.due, partial(_add_unreadable, result)):
            if not asked:
                mount.learn_time()
                asked = True
            now, lease = mount.now(), stored.value
            if not lease.ending and now < lease.expires_at:
                survey.add_later(lease.expires_at)
            elif lease.lease_id not in known and is_left(lease.ending, now, grace):
                yield stored_record(stored, now)
    except StoreError as error:
        # What has been found so far ends all the same.
        _add_unreadable(result, error)


def _count_due(mount: Mount, todo: _ToDo, known: t.Container[str], grace: int) -> int | None:
    """Return how many more have to be ended now than are known; None if the store does not say."""
    try:
        survey = mount.store.survey(LEASES, mount.now(), tidy=False)
        due = _due(mount, survey, todo, set(), grace, {"failed": []})
        return sum(record.subject not in known for record in due)
    except StoreError:
        # Cleanup itself comes to it, and reports it.
        return None


def _add_unreadable(result: Data, error: StoreError) -> None:
    """Report once what cannot be read. Of what there is in it nobody knows the lease ids."""
    failure = {"lease_id": None, "error": str(error)}
    if failure not in result["failed"]:
        result["failed"].append(failure)


def _recover_rotation(mount: Mount, grace: int, dry_run: bool, result: Data) -> None:
    """Finish what rotations of the admin key have left, first of all: the rest is done with the key that comes of it."""
    report = recover(mount, grace, dry_run=dry_run)
    result["rotated"], result["admin_api_keys"] = report.rotated, report.ended
    result["failed"] += [
        {"lease_id": None, "admin_api_key_id": key_id, "error": error} for key_id, error in report.failed.items()
    ]
    if report.unfinished:
        result["failed"].append({"lease_id": None, "admin_api_key_id": None, "error": report.unfinished})


def _recover_static_roles(mount: Mount, grace: int, dry_run: bool, result: Data) -> bool:
    """Finish what rotations and deletions of static roles have left; returns whether there was any."""
    names: list[str] = []
    if dry_run:
        return False
    try:
        names += unfinished(mount, partial(_add_unreadable, result))
        for name in names:
            try:
                # What would not end is on record, and told of with the other refusals.
                recover_static_role(mount, name, grace)
            except OpenAICredsError as error:
                result["failed"].append({"lease_id": f"{mount.name}/static/{name}", "error": str(error)})
    except StoreError as error:
        _add_unreadable(result, error)
    return bool(names)


def _end_accounts(mount: Mount, concurrency: int, dry_run: bool, result: Data) -> None:
    """Delete the accounts that library sets have dropped."""
    now = mount.now()
    waiting: list[AccountEnding] = []
    due: list[AccountEnding] = []
    for one in read_endings(mount):
        (due if not one.refusal or one.refusal.is_due(now) else waiting).append(one)
    try:
        ended = [Ended(one, None) for one in due] if dry_run else end_accounts(mount, due, concurrency)
    except OpenAICredsError as error:
        ended = [Ended(one, str(error)) for one in due]
    result["recovered"] += [one.record.subject for one in ended if one.error is None]
    failed = [(one.record, one.error) for one in ended if one.error]
    failed += [(one, one.refusal.error) for one in waiting if one.refusal]
    result["failed"] += [
        {"lease_id": None, "service_account_id": one.thing.id, "error": f"{one.subject}: {error}"}
        for one, error in failed
    ]
