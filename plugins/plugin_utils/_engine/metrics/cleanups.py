# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the last cleanup did all that there was to do.

cleanups/last    the Unix time of that
"""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import Conflict, UnreadableError
from ..mount import Mount
from ..store.base import Data, Write, converted, refuse_unreadable

CLEANUPS = "cleanups/"
LAST = f"{CLEANUPS}last"
#: A cleanup that comes so soon after one that is recorded writes nothing.
_ENOUGH_SECONDS = 60


def record_cleanup(mount: Mount) -> None:
    """Record that a cleanup has done all that there was to do."""
    now = mount.now()
    document = mount.store.read(LAST)
    # One that says something else counts as none, and is replaced.
    found = converted([document] if document else [], _succeeded_at, lambda _error: None)
    last = next((one.value for one in found), 0)
    if not 0 <= now - last < _ENOUGH_SECONDS:
        with contextlib.suppress(Conflict):  # another one has succeeded at the same time
            mount.store.write(Write(LAST, {"succeeded_at": now}, document.version if document else 0))


def last_cleanup(mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable) -> int:
    """Return the Unix time of the last successful cleanup, as exactly as a minute; 0 if there was none."""
    found = converted(mount.store.read_each([LAST]), _succeeded_at, unreadable)
    return next((one.value for one in found), 0)


def _succeeded_at(data: Data) -> int:
    return int(data["succeeded_at"])
