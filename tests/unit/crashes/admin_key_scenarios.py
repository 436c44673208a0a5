# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin key: rotated, adopted, replaced by hand meanwhile."""

from __future__ import annotations

import typing as t

from unit.crashes.harness import Scenario
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import adopt, rotate


def _rotate(overlap: int = 0, expires_in: int | None = None) -> t.Callable[[World], None]:
    def act(world: World) -> None:
        rotate(world.mount, always=True, overlap=overlap, expires_in=expires_in, dry_run=False)

    return act


def _old_key_gone(world: World, done: bool) -> None:
    """Of the keys that were the mount's, the last one is left."""
    known = {key["id"] for key in world.double.state()["admin_keys"]} - world.foreign
    config = world.other(world.home()).definitions("config")
    assert not done or config["admin_api_key_id"] != world.double.admin_key_id
    if config["admin_api_key_id"] != world.double.admin_key_id:
        assert world.double.admin_key_id not in known


def _adopt(world: World) -> None:
    with world.others():
        key = world.double.add_admin_key("made elsewhere")
    world.admin_keys_of_people.add(key["id"])
    adopt(world.mount, key["value"], key["id"], overlap=0, dry_run=False)


def _rotate_while_a_person_replaces_the_key(before_write: int) -> t.Callable[[World], None]:
    def act(world: World) -> None:
        def replace() -> None:
            key = world.double.add_admin_key("made by hand")
            world.admin_keys_of_people.add(key["id"])
            options = dict.fromkeys(("admin_api_key_id", "organization_id", "api_endpoint"))
            try:
                write_config(
                    world.other(), admin_api_key=key["value"], **options, replace_key=True, validate=True, dry_run=False
                )
            except OpenAICredsError as error:
                world.hear(error)

        world.before_write(before_write, replace)
        try:
            rotate(world.mount, always=True, overlap=0, expires_in=None, dry_run=False)
        except OpenAICredsError as error:
            # That one gives way is what it is to do.
            world.hear(error)
            world.errors.clear()

    return act


SCENARIOS = (
    Scenario("rotate", _rotate(), calls=4, writes=4, holds=_old_key_gone),
    Scenario("rotate_with_overlap", _rotate(overlap=3600), calls=3, writes=3, holds=_old_key_gone, variant=True),
    Scenario("rotate_expiring", _rotate(expires_in=30 * 86400), calls=4, writes=4, holds=_old_key_gone, variant=True),
    Scenario("adopt", _adopt, calls=2, writes=2, holds=_old_key_gone),
    Scenario("replaced_before_it_is_kept", _rotate_while_a_person_replaces_the_key(2), calls=2, writes=2, variant=True),
    Scenario("replaced_before_the_switch", _rotate_while_a_person_replaces_the_key(3), calls=2, writes=3),
)
