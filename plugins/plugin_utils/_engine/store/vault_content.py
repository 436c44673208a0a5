# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a secret of the store looks like: its content as one string, and a sum that shows whether somebody has edited it.

The content is a string for Vault, which would round large numbers in an object and write numbers to its audit log.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ..errors import UnreadableError
from ..names import base36
from .base import Data
from .shrinking import LARGE, shrink, unshrink

#: How many writers find their mark below what others have written on top. Each that retries does so within seconds.
WRITES = 64
DUE_DIGITS = 7


class Content(t.NamedTuple):
    """What a secret holds, in which version."""

    data: Data
    due: int
    version: int
    #: The marks of its last writes, the newest last.
    writes: tuple[str, ...]


def pack(data: str, due: int, writes: t.Sequence[str], large: int = LARGE) -> Data:
    """Return the fields of a secret for content in JSON that is due at a time, compressed if it is large."""
    stored = shrink(data, large)
    return {"data": stored, "due": due, "writes": list(writes), "sum": _sum(stored, due)}


def unpack(secret: Data, shown: str) -> Content:
    """Return what a secret holds; raises UnreadableError if this is not what the store has written. shown is its path."""
    try:
        fields = secret["data"]
        due, writes = int(fields["due"]), tuple(map(str, fields["writes"]))
        content = Content(dict(json.loads(unshrink(fields["data"]))), due, int(secret["metadata"]["version"]), writes)
        is_ours = fields["sum"] == _sum(fields["data"], due)
    except (AttributeError, KeyError, TypeError, ValueError):
        is_ours = False
    if not is_ours:
        raise UnreadableError(
            f"kv_path: {shown} does not hold a document of this store, or somebody has edited it; roll it back to an older "
            "version (vault kv rollback), or delete its metadata"
        )
    return content


def due_text(due: int) -> str:
    """Return a time as it stands in the name of a secret."""
    return base36(due, DUE_DIGITS)


def _sum(data: str, due: int) -> str:
    """Return by what it is seen that nobody else has written or edited a secret: what the engine reads in it is there."""
    return hashlib.sha256(f"{due} {data}".encode()).hexdigest()[:16]
