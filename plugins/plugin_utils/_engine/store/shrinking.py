# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Large texts are stored compressed: the definitions of a thousand static roles differ little from each other."""

from __future__ import annotations

import base64
import functools
import json
import typing as t
import zlib

#: Texts up to so many characters stay as people can read them.
_LARGE = 65_536
#: What is stored as JSON never begins like that.
_MARK = "zlib:"
_LARGEST = 256 * 1024 * 1024


def shrink(text: str) -> str:
    """Return a text as it is to be stored."""
    if len(text) <= _LARGE:
        return text
    return _MARK + base64.b64encode(zlib.compress(text.encode(), 1)).decode()


def unshrink(stored: str) -> str:
    """Return a text that was stored; raises ValueError if it was not stored by shrink."""
    if not stored.startswith(_MARK):
        return stored
    compressed = zlib.decompressobj()
    try:
        text = compressed.decompress(base64.b64decode(stored[len(_MARK) :], validate=True), _LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not compressed.eof:
        raise ValueError("what was stored is cut short, or too large")
    return text.decode()


def load(stored: str) -> t.Any:
    """Return the JSON data of a text that was stored; raises ValueError as unshrink does. It is not to be changed."""
    # A task reads large definitions more than once.
    return _load_large(stored) if stored.startswith(_MARK) else json.loads(stored)


@functools.lru_cache(maxsize=2)
def _load_large(stored: str) -> t.Any:
    return json.loads(unshrink(stored))
