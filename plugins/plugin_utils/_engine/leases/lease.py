# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lease and its records: where they are, and when somebody has to look at them.

    leases/<hour>/<key>      a lease, below the hour in which it was to end when it was issued; also one being revoked
    refusals/<hour>/<key>    one that OpenAI has refused to end, under the same key (see refusal)
    intents/<key>            one being issued by a task (see intents)
    claims/<key>             one being issued by a lookup, and which run it belongs to then (see claims)

Record before effect: before an account is created, an intent holds its exact name; before one is deleted, its lease
says who is ending it and is due at once; before a key's end is moved, its lease says so, and ends at the earlier of both
times. Whatever is interrupted, cleanup finds the record and carries on. That a lease is renewed, or being ended, is said by
compare-and-set, so that one of two who try at once is refused. Lease ids end in the hour and the key, so that a lease is read
from its id alone.

A lease pins the endpoint and the organization that it was issued at, and ends when OpenAI says that its key does.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..clocks import Comparison
from ..durations import rfc3339
from ..errors import OpenAICredsError, UnreadableError, quoted
from ..journal.owners import Owner, read_owner
from ..journal.things import ACCOUNT, ACCOUNT_KEY, Thing
from ..mount import Mount
from ..store.base import Data, Found, Stored, Write, converted, refuse_unreadable

LEASES = "leases/"
#: The version of a lease that nobody has changed since it was issued.
ISSUED_VERSION = 1

_HOUR_DIGITS = 4
_UNIQUE = re.compile(r"[0-9a-z]{4}[0-9a-z]+(-[0-9a-z]+)?", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease:
    """One issued credential, as it is stored. Times are Unix times, durations in seconds."""

    lease_id: str
    #: What it was issued for: a role, a library set or a static role.
    role: str | None = None
    library_set: str | None = None
    static_role: str | None = None
    issued_at: int
    expires_at: int
    #: How long it was to live, and lives again when it is renewed.
    duration: int
    #: No renewal goes past this.
    max_expires_at: int
    renewable: bool
    #: Whether OpenAI itself ends the key.
    native_expiry: bool
    scopes: list[str] | None = None
    #: The name of its account: a unique one, unless the lease is only a key of it.
    service_account: str
    service_account_id: str | None = None
    api_key_id: str | None = None
    #: The unique name of the key, if the lease is a key of an account that is there for longer.
    api_key_name: str | None = None
    project_id: str
    api_endpoint: str
    organization_id: str | None = None
    #: User, controller, playbook or job.
    issued_by: dict[str, str]
    #: The path of the claim of the run that it belongs to.
    claim: str | None = None
    #: The key, for those who share it.
    api_key: str | None = dataclasses.field(default=None, repr=False)
    #: How far the clock of its run's machine was from OpenAI's, so that other processes there need not ask.
    clock: Comparison | None = None
    #: Who is renewing it.
    renewing: Owner | None = None
    #: Who is ending it.
    ending: Owner | None = None

    @property
    def subject(self) -> str:
        return self.lease_id

    @property
    def thing(self) -> Thing:
        """What it takes to end it."""
        if self.api_key_name:
            return Thing(
                ACCOUNT_KEY,
                self.api_key_name,
                self.api_endpoint,
                self.organization_id,
                self.project_id,
                self.api_key_id,
                self.service_account_id,
            )
        return Thing(
            ACCOUNT,
            self.service_account,
            self.api_endpoint,
            self.organization_id,
            self.project_id,
            self.service_account_id,
        )

    @property
    def due(self) -> int:
        """The Unix time at which somebody has to look at it: earlier than its end if it is being ended before that."""
        return 0 if self.ending and self.ending.since < self.expires_at else self.expires_at

    def stored(self) -> Data:
        """Return it as JSON data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("clock", "renewing", "ending"):
            data[name] = data[name] and dataclasses.asdict(data[name])
        return {name: value for name, value in data.items() if value is not None}

    def write(self, version: int = 0, *, due: int | None = None) -> Write:
        """Return the write of its document over a version. due is given if it stands in the lease's name."""
        ends = self.ending is not None
        return Write(lease_path(self.lease_id), self.stored(), version, self.due if due is None else due, ends)

    def for_ending(self, owner: Owner | None) -> Lease:
        """Return it as it stands on record when its end has begun: nobody is given the key any more."""
        return dataclasses.replace(self, api_key=None, renewing=None, ending=owner)


def read_stored(data: Data) -> Lease:
    """Return a lease from JSON data."""
    clock = Comparison(**data["clock"]) if data.get("clock") else None
    owners = {name: read_owner(data.get(name)) for name in ("renewing", "ending")}
    return Lease(**{**data, "clock": clock, **owners})


def lease_path(lease_id: str) -> str:
    """Return where a lease is stored; raises OpenAICredsError if this is not the id of a lease."""
    unique = lease_id.rpartition("/")[2]
    if not _UNIQUE.fullmatch(unique):
        raise OpenAICredsError(f"lease_id: {quoted(lease_id)} is not the id of a lease such as openai/creds/my-role/…")
    return f"{LEASES}{unique[:_HOUR_DIGITS]}/{unique[_HOUR_DIGITS:]}"


def credential(lease: Lease, api_key: str) -> Data:
    """Return what is handed to whoever asked for a credential."""
    return {
        "lease_id": lease.lease_id,
        "lease_duration": lease.duration,
        "lease_renewable": lease.renewable,
        "expires_at": rfc3339(lease.expires_at),
        "api_key": api_key,
        "api_key_id": lease.api_key_id,
        "service_account": lease.service_account,
        "service_account_id": lease.service_account_id,
        "project_id": lease.project_id,
    }


def read_lease(mount: Mount, lease_id: str) -> Stored[Lease] | None:
    """Return a lease as it is on record, also one being ended, or None."""
    return next(read_leases(mount, [lease_id]), None)


def read_leases(
    mount: Mount,
    lease_ids: t.Iterable[str],
    unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable,
) -> t.Iterator[Stored[Lease]]:
    """Yield those of these leases that are on record."""
    wanted = {lease_path(lease_id): lease_id for lease_id in lease_ids}
    for stored in leases_in(mount.store.read_each(list(wanted)), unreadable):
        if stored.value.lease_id == wanted[stored.path]:
            yield stored


def leases_in(
    found: t.Iterable[Found], unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> t.Iterator[Stored[Lease]]:
    """Yield the leases that documents hold."""
    return converted(found, read_stored, unreadable)
