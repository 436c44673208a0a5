# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches: names of things that a create without an answer may have made, or may still make.

watches/<key>    which name, where, since when
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import UnreadableError
from ..mount import Mount
from ..names import random_text
from ..store.base import Data, Stored, Write, converted, refuse_unreadable
from .things import Thing

WATCHES = "watches/"
#: A create whose connection broke may still take effect; for so long its name is looked for again.
WATCH_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Watch:
    """subject says for users what the thing was to be for; since and ends_at, at which it ends in any case, are Unix times."""

    subject: str
    thing: Thing
    since: int
    ends_at: int


def watch_for(mount: Mount, subject: str, thing: Thing, ends_at: int) -> None:
    """Have the name of a thing looked for by the next cleanups."""
    watch = Watch(subject, thing, mount.now(), ends_at)
    mount.store.write(Write(f"{WATCHES}{random_text(16)}", dataclasses.asdict(watch)))


def find_watches(
    mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> list[Stored[Watch]]:
    """Return all watches of a mount."""
    return list(converted(mount.store.scan(WATCHES), _read, unreadable))


def stop_watching(mount: Mount, watch: Stored[Watch], *, found: bool) -> None:
    """Stop if what bears the name was found, or if it has been long enough."""
    # One that has begun in the future was written by a clock that was wrong.
    if found or abs(mount.now() - watch.value.since) >= WATCH_SECONDS:
        mount.store.delete(watch.path)


def _read(data: Data) -> Watch:
    return Watch(**{**data, "thing": Thing(**data["thing"])})
