# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke leases because somebody asks for it, those that are still being issued too.

An issue is withdrawn by taking over its intent. That fences the issuer, which takes its credential back instead of handing
it out, and the account is looked for by its name.
"""

from __future__ import annotations

import typing as t

from ..errors import Conflict, OpenAICredsError, StoreError
from ..mount import Mount
from ..store.base import Document
from .find import find_record
from .intents import abandon, accounts_of, clear, settle, take_over
from .lease import Record
from .revoke import Ended, revoke

#: Who waits for an issue that is withdrawn may begin one, so it is looked again, but not for ever.
_ROUNDS = 3


def revoke_found(
    mount: Mount, found: list[Record], find: t.Callable[[], list[Record]], *, force: bool
) -> list[tuple[Record, Ended]]:
    """Revoke what was found, and what find returns then as long as something was being issued; returns what became of
    each."""
    became: dict[str, tuple[Record, Ended]] = {}
    for _round in range(_ROUNDS):
        records = {record.lease["lease_id"]: record for record in found}
        new = [record for lease_id, record in records.items() if lease_id not in became]
        issuing = [record for record in new if _is_issuing(record)]
        ended = revoke(mount, [record for record in new if not _is_issuing(record)], force=force)
        ended += [_withdraw(mount, record, force) for record in issuing]
        became |= {one.lease["lease_id"]: (records[one.lease["lease_id"]], one) for one in ended}
        if not issuing:
            break
        found = find()
    else:
        for record in found:
            error = "it is still being issued; try again"
            became.setdefault(record.lease["lease_id"], (record, Ended(record.lease, error)))
    return list(became.values())


def _is_issuing(record: Record) -> bool:
    return record.intent is not None and record.intent.data["kind"] == "issue"


def _withdraw(mount: Mount, record: Record, force: bool) -> Ended:
    lease, intent = record.lease, t.cast(Document, record.intent)
    taken: Document | None = None
    try:
        client = mount.openai()
        try:
            taken = take_over(mount, intent)
        except Conflict:
            pass
        except StoreError as error:
            # The key ends all the same.
            for account_id in accounts_of(client, lease):
                client.delete_service_account(lease["project_id"], account_id)
            return Ended(lease, f"its account is not at OpenAI, but whoever issues it could not be stopped: {error}")
        if taken:
            settle(mount, client, taken, accounts_of(client, lease))
            return Ended(lease, None)
        # It was finished or taken over meanwhile.
        now = find_record(mount, lease["lease_id"])
        if now is None:
            return Ended(lease, None)
        if _is_issuing(now):
            return Ended(lease, "somebody else is finishing its issue; try again")
        return next(iter(revoke(mount, [now], force=force)), Ended(lease, None))
    except OpenAICredsError as error:
        if taken and force:
            clear(mount, taken)
        elif taken:
            abandon(mount, taken)
        return Ended(lease, str(error), dropped=force and taken is not None)
