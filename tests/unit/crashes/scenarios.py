# SPDX-License-Identifier: GPL-3.0-or-later
"""What the harness tries: all that is made, changed or ended at OpenAI. A new kind of credential is registered here."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta

from unit.crashes.harness import Scenario
from unit.crashes.world import World, another_store

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
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
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import adopt, rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move


def _issue(world: World) -> None:
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


def _has_lease(world: World) -> None:
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


def _has_two_leases(world: World) -> None:
    for _unused in range(2):
        _has_lease(world)
    world.unwanted |= {credential["lease_id"] for credential in world.credentials}


def _revoke(world: World) -> None:
    ended = revoke(world.mount, matching(world.mount, None))
    errors = [one.error for one in ended if one.error]
    if errors:
        raise OpenAICredsError(errors[0])


def _has_a_pending_lease(world: World) -> None:
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


def _has_work_for_cleanup(world: World) -> None:
    """Leases that are due, one that OpenAI has refused to end, an issue that was interrupted, and a lease that goes on."""
    for _unused in range(3):
        issue(world.other(), "my-role", 60)
    refused = find_record(world.other(), issue(world.other(), "my-role")["lease_id"])
    assert refused
    world.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    assert revoke(world.other(), [refused])[0].error
    _has_a_pending_lease(world)
    world.clock.move(120)
    _has_lease(world)


def _cleanup(world: World) -> None:
    cleanup(world.mount, orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)


def _has_another_store(world: World) -> None:
    _has_lease(world)
    _has_a_pending_lease(world)
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


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("issue", _issue, calls=1, writes=3),
        Scenario("issue_scoped", _issue, lambda world: world.role(scopes=["api.model.read"]), calls=2, writes=3),
        Scenario(
            "issue_without_native_expiry", _issue, lambda world: world.role(native_expiry=False), writes=3, variant=True
        ),
        Scenario("issue_several", _issue_several, calls=2, writes=6, variant=True),
        Scenario("own", _own, writes=2, in_a_run=True),
        Scenario("shared", _shared, writes=2, holds=_one_lease, in_a_run=True),
        Scenario("renew_for_longer", _renew(7200), _has_lease, writes=2),
        Scenario("renew_for_shorter", _renew(1200), _has_lease, writes=2, variant=True),
        Scenario("revoke", _revoke, _has_two_leases, calls=2, writes=2),
        Scenario("revoke_pending", _revoke_pending, _has_a_pending_lease, calls=2, writes=2),
        Scenario("rotate", _rotate(), calls=4, writes=4, holds=_old_key_gone),
        Scenario("rotate_with_overlap", _rotate(overlap=3600), calls=3, writes=3, holds=_old_key_gone, variant=True),
        Scenario(
            "rotate_expiring", _rotate(expires_in=30 * 86400), calls=4, writes=4, holds=_old_key_gone, variant=True
        ),
        Scenario("adopt", _adopt, calls=2, writes=2, holds=_old_key_gone),
        Scenario(
            "replaced_before_it_is_kept", _rotate_while_a_person_replaces_the_key(2), calls=2, writes=2, variant=True
        ),
        Scenario("replaced_before_the_switch", _rotate_while_a_person_replaces_the_key(3), calls=2, writes=3),
        Scenario("cleanup", _cleanup, _has_work_for_cleanup, calls=5, writes=4),
        Scenario("move", _move(0, 1), _has_another_store, _move_again(0, 1), _moved, calls=0, writes=8),
        Scenario("move_back", _move(1, 0), _has_been_moved, _move_again(1, 0), _moved, calls=0, writes=8, variant=True),
    )
}
