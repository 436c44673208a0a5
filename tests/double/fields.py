# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of query and body parameters. What is not declared is refused, as OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import ApiError

Check = Callable[[str, Any], Any]

MAX_EXPIRY = 31_536_000


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array"}
    return "null" if value is None else names.get(type(value), "an object")


def _ill_typed(name: str, wanted: str, value: Any) -> ApiError:
    message = f"Invalid type for '{name}': expected {wanted}, but got {_kind(value)} instead."
    return ApiError(400, message, "invalid_type", name)


def _bounds(name: str, value: int, low: int, high: int | None) -> int:
    if value < low:
        message = f"Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got {value} instead."
        raise ApiError(400, message, "integer_below_min_value", name)
    if high is not None and value > high:
        message = f"Invalid '{name}': integer above maximum value. Expected a value <= {high}, but got {value} instead."
        raise ApiError(400, message, "integer_above_max_value", name)
    return value


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _ill_typed(name, "a string", value)
    if not value:
        message = f"Invalid '{name}': empty string. Expected a string with minimum length 1."
        raise ApiError(400, message, "empty_string", name)
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _ill_typed(name, "a boolean", value)
    return value


def expiry(name: str, value: Any) -> int:
    # bool is an int to Python, not to JSON.
    if isinstance(value, bool) or not isinstance(value, int):
        raise _ill_typed(name, "an integer", value)
    return _bounds(name, value, 1, MAX_EXPIRY)


def texts(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _ill_typed(name, "an array of strings", value)
    return [text(f"{name}[{index}]", item) for index, item in enumerate(value)]


def one_of(*allowed: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _ill_typed(name, "a string", value)
        if value not in allowed:
            listed = ", ".join(f"'{item}'" for item in allowed)
            message = f"Invalid value: '{value}'. Supported values are: {listed}."
            raise ApiError(400, message, "invalid_value", name)
        return value

    return check


def or_null(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def number(low: int, high: int | None = None) -> Check:
    """An integer in a query string."""

    def check(name: str, value: Any) -> int:
        try:
            parsed = int(value)
        except ValueError:
            raise _ill_typed(name, "an integer", value) from None
        return _bounds(name, parsed, low, high)

    return check


def switch(name: str, value: Any) -> bool:
    """A boolean in a query string."""
    if value not in ("true", "false"):
        raise _ill_typed(name, "a boolean", value)
    return bool(value == "true")


def body(raw: bytes, content_type: str, checks: Mapping[str, Check], required: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON object in a request's body, each of its members checked."""
    if not raw.strip():
        received: Any = {}
    else:
        if content_type != "application/json":
            message = (
                f"Unsupported content type: '{content_type}'. This API method only accepts 'application/json' requests."
            )
            raise ApiError(400, message, "unsupported_content_type")
        try:
            received = json.loads(raw)
        except ValueError:
            message = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
            raise ApiError(400, message) from None
    if not isinstance(received, dict):
        raise ApiError(400, f"Invalid body: expected an object, but got {_kind(received)} instead.", "invalid_type")
    for name in received:
        if name not in checks:
            raise ApiError(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    for name in required:
        if name not in received:
            raise ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    return {name: checks[name](name, value) for name, value in received.items()}


def query(
    pairs: Sequence[tuple[str, str]],
    checks: Mapping[str, Check],
    lists: Mapping[str, Check] | None = None,
    required: Sequence[str] = (),
) -> dict[str, Any]:
    """The query string; a name in `lists` may come repeated, with or without brackets, as the SDKs send it."""
    lists = lists or {}
    found: dict[str, Any] = {}
    for name, value in pairs:
        bare = name.removesuffix("[]")
        if bare in lists:
            found.setdefault(bare, []).append(lists[bare](bare, value))
        elif name in checks:
            found[name] = checks[name](name, value)
        else:
            raise ApiError(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    for name in required:
        if name not in found:
            raise ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    return found
