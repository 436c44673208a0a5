# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status of library sets: which accounts are available, and who has the others."""

from __future__ import annotations

from ..definitions.change import read_definitions
from ..definitions.library_sets import SETS, LibrarySet, read_library_set
from ..durations import rfc3339
from ..errors import UnreadableError
from ..journal.owners import GRACE_SECONDS, is_left
from ..leases.lease import Lease, read_leases
from ..leases.refusal import all_refusals
from ..mount import Mount
from ..store.base import Data, Stored
from .holds import Hold, read_holds

AVAILABLE = "available"
CHECKED_OUT = "checked_out"
MISSING = "missing"
#: It cannot be read.
UNKNOWN = "unknown"


def library_status(mount: Mount, name: str | None) -> list[Data]:
    """Return the sets, or the one with this name, sorted by name, with the status of their accounts."""
    stored = mount.definitions(SETS)
    refused = {one.value.lease.lease_id: one.value.lease for one in all_refusals(mount, lambda _error: None)}
    shown = []
    for public in read_definitions(mount, SETS, name):
        accounts = _status(mount, read_library_set(public["name"], stored[public["name"]]), refused)
        available = sum(one["status"] == AVAILABLE for one in accounts.values())
        checked_out = sum(one["status"] == CHECKED_OUT for one in accounts.values())
        counts = {"available_accounts": available, "checked_out_accounts": checked_out}
        shown.append({**public, **counts, "account_status": accounts})
    return shown


def _status(mount: Mount, library_set: LibrarySet, refused: dict[str, Lease]) -> dict[str, Data]:
    holds, unknown = _holds(mount, library_set)
    now = mount.now()
    # Before their leases are read: what is written by then is complete.
    changing = {name for name, hold in holds.items() if not is_left(hold.value.owner, now, GRACE_SECONDS)}
    wanted = [hold.value.lease_id for hold in holds.values() if hold.value.lease_id]
    found, unread = _leases(mount, wanted)
    unknown |= {name for name, hold in holds.items() if hold.value.lease_id in unread}
    status = {
        name: _account(name, library_set, holds.get(name), {**refused, **found}, name in changing)
        for name in library_set.names
    }
    return {name: {**one, "status": UNKNOWN} if name in unknown else one for name, one in status.items()}


def _leases(mount: Mount, lease_ids: list[str]) -> tuple[dict[str, Lease], set[str]]:
    """Return those of these leases that are on record, and the ids of those of which that cannot be read."""
    unread: list[UnreadableError] = []
    found = {one.value.lease_id: one.value for one in read_leases(mount, lease_ids, unread.append)}
    unknown = set()
    for lease_id in lease_ids if unread else ():
        unread.clear()
        if lease_id not in found and not list(read_leases(mount, [lease_id], unread.append)) and unread:
            unknown.add(lease_id)
    return found, unknown


def _holds(mount: Mount, library_set: LibrarySet) -> tuple[dict[str, Stored[Hold]], set[str]]:
    """Return who has the accounts that were lent before, and the names of those of which that cannot be read."""
    unread: list[UnreadableError] = []
    holds = read_holds(mount, library_set, library_set.accounts, unread.append)
    unknown = set()
    # An error does not say which account it is about, so they are read one by one.
    for name in library_set.accounts if unread else ():
        unread.clear()
        if name not in holds and not read_holds(mount, library_set, [name], unread.append) and unread:
            unknown.add(name)
    return holds, unknown


def _account(
    name: str, library_set: LibrarySet, hold: Stored[Hold] | None, leases: dict[str, Lease], changing: bool
) -> Data:
    account_id = library_set.accounts.get(name)
    lease = leases.get(hold.value.lease_id) if hold and hold.value.lease_id else None
    lent = lease is not None or changing
    return {
        "service_account_id": account_id,
        "status": MISSING if account_id is None else CHECKED_OUT if lent else AVAILABLE,
        "lease_id": lease.lease_id if lease else None,
        "checked_out_by": lease.issued_by if lease else None,
        "checkout_time": rfc3339(lease.issued_at) if lease else None,
        "expires_at": rfc3339(lease.expires_at) if lease else None,
    }
