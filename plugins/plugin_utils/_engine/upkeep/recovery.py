# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recovery: carry on where issues, and the making of accounts, were interrupted."""

from __future__ import annotations

import dataclasses
import typing as t
from functools import partial

from ..errors import ApiError, Conflict, OpenAICredsError
from ..journal.making import recover as recover_making
from ..journal.things import Thing, check_pins, end_thing, ids_by_name
from ..journal.watches import Watch, stop_watching
from ..leases.claims import goes_on
from ..leases.counts import count_unrecorded
from ..leases.intents import Intent
from ..leases.lease import Lease, read_lease
from ..leases.making import left_issue
from ..library.account_making import AccountIntent, AccountMaking
from ..mount import Mount
from ..store.base import Data, Stored

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

_LOOKED_AT = "interrupted operations looked at"


def is_issued(mount: Mount, intent: Intent) -> bool:
    """Say whether the lease of an intent is on record."""
    return read_lease(mount, t.cast(Lease, intent.lease).lease_id) is not None


class Recovery:
    """Carries on where something was interrupted, and tells the result of a cleanup what became of it."""

    def __init__(self, mount: Mount, orphans: str, dry_run: bool, result: Data) -> None:
        self._mount = mount
        self._orphans = orphans
        self._dry_run = dry_run
        self._result = result
        self._client: OpenAI | None = None
        self._ids: dict[tuple[str | None, ...], dict[str | None, list[str]]] = {}

    def run(
        self,
        intents: t.Sequence[Stored[Intent]],
        watches: t.Sequence[Stored[Watch]],
        accounts: t.Sequence[Stored[AccountIntent]],
        limit: int | None,
    ) -> int | None:
        """Recover what may be, at most limit leases; returns how many may still be acted on."""
        if intents or watches:
            # Whose lease has ended, and whether a watch has lasted, is judged by OpenAI's clock.
            self._mount.learn_time()
        work: list[tuple[str, t.Callable[[], None]]] = [
            (t.cast(Lease, intent.value.lease).lease_id, partial(self._recover, intent)) for intent in intents
        ]
        work += [(watch.value.subject, partial(self._search, watch)) for watch in watches]
        makings = [AccountMaking(self._mount, intent) for intent in accounts]
        work += [(making.subject, partial(self._recover_account, making)) for making in makings]
        failure: ApiError | None = None
        progress = self._mount.progress
        progress.expect(_LOOKED_AT, len(work))
        for lease_id, recover_one in work:
            if waiting := progress.waiting:
                waiting()
            if limit is not None and len(self._result["recovered"]) >= limit:
                break
            try:
                if failure is not None:
                    raise failure  # pylint: disable=raising-bad-type
                recover_one()
                progress.add(_LOOKED_AT, 1)
            except OpenAICredsError as error:
                progress.add(_LOOKED_AT, refused=1)
                if isinstance(error, ApiError) and error.general:
                    failure = error
                self._result["failed"].append({"lease_id": lease_id, "error": str(error)})
        return None if limit is None else limit - len(self._result["recovered"])

    def _recover(self, stored: Stored[Intent]) -> None:
        mount, intent = self._mount, stored.value
        lease = t.cast(Lease, intent.lease)
        if is_issued(mount, intent):
            # A claim stays with its lease: the next cleanup finds by it what the run has left.
            if not intent.claim:
                if not self._dry_run:
                    mount.store.delete(stored.path)
                self._result["recovered"].append(lease.lease_id)
            return
        found = self._wanted(lease.lease_id, lease.thing, lease.expires_at)
        if found is None:
            return
        if not self._dry_run:
            try:
                recover_making(left_issue(mount, stored), found)
            except Conflict:
                return  # another cleanup is at it
            # One that has replaced others stays until these have ended: a limit may leave them for another cleanup.
            if intent.claim and not intent.claim.replaced and not goes_on(intent, mount.now()):
                mount.store.delete(stored.path)
        self._result["recovered"].append(lease.lease_id)

    def _recover_account(self, making: AccountMaking) -> None:
        found: list[str] | None = []
        if making.thing.id is None:
            found = self._wanted(making.subject, making.thing, making.ends_at)
        else:
            check_pins(self._openai(), making.thing, making.subject)
        if found is None:
            return
        if not self._dry_run:
            try:
                recover_making(making, found)
            except Conflict:
                return  # another cleanup is at it
        self._result["recovered"].append(making.subject)

    def _search(self, watch: Stored[Watch]) -> None:
        thing, lease_id = watch.value.thing, watch.value.subject
        found = self._wanted(lease_id, thing, watch.value.ends_at)
        if found is None:
            return
        if not self._dry_run:
            for account_id in found:
                count_unrecorded(self._mount, lease_id)
                end_thing(self._openai(), dataclasses.replace(thing, id=account_id))
            stop_watching(self._mount, watch, found=bool(found))
        if found:
            self._result["recovered"].append(lease_id)

    def _wanted(self, lease_id: str, thing: Thing, ends_at: int) -> list[str] | None:
        """Return the ids of what bears the name, or None if it is to be left as it is."""
        # Whatever was asked for: at the lease's end, what was made for it ends.
        over = self._mount.now() >= ends_at
        if self._orphans == "ignore" and not over:
            return None
        found = self._ids_of(lease_id, thing)
        self._result["orphans"] += [
            {"name": thing.name, "id": account_id, "project_id": thing.project_id} for account_id in found
        ]
        return None if found and self._orphans != "delete" and not over else found

    def _ids_of(self, lease_id: str, thing: Thing) -> list[str]:
        check_pins(self._openai(), thing, lease_id)
        where = (thing.kind, thing.project_id, thing.account_id)
        if where not in self._ids:
            self._ids[where] = ids_by_name(self._openai(), thing)
        return self._ids[where].get(thing.name, [])

    def _openai(self) -> OpenAI:
        self._client = self._client or self._mount.openai()
        return self._client
