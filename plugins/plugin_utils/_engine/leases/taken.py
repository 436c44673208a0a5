# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run notes of the leases that it takes (see run.taken_leases)."""

from __future__ import annotations

import dataclasses

from ..journal.things import Thing
from ..store.base import Data
from .lease import Lease


@dataclasses.dataclass(frozen=True)
class TakenLease:
    """What a run remembers of a lease that it took: enough to end it."""

    subject: str
    thing: Thing


def note_of(lease: Lease) -> Data:
    """Return what a run has to remember of a lease just issued, as JSON data."""
    return {"subject": lease.lease_id, "thing": dataclasses.asdict(lease.thing)}


def read_note(data: Data) -> TakenLease:
    """Return what a run remembers of a lease."""
    return TakenLease(data["subject"], Thing(**data["thing"]))
