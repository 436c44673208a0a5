# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notebook of a run: which leases its processes took, for the callback that ends them with the run.

The callback opens it in the main process; workers inherit it. It is a file without a name. What is noted tells how to
reach the store, secrets included, so each line is encrypted with a key that is in the memory of the run's processes only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import typing as t

if t.TYPE_CHECKING:
    from cryptography.fernet import Fernet

_notebook: tuple[t.IO[bytes], Fernet] | None = None


def open_notebook() -> None:
    """Begin to note. Called before workers are forked."""
    # Without the callback nobody waits for it.
    from cryptography.fernet import Fernet

    global _notebook
    file = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 - it lives as long as the run
    # So that lines of several processes do not overwrite each other.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    _notebook = file, Fernet(Fernet.generate_key())


def note(entry: dict[str, t.Any]) -> None:
    """Note one lease, if anybody wants to know."""
    if _notebook is not None:
        file, cipher = _notebook
        with contextlib.suppress(OSError):  # a full disk; the lease then ends by itself
            os.write(file.fileno(), cipher.encrypt(json.dumps(entry).encode()) + b"\n")


def notes() -> list[dict[str, t.Any]]:
    """Return what was noted."""
    if _notebook is None:
        return []
    from cryptography.fernet import InvalidToken

    file, cipher = _notebook
    file.seek(0)
    found = []
    for line in file.read().splitlines():
        # A line that a full disk has cut off takes the next one with it; their leases end by themselves.
        with contextlib.suppress(InvalidToken):
            found.append(json.loads(cipher.decrypt(line)))
    return found
