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

from ..clocks import FAR_SECONDS
from ..durations import rfc3339
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError
from ..mount import Mount
from ..names import random_text
from ..run.processes import at_work, is_abandoned, is_at_work, this_process
from ..store.base import Data, Document, Write
from .lease import Record, check_pins

#: A renewal whose owner cannot be seen from here is given up for dead when it is this old.
_GRACE_SECONDS = 600


def renew(mount: Mount, record: Record, increment: int | None, *, dry_run: bool) -> Record:
    """Move the end of a lease to so many seconds from now (its own ttl if not given), also at OpenAI."""
    lease, document = record.lease, record.document
    lease_id = lease["lease_id"]
    if not dry_run:
        # How much of max_ttl is left is counted by OpenAI's clock, as the end is.
        mount.learn_time()
    if document is None or record.status not in ("active", "expired"):
        raise OpenAICredsError(f"lease_id: {lease_id} is {record.status} and cannot be renewed")
    if mount.now() >= lease["expires_at"]:
        raise OpenAICredsError(f"lease_id: {lease_id} is expired and cannot be renewed")
    if not lease["renewable"]:
        raise OpenAICredsError(f"lease_id: {lease_id} is not renewable; its role says renewable: false")
    duration = increment or lease["duration"]
    end = mount.now() + duration
    if end > lease["max_expires_at"]:
        left = max(0, lease["max_expires_at"] - mount.now())
        raise OpenAICredsError(
            f"increment: {duration} s would take {lease_id} past its max_ttl; at most {left} s from now are left"
        )
    if _is_being_renewed(mount, lease):
        raise OpenAICredsError(f"lease_id: {lease_id} is being renewed by somebody else; try again")
    # After the record was read: what is moved after this has another version then.
    mount.check_is_here()
    renewed = {name: value for name, value in lease.items() if name != "renewing"}
    renewed["expires_at"] = end
    if not dry_run:
        if lease["native_expiry"]:
            check_pins(mount.openai(), lease)
            renewed = _renew_natively(mount, document, renewed, duration)
        else:
            _write(mount, document, renewed)
    return Record(renewed, "active", document, None)


def _is_being_renewed(mount: Mount, lease: Data) -> bool:
    mark = lease.get("renewing")
    return mark is not None and not is_abandoned(
        is_at_work(mark["owner"], mark["work"]), mark["at"], mount.now(), _GRACE_SECONDS
    )


def _renew_natively(mount: Mount, document: Document, renewed: Data, duration: int) -> Data:
    """Mark, update, commit; returns the lease as it is on record then."""
    work = random_text(16)
    end, before = renewed["expires_at"], document.data
    mark = {"work": work, "owner": this_process(), "at": mount.now()}
    with at_work(work):
        marked = _write(mount, document, {**renewed, "expires_at": min(end, before["expires_at"]), "renewing": mark})
        try:
            key_end = mount.openai().update_key(renewed["project_id"], renewed["api_key_id"], expires_in=duration)
        except ApiError as error:
            # Whether OpenAI has moved the end or not, the earlier one is safe.
            earlier = min(end, before["expires_at"])
            with contextlib.suppress(StoreError):
                _write(mount, marked, {**renewed, "expires_at": earlier})
            raise OpenAICredsError(
                f"lease_id: {renewed['lease_id']} was not renewed and ends at {rfc3339(earlier)}: {error}"
            ) from None
        if key_end is None or abs(key_end - (mount.now() + duration)) > FAR_SECONDS:
            if key_end is not None:
                with contextlib.suppress(StoreError):
                    _lower_end(mount, document.path, key_end)
            raise OpenAICredsError(
                f"lease_id: {renewed['lease_id']} was not renewed: OpenAI, or a gateway on the way, does not move the end of "
                "its key as asked"
            )
        # A second may have begun since, or the clocks differ a little.
        renewed = {**renewed, "expires_at": min(end, key_end)}
        try:
            _write(mount, marked, renewed)
        except Conflict:
            _lower_end(mount, document.path, renewed["expires_at"])
            raise
    return renewed


def _write(mount: Mount, document: Document, lease: Data) -> Document:
    try:
        mount.store.write(Write(document.path, lease, document.version, due=lease["expires_at"]))
    except Conflict:
        raise Conflict(
            f"lease_id: {lease['lease_id']} was changed by somebody else at the same time; try again"
        ) from None
    return Document(document.path, lease, document.version + 1)


def _lower_end(mount: Mount, path: str, end: int) -> None:
    """Let no record end later than the key.

    A process that was stopped for long may have been given up for dead, and its call may have come after that of the
    next renewal.
    """
    while (found := mount.store.read(path)) and "ending" not in found.data and found.data["expires_at"] > end:
        with contextlib.suppress(Conflict):
            _write(mount, found, {**found.data, "expires_at": end})
