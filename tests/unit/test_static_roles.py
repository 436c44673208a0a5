# SPDX-License-Identifier: GPL-3.0-or-later
"""Static roles: a key that is rotated, with both strategies and both of OpenAI's ways to end keys of accounts."""

from __future__ import annotations

import contextlib
import itertools
import threading
import typing as t

import pytest
from account_keys import keys, untouched
from double.client import Double
from lab import BOTH_STORES, PROJECT, Lab
from unit.conftest import Crash as Crashed
from unit.test_account_keys import clean
from unit.test_leases import opens_models
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import delete_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.change import Outcome
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.projects import delete_project
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records, records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.making import LeaseMaking
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation import static_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    delete_static_role,
    read_static_roles,
    rotate_static_role,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_state import hold, read_state
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Document, Write

if t.TYPE_CHECKING:
    from conftest import Clock

    Crash = t.Callable[..., t.ContextManager[None]]

DAY = 86400
DEFAULTS = {
    "api_key_name": "vault-static-key",
    "rotation_period": "24h",
    "ttl": "48h",
    "rotation_strategy": "new_key",
    "overlap": "0",
}
STRATEGIES = pytest.mark.parametrize("strategy", ["new_key", "new_account"])
OVERLAPS = pytest.mark.parametrize("overlap", [0, 600])


@pytest.fixture(params=["deletes keys", "refuses to"])
def account(request: pytest.FixtureRequest, double: Double, mount: Mount, clock: Clock) -> Data:
    """An account with a key that somebody else has made."""
    double.settings(refuse_service_account_key_delete=request.param == "refuses to")
    # Time passes while a key's end is waited for.
    mount.openai()._sleep = clock.move
    return double.add_service_account(PROJECT, "workload")


def write(mount: Mount, account: Data, *, dry_run: bool = False, **given: t.Any) -> Outcome:
    given = {"service_account_id": account["id"], "project_id": PROJECT, **given}
    return write_static_role(mount, "Data.Science", defaults=DEFAULTS, dry_run=dry_run, **given)


def rotate(mount: Mount) -> bool:
    return rotate_static_role(mount, "Data.Science", always=True).rotated


def current(mount: Mount) -> Data:
    return current_credential(mount, "Data.Science")


def live(mount: Mount) -> set[str]:
    return {record.subject for record in records(mount)}


def at_rest(mount: Mount) -> bool:
    """Say whether nobody has left anything to carry on."""
    folders = ("intents/", "refusals/", "unfinished/")
    state = read_state(mount, "Data.Science").value
    # An owner that has ended keeps nobody off.
    at_work = state.owner is not None and state.owner.is_working()
    return not [one for folder in folders for one in mount.store.scan(folder)] and not at_work and not state.next


def test_the_first_key_is_made_when_the_role_is_written(lab: Lab, mount: Mount, account: Data) -> None:
    outcome = write(mount, account)
    assert outcome.changed
    creds = current(mount)
    assert keys(lab, account)[creds["api_key_id"]].startswith("vault-static-key-") and len(keys(lab, account)) == 1
    assert opens_models(lab, creds["api_key"]) and untouched(lab, account) and at_rest(mount)
    assert creds["lease_id"].startswith("openai/static/Data.Science/")
    again = write(mount, account)
    assert not again.changed and current(mount) == creds


def test_a_dry_run_changes_nothing(lab: Lab, mount: Mount, account: Data) -> None:
    assert write(mount, account, dry_run=True).changed
    assert not read_static_roles(mount, None) and keys(lab, account) == {}
    write(mount, account)
    before = read_static_roles(mount, None)
    assert not write(mount, account, dry_run=True).changed
    assert static_role.planned_credential(mount, "Data.Science", always=True)[0]
    assert delete_static_role(mount, "Data.Science", dry_run=True).changed
    assert read_static_roles(mount, None) == before


def test_rotated_when_due(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    write(mount, account)
    first = current(mount)
    clock.move(DAY - 1)
    assert not rotate_static_role(mount, "Data.Science", always=False).rotated
    clock.move(1)
    (shown,) = read_static_roles(mount, None)
    assert shown["rotation_due"] and shown["api_key_id"] == first["api_key_id"]
    assert rotate_static_role(mount, "Data.Science", always=False).rotated
    second = current(mount)
    assert list(keys(lab, account)) == [second["api_key_id"]] and untouched(lab, account) and at_rest(mount)
    assert live(mount) == {second["lease_id"]}
    assert not opens_models(lab, first["api_key"]) and opens_models(lab, second["api_key"])
    (shown,) = read_static_roles(mount, "Data.Science")
    assert shown["api_key_id"] == second["api_key_id"] and second["api_key"] not in str(shown)


@OVERLAPS
def test_no_key_ends_before_a_timer_that_fires_each_hour_has_rotated_it(
    lab: Lab, mount: Mount, account: Data, clock: Clock, overlap: int
) -> None:
    """As with the defaults, in which the ttl is no longer than the period."""
    write(mount, account, ttl=str(DAY + overlap), overlap=str(overlap))
    rotations = 0
    for hour in range(50):
        clock.move(3600 + 300 * (hour % 2))
        before = current(mount)
        assert opens_models(lab, before["api_key"])
        rotated = rotate_static_role(mount, "Data.Science", always=False).rotated
        rotations += rotated
        if rotated and overlap:
            clock.move(overlap - 1)
            assert opens_models(lab, before["api_key"]), "it does not live on for the overlap"
    assert rotations == 2
    (shown,) = read_static_roles(mount, None)
    assert shown["next_rotation"] < shown["expires_at"]


@BOTH_STORES
def test_the_old_key_lives_on_for_the_overlap(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    write(mount, account, overlap="10m")
    first = current(mount)
    rotate(mount)
    second = current(mount)
    assert set(keys(lab, account)) == {first["api_key_id"], second["api_key_id"]} and at_rest(mount)
    clock.move(599)
    assert clean(mount)["revoked"] == []
    clock.move(1)
    assert clean(mount)["revoked"] == [first["lease_id"]]
    assert list(keys(lab, account)) == [second["api_key_id"]] and untouched(lab, account)
    assert current(mount) == second


@OVERLAPS
def test_new_account(lab: Lab, mount: Mount, account: Data, clock: Clock, overlap: int) -> None:
    other = lab.double.add_service_account(PROJECT, "other")
    write(mount, account, rotation_strategy="new_account", overlap=overlap)
    for _turn in range(2):
        before = current(mount)
        rotate(mount)
        after = current(mount)
        assert after["service_account_id"] != before["service_account_id"]
        assert opens_models(lab, after["api_key"]) and opens_models(lab, before["api_key"]) is bool(overlap)
        if overlap:
            clock.move(overlap)
            assert clean(mount)["revoked"] == [before["lease_id"]]
        accounts = {one["id"] for one in lab.double.state()["service_accounts"]}
        assert accounts == {other["id"], after["service_account_id"]}
        assert live(mount) == {after["lease_id"]} and at_rest(mount)
    delete_static_role(mount, "Data.Science", dry_run=False)
    assert lab.accounts() == {"other"} and live(mount) == set() and at_rest(mount)


def test_new_key_for_an_account_of_new_account(lab: Lab, mount: Mount, account: Data) -> None:
    write(mount, account, rotation_strategy="new_account")
    rotate(mount)
    made = current(mount)["service_account_id"]
    with pytest.raises(OpenAICredsError, match="rotation_strategy") as refused:
        write(mount, account, rotation_strategy="new_key")
    sentence(refused.value)
    write(mount, {"id": made}, rotation_strategy="new_key")
    creds = current(mount)
    assert creds["service_account_id"] == made and opens_models(lab, creds["api_key"])
    assert {one["id"] for one in lab.double.state()["service_accounts"]} == {made}


@BOTH_STORES
@OVERLAPS
def test_deleted(lab: Lab, mount: Mount, account: Data, overlap: int) -> None:
    write(mount, account, overlap=overlap)
    rotate(mount)
    assert delete_static_role(mount, "Data.Science", dry_run=False).changed
    assert keys(lab, account) == {} and untouched(lab, account) and live(mount) == set() and at_rest(mount)
    assert not [*mount.store.scan("static/")] and not read_static_roles(mount, None)
    assert not delete_static_role(mount, "Data.Science", dry_run=False).changed
    write(mount, account)
    assert len(keys(lab, account)) == 1


def test_ttl_must_outlast_the_period_and_the_overlap(mount: Mount, account: Data) -> None:
    with pytest.raises(OpenAICredsError) as refused:
        write(mount, account, overlap="25h")
    assert all(option in sentence(refused.value) for option in ("ttl", "rotation_period", "overlap"))
    with pytest.raises(OpenAICredsError, match="service_account_id: svc_acct_none is not an account of"):
        write(mount, {"id": "svc_acct_none"})
    assert not read_static_roles(mount, None)


def test_a_key_that_nobody_rotated_ends(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    write(mount, account)
    lease_id = current(mount)["lease_id"]
    clock.move(2 * DAY - 1)
    assert clean(mount)["revoked"] == [] and current(mount)["lease_id"] == lease_id
    clock.move(1)
    for cleaned in (False, True):
        if cleaned:
            assert clean(mount)["revoked"] == [lease_id]
        with pytest.raises(OpenAICredsError, match="ended") as refused:
            current(mount)
        assert "openai_static_creds" in sentence(refused.value)
    assert rotate_static_role(mount, "Data.Science", always=False).rotated
    assert list(keys(lab, account)) == [current(mount)["api_key_id"]] and at_rest(mount)


def test_a_key_that_was_revoked_is_not_made_again_unasked(lab: Lab, mount: Mount, account: Data) -> None:
    write(mount, account)
    revoke(mount, active_records(mount, [current(mount)["lease_id"]]))
    assert keys(lab, account) == {}
    assert not rotate_static_role(mount, "Data.Science", always=False).rotated
    with pytest.raises(OpenAICredsError, match="was revoked"):
        current(mount)
    assert rotate(mount) and len(keys(lab, account)) == 1


@pytest.mark.parametrize("way_out", ["new_account", "another account"])
def test_an_account_that_is_gone(lab: Lab, mount: Mount, account: Data, way_out: str) -> None:
    write(mount, account)
    mount.openai().delete_service_account(PROJECT, account["id"])
    with pytest.raises(OpenAICredsError, match=account["id"]) as refused:
        rotate(mount)
    said = sentence(refused.value)
    assert "service_account_id" in said and "new_account" in said
    if way_out == "new_account":
        write(mount, account, rotation_strategy="new_account")
        assert rotate(mount)
    else:
        write(mount, lab.double.add_service_account(PROJECT, "second"))
    assert opens_models(lab, current(mount)["api_key"]) and at_rest(mount)
    assert live(mount) == {current(mount)["lease_id"]}


def test_a_key_that_will_not_go_stays_on_record(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    write(mount, account)
    first = current(mount)
    lab.double.fault(kind="refuse", status=403, method="DELETE", path="/api_keys/")
    lab.double.fault(kind="refuse", status=403, message="not allowed", method="POST", path="/api_keys/key")
    report = rotate_static_role(mount, "Data.Science", always=True)
    assert report.rotated and "new_account" in report.warnings[0] and first["lease_id"] in report.warnings[0]
    assert current(mount)["lease_id"] != first["lease_id"]
    (failed,) = (record for record in records(mount) if record.status == "failed")
    assert failed.subject == first["lease_id"] and "new_account" in failed.public()["error"]
    lab.double.clear_faults()
    clock.move(10)
    assert clean(mount)["revoked"] == [first["lease_id"]]
    assert list(keys(lab, account)) == [current(mount)["api_key_id"]] and untouched(lab, account)


def test_a_lost_answer(lab: Lab, mount: Mount, account: Data) -> None:
    write(mount, account)
    lab.double.fault(kind="drop_after", times=1, method="POST", path="/api_keys$")
    assert rotate(mount)
    assert list(keys(lab, account)) == [current(mount)["api_key_id"]] and untouched(lab, account) and at_rest(mount)


def crashing(mount: Mount, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> pytest.MonkeyPatch:
    """Let the process end before or after the store's change with a number."""
    left = [number]

    def change(method: t.Callable[..., None]) -> t.Callable[..., None]:
        def changing(*args: t.Any) -> None:
            left[0] -= 1
            if left[0] == 0 and after:
                method(*args)
            if left[0] <= 0:
                raise Crashed(number)
            method(*args)

        return changing

    monkeypatch.setattr(mount.store, "write", change(mount.store.write))
    monkeypatch.setattr(mount.store, "delete", change(mount.store.delete))
    return monkeypatch


def whole(lab: Lab, mount: Mount, account: Data, strategy: str) -> None:
    """Check that there is one key, that it works and is the current one, and that all else has ended."""
    creds = current(mount)
    assert opens_models(lab, creds["api_key"])
    assert live(mount) == {creds["lease_id"]} and at_rest(mount)
    if strategy == "new_key":
        assert list(keys(lab, account)) == [creds["api_key_id"]] and untouched(lab, account)
    else:
        assert {one["id"] for one in lab.double.state()["service_accounts"]} == {creds["service_account_id"]}


#: The rest takes minutes.
_QUICK = {("new_key", 600, "cleanup"), ("new_account", 0, "rotation")}


@pytest.mark.parametrize(
    ("strategy", "overlap", "carried_on_by"),
    [
        pytest.param(*one, marks=() if one in _QUICK else pytest.mark.long)
        for one in itertools.product(("new_key", "new_account"), (0, 600), ("rotation", "cleanup"))
    ],
)
@pytest.mark.once
def test_a_crash_at_any_write(
    lab: Lab,
    mount: Mount,
    account: Data,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    overlap: int,
    carried_on_by: str,
) -> None:
    write(mount, account, rotation_strategy=strategy, overlap=overlap)
    rotate(mount)
    number, after, crashed = 0, True, True
    while crashed:
        number, after = (number, True) if not after else (number + 1, False)
        crashed = False
        with monkeypatch.context() as patch:
            crashing(mount, patch, number, after=after)
            try:
                rotate(mount)
            except Crashed:
                crashed = True
        # At every instant there is a key that works.
        assert opens_models(lab, current(mount)["api_key"])
        if carried_on_by == "rotation":
            rotate(mount)
        for _turn in range(2):
            clean(mount)
            clock.move(overlap)
        clean(mount)
        whole(lab, mount, account, strategy)
    assert number > 8


@STRATEGIES
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_a_call(lab: Lab, mount: Mount, account: Data, crash: Crash, strategy: str, after: bool) -> None:
    write(mount, account, rotation_strategy=strategy)
    rotate(mount)
    made = {"new_key": "create_account_key", "new_account": "create_service_account"}[strategy]
    with crash(made, after=after):
        rotate(mount)
    assert opens_models(lab, current(mount)["api_key"])
    clean(mount)
    assert rotate(mount)
    whole(lab, mount, account, strategy)


@STRATEGIES
@pytest.mark.once
def test_a_crash_in_a_deletion(
    lab: Lab, mount: Mount, account: Data, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    number, after, crashed = 0, True, True
    while crashed:
        number, after = (number, True) if not after else (number + 1, False)
        crashed = False
        held = lab.double.add_service_account(PROJECT, "workload")
        write(mount, held, rotation_strategy=strategy)
        if strategy == "new_account":
            rotate(mount)
        with monkeypatch.context() as patch:
            crashing(mount, patch, number, after=after)
            try:
                delete_static_role(mount, "Data.Science", dry_run=False)
            except Crashed:
                crashed = True
        clean(mount)
        if read_static_roles(mount, None):
            assert opens_models(lab, current(mount)["api_key"]) or crashed
            delete_static_role(mount, "Data.Science", dry_run=False)
        assert live(mount) == set() and at_rest(mount) and keys(lab, held) == {}
        assert not [*mount.store.scan("static/")]
    assert number > 4


@BOTH_STORES
def test_rotations_exclude_each_other(lab: Lab, mount: Mount, account: Data) -> None:
    write(mount, account)
    outcomes: list[bool | str] = []

    def turn() -> None:
        own = lab.mount(clock=mount.clock)
        own.openai()._sleep = mount.openai()._sleep
        try:
            outcomes.append(rotate(own))
        except OpenAICredsError as error:
            outcomes.append(sentence(error))

    threads = [threading.Thread(target=turn) for _each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) >= 1 and len(outcomes) == 6
    assert all(one is True or (isinstance(one, str) and "somebody else" in one) for one in outcomes)
    clean(mount)
    whole(lab, mount, account, "new_key")


ELSEWHERE = {"machine": "another", "pid": 1, "started": 1}


@pytest.mark.parametrize("passed", [0, 600])
def test_an_owner_that_cannot_be_seen(lab: Lab, mount: Mount, account: Data, clock: Clock, passed: int) -> None:
    write(mount, account)
    with hold(mount, "Data.Science"):
        pass
    document = mount.store.read(read_state(mount, "Data.Science").path)
    assert document
    data = {**document.data, "owner": {**document.data["owner"], "process": ELSEWHERE}}
    mount.store.write(Write(document.path, data, document.version))
    clock.move(passed)
    if passed:
        assert rotate(mount)
    else:
        before = current(mount)
        with pytest.raises(OpenAICredsError, match="somebody else"):
            rotate(mount)
        with pytest.raises(OpenAICredsError, match="somebody else"):
            delete_static_role(mount, "Data.Science", dry_run=False)
        assert current(mount) == before and len(keys(lab, account)) == 1


def test_one_that_was_taken_for_dead_gives_way(
    lab: Lab, mount: Mount, account: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(mount, account)
    true = static_role.issue_lease

    def late(*args: t.Any, **options: t.Any) -> t.Any:
        made = true(*args, **options)
        document = mount.store.read(read_state(mount, "Data.Science").path)
        assert document
        mount.store.write(Write(document.path, {**document.data, "owner": None, "next": None}, document.version))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(static_role, "issue_lease", late)
        with pytest.raises(OpenAICredsError, match="somebody else"):
            rotate(mount)
    clean(mount)
    whole(lab, mount, account, "new_key")


@BOTH_STORES
@pytest.mark.parametrize("stalled", ["issue_lease", "check_owner"])
def test_one_that_was_taken_for_dead_leaves_the_key_that_others_go_on_with(
    lab: Lab, mount: Mount, account: Data, monkeypatch: pytest.MonkeyPatch, stalled: str
) -> None:
    """The process stands still when the lease is on record, before or after it has looked whether it still is its own."""
    write(mount, account)
    before = current(mount)

    def go_on() -> None:
        document = mount.store.read(read_state(mount, "Data.Science").path)
        assert document
        mount.store.write(Write(document.path, {**document.data, "owner": None}, document.version))
        for intent in mount.store.scan("intents/"):
            assert isinstance(intent, Document)
            mount.store.write(Write(intent.path, {**intent.data, "owner": None}, intent.version))
        clean(mount)

    def slow_issue(*args: t.Any, **options: t.Any) -> t.Any:
        made = issue(*args, **options)
        go_on()
        return made

    def slow_check(making: LeaseMaking) -> None:
        go_on()
        check(making)

    issue, check = static_role.issue_lease, LeaseMaking.check_owner
    with monkeypatch.context() as patch:
        if stalled == "issue_lease":
            patch.setattr(static_role, "issue_lease", slow_issue)
        else:
            patch.setattr(LeaseMaking, "check_owner", slow_check)
        with pytest.raises(OpenAICredsError, match=r"somebody else|taken it over"):
            rotate(mount)
    assert current(mount)["lease_id"] != before["lease_id"]
    whole(lab, mount, account, "new_key")


@pytest.mark.parametrize("moved", [-3 * DAY, 3 * DAY])
def test_a_clock_that_was_wrong(mount: Mount, account: Data, clock: Clock, moved: int) -> None:
    write(mount, account)
    clock.move(moved)
    (shown,) = read_static_roles(mount, None)
    assert shown["rotation_due"]


def test_what_a_static_role_uses_stays(lab: Lab, mount: Mount, account: Data) -> None:
    write(mount, account, project="lab", project_id=None)
    lab.role(project_id=PROJECT)
    with pytest.raises(OpenAICredsError, match=r"static roles.*Data\.Science"):
        delete_project(mount, "lab", dry_run=False)
    with pytest.raises(OpenAICredsError, match=r"static roles.*Data\.Science") as refused:
        delete_config(mount, force=False, dry_run=False)
    assert "force" in sentence(refused.value)
    delete_static_role(mount, "Data.Science", dry_run=False)
    delete_project(mount, "lab", dry_run=False)
    delete_config(mount, force=False, dry_run=False)


def test_refused_before_anything_is_there(mount: Mount) -> None:
    with pytest.raises(OpenAICredsError, match="static role not found") as refused:
        current(mount)
    sentence(refused.value)


def edit(mount: Mount, lease_id: str) -> t.Callable[[], None]:
    """Make a lease unreadable; returns what restores it."""
    before = mount.store.read(lease_path(lease_id))
    assert before
    mount.store.write(Write(before.path, {"edited": True}, before.version))
    return lambda: mount.store.write(Write(before.path, before.data, before.version + 1))


@BOTH_STORES
@OVERLAPS
@STRATEGIES
def test_rotated_although_the_previous_key_cannot_be_read(
    lab: Lab, mount: Mount, account: Data, clock: Clock, overlap: int, strategy: str
) -> None:
    write(mount, account, overlap=overlap, rotation_strategy=strategy)
    first = current(mount)
    restore = edit(mount, first["lease_id"])
    for _turn in range(2):
        report = rotate_static_role(mount, "Data.Science", always=True)
        assert report.rotated and opens_models(lab, current(mount)["api_key"])
        assert f"{first['lease_id']} would not end, openai_cleanup tries again: " in str(report.warnings)
    assert "openai/static/Data.Science" in [one["lease_id"] for one in clean(mount)["failed"]]
    restore()
    assert not clean(mount)["failed"]
    clock.move(overlap)
    clean(mount)
    assert live(mount) == {current(mount)["lease_id"]} and at_rest(mount)
    assert not opens_models(lab, first["api_key"]) and opens_models(lab, current(mount)["api_key"])


def test_rotated_although_what_was_interrupted_cannot_be_read(
    lab: Lab, mount: Mount, account: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(mount, account)

    def crashed(*_args: object) -> None:
        raise Crashed

    with monkeypatch.context() as patch, pytest.raises(Crashed):
        patch.setattr(static_role, "_switch", crashed)
        rotate(mount)
    following = read_state(mount, "Data.Science").value.next
    assert following
    restore = edit(mount, following.lease_id)
    assert rotate(mount)
    restore()
    assert not clean(mount)["failed"]
    whole(lab, mount, account, "new_key")


@pytest.mark.parametrize("which", ["current", "previous"])
@STRATEGIES
def test_deleted_but_for_what_cannot_be_read(lab: Lab, mount: Mount, account: Data, strategy: str, which: str) -> None:
    write(mount, account, overlap=600, rotation_strategy=strategy)
    previous = current(mount)
    rotate(mount)
    creds = {"previous": previous, "current": current(mount)}
    unread = creds.pop(which)
    restore = edit(mount, unread["lease_id"])
    for _turn in range(2):
        outcome = delete_static_role(mount, "Data.Science", dry_run=False)
        assert unread["lease_id"] in str(outcome.warnings) and not read_static_roles(mount, None)
        assert [opens_models(lab, one["api_key"]) for one in creds.values()] == [False]
        assert opens_models(lab, unread["api_key"])
    assert "openai/static/Data.Science" in [one["lease_id"] for one in clean(mount)["failed"]]
    restore()
    assert not clean(mount)["failed"] and live(mount) == set() and at_rest(mount)
    assert not opens_models(lab, unread["api_key"]) and not [*mount.store.scan("static/")]
    assert lab.accounts() == ({"workload"} if strategy == "new_key" else set())


@pytest.mark.parametrize("field", ["service_account_id", "rotation_period", "api_key_name", "rotation_strategy"])
def test_a_static_role_that_somebody_has_edited_is_named(mount: Mount, account: Data, field: str) -> None:
    write(mount, account)
    mount.define(lambda data: data["static_roles"]["Data.Science"].pop(field) is not None)
    with pytest.raises(UnreadableError) as refused:
        current(mount)
    assert (
        sentence(refused.value)
        == "store: static role 'Data.Science' does not hold what it should; somebody has edited it"
    )
    assert [one["rotation_due"] for one in read_static_roles(mount, None)] == [True]
    with pytest.raises(UnreadableError) if field == "rotation_strategy" else contextlib.nullcontext():
        write(mount, account, **({} if field == "rotation_strategy" else {field: DEFAULTS.get(field, account["id"])}))
    delete_static_role(mount, "Data.Science", dry_run=False)
    write(mount, account)
    assert current(mount)
