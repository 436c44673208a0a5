# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount moves to another store, and back."""

from __future__ import annotations

import typing as t

from unit.crashes.harness import Scenario
from unit.crashes.lease_scenarios import has_a_pending_lease, has_lease
from unit.crashes.world import World, another_store

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move


def _has_another_store(world: World) -> None:
    has_lease(world)
    has_a_pending_lease(world)
    world.add_store(another_store(world))


def _has_been_moved(world: World) -> None:
    _has_another_store(world)
    first, second = (world.other(store) for store in world.stores)
    move(first, second, to="there", grace=600, dry_run=False)


def _move(source: int, target: int) -> t.Callable[[World], None]:
    def act(world: World) -> None:
        stores = world.stores[source], world.stores[target]
        move(*map(world.open, stores), to="here" if source else "there", grace=600, dry_run=False)

    return act


def _move_again(source: int, target: int) -> t.Callable[[World], None]:
    def again(world: World) -> None:
        stores = world.stores[source], world.stores[target]
        move(*map(world.other, stores), to="here" if source else "there", grace=600, dry_run=False)

    return again


def _moved(world: World, _done: bool) -> None:
    assert sum(bool(world.stores[at].read(DEFINITIONS).data.get("config")) for at in range(2)) == 1  # type: ignore[union-attr]


SCENARIOS = (
    Scenario("move", _move(0, 1), _has_another_store, _move_again(0, 1), _moved, calls=0, writes=8),
    Scenario("move_back", _move(1, 0), _has_been_moved, _move_again(1, 0), _moved, calls=0, writes=8, variant=True),
)
