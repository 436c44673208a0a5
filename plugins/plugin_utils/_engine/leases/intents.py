# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Intents: leases that are being issued, and what is left of an issue that was interrupted.

intents/<key>                a lease that a task is issuing
claims/<number>-…            a lease that a lookup is issuing, and which run it belongs to then (see claims)
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import UnreadableError
from ..journal.owners import Owner, is_left, read_owner
from ..journal.things import Thing
from ..run.processes import Process
from ..store.base import Data, Found, Stored, Write, converted, refuse_unreadable
from .lease import Lease, read_stored

INTENTS = "intents/"
CLAIMS = "claims/"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why an issue came to nothing, for those of the run who wait for its lease.

    It also holds for whoever asks between the Unix times at and until.
    """

    lease_id: str
    error: str
    at: int
    until: int


@dataclasses.dataclass(frozen=True)
class Replaced:
    """A lease that a claim was for before; it may live until a Unix time."""

    lease_id: str
    until: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """Which run a lease belongs to. With shared all of its processes know the path, and the lease holds the key as well."""

    run: Process
    shared: bool
    replaced: tuple[Replaced, ...] = ()
    #: Why the last issue came to nothing.
    failure: Failure | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intent:
    """A lease that is being issued, or that a claim is for; None if a claim is spent, since its lease has ended.

    created_at is a Unix time. owner is None when nobody is at it any more. taken says that somebody has taken it over, so
    that its issuer takes back what he may still write. due is the Unix time at which somebody has to look at a claim.
    """

    lease: Lease | None
    created_at: int
    owner: Owner | None = None
    taken: bool = False
    claim: Claim | None = None
    due: int = 0

    @property
    def thing(self) -> Thing:
        return t.cast(Lease, self.lease).thing

    def is_left(self, now: int, grace: int) -> bool:
        """Say whether nobody is at it any more."""
        return is_left(self.owner, now, grace)

    def write(self, path: str, version: int = 0) -> Write:
        """Return the write of its document over a version."""
        data = {**dataclasses.asdict(self), "lease": self.lease.stored() if self.lease else None}
        return Write(path, data, version, self.due)


def intents_in(
    found: t.Iterable[Found], unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> t.Iterator[Stored[Intent]]:
    """Yield the intents that documents hold."""
    return converted(found, _read, unreadable)


def _read(data: Data) -> Intent:
    lease = read_stored(data["lease"]) if data["lease"] else None
    claim = data["claim"] and Claim(
        run=data["claim"]["run"],
        shared=data["claim"]["shared"],
        replaced=tuple(Replaced(**one) for one in data["claim"]["replaced"]),
        failure=data["claim"]["failure"] and Failure(**data["claim"]["failure"]),
    )
    return Intent(**{**data, "lease": lease, "owner": read_owner(data["owner"]), "claim": claim})
