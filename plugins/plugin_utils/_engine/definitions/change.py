# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions: what users write down by name, and what changing one did."""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import UnreadableError
from ..mount import Mount
from ..names import check_name
from ..store.base import Data


class Outcome(t.NamedTuple):
    """What a change did: the definition before and after (None where it is not), for diffs."""

    changed: bool
    before: Data | None
    after: Data | None
    warnings: tuple[str, ...] = ()


def write_definition(
    mount: Mount,
    section: str,
    name: str,
    make: t.Callable[[Data, Data], Data],
    *,
    dry_run: bool,
) -> Outcome:
    """Write an entry of a section of the definitions.

    make gets the entry as it is stored, empty if there is none, and all definitions. It returns the entry as it is to
    be, or raises. It is called again if somebody else changes the definitions meanwhile, so that what a user does not
    give stays as it is at the instant of the write.
    """
    before: Data | None = None
    entry: Data = {}

    def change(data: Data) -> bool:
        nonlocal before, entry
        before = data.get(section, {}).get(name)
        entry = make(before or {}, data)
        data.setdefault(section, {})[name] = entry
        return before != entry

    changed = _apply(mount, change, dry_run)
    return Outcome(changed, named(name, before), named(name, entry))


def delete_definition(
    mount: Mount, section: str, name: str, check: t.Callable[[Data], None] = lambda data: None, *, dry_run: bool
) -> Outcome:
    """Remove an entry of a section of the definitions; check sees all of them first and may raise."""
    before: Data | None = None

    def change(data: Data) -> bool:
        nonlocal before
        before = data.get(section, {}).get(name)
        if before is None:
            return False
        check(data)
        del data[section][name]
        return True

    changed = _apply(mount, change, dry_run)
    return Outcome(changed, named(name, before), None)


def named(name: str, entry: Data | None) -> Data | None:
    """Return a definition as users see it: with its name, and without what only the collection notes, which begins with _."""
    if entry is None:
        return None
    return {"name": name, **{option: value for option, value in entry.items() if not option.startswith("_")}}


def read_definitions(mount: Mount, section: str, name: str | None) -> list[Data]:
    """Return the entries of a section, or the one with this name, sorted by name."""
    if name is not None:
        check_name(name, "name")
    entries = mount.definitions(section)
    names = sorted(entries) if name is None else [name] if name in entries else []
    return [t.cast(Data, named(key, entries[key])) for key in names]


@contextlib.contextmanager
def whole(what: str) -> t.Iterator[None]:
    """Raise UnreadableError where something of a stored definition is missing that every one has. what is the definition in words.

    Only what reads it belongs into the context: other errors of these kinds have other causes.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError):
        raise UnreadableError(f"store: {what} does not hold what it should; somebody has edited it") from None


def _apply(mount: Mount, change: t.Callable[[Data], bool], dry_run: bool) -> bool:
    if not dry_run:
        return mount.define(change)
    result = False

    def look(data: Data) -> bool:
        nonlocal result
        result = change(data)
        return False

    mount.define(look)
    return result
