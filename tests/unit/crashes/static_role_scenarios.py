# SPDX-License-Identifier: GPL-3.0-or-later
"""Static roles: written with their first key, rotated with either strategy, deleted."""

from __future__ import annotations

import typing as t

from lab import PROJECT
from unit.crashes.harness import Scenario
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    delete_static_role,
    rotate_static_role,
    write_static_role,
)

_NAME = "my-static-role"
#: Of these, with the overlaps here, ttl is as short as it may be; the harness looks again when it is over.
_DEFAULTS = {"api_key_name": "static-key", "rotation_period": "24h", "ttl": "48h", "overlap": 0}


def _write(mount: Mount, account_id: str, **given: t.Any) -> None:
    write_static_role(
        mount, _NAME, defaults=_DEFAULTS, dry_run=False, service_account_id=account_id, project_id=PROJECT, **given
    )


def _there(strategy: str = "new_key", overlap: int = 0, *, rotated: bool = False) -> t.Callable[[World], None]:
    """Return how a static role comes to be there; the account is one that new_account may delete."""

    def prepare(world: World) -> None:
        account_id = world.account(handed_over=strategy == "new_account")
        _write(world.other(), account_id, rotation_strategy=strategy, overlap=overlap)
        if rotated:
            rotate_static_role(world.other(), _NAME, always=True)

    return prepare


def _write_first(world: World) -> None:
    _write(world.mount, world.account(), rotation_strategy="new_key")


def _rotate(world: World) -> None:
    rotate_static_role(world.mount, _NAME, always=True)


def _delete(world: World) -> None:
    outcome = delete_static_role(world.mount, _NAME, dry_run=False)
    left = [one["name"] for one in world.double.state()["api_keys"] if one["name"].startswith("static-key-")]
    assert outcome.warnings or not left, "a static role is deleted and its key is there"


def _delete_again(world: World) -> None:
    delete_static_role(world.other(), _NAME, dry_run=False)


SCENARIOS = (
    Scenario("static_role_written", _write_first, calls=2, writes=8, variant=True),
    Scenario("static_role_rotated", _rotate, _there(), calls=2, writes=10),
    Scenario("static_role_rotated_with_overlap", _rotate, _there(overlap=3600), calls=1, writes=9, variant=True),
    Scenario(
        "static_role_rotated_where_keys_are_not_deleted",
        _rotate,
        _there(),
        calls=4,
        writes=10,
        keys_are_not_deleted=True,
        long=True,
    ),
    Scenario(
        "static_role_given_a_new_account",
        _rotate,
        _there("new_account", rotated=True),
        calls=2,
        writes=10,
        variant=True,
    ),
    Scenario(
        "static_role_given_a_new_account_with_overlap",
        _rotate,
        _there("new_account", 3600),
        calls=1,
        writes=9,
        long=True,
    ),
    Scenario("static_role_deleted", _delete, _there(overlap=3600, rotated=True), _delete_again, writes=6, variant=True),
    Scenario(
        "static_role_with_an_account_of_its_own_deleted",
        _delete,
        _there("new_account", rotated=True),
        _delete_again,
        writes=5,
        variant=True,
    ),
)
