# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: issue, share, renew, revoke, clean up."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta

from unit.crashes.harness import Scenario
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record, find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import (
    own_credential,
    shared_credential,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.withdraw import revoke_found
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup


def issue_one(world: World) -> None:
    world.given(issue(world.mount, "my-role"))


def _issue_several(world: World) -> None:
    issued: set[str] = set()
    try:
        credentials = issue_several(world.mount, "my-role", None, 2, lambda lease: issued.add(lease.lease_id))
    except OpenAICredsError:
        # Nobody is given them, so they end even if the store cannot record that.
        world.unwanted |= issued
        raise
    for credential in credentials:
        world.given(credential)


def _own(world: World) -> None:
    world.given(own_credential(world.mount, "my-role", None))


def _shared(world: World) -> None:
    """A second process of the run asks as soon as the first has begun."""
    other = world.other()

    def ask() -> None:
        world.given(shared_credential(other, "my-role", None, 300)[0])

    world.before_call(1, lambda: world.beside(ask))
    world.given(shared_credential(world.mount, "my-role", None, 300)[0])


def _one_lease(world: World, done: bool) -> None:
    """Whoever asks while the run's lease lives is given that one; after an accident it may have ended meanwhile."""
    if done and not world.errors:
        ends = {one["lease_id"]: datetime.fromisoformat(one["expires_at"]) for one in world.credentials}
        begins = [ends[one["lease_id"]] - timedelta(seconds=one["lease_duration"]) for one in world.credentials]
        assert len(ends) == 1 or min(ends.values()) <= max(begins)


def has_lease(world: World) -> None:
    world.given(issue(world.other(), "my-role"))


def _record(world: World) -> Record:
    record = find_record(world.mount, world.credentials[0]["lease_id"])
    if record is None:
        raise OpenAICredsError("lease_id: it has ended")
    return record


def _renew(increment: int) -> t.Callable[[World], None]:
    def act(world: World) -> None:
        renew(world.mount, _record(world), increment, dry_run=False)

    return act


def has_two_leases(world: World) -> None:
    for _unused in range(2):
        has_lease(world)
    world.unwanted |= {credential["lease_id"] for credential in world.credentials}


def revoke_all(world: World) -> None:
    ended = revoke(world.mount, matching(world.mount, None))
    errors = [one.error for one in ended if one.error]
    if errors:
        raise OpenAICredsError(errors[0])


def has_a_pending_lease(world: World) -> None:
    """OpenAI has made the account, and its answer was lost; so was all that the issuer said after that."""
    world.double.fault(kind="drop_after", method="POST", times=1)
    world.double.fault(kind="refuse", status=403, method="GET")
    try:
        issue(world.other(), "my-role")
    except OpenAICredsError as error:
        world.hear(error)
    world.errors.clear()
    world.double.clear_faults()


def _revoke_pending(world: World) -> None:
    found = matching(world.mount, None)
    ended = revoke_found(world.mount, found, lambda: matching(world.mount, None), force=False)
    errors = [one.error for one in ended if one.error]
    if errors:
        raise OpenAICredsError(errors[0])


def _has_work_for_cleanup(world: World) -> None:
    """Leases that are due, one that OpenAI has refused to end, an issue that was interrupted, and a lease that goes on."""
    for _unused in range(3):
        issue(world.other(), "my-role", 60)
    refused = find_record(world.other(), issue(world.other(), "my-role")["lease_id"])
    assert refused
    world.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    assert revoke(world.other(), [refused])[0].error
    has_a_pending_lease(world)
    world.clock.move(120)
    has_lease(world)


def clean_up(world: World) -> None:
    cleanup(world.mount, orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)


SCENARIOS = (
    Scenario("issue", issue_one, calls=1, writes=3),
    Scenario("issue_scoped", issue_one, lambda world: world.role(scopes=["api.model.read"]), calls=2, writes=3),
    Scenario(
        "issue_without_native_expiry", issue_one, lambda world: world.role(native_expiry=False), writes=3, variant=True
    ),
    Scenario("issue_several", _issue_several, calls=2, writes=6, variant=True),
    Scenario("own", _own, writes=2, in_a_run=True),
    Scenario("shared", _shared, writes=2, holds=_one_lease, in_a_run=True),
    Scenario("renew_for_longer", _renew(7200), has_lease, writes=2),
    Scenario("renew_for_shorter", _renew(1200), has_lease, writes=2, variant=True),
    Scenario("revoke", revoke_all, has_two_leases, calls=2, writes=2),
    Scenario("revoke_pending", _revoke_pending, has_a_pending_lease, calls=2, writes=2),
    Scenario("cleanup", clean_up, _has_work_for_cleanup, calls=5, writes=4),
)
