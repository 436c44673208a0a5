# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How sections of the definitions are stored: a large one in compressed parts, of which only what is asked for is opened.

The definitions of a thousand static roles differ little from each other, and a task wants one of them.
"""

from __future__ import annotations

import functools
import itertools
import json
import typing as t
import zlib

from .errors import UnreadableError
from .store.base import Data
from .store.shrinking import compress, expand

#: What has keys in it stays as people can read it, who may need them when nothing else works.
_READABLE = ("config", "rotation")
#: So do other sections of up to so many characters of JSON.
_LARGE = 16_384
#: About how many each part of the rest has.
_PART = 32_768


def fold(sections: Data) -> Data:
    """Return sections of the definitions, by their names, as they are to be stored."""
    return {name: section if name in _READABLE else _folded(section) for name, section in sections.items()}


def unfold(stored: Data) -> Data:
    """Return sections as they were before fold; not to be changed by the caller. Of a large one, what is asked for is read then."""
    return {name: _Section(name, section) if isinstance(section, list) else section for name, section in stored.items()}


class _Section(t.Mapping[str, t.Any]):
    """A section that is stored in parts."""

    def __init__(self, name: str, parts: list[str]) -> None:
        self._name = name
        # An empty list is nothing that was stored here, and an empty part is refused.
        self.parts = parts or [""]

    def __getitem__(self, name: str) -> t.Any:
        return self._open(self.parts[_place(name, len(self.parts))])[name]

    def __iter__(self) -> t.Iterator[str]:
        return itertools.chain.from_iterable(map(self._open, self.parts))

    def __len__(self) -> int:
        return sum(len(self._open(part)) for part in self.parts)

    def __eq__(self, other: object) -> bool:
        return self.parts == other.parts if isinstance(other, _Section) else super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def _open(self, part: str) -> Data:
        try:
            return _open(part)
        except (TypeError, ValueError):
            raise UnreadableError(
                f"store: section {self._name!r} of the definitions does not hold what it should; somebody has edited it"
            ) from None


def _folded(section: t.Any) -> t.Any:
    if isinstance(section, _Section):
        return section.parts
    size = len(json.dumps(section, separators=(",", ":")))
    if size <= _LARGE:
        return section
    parts: list[Data] = [{} for _unused in range(max(1, size // _PART))]
    for name, entry in section.items():
        parts[_place(name, len(parts))][name] = entry
    return [compress(json.dumps(part, separators=(",", ":"))) for part in parts]


def _place(name: str, parts: int) -> int:
    """Return the number of the part that an entry is in."""
    # A name may be asked for that is none.
    return zlib.crc32(name.encode(errors="surrogatepass")) % parts


# A task asks for the same entry more than once.
@functools.lru_cache(maxsize=64)
def _open(part: str) -> Data:
    """Return a part, not to be changed; raises TypeError or ValueError if it was not stored here."""
    return dict(json.loads(expand(part)))
