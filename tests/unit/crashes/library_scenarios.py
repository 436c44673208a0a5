# SPDX-License-Identifier: GPL-3.0-or-later
"""Library sets: written, lent from and returned to, changed, deleted."""

from __future__ import annotations

import contextlib
import typing as t

from lab import PROJECT
from unit.crashes.harness import Scenario
from unit.crashes.lease_scenarios import clean_up
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount

_NAME = "my-set"
_DEFAULTS = {"max_ttl": "24h", "description": ""}


def _write(mount: Mount, *names: str) -> None:
    write_library_set(
        mount, _NAME, defaults=_DEFAULTS, dry_run=False, project_id=PROJECT, service_account_names=list(names)
    )


def _has(*names: str) -> t.Callable[[World], None]:
    def prepare(world: World) -> None:
        _write(world.other(), *names)

    return prepare


def _names(*names: str) -> t.Callable[[World], None]:
    def act(world: World) -> None:
        _write(world.mount, *names)

    return act


def _names_again(*names: str) -> t.Callable[[World], None]:
    def again(world: World) -> None:
        _write(world.other(), *names)

    return again


def _lent(world: World) -> None:
    """Somebody else would like the account, and gets it if nobody has it."""
    with contextlib.suppress(OpenAICredsError):
        world.given(check_out(world.other(), _NAME, 3600))


def _check_out(world: World) -> None:
    world.while_stalled = lambda: _lent(world)
    world.given(check_out(world.mount, _NAME, 3600))


def _check_out_what_others_want(world: World) -> None:
    """Somebody else is faster in taking the account that seemed to be free."""
    world.before_write(1, lambda: _lent(world))
    with contextlib.suppress(OpenAICredsError):
        world.given(check_out(world.mount, _NAME, 3600))


def _is_lent(world: World) -> None:
    _write(world.other(), "one")
    world.unwanted.add(world.given(check_out(world.other(), _NAME, 3600))["lease_id"])


def _check_in(world: World) -> None:
    (lent,) = world.credentials
    account_id = lent["service_account_id"]
    world.while_stalled = lambda: _lent(world)
    check_in(world.mount, _NAME, account=None, account_id=account_id, force=True, dry_run=False)
    live = {key["id"] for key in world.double.state()["api_keys"] if not _has_ended(world, key)}
    assert lent["api_key_id"] not in live, "an account is checked in and its key works"


def _has_ended(world: World, key: dict[str, t.Any]) -> bool:
    return bool(key["expires_at"]) and world.clock.time >= key["expires_at"]


def _has_expired(world: World) -> None:
    _is_lent(world)
    world.clock.move(3600)


def _is_deleted_behind_our_back(world: World) -> None:
    _write(world.other(), "one")
    (account,) = (one for one in world.double.state()["service_accounts"] if one["name"] == "one")
    world.other().openai().delete_service_account(PROJECT, account["id"])


def _all_can_be_lent(world: World, _done: bool) -> None:
    """Whatever happened, the set has its accounts, and each can be had."""
    mount = world.other()
    names = mount.definitions("library_sets")[_NAME]["service_account_names"]
    _write(mount, *names)
    lent = {check_out(mount, _NAME, 60)["service_account"] for _name in names}
    assert lent == set(names)


def _is_gone(world: World, _done: bool) -> None:
    assert _NAME not in world.other().definitions("library_sets")


def _delete(world: World) -> None:
    delete_library_set(world.mount, _NAME, dry_run=False)


def _delete_again(world: World) -> None:
    delete_library_set(world.other(), _NAME, dry_run=False)


SCENARIOS = (
    Scenario(
        "set_written", _names("one"), next=_names_again("one"), holds=_all_can_be_lent, calls=2, writes=5, variant=True
    ),
    Scenario(
        "set_of_several_written",
        _names("one", "two"),
        next=_names_again("one", "two"),
        holds=_all_can_be_lent,
        calls=4,
        writes=9,
        long=True,
    ),
    Scenario("check_out", _check_out, _has("one"), _lent, _all_can_be_lent, calls=1, writes=5),
    Scenario(
        "check_out_what_others_want",
        _check_out_what_others_want,
        _has("one"),
        _lent,
        _all_can_be_lent,
        calls=0,
        writes=1,
        variant=True,
    ),
    Scenario(
        "check_out_what_is_gone",
        _check_out,
        _is_deleted_behind_our_back,
        _lent,
        _all_can_be_lent,
        calls=5,
        writes=10,
        long=True,
    ),
    Scenario("check_in", _check_in, _is_lent, _lent, _all_can_be_lent, calls=1, writes=2, variant=True),
    Scenario(
        "check_in_where_keys_are_not_deleted",
        _check_in,
        _is_lent,
        _lent,
        _all_can_be_lent,
        calls=3,
        writes=2,
        keys_are_not_deleted=True,
        variant=True,
    ),
    Scenario("check_out_expired", clean_up, _has_expired, holds=_all_can_be_lent, calls=1, writes=2, variant=True),
    Scenario(
        "set_changed",
        _names("two", "three"),
        _has("one", "two"),
        _names_again("two", "three"),
        _all_can_be_lent,
        calls=3,
        writes=6,
        variant=True,
    ),
    Scenario("set_deleted", _delete, _has("one", "two"), _delete_again, _is_gone, calls=2, writes=4, variant=True),
)
