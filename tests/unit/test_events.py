# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event source tells of: each thing that is due, once, from the store alone."""

from __future__ import annotations

import typing as t

import pytest
from double.client import Double
from lab import BOTH_STORES, PROJECT, Lab
from unit.test_account_keys import clean

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import rfc3339
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    OpenAICredsError,
    StoreError,
    UnreadableError,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import LEASES
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    rotate_static_role,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep import events
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.events import EventWatcher

if t.TYPE_CHECKING:
    from unit.conftest import Clock

pytestmark = BOTH_STORES

AHEAD = 300
HOUR = 3600


class Timer:
    """What looking at the store seems to take. At first the whole store is looked at in each poll."""

    def __init__(self) -> None:
        self.time = 0.0
        self.each = 0.0

    def __call__(self) -> float:
        self.time += self.each
        return self.time


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def watcher(lab: Lab, mount: Mount, clock: Clock, timer: Timer) -> t.Iterator[EventWatcher]:
    """What another process would watch the mount with. It makes no call to OpenAI."""
    watched = lab.mount(clock=clock)

    def refused() -> t.NoReturn:
        raise AssertionError("the source called OpenAI")

    watched.openai = refused  # type: ignore[method-assign]
    yield EventWatcher(watched, AHEAD, timer)


def told(watcher: EventWatcher) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("lease_id")) for event in watcher.poll()]


def rotations(watcher: EventWatcher) -> list[Data]:
    return [event for event in watcher.poll() if event["type"] == "rotation_due"]


def plan(mount: Mount, **schedule: t.Any) -> None:
    none = dict.fromkeys(("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint"))
    write_config(mount, **none, **schedule, replace_key=False, validate=False, dry_run=False)


def test_a_lease_is_told_of_before_and_at_its_end(mount: Mount, watcher: EventWatcher, clock: Clock) -> None:
    creds = issue(mount, "my-role")
    assert watcher.poll() == []
    clock.move(HOUR - AHEAD - 1)
    assert watcher.poll() == []
    clock.move(1)
    facts = {"mount": "openai", "lease_id": creds["lease_id"], "role": "my-role", "expires_at": creds["expires_at"]}
    assert watcher.poll() == [{"type": "lease_expiring", **facts}]
    assert watcher.poll() == []
    clock.move(AHEAD - 1)
    assert watcher.poll() == []
    assert watcher.pause(10) == 1
    clock.move(1)
    assert watcher.poll() == [{"type": "lease_expired", **facts}]
    assert watcher.poll() == []
    clean(mount)
    clock.move(HOUR)
    assert watcher.poll() == []


def test_an_end_is_told_of_again_while_the_lease_is_on_record(
    mount: Mount, watcher: EventWatcher, clock: Clock
) -> None:
    lease_id = issue(mount, "my-role")["lease_id"]
    clock.move(HOUR)
    assert told(watcher) == [("lease_expired", lease_id)]
    clock.move(59)
    assert told(watcher) == []
    clock.move(1)
    assert told(watcher) == [("lease_expired", lease_id)]
    # Two minutes after its end, no cleanup has done anything.
    clock.move(60)
    assert told(watcher) == [("lease_expired", lease_id), ("cleanup_failed", None)]
    clock.move(60)
    (again, overdue) = watcher.poll()
    assert again["type"] == "lease_expired"
    assert overdue == {
        "type": "cleanup_failed",
        "mount": "openai",
        "error": "leases that are on record 120 s after their end: 1; no cleanup has ended them",
        "overdue": 1,
        "last_cleanup": None,
    }
    clean(mount)
    clock.move(60)
    assert told(watcher) == []


def test_a_renewed_lease_gets_new_events_and_a_revoked_one_none(
    mount: Mount, watcher: EventWatcher, clock: Clock
) -> None:
    renewed, revoked = (issue(mount, "my-role")["lease_id"] for _unused in range(2))
    clock.move(HOUR - AHEAD)
    assert sorted(told(watcher)) == sorted([("lease_expiring", renewed), ("lease_expiring", revoked)])
    record = find_record(mount, renewed)
    assert record
    renew(mount, record, increment=None, dry_run=False)
    other = find_record(mount, revoked)
    assert other
    revoke(mount, [other])
    clock.move(AHEAD)
    assert told(watcher) == []
    clock.move(HOUR - AHEAD - AHEAD)
    assert told(watcher) == [("lease_expiring", renewed)]
    clock.move(AHEAD)
    assert told(watcher) == [("lease_expired", renewed)]


def test_a_refusal_is_told_of_whenever_a_try_is_due(
    mount: Mount, watcher: EventWatcher, clock: Clock, double: Double
) -> None:
    creds = issue(mount, "my-role")
    clock.move(HOUR)
    double.fault(method="DELETE", kind="refuse", status=403, path=creds["service_account_id"])
    assert told(watcher) == [("lease_expired", creds["lease_id"])]
    clean(mount)
    (event,) = watcher.poll()
    assert event.pop("error").startswith("OpenAI answered 403")
    assert event == {
        "type": "cleanup_failed",
        "mount": "openai",
        "lease_id": creds["lease_id"],
        "role": "my-role",
        "expires_at": creds["expires_at"],
        "attempts": 1,
    }
    assert watcher.poll() == []
    clean(mount)
    assert watcher.poll() == [], "it is not to be tried again yet"
    clock.move(5)
    assert [event["attempts"] for event in watcher.poll()] == [2]
    # Nobody tries.
    clock.move(60)
    assert [event["attempts"] for event in watcher.poll()] == [2]
    double.clear_faults()
    clean(mount)
    clock.move(60)
    assert watcher.poll() == []


def test_the_rotation_of_the_admin_key_is_told_of(mount: Mount, watcher: EventWatcher, clock: Clock) -> None:
    assert rotations(watcher) == []
    plan(mount, rotation_period="1h")
    assert rotations(watcher) == []
    clock.move(HOUR - 1)
    assert rotations(watcher) == []
    clock.move(1)
    due = {"type": "rotation_due", "mount": "openai", "what": "admin_key", "due_at": rfc3339(clock())}
    assert rotations(watcher) == [due]
    assert rotations(watcher) == []
    clock.move(599)
    assert rotations(watcher) == []
    clock.move(1)
    assert rotations(watcher) == [due], "nobody has rotated"
    rotate(mount, always=False, overlap=600, expires_in=None, dry_run=False)
    clock.move(599)
    assert rotations(watcher) == []
    clock.move(1)
    (previous,) = rotations(watcher)
    assert previous["what"] == "previous_admin_key"
    assert previous["due_at"] == rfc3339(clock())
    clean(mount)
    clock.move(600)
    assert rotations(watcher) == []


def write_nightly(mount: Mount, double: Double) -> None:
    """Write a static role that is due each hour; with its definition it gets its first key."""
    account = double.add_service_account(PROJECT, "workload")
    defaults = {
        "api_key_name": "vault-static-key",
        "rotation_period": "1h",
        "ttl": "2h",
        "rotation_strategy": "new_account",
        "overlap": "0",
    }
    write_static_role(
        mount, "nightly", service_account_id=account["id"], project_id=PROJECT, defaults=defaults, dry_run=False
    )


def test_the_rotation_of_a_static_role_is_told_of(
    mount: Mount, watcher: EventWatcher, clock: Clock, double: Double
) -> None:
    assert rotations(watcher) == []
    write_nightly(mount, double)
    # With its definition it gets its first key.
    last = rotations(watcher)
    rotate_static_role(mount, "nightly", always=False)
    clock.move(HOUR - 1)
    assert last == rotations(watcher) == []
    clock.move(1)
    (due,) = rotations(watcher)
    assert due == {
        "type": "rotation_due",
        "mount": "openai",
        "what": "static_role",
        "static_role": "nightly",
        "due_at": rfc3339(clock()),
    }
    assert rotations(watcher) == []
    rotate_static_role(mount, "nightly", always=False)
    clock.move(600)
    assert rotations(watcher) == []


def test_new_leases_are_seen_between_looks_at_the_whole_store(
    mount: Mount, watcher: EventWatcher, clock: Clock, timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyed: list[str] = []
    store = watcher._mount.store
    survey = store.survey

    def counted(prefix: str, now: int, *, tidy: bool) -> t.Any:
        surveyed.append(prefix)
        assert not tidy, "a source changes nothing"
        return survey(prefix, now, tidy=tidy)

    monkeypatch.setattr(store, "survey", counted)
    # At the beginning of an hour, since leases of the last one are only looked at with the whole store.
    clock.move(3600 - clock.time % 3600)
    timer.each = 1.0
    assert watcher.poll() == []
    assert surveyed == [LEASES]
    timer.each = 0.1
    lease_id = issue(mount, "my-role", ttl=20)["lease_id"]
    assert told(watcher) == [("lease_expiring", lease_id)]
    clock.move(20)
    assert told(watcher) == [("lease_expired", lease_id)]
    assert LEASES not in surveyed[1:]
    clean(mount)
    clock.move(60)
    assert told(watcher) == [], "one that is gone is not known any more"
    timer.time += 20
    watcher.poll()
    assert surveyed[-1] == LEASES


def test_what_cannot_be_read_hides_nothing_else(
    mount: Mount, watcher: EventWatcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_id = issue(mount, "my-role")["lease_id"]
    clock.move(HOUR)
    warnings: list[str] = []
    watcher._mount.warn = warnings.append
    store = watcher._mount.store
    survey = store.survey

    def partly(prefix: str, now: int, *, tidy: bool) -> t.Any:
        found = survey(prefix, now, tidy=tidy)
        found.due = iter([UnreadableError("store: leases/x cannot be read"), *found.due])
        return found

    monkeypatch.setattr(store, "survey", partly)
    assert told(watcher) == [("lease_expired", lease_id)]
    watcher.poll()
    assert warnings == ["store: leases/x cannot be read"]


def test_a_poll_that_fails_loses_no_event(
    mount: Mount, watcher: EventWatcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_id = issue(mount, "my-role")["lease_id"]
    clock.move(HOUR)

    def fail(*_args: t.Any) -> t.NoReturn:
        raise StoreError("store: it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(events, "next_rotation", fail)
        with pytest.raises(StoreError):
            watcher.poll()
    assert told(watcher) == [("lease_expired", lease_id)]
    assert told(watcher) == []


def test_a_schedule_that_cannot_be_read_hides_no_lease(
    mount: Mount, watcher: EventWatcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python of ansible-rulebook may lack what reads schedules."""
    lease_id = issue(mount, "my-role")["lease_id"]
    clock.move(HOUR)
    warnings: list[str] = []
    watcher._mount.warn = warnings.append

    def fail(*_args: t.Any) -> t.NoReturn:
        raise OpenAICredsError("rotation_schedule needs the Python package cronsim")

    monkeypatch.setattr(events, "next_rotation", fail)
    assert told(watcher) == [("lease_expired", lease_id)]
    assert told(watcher) == []
    assert warnings == ["rotation_schedule needs the Python package cronsim"]


def test_a_mount_without_admin_key_is_said_to_have_none(lab: Lab, mount: Mount, clock: Clock) -> None:
    """Its name, or that of its store, may be misspelt."""
    warnings: list[str] = []
    misspelt = lab.mount("opnai", clock=clock)
    misspelt.warn = warnings.append
    watcher = EventWatcher(misspelt, AHEAD)
    assert watcher.poll() == watcher.poll() == []
    assert warnings == [str(misspelt.unconfigured())]
    clock.move(events.REPEAT_ROTATION_SECONDS)
    assert watcher.poll() == []
    assert len(warnings) == 2, "it is said again"


def test_a_static_role_is_told_of_once_wherever_it_was_seen(
    mount: Mount, watcher: EventWatcher, clock: Clock, timer: Timer, double: Double
) -> None:
    write_nightly(mount, double)
    due_at = rfc3339(clock() + HOUR)
    assert rotations(watcher) == []
    timer.each = 0.1
    clock.move(HOUR)
    assert [event["due_at"] for event in rotations(watcher)] == [due_at]
    clock.move(2)
    # The next look is one at the whole store.
    timer.time += 40
    assert rotations(watcher) == []
    clock.move(600)
    timer.time += 40
    assert [event["due_at"] for event in rotations(watcher)] == [due_at]


def test_most_of_the_time_is_a_pause(watcher: EventWatcher, timer: Timer) -> None:
    assert watcher.poll() == [] and watcher.pause(1.0) == 1.0
    timer.each = 0.5
    assert watcher.poll() == [] and watcher.pause(1.0) > 1.0
    timer.each = 60.0
    assert watcher.poll() == [] and watcher.pause(1.0) == 3.0


def test_what_was_told_does_not_pile_up(mount: Mount, watcher: EventWatcher, clock: Clock) -> None:
    for _unused in range(3):
        issue(mount, "my-role", ttl=60)
        watcher.poll()
        clock.move(60)
        watcher.poll()
        clean(mount)
    clock.move(60)
    watcher.poll()
    assert not watcher._told
    assert not watcher._told_ends
