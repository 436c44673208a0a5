# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cleanup: end what is due, finish what was interrupted, report what is left."""

from __future__ import annotations

import itertools
import typing as t

from ..durations import rfc3339
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError, UnreadableError
from ..leases.intents import is_left, settle, take_over
from ..leases.lease import (
    INTENTS,
    LEASES,
    Record,
    check_pins,
    is_being_ended,
    is_time_to_retry,
    read_lease,
    read_leases,
)
from ..leases.revoke import Ended, revoke
from ..leases.share import leases_of
from ..mount import Mount
from ..rotation.admin_key import recover
from ..run.processes import is_running
from ..store.base import Data, Document, Survey, readable

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

#: A claim of a run that cannot be seen from here is forgotten when its lease has ended for so long.
_FORGET_SECONDS = 86400


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
    result: Data = {name: [] for name in ("revoked", "checked_in", "recovered", "orphans", "failed")}
    unconfigured = None if mount.definitions("config") else str(mount.unconfigured())
    if unconfigured:
        result["unconfigured"] = unconfigured
    _recover_rotation(mount, grace, dry_run, result)
    spent, interrupted, refused, waiting, over = _sort_intents(mount, grace, result)
    of_runs, without_lease = _leases_of_runs(mount, over, grace, result)
    left = _Recovery(mount, orphans, dry_run, result).run([*interrupted, *without_lease], limit)

    # Without an admin key nothing is acted on, but all of it is told.
    left = None if unconfigured else left

    def end(records: t.Iterable[Record]) -> list[Ended]:
        if dry_run or unconfigured:
            return [Ended(record.lease, unconfigured) for record in records]
        return revoke(mount, records, only_due=True, concurrency=max_concurrency)

    # First, so that the survey finds no more of them.
    of_runs_now = of_runs[:left]
    ended = end(of_runs_now)
    left = None if left is None else left - len(ended)
    now = mount.now()
    survey = mount.store.survey(LEASES, now, tidy=not dry_run)
    done = {one.lease["lease_id"] for one in ended}
    ended += end(itertools.islice(_due(mount, survey, refused, waiting, done, grace, result), left))

    result["revoked"] = sorted(one.lease["lease_id"] for one in ended if one.error is None)
    result["failed"] += [{"lease_id": one.lease["lease_id"], "error": one.error} for one in ended if one.error]
    result["failed"] += [
        {"lease_id": intent.data["lease"]["lease_id"], "error": intent.data["error"]} for intent in waiting
    ]
    if not dry_run:
        _tidy(mount, spent, {one.lease["lease_id"] for one in ended}, of_runs, result)
    # What the limit has left. It may be kept together with what is not due yet, which is counted on the way.
    due = readable(survey.due, lambda error: _add_unreadable(result, error))
    ends: list[int] = []
    try:
        ends += (int(document.data["expires_at"]) for document in due)
    except StoreError as error:
        _add_unreadable(result, error)
    if survey.next_due is not None:
        ends.append(survey.next_due)
    # What was only told of is still there to be counted, as a dry run leaves it, or a mount without an admin key.
    told = [record.lease for record in of_runs_now] if dry_run or unconfigured else []
    result["active"] = survey.later - sum("ending" not in lease and lease["expires_at"] > now for lease in told)
    result["next_expiry"] = rfc3339(min(ends)) if ends else None
    return result


def _tidy(
    mount: Mount, spent: t.Sequence[Document], done: t.Container[str], of_runs: t.Sequence[Record], result: Data
) -> None:
    """Remove claims that nobody needs. That comes last: what cannot be removed must not keep a key alive."""
    live = {record.lease["lease_id"] for record in of_runs if record.lease["lease_id"] not in done}
    try:
        mount.store.delete(*(claim.path for claim in spent if live.isdisjoint(leases_of(claim))))
    except StoreError as error:
        result["failed"].append({"lease_id": None, "error": str(error)})


def _leases_of_runs(
    mount: Mount, over: t.Sequence[Document], grace: int, result: Data
) -> tuple[list[Record], list[Document]]:
    """Return the leases of claims whose runs are over, and the claims that no lease came of, for nobody is at them.

    A run that cannot be seen from here is only thought to be over. Its leases may have been renewed, or this machine's clock
    may be wrong, so they end when they are due.
    """
    now = mount.now()
    certain = [claim for claim in over if is_running(claim.data["run"]) is False]
    wanted = list(dict.fromkeys(itertools.chain(*map(leases_of, certain))))
    # What cannot be read is told of where the claims without a lease are looked for, and by the survey.
    found = {document.data["lease_id"]: document for document in read_leases(mount, wanted, lambda _error: None)}
    records = [
        Record(document.data, "active", document, None)
        for lease_id in wanted
        if (document := found.get(lease_id)) and not is_being_ended(document, now, grace)
    ]
    unfinished = [
        claim
        for claim in over
        if claim.data["kind"] == "issue" and claim.data["lease"]["lease_id"] not in found and is_left(claim, now, grace)
    ]
    return records, _unissued(mount, unfinished, result)


def _unissued(mount: Mount, claims: t.Sequence[Document], result: Data) -> list[Document]:
    """Return the claims that no lease is on record for. One whose lease cannot be read is left alone."""
    unread: list[UnreadableError] = []
    issued = {
        lease.data["lease_id"]
        for lease in read_leases(mount, [claim.data["lease"]["lease_id"] for claim in claims], unread.append)
    }
    left = [claim for claim in claims if claim.data["lease"]["lease_id"] not in issued]
    if not unread:
        return left
    unissued = []
    # An error does not say which lease it is about, so they are read one by one.
    for claim in left:
        try:
            if not _is_issued(mount, claim):
                unissued.append(claim)
        except UnreadableError as error:
            _add_unreadable(result, error)
    return unissued


def _due(
    mount: Mount,
    survey: Survey,
    refused: t.Sequence[Document],
    waiting: t.Sequence[Document],
    done: t.AbstractSet[str],
    grace: int,
    result: Data,
) -> t.Iterator[Record]:
    """Yield what has to be ended now: what was refused and is to be tried again, and leases that are due or were being
    ended.

    What this machine's clock says is due may not be by OpenAI's, which counts; it is asked for once something is.
    """
    for intent in refused:
        yield Record(intent.data["lease"], "failed", None, intent)
    known = {intent.data["lease"]["lease_id"] for intent in (*refused, *waiting)} | done
    try:
        asked = False
        for document in readable(survey.due, lambda error: _add_unreadable(result, error)):
            if not asked:
                mount.learn_time()
                asked = True
            now, end = mount.now(), document.data["expires_at"]
            if "ending" not in document.data and now < end:
                survey.add_later(end)
            elif document.data["lease_id"] not in known and not is_being_ended(document, now, grace):
                yield Record(document.data, "expired", document, None)
    except StoreError as error:
        # What has been found so far ends all the same.
        _add_unreadable(result, error)


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


def _sort_intents(
    mount: Mount, grace: int, result: Data
) -> tuple[list[Document], list[Document], list[Document], list[Document], list[Document]]:
    """Return the claims that nobody needs, issues interrupted and watches, refusals to try again now, others that wait, and
    claims on leases of runs that are over."""
    now = mount.now()
    spent: list[Document] = []
    interrupted: list[Document] = []
    refused: list[Document] = []
    waiting: list[Document] = []
    over: list[Document] = []
    left: list[Document] = []
    for intent in readable(mount.store.scan(INTENTS), lambda error: _add_unreadable(result, error)):
        data = intent.data
        if data["kind"] == "revoke":
            again = is_time_to_retry(data["retry_at"], now) and not is_being_ended(intent, now, grace)
            (refused if again else waiting).append(intent)
        elif data["kind"] == "watch":
            interrupted.append(intent)
        elif "run" in data and goes_on(data, now):
            # A run's claims are its own while it goes on, but for work that one of its processes has left.
            if data["kind"] == "issue" and is_left(intent, now, grace):
                left.append(intent)
        elif "run" in data:
            if data["kind"] == "spent":
                spent.append(intent)
            over.append(intent)
        elif is_left(intent, now, grace):
            interrupted.append(intent)
    interrupted += _unissued(mount, left, result)
    return spent, interrupted, refused, waiting, over


def goes_on(data: Data, now: int) -> bool:
    """Say whether the run of a claim may go on."""
    running = is_running(data["run"])
    last_use = data["lease"]["expires_at"] if "lease" in data else data["created_at"]
    return now < last_use + _FORGET_SECONDS if running is None else running


def _is_issued(mount: Mount, intent: Document) -> bool:
    return read_lease(mount, intent.data["lease"]["lease_id"]) is not None


class _Recovery:
    """Carries on where issues were interrupted."""

    def __init__(self, mount: Mount, orphans: str, dry_run: bool, result: Data) -> None:
        self._mount = mount
        self._orphans = orphans
        self._dry_run = dry_run
        self._result = result
        self._client: OpenAI | None = None
        self._accounts: dict[str, dict[str, list[str]]] = {}

    def run(self, intents: t.Sequence[Document], limit: int | None) -> int | None:
        """Recover what may be, at most limit leases; returns how many may still be acted on."""
        if intents:
            # Whose lease has ended, and whether a watch has lasted, is judged by OpenAI's clock.
            self._mount.learn_time()
        failure: ApiError | None = None
        for intent in intents:
            if limit is not None and len(self._result["recovered"]) >= limit:
                break
            try:
                if failure is not None:
                    raise failure  # pylint: disable=raising-bad-type
                self._recover(intent)
            except OpenAICredsError as error:
                if isinstance(error, ApiError) and error.general:
                    failure = error
                self._result["failed"].append({"lease_id": intent.data["lease"]["lease_id"], "error": str(error)})
        return None if limit is None else limit - len(self._result["recovered"])

    def _recover(self, intent: Document) -> None:
        kind, mount = intent.data["kind"], self._mount
        if kind == "issue" and _is_issued(mount, intent):
            # A claim stays with its lease: the next cleanup finds by it what the run has left.
            if "run" not in intent.data:
                if not self._dry_run:
                    mount.store.delete(intent.path)
                self._result["recovered"].append(intent.data["lease"]["lease_id"])
            return
        lease = intent.data["lease"]
        # Whatever was asked for: at the lease's end, what was made for it ends.
        over = mount.now() >= lease["expires_at"]
        if self._orphans == "ignore" and not over:
            return
        found = self._accounts_of(lease)
        self._result["orphans"] += [
            {"name": lease["service_account"], "id": account_id, "project_id": lease["project_id"]}
            for account_id in found
        ]
        if found and self._orphans != "delete" and not over:
            return
        if not self._dry_run:
            try:
                taken = take_over(mount, intent) if kind == "issue" else intent
            except Conflict:
                return  # another cleanup is at it
            if taken:
                settle(mount, self._openai(), taken, found)
            # One that has replaced others stays until these have ended: a limit may leave them for another cleanup.
            if "run" in intent.data and not intent.data["replaced"] and not goes_on(intent.data, mount.now()):
                mount.store.delete(intent.path)
        if found or kind == "issue":
            self._result["recovered"].append(lease["lease_id"])

    def _accounts_of(self, lease: Data) -> list[str]:
        check_pins(self._openai(), lease)
        project_id = lease["project_id"]
        if project_id not in self._accounts:
            names = self._accounts[project_id] = {}
            for account in self._openai().list_service_accounts(project_id):
                names.setdefault(account.name, []).append(account.id)
        return self._accounts[project_id].get(lease["service_account"], [])

    def _openai(self) -> OpenAI:
        self._client = self._client or self._mount.openai()
        return self._client
