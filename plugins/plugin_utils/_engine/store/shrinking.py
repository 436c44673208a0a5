# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts that are stored compressed: records of one kind differ little from each other."""

from __future__ import annotations

import base64
import zlib

#: Texts up to so many characters stay as people can read them, unless whoever stores them says otherwise.
LARGE = 65_536
#: What is stored as JSON never begins like that.
_MARK = "gzip:"
_LARGEST = 256 * 1024 * 1024
#: What zlib calls the largest window with the header of gzip.
_GZIP = 31


def shrink(text: str, large: int = LARGE) -> str:
    """Return a text as it is to be stored: compressed if it has more than so many characters."""
    return text if len(text) <= large else _MARK + compress(text)


def unshrink(stored: str) -> str:
    """Return a text that was stored; raises ValueError if it was not stored by shrink."""
    return expand(stored[len(_MARK) :]) if stored.startswith(_MARK) else stored


def compress(text: str) -> str:
    """Return a text compressed, in base64, so that base64 and gunzip show it."""
    stream = zlib.compressobj(1, wbits=_GZIP)
    return base64.b64encode(stream.compress(text.encode()) + stream.flush()).decode()


def expand(compressed: str) -> str:
    """Return a text that was compressed; raises ValueError if it was not compressed here."""
    stream = zlib.decompressobj(wbits=_GZIP)
    try:
        text = stream.decompress(base64.b64decode(compressed, validate=True), _LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("what was stored is cut short, or too large")
    return text.decode()
