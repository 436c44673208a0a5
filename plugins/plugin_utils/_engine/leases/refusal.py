# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refusals: leases that OpenAI has refused to end.

    refusals/<hour>/<key>    the lease, under its own key; why, how often, when to try again

They are kept apart from the others, which are counted as active without being opened.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import UnreadableError
from ..journal.ending import Refusal, refused_again
from ..journal.owners import Owner
from ..journal.things import Thing
from ..mount import Mount
from ..store.base import Data, Found, Stored, Write, converted, refuse_unreadable
from .lease import LEASES, Lease, lease_path, read_stored

REFUSALS = "refusals/"


@dataclasses.dataclass(frozen=True)
class RefusedLease:
    """A lease that OpenAI has refused to end. ending is who tries again."""

    lease: Lease
    refusal: Refusal
    ending: Owner | None = None

    @property
    def subject(self) -> str:
        return self.lease.lease_id

    @property
    def thing(self) -> Thing:
        return self.lease.thing

    def write(self, version: int = 0) -> Write:
        """Return the write of its document over a version."""
        data = {
            "lease": self.lease.stored(),
            "refusal": dataclasses.asdict(self.refusal),
            "ending": dataclasses.asdict(self.ending) if self.ending else None,
        }
        return Write(refusal_path(self.lease.lease_id), data, version, ends=self.ending is not None)


def refusal_path(lease_id: str) -> str:
    """Return where it is recorded that OpenAI has refused to end a lease."""
    return f"{REFUSALS}{lease_path(lease_id).removeprefix(LEASES)}"


def refuse_lease(mount: Mount, lease: Lease, before: Stored[RefusedLease] | None, error: str) -> Write:
    """Return the record of one more refusal to end a lease."""
    refusal = refused_again(before.value.refusal if before else None, with_way_out(lease, error), mount.now())
    return RefusedLease(lease.for_ending(None), refusal).write(before.version if before else 0)


def with_way_out(lease: Lease, error: str) -> str:
    """Return why a lease would not end, with what a user can do about it beside trying again."""
    if not (lease.static_role and lease.api_key_name):
        return error
    return (
        f"{error}; if OpenAI goes on refusing to end keys of {lease.service_account_id}, set rotation_strategy: new_account "
        f"for static role {lease.static_role!r} and rotate it: the account is deleted then, with its keys"
    )


def find_refusal(
    mount: Mount, lease_id: str, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> Stored[RefusedLease] | None:
    """Return what is recorded of OpenAI's refusals to end a lease, or None."""
    found = refusals_in(mount.store.read_each([refusal_path(lease_id)]), unreadable)
    return next((one for one in found if one.value.lease.lease_id == lease_id), None)


def all_refusals(
    mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> t.Iterator[Stored[RefusedLease]]:
    """Yield all refusals of a mount."""
    return refusals_in(mount.store.scan(REFUSALS), unreadable)


def refusals_in(
    found: t.Iterable[Found], unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> t.Iterator[Stored[RefusedLease]]:
    """Yield the refusals that documents hold."""
    return converted(found, _read, unreadable)


def _read(data: Data) -> RefusedLease:
    ending = Owner(**data["ending"]) if data["ending"] else None
    return RefusedLease(read_stored(data["lease"]), Refusal(**data["refusal"]), ending)
