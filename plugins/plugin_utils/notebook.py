# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notebook of a run: which leases its processes took, for the callback that ends them with the run.

The callback opens it in the main process; workers inherit it. It is a file without a name that holds no secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import typing as t

_notebook: t.IO[bytes] | None = None


def open_notebook() -> None:
    """Begin to note. Called before workers are forked."""
    global _notebook
    _notebook = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 - it lives as long as the run
    # So that lines of several processes do not overwrite each other.
    fcntl.fcntl(_notebook, fcntl.F_SETFL, fcntl.fcntl(_notebook, fcntl.F_GETFL) | os.O_APPEND)


def note(entry: dict[str, t.Any]) -> None:
    """Note one lease, if anybody wants to know."""
    if _notebook is not None:
        with contextlib.suppress(OSError):  # a full disk; the lease then ends by itself
            os.write(_notebook.fileno(), json.dumps(entry).encode() + b"\n")


def notes() -> list[dict[str, t.Any]]:
    """Return what was noted."""
    if _notebook is None:
        return []
    _notebook.seek(0)
    return [json.loads(line) for line in _notebook.read().splitlines()]
