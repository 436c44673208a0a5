# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that are keys of an account which somebody else has made."""

from __future__ import annotations

import typing as t

from unit.crashes.harness import Scenario
from unit.crashes.lease_scenarios import has_two_leases, issue_one, revoke_all
from unit.crashes.world import World


def _role(world: World) -> None:
    world.role(service_account_id=world.account())


def _has_two_keys(world: World) -> None:
    _role(world)
    has_two_leases(world)


def _revoke(world: World) -> None:
    revoke_all(world)
    ids = {credential["api_key_id"] for credential in world.credentials}
    live = [key["id"] for key in world.double.state()["api_keys"] if key["id"] in ids and _works(world, key)]
    assert not live, "a key is revoked and works"


def _works(world: World, key: dict[str, t.Any]) -> bool:
    return not key["expires_at"] or world.clock.time < key["expires_at"]


SCENARIOS = (
    Scenario("issue_key", issue_one, _role, calls=1, writes=3, variant=True),
    Scenario("revoke_keys", _revoke, _has_two_keys, calls=2, writes=2, long=True),
    Scenario(
        "revoke_keys_that_are_not_deleted",
        _revoke,
        _has_two_keys,
        calls=4,
        writes=2,
        keys_are_not_deleted=True,
        variant=True,
    ),
)
