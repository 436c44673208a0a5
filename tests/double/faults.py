# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: which requests go wrong, and how."""

from __future__ import annotations

import os
import random
import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

KINDS = frozenset(
    {
        # Nothing happens.
        "refuse",
        "rate_limit",
        "drop_before",
        "kill_before",
        # It happens, but the client does not hear of it properly.
        "fail_after",
        "drop_after",
        "kill_after",
        "truncate",
        "malformed",
        "wrong_shape",
        "huge",
        # It takes its time; `late` happens after the client has lost its connection.
        "slow",
        "slow_after",
        "late",
    }
)

_TYPES: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "path": (str,),
    "kind": (str,),
    "times": (int,),
    "skip": (int,),
    "probability": (int, float),
    "status": (int,),
    "code": (str,),
    "message": (str,),
    "type": (str,),
    "retry_after": (int, float, str),
    "delay": (int, float),
    "echo_authorization": (bool,),
    "pgid": (int,),
    "size": (int,),
}


@dataclass
class Rule:
    """One fault. It is looked at for every request that its `method` and `path` match."""

    kind: str
    method: str | None = None
    path: str | None = None
    times: int | None = None
    skip: int = 0
    probability: float = 1.0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    type: str | None = None
    retry_after: float | str | None = None
    delay: float = 0.0
    echo_authorization: bool = False
    pgid: int | None = None
    size: int = 64 * 1024 * 1024
    body: Any = None
    seen: int = field(default=0)
    applied: int = field(default=0)

    @classmethod
    def from_json(cls, given: Any) -> Rule:
        """Raises ValueError on anything that would make a rule do less than its writer meant."""
        if not isinstance(given, dict):
            raise ValueError("a rule is an object")
        allowed = {item.name for item in fields(cls)} - {"seen", "applied"}
        for name, value in given.items():
            if name not in allowed:
                raise ValueError(f"unknown member: {name}")
            wanted = _TYPES.get(name)
            wrong = wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted))
            if wrong and not (value is None and cls.__dataclass_fields__[name].default is None):
                raise ValueError(f"ill-typed member: {name}")
        if given.get("kind") not in KINDS:
            raise ValueError(f"kind is one of {', '.join(sorted(KINDS))}")
        for name in ("method", "path"):
            try:
                re.compile(given.get(name) or "")
            except re.error as error:
                raise ValueError(f"{name} is not a regular expression: {error}") from None
        if given["kind"].startswith("kill_") and (given.get("pgid") or 0) in (0, 1, os.getpgrp()):
            raise ValueError("kill_before and kill_after need the pgid of the process group to kill, not the double's")
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        defaults = {item.name: item.default for item in fields(self) if item.default is not MISSING}
        for counter in ("seen", "applied"):
            del defaults[counter]
        return {name: value for name, value in shown.items() if value != defaults.get(name, MISSING)}

    def concerns(self, method: str, path: str) -> bool:
        return bool(re.fullmatch(self.method or ".*", method) and re.search(self.path or "", path))


class Faults:
    """The rules, in order. The first that applies wins; one that skips, is used up or loses the throw gives way."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.random = random.Random()

    def pick(self, method: str, path: str) -> Rule | None:
        for rule in self.rules:
            if not rule.concerns(method, path):
                continue
            rule.seen += 1
            if rule.seen <= rule.skip or (rule.times is not None and rule.applied >= rule.times):
                continue
            if rule.probability < 1 and self.random.random() >= rule.probability:
                continue
            rule.applied += 1
            return rule
        return None
