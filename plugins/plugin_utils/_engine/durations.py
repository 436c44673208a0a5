# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations as users write them, times as users read them."""

from __future__ import annotations

import re
import typing as t
from datetime import UTC, datetime

from .errors import OpenAICredsError, quoted

_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)
#: A whole number as JSON and Jinja2 write a float.
_WHOLE = re.compile(r"([0-9]+)\.0+", re.ASCII)
_UNITS = (86400, 3600, 60, 1)

#: Ten years. Nothing here lives longer, and every date stays representable.
LONGEST = 3650 * 86400


def parse_duration(value: t.Any, option: str, *, least: int = 1) -> int:
    """Return the seconds of a duration such as 90, 90.0, 90s, 30m, 1h30m or 7d.

    Raises OpenAICredsError, which names option, for anything else and for less than least seconds.
    """
    text = ""
    if isinstance(value, float) and value.is_integer():
        # Jinja2's division and JSON make floats of whole numbers.
        text = str(int(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        # A number of thousands of digits cannot even be shown.
        text = value = str(max(-1, min(value, LONGEST + 1)))
    elif isinstance(value, str):
        text = value.strip()
    if whole := _WHOLE.fullmatch(text):
        text = whole[1]
    if text.isascii() and text.isdecimal():
        text += "s"
    match = _DURATION.fullmatch(text) if text and len(text) <= 32 else None
    if match is None:
        raise OpenAICredsError(
            f"{option}: {quoted(value)} is not a duration; write seconds or e.g. 90s, 30m, 1h30m, 7d"
        )
    seconds = sum(int(count) * unit for count, unit in zip(match.groups(), _UNITS) if count)
    if not least <= seconds <= LONGEST:
        raise OpenAICredsError(
            f"{option}: {quoted(value)} must be between {least} second(s) and {LONGEST // 86400} days"
        )
    return seconds


def rfc3339(timestamp: float) -> str:
    """Return a Unix time as an RFC 3339 time in UTC, in whole seconds."""
    return datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
