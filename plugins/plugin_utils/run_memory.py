# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the processes of a run know together, in memory that workers inherit and that no file shows.

The memory is there from when this module is imported. Ansible imports actions and callbacks before it forks, so that all
workers share it; what only a worker imports, such as a lookup, may have one of its own.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import typing as t

_SIZE = 2**16
_DIGEST = hashlib.sha256().digest_size
_LENGTH = 4
_memory = mmap.mmap(-1, _SIZE)


def recall(name: str) -> t.Any:
    """Return what has been remembered under a name, or None."""
    return _everything().get(_hidden(name))


def remember(name: str, value: t.Any) -> None:
    """Keep JSON data for the other processes of the run. When memory is full, all but the newest is forgotten; what meets
    another write may be as well."""
    for known in (_everything(), {}):
        content = json.dumps({**known, _hidden(name): value}).encode()
        if _DIGEST + _LENGTH + len(content) <= _SIZE:
            record = hashlib.sha256(content).digest() + len(content).to_bytes(_LENGTH, "big") + content
            _memory[: len(record)] = record
            return


def _everything() -> dict[str, t.Any]:
    length = int.from_bytes(_memory[_DIGEST : _DIGEST + _LENGTH], "big")
    content = _memory[_DIGEST + _LENGTH : _DIGEST + _LENGTH + length]
    # No lock, which a process that is killed would hold for ever: what is being written meanwhile does not count.
    whole = hashlib.sha256(content).digest() == _memory[:_DIGEST]
    return dict(json.loads(content)) if whole and length else {}


def _hidden(name: str) -> str:
    """Return what stands for a name, which may be long and have secrets in it."""
    return hashlib.sha256(name.encode()).hexdigest()
