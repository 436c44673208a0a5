# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every task that issues leases sees to."""

from __future__ import annotations

import typing as t

from .._engine.leases.lease import Lease
from .._engine.leases.taken import note_of
from .._engine.run.taken_leases import LOST, note
from .._engine.store.base import Data


def note_issued(leases: t.Sequence[Lease], settings: Data, register: t.Any) -> list[str]:
    """Note the leases of a task for the end of the run; returns warnings. settings are those of the store, register the task's."""
    warnings = []
    if not register:
        # The output is censored, and nothing else holds the key.
        ids = ", ".join(lease.lease_id for lease in leases)
        warnings.append(f"nobody can read the key that was issued, since the task has no register: {ids}")
    noted = [note({"by": "task", "lease": note_of(lease), **settings}) for lease in leases]
    return warnings if all(noted) else [*warnings, LOST]
