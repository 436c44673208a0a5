# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cleanup: end what is due, finish what was interrupted, report what is left."""

from __future__ import annotations

import typing as t

from .durations import rfc3339
from .errors import OpenAICredsError
from .leases import INTENTS, LEASES, Ended, end, read_lease, settle
from .mount import Mount
from .process import is_running
from .store import Data, Document

if t.TYPE_CHECKING:
    from .client import OpenAI

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
    only looks.
    """
    result: Data = {name: [] for name in ("revoked", "checked_in", "recovered", "orphans", "failed")}
    interrupted, revocations, waiting = _sort_intents(mount, grace)
    if limit is not None:
        interrupted = interrupted[:limit]
    _Recovery(mount, orphans, dry_run, result).run(interrupted)

    now = mount.now()
    revoking = {intent.data["lease"]["lease_id"]: intent for intent in revocations + waiting}
    leases = [intent.data["lease"] for intent in revocations]
    leases += [
        lease.data for lease in mount.store.scan(LEASES, due_before=now) if lease.data["lease_id"] not in revoking
    ]
    if limit is not None:
        leases = leases[: max(0, limit - len(interrupted))]
    ended = (
        [Ended(lease, None) for lease in leases]
        if dry_run
        else end(mount, leases, revoking, concurrency=max_concurrency)
    )

    result["revoked"] = sorted(one.lease["lease_id"] for one in ended if one.error is None)
    result["failed"] += [{"lease_id": one.lease["lease_id"], "error": one.error} for one in ended if one.error]
    result["failed"] += [
        {"lease_id": intent.data["lease"]["lease_id"], "error": intent.data["error"]}
        for intent in waiting
        if intent.data["error"]
    ]
    summary = mount.store.summary(LEASES)
    result["active"] = summary.count
    result["next_expiry"] = rfc3339(summary.earliest_due) if summary.earliest_due else None
    return result


def _sort_intents(mount: Mount, grace: int) -> tuple[list[Document], list[Document], list[Document]]:
    """Return the interrupted issues and the watches, the revocations to be tried now, and those to wait with."""
    now = mount.now()
    interrupted: list[Document] = []
    revocations: list[Document] = []
    waiting: list[Document] = []
    for intent in mount.store.scan(INTENTS):
        data = intent.data
        if data["kind"] == "revoke":
            due = data["retry_at"] <= now if data["attempts"] else _is_abandoned(intent, now, grace)
            (revocations if due else waiting).append(intent)
        elif data["kind"] == "watch":
            interrupted.append(intent)
        elif "run" in data and _goes_on(data, now):
            # A run's claims are its own while it goes on, but for work that one of its processes has left.
            if data["kind"] == "issue" and _is_abandoned(intent, now, grace) and not _is_issued(mount, intent):
                interrupted.append(intent)
        elif data["kind"] == "spent" or _is_abandoned(intent, now, grace):
            interrupted.append(intent)
    return interrupted, revocations, waiting


def _is_abandoned(intent: Document, now: int, grace: int) -> bool:
    """Say whether nobody is at an intent any more."""
    owner = intent.data["owner"]
    running = False if owner is None else is_running(owner)
    return now >= intent.data["created_at"] + grace if running is None else not running


def _goes_on(data: Data, now: int) -> bool:
    """Say whether the run of a claim may go on."""
    running = is_running(data["run"])
    return now < data["created_at"] + _FORGET_SECONDS if running is None else running


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

    def run(self, intents: t.Sequence[Document]) -> None:
        for intent in intents:
            try:
                self._recover(intent)
            except OpenAICredsError as error:
                self._result["failed"].append({"lease_id": intent.data["lease"]["lease_id"], "error": str(error)})

    def _recover(self, intent: Document) -> None:
        kind, mount = intent.data["kind"], self._mount
        if kind == "spent" or (kind == "issue" and _is_issued(mount, intent)):
            if not self._dry_run:
                mount.store.delete(intent.path)
            if kind == "issue" and "run" not in intent.data:
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
            settle(mount, self._openai(), intent, found)
            if "run" in intent.data and not _goes_on(intent.data, mount.now()):
                mount.store.delete(intent.path)
        if found or kind == "issue":
            self._result["recovered"].append(lease["lease_id"])

    def _accounts_of(self, lease: Data) -> list[str]:
        project_id = lease["project_id"]
        if project_id not in self._accounts:
            names = self._accounts[project_id] = {}
            for account in self._openai().list_service_accounts(project_id):
                names.setdefault(account.name, []).append(account.id)
        return self._accounts[project_id].get(lease["service_account"], [])

    def _openai(self) -> OpenAI:
        self._client = self._client or self._mount.openai()
        return self._client
