# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke leases because somebody asks for it, those that are still being issued too.

An issue is withdrawn by taking over its intent. That fences the issuer, which takes its credential back instead of handing
it out, and the account is looked for by its name.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import Conflict, OpenAICredsError, StoreError
from ..journal.ending import Ended
from ..journal.making import recover
from ..journal.things import end_thing, ids_of
from ..mount import Mount
from ..run.threads import concurrently
from ..store.base import Stored
from .find import Record, find_record
from .intents import Intent
from .issue import CALLS_AT_ONCE
from .making import left_issue
from .revoke import ENDED, revoke

#: Who waits for an issue that is withdrawn may begin one, so it is looked again, but not for ever.
_ROUNDS = 3


def revoke_found(
    mount: Mount, found: list[Record], find: t.Callable[[], list[Record]], *, force: bool
) -> list[Ended[Record]]:
    """Revoke what was found, and what find returns then as long as something was being issued; returns what became of
    each."""
    became: dict[str, Ended[Record]] = {}
    for _round in range(_ROUNDS):
        records = {record.subject: record for record in found}
        new = [record for lease_id, record in records.items() if lease_id not in became]
        issuing = [record for record in new if _is_issuing(record)]
        ended = revoke(mount, [record for record in new if not _is_issuing(record)], force=force)
        ended += _withdraw_each(mount, issuing, force)
        # What is handed back is what was found.
        became |= {one.record.subject: one._replace(record=records[one.record.subject]) for one in ended}
        if not issuing:
            break
        found = find()
    else:
        for record in found:
            error = "it is still being issued; try again"
            became.setdefault(record.subject, Ended(record, error))
    return list(became.values())


def _is_issuing(record: Record) -> bool:
    return record.issuing is not None


def _withdraw_each(mount: Mount, issuing: list[Record], force: bool) -> list[Ended[Record]]:
    progress = mount.progress
    progress.expect(ENDED, len(issuing))
    withdrawn = []
    for one in concurrently(lambda record: _withdraw(mount, record, force), issuing, CALLS_AT_ONCE, progress.waiting):
        progress.add(ENDED, int(one.error is None), refused=int(one.error is not None))
        withdrawn.append(one)
    return withdrawn


def _withdraw(mount: Mount, record: Record, force: bool) -> Ended[Record]:
    making = left_issue(mount, t.cast(Stored[Intent], record.issuing))
    version = making.intent.version
    try:
        client = mount.openai()
        try:
            if recover(making):
                return Ended(record, None)
        except Conflict:
            pass
        except StoreError as error:
            if making.intent.version != version:
                raise
            # The key ends all the same.
            for account_id in ids_of(client, making.thing, making.subject):
                making.taken_back()
                end_thing(client, dataclasses.replace(making.thing, id=account_id))
            return Ended(record, f"its account is not at OpenAI, but whoever issues it could not be stopped: {error}")
        # It was finished or taken over meanwhile.
        now = find_record(mount, record.subject)
        if now is None:
            return Ended(record, None)
        if _is_issuing(now):
            return Ended(record, "somebody else is finishing its issue; try again")
        return next(iter(revoke(mount, [now], force=force)), Ended(record, None))
    except OpenAICredsError as error:
        taken = making.intent.version != version
        if taken and force:
            making.clear()
        return Ended(record, str(error), dropped=force and taken)
