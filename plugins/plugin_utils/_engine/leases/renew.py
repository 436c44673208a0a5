# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renew leases."""

from __future__ import annotations

from ..errors import Conflict, OpenAICredsError
from ..mount import Mount
from ..store.base import Write
from .lease import Record


def renew(mount: Mount, record: Record, increment: int | None, *, dry_run: bool) -> Record:
    """Move the end of a lease to so many seconds from now (its own ttl if not given), also at OpenAI."""
    lease, document = record.lease, record.document
    lease_id = lease["lease_id"]
    if document is None or record.status != "active":
        raise OpenAICredsError(f"lease_id: {lease_id} is {record.status} and cannot be renewed")
    if not lease["renewable"]:
        raise OpenAICredsError(f"lease_id: {lease_id} is not renewable; its role says renewable: false")
    duration = increment or lease["duration"]
    end_ = mount.now() + duration
    if end_ > lease["max_expires_at"]:
        left = max(0, lease["max_expires_at"] - mount.now())
        raise OpenAICredsError(
            f"increment: {duration} s would take {lease_id} past its max_ttl; at most {left} s from now are left"
        )
    # After the record was read: what is moved after this has another version then.
    mount.check_is_here()
    renewed = {**lease, "expires_at": end_}
    if not dry_run:
        # OpenAI first: if a later end is not recorded after all, the key only lives longer than it is used.
        if lease["native_expiry"]:
            mount.openai().update_key(lease["project_id"], lease["api_key_id"], expires_in=duration)
        try:
            mount.store.write(Write(document.path, renewed, document.version, due=end_))
        except Conflict:
            raise OpenAICredsError(
                f"lease_id: {lease_id} was changed by somebody else at the same time; try again"
            ) from None
    return Record(renewed, "active", document, None)
