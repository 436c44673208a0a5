# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation of the admin key leaves on record, in the section rotation of the definitions.

    intent    at most one, so rotations exclude each other: which key is replaced, and the unique name of the one to come
    ending    keys that are to be deleted

It stands beside the config, so that one compare-and-set both makes a new key the mount's and lets the old one end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

from ..clocks import FAR_SECONDS
from ..durations import rfc3339
from ..errors import OpenAICredsError
from ..journal.ending import Refusal
from ..journal.owners import Owner, read_owner
from ..journal.things import ADMIN_KEY, Thing
from ..mount import Mount
from ..mount_config import MountConfig
from ..openai.answers import NewKey
from ..store.base import Data


@dataclasses.dataclass(frozen=True)
class KeyIntent:
    """A rotation under way. thing is the key to come, by its unique name; replaces is the id of the old one, which stays valid
    for overlap seconds.

    expires_in is after how many seconds OpenAI ends the new key; key is that key as soon as it is kept, made_at the Unix time
    of that. owner is None when nobody is at it any more.
    """

    thing: Thing
    replaces: str
    overlap: int
    expires_in: int | None
    owner: Owner | None
    key: NewKey | None = None
    made_at: int | None = None

    @property
    def name(self) -> str:
        return t.cast(str, self.thing.name)


@dataclasses.dataclass(frozen=True)
class KeyEnding:
    """A key that is to be deleted at a Unix time, overlap seconds after it was replaced. It never becomes the mount's again.

    digest is that of its value, None if that was never known.
    """

    thing: Thing
    digest: str | None
    ends_at: int
    overlap: int
    refusal: Refusal | None = None

    @property
    def id(self) -> str:
        return t.cast(str, self.thing.id)

    def has_ended(self, now: int) -> bool:
        """Say whether its overlap is over. An end further ahead than the overlap was written by a clock that was wrong."""
        return not 0 < self.ends_at - now <= self.overlap + FAR_SECONDS


@dataclasses.dataclass(frozen=True)
class Rotation:
    """What is on record."""

    intent: KeyIntent | None = None
    endings: tuple[KeyEnding, ...] = ()

    def __bool__(self) -> bool:
        return self.intent is not None or bool(self.endings)

    def let_end(self, key: Thing, now: int, value: str | None = None, overlap: int = 0) -> Rotation:
        """Return it with one more key that is to be deleted when the overlap is over."""
        if any(ending.id == key.id for ending in self.endings):
            return self
        ending = KeyEnding(key, digest(value) if value else None, now + overlap, overlap)
        return dataclasses.replace(self, endings=(*self.endings, ending))

    def store(self, data: Data) -> None:
        """Put it into the definitions; nothing where there is nothing to say."""
        data.pop("rotation", None)
        if self:
            data["rotation"] = dataclasses.asdict(self)


def read_rotation(definitions: Data) -> Rotation:
    """Return what is on record, from the definitions."""
    data = definitions.get("rotation") or {}
    intent = data.get("intent")
    if intent:
        key = NewKey(**intent["key"]) if intent["key"] else None
        thing, owner = Thing(**intent["thing"]), read_owner(intent["owner"])
        intent = KeyIntent(**{**intent, "thing": thing, "owner": owner, "key": key})
    return Rotation(intent, tuple(map(_read_ending, data.get("endings", ()))))


def _read_ending(data: Data) -> KeyEnding:
    refusal = data["refusal"] and Refusal(**data["refusal"])
    return KeyEnding(**{**data, "thing": Thing(**data["thing"]), "refusal": refusal})


def rotation_of(mount: Mount) -> Rotation:
    """Return what is on record of rotations of a mount's admin key."""
    return read_rotation({"rotation": mount.definitions("rotation")})


def change_rotation(mount: Mount, change: t.Callable[[Rotation], Rotation]) -> None:
    """Change what is on record."""

    def changing(data: Data) -> bool:
        before = read_rotation(data)
        after = change(before)
        after.store(data)
        return after != before

    mount.define(changing)


def key_at(config: MountConfig, *, key_id: str | None = None, name: str | None = None) -> Thing:
    """Return an admin key at the endpoint and of the organization that a config is for."""
    return Thing(ADMIN_KEY, name, config.api_endpoint, config.organization_id, id=key_id)


def refuse_ending(rotation: Rotation, value: str, key_id: str | None, option: str) -> None:
    """Raise if a key is on record to be deleted: somebody may be doing so right now."""
    for ending in rotation.endings:
        if ending.id == key_id or ending.digest == digest(value):
            raise OpenAICredsError(
                f"{option}: this key was rotated away and ends at {rfc3339(ending.ends_at)}; make a new one at OpenAI"
            )


def digest(value: str) -> str:
    """Return by what a key that was replaced is known again."""
    return hashlib.sha256(value.encode()).hexdigest()
