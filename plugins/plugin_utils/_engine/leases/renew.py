# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renew leases.

    mark     the lease says that it is being renewed, by whom, and ends at the earlier of its old and its new end
    update   OpenAI moves the end of the key
    commit   the lease ends at the new end

So whatever is interrupted, and whichever of two renewals comes last, no record says later than OpenAI. A mark that is left
stands in nobody's way: the lease ends when it says, or is renewed again.
"""

from __future__ import annotations

import contextlib
import dataclasses

from ..clocks import FAR_SECONDS
from ..durations import rfc3339
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError
from ..journal.owners import GRACE_SECONDS, is_left, this_owner
from ..journal.things import check_pins
from ..mount import Mount
from ..names import random_text
from ..run.processes import at_work
from ..store.base import Stored
from .find import Record
from .lease import Lease, read_lease


def renew(mount: Mount, record: Record, increment: int | None, *, dry_run: bool) -> Record:
    """Move the end of a lease to so many seconds from now (its own ttl if not given), also at OpenAI."""
    lease, stored = record.lease, record.stored
    lease_id = lease.lease_id
    if not dry_run:
        # How much of max_ttl is left is counted by OpenAI's clock, as the end is.
        mount.learn_time()
    if stored is None or record.status not in ("active", "expired"):
        raise OpenAICredsError(f"lease_id: {lease_id} is {record.status} and cannot be renewed")
    if mount.now() >= lease.expires_at:
        raise OpenAICredsError(f"lease_id: {lease_id} is expired and cannot be renewed")
    if not lease.renewable:
        raise OpenAICredsError(f"lease_id: {lease_id} is not renewable; its role says renewable: false")
    duration = increment or lease.duration
    end = mount.now() + duration
    if end > lease.max_expires_at:
        left = max(0, lease.max_expires_at - mount.now())
        raise OpenAICredsError(
            f"increment: {duration} s would take {lease_id} past its max_ttl; at most {left} s from now are left"
        )
    if not is_left(lease.renewing, mount.now(), GRACE_SECONDS):
        raise OpenAICredsError(f"lease_id: {lease_id} is being renewed by somebody else; try again")
    # After the record was read: what is moved after this has another version then.
    definitions = mount.all_definitions()
    renewed = Stored(dataclasses.replace(lease, expires_at=end, renewing=None), stored.path, stored.version)
    if not dry_run:
        if lease.native_expiry:
            check_pins(mount.openai(mount.check_configured(definitions)), lease.thing, lease_id)
            renewed = _renew_natively(mount, stored, renewed.value, duration)
        else:
            renewed = _write(mount, stored, renewed.value)
    return Record(renewed.value, "active", renewed)


def _renew_natively(mount: Mount, stored: Stored[Lease], renewed: Lease, duration: int) -> Stored[Lease]:
    """Mark, update, commit; returns the lease as it is on record then."""
    end = renewed.expires_at
    earlier = min(end, stored.value.expires_at)
    owner = this_owner(random_text(16), mount.now())
    with at_work(owner.work):
        marked = _write(mount, stored, dataclasses.replace(renewed, expires_at=earlier, renewing=owner))
        try:
            key_end = mount.openai().update_key(renewed.project_id, str(renewed.api_key_id), expires_in=duration)
        except ApiError as error:
            # Whether OpenAI has moved the end or not, the earlier one is safe.
            with contextlib.suppress(StoreError):
                _write(mount, marked, dataclasses.replace(renewed, expires_at=earlier))
            raise OpenAICredsError(
                f"lease_id: {renewed.lease_id} was not renewed and ends at {rfc3339(earlier)}: {error}"
            ) from None
        if key_end is None or abs(key_end - (mount.now() + duration)) > FAR_SECONDS:
            if key_end is not None:
                with contextlib.suppress(StoreError):
                    _lower_end(mount, renewed.lease_id, key_end)
            raise OpenAICredsError(
                f"lease_id: {renewed.lease_id} was not renewed: OpenAI, or a gateway on the way, does not move the end of "
                "its key as asked"
            )
        # A second may have begun since, or the clocks differ a little.
        renewed = dataclasses.replace(renewed, expires_at=min(end, key_end))
        try:
            return _write(mount, marked, renewed)
        except Conflict:
            _lower_end(mount, renewed.lease_id, renewed.expires_at)
            raise


def _write(mount: Mount, stored: Stored[Lease], lease: Lease) -> Stored[Lease]:
    try:
        mount.store.write(lease.write(stored.version))
    except Conflict:
        raise Conflict(f"lease_id: {lease.lease_id} was changed by somebody else at the same time; try again") from None
    return Stored(lease, stored.path, stored.version + 1)


def _lower_end(mount: Mount, lease_id: str, end: int) -> None:
    """Let no record end later than the key.

    A process that was stopped for long may have been given up for dead, and its call may have come after that of the
    next renewal.
    """
    while (found := read_lease(mount, lease_id)) and not found.value.ending and found.value.expires_at > end:
        with contextlib.suppress(Conflict):
            _write(mount, found, dataclasses.replace(found.value, expires_at=end))
