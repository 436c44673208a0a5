# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many leases there are and were, by role (see leases.counts)."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ..definitions.library_sets import SETS
from ..definitions.static_roles import STATIC_ROLES
from ..errors import UnreadableError
from ..leases.counts import Shard, read_counts, role_label
from ..leases.find import records
from ..mount import Mount

#: How often it is looked again because ids were taken out of the counts meanwhile.
_LOOKS = 5
_SECTIONS = {"roles": "", STATIC_ROLES: "static/", SETS: "library/"}


@dataclasses.dataclass(frozen=True)
class LeaseNumbers:
    """By role: how many leases were issued, how many have ended, and how many there are now, by status.

    issued is None if it is not known, since some of what is on record cannot be read: unreadable says how many places. keys has
    the ids of the leases that are on record, by those of their keys. uncounted says why some counts of what has ended cannot be
    read; then revoked is too low.
    """

    issued: dict[str, int] | None
    revoked: dict[str, int]
    now: dict[tuple[str, str], int]
    keys: dict[str, str]
    unreadable: int
    uncounted: UnreadableError | None


def lease_numbers(mount: Mount) -> LeaseNumbers:
    """Count the leases of a mount, also those of which there is no record any more."""
    for _look in range(_LOOKS):
        uncounted: list[UnreadableError] = []
        before = read_counts(mount, uncounted.append)
        unreadable: list[UnreadableError] = []
        keys: dict[str, str] = {}
        found = []
        for one in records(mount, unreadable.append):
            found.append((one.subject, one.status, one.issuing is None))
            if one.lease.api_key_id:
                keys[one.lease.api_key_id] = one.subject
        after = read_counts(mount, uncounted.append)
        # A lease that has ended during the look is in both, and its id in the counts, unless ids were taken out.
        is_exact = _forgotten(before) == _forgotten(after)
        if is_exact or uncounted:
            break
    counted = {lease_id for shard in after for lease_id in shard.counted}
    roles = [f"{prefix}{name}" for section, prefix in _SECTIONS.items() for name in mount.definitions(section)]
    # From the beginning, so that the first lease of a role is seen as an increase.
    issued: collections.Counter[str] = collections.Counter(dict.fromkeys(roles, 0))
    revoked: collections.Counter[str] = collections.Counter(dict.fromkeys(roles, 0))
    for shard in after:
        for role, count in shard.counts.items():
            issued[role] += count.ended + count.dropped
            revoked[role] += count.ended
    now: collections.Counter[tuple[str, str]] = collections.Counter()
    for lease_id, status, is_issued in found:
        role = role_label(lease_id) or ""
        now[role, status] += 1
        if is_issued and lease_id not in counted:
            issued[role] += 1
    known = is_exact and not unreadable and not uncounted
    why = uncounted[0] if uncounted else None
    return LeaseNumbers(dict(issued) if known else None, dict(revoked), dict(now), keys, len(unreadable), why)


def _forgotten(shards: t.Iterable[Shard]) -> int:
    return sum(shard.forgotten for shard in shards)
