# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes on the leases that the processes of a run take, for the callback that ends them with the run.

The callback begins them in the main process; workers inherit them. They are in a file without a name, in memory where
the system has such files. What is noted tells how to reach the store, secrets included, so each line is encrypted with a
key that is in the memory of the run's processes only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import typing as t

from .shared_memory import anonymous_file

if t.TYPE_CHECKING:
    from cryptography.fernet import Fernet

_notes: tuple[int, Fernet] | None = None

#: What to say when note() returns False.
LOST = "openai_leases: a lease of this run cannot be noted, so the end of the run does not revoke it"


def begin_notes() -> None:
    """Begin to note. Called before workers are forked; raises OSError if there is no place for notes."""
    # Without the callback nobody waits for it.
    from cryptography.fernet import Fernet

    global _notes
    if _notes is not None:
        os.close(_notes[0])
        _notes = None
    file = anonymous_file()
    # So that lines of several processes do not overwrite each other.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    _notes = file, Fernet(Fernet.generate_key())


def note(entry: dict[str, t.Any]) -> bool:
    """Note something of a lease, if anybody wants to know; returns False if somebody does and it cannot be noted."""
    if _notes is None:
        return True
    file, cipher = _notes
    # A line of its own, also after one that a killed process or a lack of memory has cut off.
    line = b"\n" + cipher.encrypt(json.dumps(entry).encode()) + b"\n"
    try:
        return os.write(file, line) == len(line)
    except OSError:
        return False


def notes() -> list[dict[str, t.Any]]:
    """Return what was noted."""
    if _notes is None:
        return []
    from cryptography.fernet import InvalidToken

    file, cipher = _notes
    found = []
    for line in os.pread(file, os.fstat(file).st_size, 0).splitlines():
        # What was cut off is not a note.
        with contextlib.suppress(InvalidToken):
            found.append(json.loads(cipher.decrypt(line)))
    return found
