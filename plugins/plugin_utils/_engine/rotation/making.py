# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an admin key adds to the procedure that makes things (see journal.making).

Nobody shows the key again, so the very next write after it was made puts it into the intent; an interrupted rotation that has
it is carried on with it. It is proved to work before it becomes the mount's, so the key in the store always works.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ..clocks import FAR_SECONDS
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError
from ..journal.making import Made, Making, Overtaken, Uncertain
from ..journal.owners import this_owner
from ..journal.things import Thing, check_pins, end_thing
from ..journal.watches import WATCH_SECONDS
from ..mount import Mount
from ..mount_config import MountConfig, read_config
from ..openai.answers import NewKey
from ..openai.client import AdminKey, OpenAI
from ..store.base import Data
from .state import KeyIntent, Rotation, change_rotation, read_rotation, rotation_of

#: How long to wait before a new key that OpenAI does not know yet is tried again.
_PROOF_WAITS = (0.5, 1.5)


def prove_new_key(client: OpenAI) -> list[AdminKey]:
    """Use a client's key for the first time, for which it may be too young at first; returns what it lists.

    Raises ApiError if it does not work.
    """
    for wait in _PROOF_WAITS:
        try:
            return client.list_admin_keys()
        except ApiError as error:
            if error.status != 401:
                raise
        time.sleep(wait)
    return client.list_admin_keys()


class AdminKeyMaking(Making):
    """One rotation, by this process or left by another one.

    may_begin says, of the definitions at the instant of the write, whether the rotation may still begin.
    """

    failed = "admin key creation failed"
    subject = "the admin key"
    ends_at = 0

    def __init__(
        self,
        mount: Mount,
        config: MountConfig,
        intent: KeyIntent,
        may_begin: t.Callable[[MountConfig], bool] = lambda _config: False,
    ) -> None:
        self.mount = mount
        self.thing = intent.thing
        self.owner = this_owner(intent.name, mount.now())
        self.intent = intent
        self._config = config
        self._may_begin = may_begin

    def begin(self) -> None:
        """Put the intent on record; raises Conflict if somebody else rotates, or has done so since the config was read."""
        intent = dataclasses.replace(self.intent, owner=self.owner)

        def begin(data: Data) -> bool:
            now, rotation = read_config(data), read_rotation(data)
            if now is None or now.admin_api_key != self._config.admin_api_key:
                return False
            if rotation.intent or not self._may_begin(now):
                return False
            data["config"] = dataclasses.replace(now, admin_api_key_id=intent.replaces).stored()
            dataclasses.replace(rotation, intent=intent).store(data)
            return True

        if not self.mount.define(begin):
            raise Conflict("somebody else is rotating the admin key")
        self.intent = intent

    def create(self, client: OpenAI) -> Made:
        return self._made(client.create_admin_key(self.intent.name, self.intent.expires_in))

    def accept(self, client: OpenAI, made: Made) -> None:
        if self.intent.key is None:
            self._keep(made)
            expires_in, end = self.intent.expires_in, made.key.expires_at
            if expires_in and (end is None or end > self.mount.now() + expires_in + FAR_SECONDS):
                raise OpenAICredsError(
                    "expires_in: OpenAI, or a gateway on the way, does not end the new admin key when asked to; it is deleted "
                    "again, the old one stays"
                )
        self._prove(made)

    def _keep(self, made: Made) -> None:
        kept = dataclasses.replace(self.intent, key=made.key, made_at=self.mount.now())
        try:
            stored = self._change(lambda rotation, _data: dataclasses.replace(rotation, intent=kept))
        except StoreError as error:
            if not error.may_have_happened:
                raise
            # Its value may be on record all the same; then the rotation is carried on with it. If it is not, nobody will
            # ever have it, and a key that is still there is found by its name.
            raise Uncertain(str(error)) from None
        if not stored:
            raise self._overtaken()
        self.intent = kept

    def _prove(self, made: Made) -> None:
        """Use the key for the first time. One that OpenAI does not know may be too young: it stays for a while, to be
        proved later."""
        config = self._config
        client = self.mount.client_for(dataclasses.replace(config, admin_api_key=made.key.value), warn=self.mount.warn)
        try:
            prove_new_key(client)
            return
        except ApiError as error:
            failure = error
        refused = failure.status is not None and 400 <= failure.status < 500 and failure.status not in (408, 429)
        young = 0 <= self.mount.now() - t.cast(int, self.intent.made_at) < WATCH_SECONDS
        if not refused or (failure.status == 401 and young):
            raise Uncertain(
                f"the new admin key is stored but not proved to work, the next rotation or cleanup carries on: {failure}"
            )
        raise OpenAICredsError(f"the new admin key does not work and is deleted again, the old one stays: {failure}")

    def commit(self, made: Made) -> None:
        """Make the key the mount's, and let the old one end, in one write."""
        intent = self.intent
        replaced_by_hand = False

        def switch(rotation: Rotation, data: Data) -> Rotation:
            nonlocal replaced_by_hand
            config = read_config(data)
            replaced_by_hand = config is None or config.admin_api_key_id != intent.replaces
            if config is None or replaced_by_hand:
                return rotation
            return put_key(
                self.mount,
                data,
                config,
                dataclasses.replace(rotation, intent=None),
                made.key,
                intent.name,
                replaces=dataclasses.replace(intent.thing, name=None, id=intent.replaces),
                overlap=intent.overlap,
            )

        try:
            ours = self._change(switch)
        except StoreError as error:
            raise Uncertain(str(error)) from None
        if not ours:
            raise self._overtaken()
        if replaced_by_hand:
            raise OpenAICredsError(
                "the admin key was replaced by openai_config while it was rotated; that one stays, and the new one is deleted"
            )

    def finish(self) -> None:
        """Nothing is left: the switch has removed the intent."""

    def check_owner(self) -> None:
        if not _is_ours(rotation_of(self.mount), self.intent):
            raise self._overtaken()

    def take_over(self) -> bool:
        mine = dataclasses.replace(self.intent, owner=self.owner)
        if not self._change(lambda rotation, _data: dataclasses.replace(rotation, intent=mine)):
            raise Conflict("somebody else is rotating the admin key")
        self.intent = mine
        return True

    def made(self) -> Made | None:
        return self._made(self.intent.key) if self.intent.key else None

    def _made(self, key: NewKey) -> Made:
        return Made(dataclasses.replace(self.thing, id=key.id), key)

    def clear(self, why: OpenAICredsError | None = None) -> None:
        self._change(lambda rotation, _data: dataclasses.replace(rotation, intent=None))

    def abandon(self, why: OpenAICredsError | None = None) -> None:
        def left(rotation: Rotation, _data: Data) -> Rotation:
            # The key may be on record though this process was not told so.
            return dataclasses.replace(
                rotation, intent=rotation.intent and dataclasses.replace(rotation.intent, owner=None)
            )

        # If it cannot be said, others wait until this process has ended.
        with contextlib.suppress(OpenAICredsError):
            self._change(left)

    def give_up(self, key_id: str) -> None:
        """Let the new key end, and remove the intent."""
        key, now = dataclasses.replace(self.thing, id=key_id), self.mount.now()
        self._change(lambda rotation, _data: dataclasses.replace(rotation, intent=None).let_end(key, now))

    def withdraw(self, client: OpenAI, made: Made, why: OpenAICredsError) -> t.NoReturn:
        """Put the key on record as one that is to be deleted at once; raises why."""
        try:
            self.give_up(made.key.id)
        except StoreError:
            # One that is left is found by its name.
            with contextlib.suppress(ApiError):
                end_thing(client, made.thing)
        raise why

    def gives_way(self, client: OpenAI, made: Made, why: Overtaken) -> t.NoReturn:
        """End the key unless a record accounts for it."""
        rotation, config = rotation_of(self.mount), self.mount.config()
        known = {ending.id for ending in rotation.endings} | {config.admin_api_key_id if config else None}
        if rotation.intent and rotation.intent.key:
            known.add(rotation.intent.key.id)
        if made.key.id not in known:
            try:
                check_pins(client, made.thing, self.subject)
                end_thing(client, made.thing)
            except OpenAICredsError:
                now = self.mount.now()
                change_rotation(self.mount, lambda rotation: rotation.let_end(made.thing, now))
        raise why

    def _overtaken(self) -> Overtaken:
        return Overtaken("the rotation took so long that somebody else has taken it over")

    def _change(self, change: t.Callable[[Rotation, Data], Rotation]) -> bool:
        """Change what is on record if the intent is still as this process knows it; says whether it was."""

        def changing(data: Data) -> bool:
            rotation = read_rotation(data)
            if not _is_ours(rotation, self.intent):
                return False
            change(rotation, data).store(data)
            return True

        return self.mount.define(changing)


def put_key(
    mount: Mount,
    data: Data,
    config: MountConfig,
    rotation: Rotation,
    key: NewKey,
    name: str | None,
    *,
    replaces: Thing | None,
    overlap: int,
) -> Rotation:
    """Make a key the mount's, in the definitions; returns what is on record of rotations then, with the key before it to end.

    name is that of a key which a rotation has made.
    """
    now = mount.now()
    if replaces:
        rotation = rotation.let_end(replaces, now, config.admin_api_key, overlap)
    after = dataclasses.replace(
        config,
        admin_api_key=key.value,
        admin_api_key_id=key.id,
        admin_api_key_name=name,
        admin_api_key_expires_at=key.expires_at,
        id_proved=True,
        created_at=now,
        last_rotated=now,
    )
    data["config"] = after.stored()
    rotation.store(data)
    return rotation


def _is_ours(rotation: Rotation, intent: KeyIntent) -> bool:
    stored = rotation.intent
    return stored is not None and (stored.name, stored.owner) == (intent.name, intent.owner)
