# SPDX-License-Identifier: GPL-3.0-or-later
"""What was asked of the double, for tests to look at. Never holds the value of a key."""

from __future__ import annotations

import json
import time
from typing import Any

from .endpoints import Call
from .state import State


class RequestLog:
    """Requests in the order of their arrival. The index grows for as long as the process lives."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.next = 0

    def open(self, call: Call, query: str, state: State) -> dict[str, Any]:
        """Note a request; the caller fills in `status`, `effect`, `fault` and `finished` as they come to be."""
        entry = {
            "index": self.next,
            "time": time.time(),
            "finished": None,
            "method": call.method,
            "path": call.raw_path,
            "query": query,
            "organization": call.organization,
            "key_id": state.key_id(call.bearer) if call.bearer else None,
            "body": _readable(call.body),
            "status": None,
            "effect": False,
            "fault": None,
        }
        self.next += 1
        self.entries.append(entry)
        return entry

    def since(self, index: int) -> list[dict[str, Any]]:
        first = self.entries[0]["index"] if self.entries else 0
        return self.entries[max(index - first, 0) :]


def _readable(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
