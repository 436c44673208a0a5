# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks that are wrong, here or before they were put right, and keys that do not end as asked."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from lab import Lab
from on_record import unfinished
from unit.test_leases import opens_models, record_of, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.things import ADMIN_KEY, Thing
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.watches import Watch
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.transport import Transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import recover, rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

HOUR = 3600
YEAR = 365 * 86400


def clean(mount: Mount) -> dict[str, t.Any]:
    return cleanup(mount, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)


def key_end(lab: Lab, creds: dict[str, t.Any]) -> int:
    (key,) = (key for key in lab.double.state()["api_keys"] if key["id"] == creds["api_key_id"])
    return int(key["expires_at"])


@pytest.mark.parametrize("ahead", [90 * 60, -90 * 60, YEAR, -YEAR])
@pytest.mark.parametrize("native", [True, False])
def test_a_lease_ends_by_openais_clock(lab: Lab, mount: Mount, clock: Clock, ahead: int, native: bool) -> None:
    lab.role(native_expiry=native)
    clock.set_wrong(ahead)
    creds = issue(mount, "my-role", HOUR)
    lease = record_of(mount, creds).lease
    assert (lease.issued_at, lease.expires_at) == (clock.time, clock.time + HOUR)
    assert lease.max_expires_at == clock.time + 86400
    assert not native or lease.expires_at == key_end(lab, creds)
    assert creds["lease_duration"] == HOUR


def test_a_lease_of_a_clock_that_was_ahead_is_not_handed_out_after_its_end(
    lab: Lab, mount: Mount, clock: Clock
) -> None:
    clock.set_wrong(90 * 60)
    first, _issued = shared_credential(mount, "my-role", HOUR, 300)
    clock.set_wrong(0)
    clock.move(HOUR - 301)
    assert shared_credential(mount, "my-role", HOUR, 300) == (first, False)
    clock.move(302)
    second, issued = shared_credential(mount, "my-role", HOUR, 300)
    assert issued and opens_models(lab, second["api_key"])


@pytest.mark.parametrize("ahead", [90 * 60, -90 * 60])
def test_a_run_whose_clock_stays_wrong_still_shares_one_lease(lab: Lab, mount: Mount, clock: Clock, ahead: int) -> None:
    clock.set_wrong(ahead)
    first, _issued = shared_credential(mount, "my-role", HOUR, 300)
    lab.double.clear_requests()
    for other in (mount, lab.mount(clock=clock)):
        assert shared_credential(other, "my-role", HOUR, 300) == (first, False)
    assert lab.double.requests() == []


@pytest.mark.parametrize(("ahead", "words"), [(7200, "120 min ahead of"), (-7200, "120 min behind"), (30, None)])
def test_a_clock_that_is_far_from_openais_is_said_once(
    lab: Lab, mount: Mount, clock: Clock, ahead: int, words: str | None
) -> None:
    said: list[str] = []
    mount.warn = said.append
    clock.set_wrong(ahead)
    issue(mount, "my-role")
    issue(mount, "my-role")
    assert len(said) == (1 if words else 0)
    assert all(str(words) in warning for warning in said)


@pytest.mark.parametrize("native", [True, False])
def test_a_cleanup_whose_clock_is_ahead_ends_nothing_that_lives(
    lab: Lab, mount: Mount, clock: Clock, native: bool
) -> None:
    lab.role(native_expiry=native)
    creds = issue(mount, "my-role", HOUR)
    said: list[str] = []
    elsewhere = lab.mount(clock=clock)
    elsewhere.warn = said.append
    clock.set_wrong(3 * HOUR)
    result = clean(elsewhere)
    assert result["revoked"] == [] and result["active"] == 1 and result["next_expiry"] == creds["expires_at"]
    assert opens_models(lab, creds["api_key"]) and len(said) == 1
    clock.move(HOUR)
    assert clean(elsewhere)["revoked"] == [creds["lease_id"]]
    assert lab.accounts() == set()


def test_a_cleanup_with_nothing_due_asks_nobody_for_the_time(lab: Lab, mount: Mount) -> None:
    issue(mount, "my-role")
    lab.double.clear_requests()
    clean(mount)
    assert lab.double.requests() == []


def test_a_cleanup_asks_for_the_time_once(lab: Lab, mount: Mount, clock: Clock) -> None:
    for _unused in range(3):
        issue(mount, "my-role", 60)
    clock.move(60)
    lab.double.clear_requests()
    assert len(clean(lab.mount(clock=clock))["revoked"]) == 3
    assert sorted(call["method"] for call in lab.double.requests()) == ["DELETE"] * 3 + ["GET"]


def test_where_no_answer_tells_the_time_the_clock_here_counts(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "_tell_time", lambda self, response: None)
    creds = issue(mount, "my-role", 60)
    clock.move(60)
    assert clean(mount)["revoked"] == [creds["lease_id"]]


@pytest.mark.parametrize("ahead", [3 * HOUR, -3 * HOUR])
def test_a_renewal_goes_by_openais_clock(lab: Lab, mount: Mount, clock: Clock, ahead: int) -> None:
    creds = issue(mount, "my-role", HOUR)
    clock.set_wrong(ahead)
    clock.move(600)
    renewed = renew(mount, record_of(mount, creds), 7200, dry_run=False)
    assert renewed.lease.expires_at == clock.time + 7200 == key_end(lab, creds)
    assert "max_ttl" in refused(renew, mount, record_of(mount, creds), 86400, dry_run=False)


# No stored time stops work for longer than its own rule allows.


def test_a_refusal_of_a_clock_that_was_ahead_is_tried_again(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    creds = issue(mount, "my-role")
    monkeypatch.setattr(Transport, "_tell_time", lambda self, response: None)
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    clock.set_wrong(YEAR)
    revoke(mount, active_records(mount, [creds["lease_id"]]))
    for _unused in range(3):
        clean(mount)
    clock.set_wrong(0)
    lab.double.clear_faults()
    assert clean(mount)["revoked"] == [creds["lease_id"]]
    assert lab.accounts() == set()


def test_a_watch_of_a_clock_that_was_ahead_ends(lab: Lab, mount: Mount, clock: Clock) -> None:
    lab.double.fault(kind="drop_before", method="POST", path="/service_accounts$", times=1)
    issue(mount, "my-role")
    (watch,) = mount.store.scan("watches/")
    mount.store.write(Write(watch.path, {**watch.data, "since": int(clock.time) + YEAR}, watch.version))
    clean(mount)
    assert unfinished(mount.store) == []


def test_an_overlap_and_a_watch_of_a_rotation_by_a_clock_that_was_ahead_end(
    lab: Lab, mount: Mount, clock: Clock
) -> None:
    rotate(mount, always=True, overlap=HOUR, expires_in=None, dry_run=False)

    def set_ahead(data: dict[str, t.Any]) -> bool:
        refusal = {"attempts": 1, "error": "no", "retry_at": clock.time + YEAR}
        data["rotation"]["endings"][0].update(ends_at=clock.time + YEAR, refusal=refusal)
        return True

    mount.define(set_ahead)
    thing = Thing(ADMIN_KEY, "never-made", lab.double.url, None)
    watch = Watch("the admin key", thing, int(clock.time + YEAR), 0)
    mount.store.write(Write("watches/x", dataclasses.asdict(watch)))
    assert recover(mount, 600, dry_run=False).ended == [lab.double.admin_key_id]
    assert mount.definitions("rotation") == {} and lab.admin_key_works() and unfinished(mount.store) == []


def test_an_overlap_lasts_on_a_machine_whose_clock_is_behind(lab: Lab, mount: Mount, clock: Clock) -> None:
    rotate(mount, always=True, overlap=HOUR, expires_in=None, dry_run=False)
    clock.set_wrong(-5 * HOUR)
    assert recover(lab.mount(clock=clock), 600, dry_run=False).ended == []
    assert lab.double.admin_key_id in lab.admin_keys()
    clock.move(HOUR)
    clock.set_wrong(0)
    assert recover(lab.mount(clock=clock), 600, dry_run=False).ended == [lab.double.admin_key_id]


# Keys that do not end as asked.


class Gateway:
    """Changes what the client asks for on its way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, methods: t.Sequence[str], change: t.Callable[[t.Any], t.Any]):
        for method in methods:
            true = getattr(OpenAI, method)

            def changed(client: OpenAI, *args: t.Any, true: t.Any = true, **kwargs: t.Any) -> t.Any:
                with pytest.MonkeyPatch.context() as patch:
                    call = Transport.call

                    def through(
                        self: Transport, verb: str, path: str, *, body: t.Any = None, **more: t.Any
                    ) -> dict[str, t.Any]:
                        return call(self, verb, path, body=change(body), **more)

                    patch.setattr(Transport, "call", through)
                    return true(client, *args, **kwargs)

            monkeypatch.setattr(OpenAI, method, changed)


def drop_end(body: t.Any) -> t.Any:
    return {name: value for name, value in body.items() if name != "expires_in_seconds"} if body else body


def double_end(body: t.Any) -> t.Any:
    return {**body, "expires_in_seconds": 2 * body["expires_in_seconds"]} if "expires_in_seconds" in body else body


def shorten_end(body: t.Any) -> t.Any:
    return {**body, "expires_in_seconds": 90} if body else body


def test_a_key_that_openai_ends_though_nobody_asked_for_it_outlives_no_record(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.role(native_expiry=False)
    Gateway(monkeypatch, ["create_service_account"], shorten_end)
    creds = issue(mount, "my-role", 600)
    assert record_of(mount, creds).lease.expires_at == key_end(lab, creds)
    assert creds["lease_duration"] == 90


@pytest.mark.parametrize("scopes", [None, ["api.model.read"]])
@pytest.mark.parametrize("change", [drop_end, double_end])
def test_a_key_whose_end_was_lost_on_the_way_gets_one(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: t.Any, scopes: list[str] | None
) -> None:
    lab.role(scopes=scopes)
    Gateway(monkeypatch, ["create_service_account"], change)
    creds = issue(mount, "my-role", 600)
    assert key_end(lab, creds) == record_of(mount, creds).lease.expires_at
    assert opens_models(lab, creds["api_key"])


@pytest.mark.parametrize("change", [drop_end, double_end])
def test_a_key_that_cannot_be_given_an_end_is_taken_back(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: t.Any
) -> None:
    Gateway(monkeypatch, ["create_service_account", "update_key"], change)
    error = refused(issue, mount, "my-role", 600)
    assert "native_expiry" in error or "400" in error
    assert error.endswith("the service account was removed again")
    assert lab.accounts() == set() and lab.leases() == {} and unfinished(mount.store) == []


@pytest.mark.parametrize("change", [drop_end, double_end, shorten_end])
def test_a_renewal_that_did_not_move_the_end_as_asked_fails(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: t.Any
) -> None:
    creds = issue(mount, "my-role", 600)
    Gateway(monkeypatch, ["update_key"], change)
    assert "was not renewed" in refused(renew, mount, record_of(mount, creds), 1200, dry_run=False)
    assert record_of(mount, creds).lease.expires_at <= key_end(lab, creds)


def test_a_create_that_had_to_wait_makes_no_key_that_outlives_its_lease(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.double.fault(kind="rate_limit", method="POST", path="/service_accounts$", retry_after=45, times=1)
    monkeypatch.setattr(mount.openai()._transport, "_sleep", clock.move)
    begun = clock()
    creds = issue(mount, "my-role", 600)
    assert clock() >= begun + 45, "the time has not passed"
    lease = record_of(mount, creds).lease
    assert key_end(lab, creds) == lease.expires_at == lease.issued_at + 600


@pytest.mark.parametrize("change", [drop_end, double_end])
def test_an_admin_key_that_does_not_end_as_asked_is_not_taken(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, change: t.Any
) -> None:
    Gateway(monkeypatch, ["create_admin_key"], change)
    error = refused(rotate, mount, always=True, overlap=0, expires_in=86400, dry_run=False)
    assert error.startswith("expires_in:")
    assert lab.admin_keys() == {lab.double.admin_key_id} and lab.admin_key_works()
    assert mount.definitions("rotation") == {}
