# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find leases: all of a mount, those below a prefix, one by its id."""

from __future__ import annotations

import itertools
import typing as t

from ..durations import rfc3339
from ..errors import Conflict, OpenAICredsError, UnreadableError, quoted
from ..journal.things import Thing
from ..mount import Mount
from ..store.base import Data, Stored, refuse_unreadable
from .claims import claims_of_issues
from .intents import INTENTS, Intent, intents_in
from .lease import ISSUED_VERSION, LEASES, Lease, lease_path, leases_in, read_leases
from .refusal import RefusedLease, all_refusals, find_refusal

#: Is handed why a document cannot be read. Unless one is given, the first such document is refused.
OnUnreadable = t.Callable[[UnreadableError], object]


class Record(t.NamedTuple):
    """A lease as it stands, and what is on record of it: the lease, OpenAI's refusal to end it, the intent to issue it.

    status is active, expired, pending (it is being issued or ended) or failed (OpenAI has refused to end it).
    """

    lease: Lease
    status: str
    stored: Stored[Lease] | None = None
    refused: Stored[RefusedLease] | None = None
    issuing: Stored[Intent] | None = None

    @property
    def subject(self) -> str:
        return self.lease.lease_id

    @property
    def thing(self) -> Thing:
        return self.lease.thing

    def public(self) -> Data:
        """Return what users see of it; never a key."""
        lease = self.lease
        refusal = self.refused.value.refusal if self.refused else None
        return {
            "lease_id": lease.lease_id,
            "role": lease.role,
            **{name: value for name in ("library_set", "static_role") if (value := getattr(lease, name))},
            "renewable": lease.renewable,
            "service_account": lease.service_account,
            "service_account_id": lease.service_account_id,
            "api_key_id": lease.api_key_id,
            "project_id": lease.project_id,
            "status": self.status,
            "issued_at": rfc3339(lease.issued_at),
            "expires_at": rfc3339(lease.expires_at),
            "issued_by": lease.issued_by,
            **({"error": refusal.error, "attempts": refusal.attempts} if refusal else {}),
        }


def stored_record(stored: Stored[Lease], now: int, refused: Stored[RefusedLease] | None = None) -> Record:
    """Return the record of a lease that is on record."""
    lease = stored.value
    if refused:
        return Record(lease, "failed", stored, refused)
    status = "pending" if lease.ending else "active" if now < lease.expires_at else "expired"
    return Record(lease, status, stored)


def records(mount: Mount, unreadable: OnUnreadable = refuse_unreadable) -> t.Iterator[Record]:
    """Yield every lease of a mount."""
    mount.check_is_here()
    # What cannot be read here is handed over when it is read again.
    refusals = {one.value.lease.lease_id: one for one in all_refusals(mount, lambda _error: None)}
    seen = set()
    now = mount.now()
    for stored in leases_in(mount.store.scan(LEASES), unreadable):
        lease_id = stored.value.lease_id
        seen.add(lease_id)
        yield stored_record(stored, now, refusals.get(lease_id))
    # Again, since a lease that is found impossible to end while leases are read is only here then.
    for refused in all_refusals(mount, unreadable):
        if refused.value.lease.lease_id not in seen:
            seen.add(refused.value.lease.lease_id)
            yield Record(refused.value.lease, "failed", None, refused)
    for issuing in _issuing(mount, unreadable):
        lease = t.cast(Lease, issuing.value.lease)
        if lease.lease_id not in seen:
            seen.add(lease.lease_id)
            yield Record(lease, "pending", issuing=issuing)
    # A move may have begun during the scans. Then this was not every lease, so it has to fail.
    mount.check_is_here()


def matching(mount: Mount, prefix: str | None, unreadable: OnUnreadable = refuse_unreadable) -> list[Record]:
    """Return the leases whose id begins with a prefix, part by part; all without one."""
    parts = (mount.name if prefix is None else prefix).rstrip("/").split("/")
    if parts[0] != mount.name:
        raise OpenAICredsError(f"prefix: {quoted(prefix)} must begin with the mount, as in {mount.name}/creds/my-role/")
    start = "/".join(parts) + "/"
    return [record for record in records(mount, unreadable) if f"{record.subject}/".startswith(start)]


def find_record(mount: Mount, lease_id: str, unreadable: OnUnreadable = refuse_unreadable) -> Record | None:
    """Return one lease by its id, or None: there is none, or it is in what cannot be read."""
    if not lease_id.startswith(f"{mount.name}/"):
        raise OpenAICredsError(f"lease_id: {quoted(lease_id)} is not of this mount, {mount.name!r}")
    if record := find_issued(mount, lease_id, unreadable):
        return record
    # It may be being issued, which is recorded under another key.
    found = next(
        (one for one in _issuing(mount, unreadable) if t.cast(Lease, one.value.lease).lease_id == lease_id), None
    )
    mount.check_is_here()
    return Record(t.cast(Lease, found.value.lease), "pending", issuing=found) if found else None


def find_issued(mount: Mount, lease_id: str, unreadable: OnUnreadable = refuse_unreadable) -> Record | None:
    """Return one lease by its id if it has been issued and has not ended."""
    stored = next(read_leases(mount, [lease_id], unreadable), None)
    if (stored is None or stored.value.ending) and (refused := find_refusal(mount, lease_id, unreadable)):
        return Record(refused.value.lease, "failed", stored, refused)
    return stored_record(stored, mount.now()) if stored else None


def adopt(mount: Mount, record: Record) -> bool:
    """Go on with a lease that another process has issued and may be about to take back; returns whether it is this one's now.

    Either changes the lease's document by compare-and-set before anything else, so only one of both succeeds.
    """
    if record.status != "active" or record.stored is None:
        return False
    try:
        mount.store.write(record.lease.write(record.stored.version))
    except Conflict:
        return False
    return True


def as_issued(lease: Lease) -> Record:
    """Return the record of a lease that this process has issued, as it is if nobody has changed it since."""
    return Record(lease, "active", Stored(lease, lease_path(lease.lease_id), ISSUED_VERSION))


def active_records(mount: Mount, lease_ids: t.Iterable[str]) -> list[Record]:
    """Return those of these leases that nobody has begun to end."""
    active = [Record(one.value, "active", one) for one in read_leases(mount, lease_ids) if not one.value.ending]
    mount.check_is_here()
    return active


def _issuing(mount: Mount, unreadable: OnUnreadable) -> t.Iterator[Stored[Intent]]:
    """Yield intents of leases that may not be on record yet."""
    intents = intents_in(mount.store.scan(INTENTS), unreadable)
    yield from (one for one in itertools.chain(intents, claims_of_issues(mount, unreadable)) if one.value.lease)
