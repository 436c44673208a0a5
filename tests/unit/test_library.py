# SPDX-License-Identifier: GPL-3.0-or-later
"""Library sets: accounts that are made without a key, and lent to one holder at a time; with both of OpenAI's ways to end keys."""

from __future__ import annotations

import contextlib
import time
import typing as t

import pytest
from double.client import Double
from lab import BOTH_STORES, PROJECT, Lab
from unit.conftest import Clock, Crash
from unit.test_account_keys import clean
from unit.test_leases import opens_models
from wording import HOSTILE_NAMES, sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import delete_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.projects import delete_project
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.account_making import (
    AccountMaking,
    account_intents,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import (
    check_out,
    plan_check_out,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.status import library_status
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore

DEFAULTS = {"max_ttl": "24h", "description": ""}
Crashing = t.Callable[..., t.ContextManager[None]]


def write(mount: Mount, *names: str, name: str = "pool", dry_run: bool = False, **given: t.Any) -> t.Any:
    given = {"project": "lab", "service_account_names": list(names), **given}
    return write_library_set(mount, name, defaults=DEFAULTS, dry_run=dry_run, **given)


def status(mount: Mount, name: str = "pool") -> Data:
    (one,) = library_status(mount, name)
    return one


def live_keys(lab: Lab) -> list[str]:
    """Return the ids of the keys of service accounts that work, but for those that somebody else has made."""
    state = lab.double.state()
    now = (state["frozen_at"] or time.time()) + state["clock_offset"]
    return [
        key["id"]
        for key in state["api_keys"]
        if key["name"] != "Secret Key" and (key["expires_at"] is None or key["expires_at"] > now)
    ]


def give_in(mount: Mount, creds: Data, **more: t.Any) -> str | None:
    given = {"account": None, "account_id": creds["service_account_id"], "force": False, "dry_run": False}
    return check_in(mount, "pool", **{**given, **more})


@pytest.fixture(params=["deletes keys", "refuses to"])
def pool(request: pytest.FixtureRequest, double: Double, lab: Lab, mount: Mount, clock: Clock) -> Mount:
    """A mount with a set of two accounts."""
    double.settings(refuse_service_account_key_delete=request.param == "refuses to")
    mount.issued_by = {"user": "alice", "controller": "control"}
    # Time passes while a key's end is waited for.
    mount.openai()._sleep = clock.move
    write(mount, "one", "two")
    return mount


def test_accounts_are_made_without_a_key(lab: Lab, mount: Mount) -> None:
    assert write(mount, "one", "two").changed
    state = lab.double.state()
    assert {account["name"] for account in state["service_accounts"]} == {"one", "two"}
    assert {account["role"] for account in state["service_accounts"]} == {"member"}
    assert state["api_keys"] == [] and account_intents(mount) == []
    since = lab.double.mark()
    assert not write(mount, "one", "two").changed
    assert lab.double.requests(since) == []
    ids = {one["service_account_id"] for one in status(mount)["account_status"].values()}
    assert ids == {account["id"] for account in state["service_accounts"]}


def test_what_a_dry_run_says(lab: Lab, mount: Mount) -> None:
    since = lab.double.mark()
    assert write(mount, "one", dry_run=True).changed and library_status(mount, None) == []
    assert lab.double.requests(since) == []
    write(mount, "one")
    assert not write(mount, "one", dry_run=True).changed
    assert delete_library_set(mount, "pool", dry_run=True).changed
    assert plan_check_out(mount, "pool", 60)["service_account"] == "one"
    assert lab.accounts() == {"one"} and live_keys(lab) == []


@BOTH_STORES
def test_checked_out_and_in(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600)
    assert opens_models(lab, creds["api_key"]) and live_keys(lab) == [creds["api_key_id"]]
    assert creds["lease_id"].startswith("openai/library/pool/") and creds["lease_duration"] == 600
    assert creds["checkout_time"] and creds["project_id"] == PROJECT and creds["lease_renewable"] is True
    now = status(pool)
    assert (now["available_accounts"], now["checked_out_accounts"]) == (1, 1)
    account = now["account_status"][creds["service_account"]]
    assert account["status"] == "checked_out" and account["checked_out_by"]["user"] == "alice"
    assert account["expires_at"] == creds["expires_at"] and account["lease_id"] == creds["lease_id"]
    assert creds["api_key"] not in str(now)
    assert give_in(pool, creds) == creds["lease_id"]
    assert not opens_models(lab, creds["api_key"]) and live_keys(lab) == []
    assert status(pool)["available_accounts"] == 2 and lab.accounts() == {"one", "two"}
    assert give_in(pool, creds) is None
    again = check_out(pool, "pool", 600, creds["service_account"])
    assert again["service_account_id"] == creds["service_account_id"] and again["api_key"] != creds["api_key"]


def test_what_a_check_out_costs(lab: Lab, pool: Mount) -> None:
    since = lab.double.mark()
    check_out(pool, "pool", 600)
    assert [(call["method"], call["status"]) for call in lab.double.requests(since)] == [("POST", 200)]


def test_all_taken(pool: Mount) -> None:
    first, second = check_out(pool, "pool", 600), check_out(pool, "pool", 600)
    assert first["service_account"] != second["service_account"]
    with pytest.raises(OpenAICredsError, match="no available service accounts in library") as refused:
        check_out(pool, "pool", 600)
    sentence(refused.value, "name")
    with pytest.raises(OpenAICredsError, match="service account is already checked out") as refused:
        check_out(pool, "pool", 600, "one")
    sentence(refused.value, "service_account")
    with pytest.raises(OpenAICredsError, match="no available"):
        plan_check_out(pool, "pool", 600)
    give_in(pool, first)
    assert check_out(pool, "pool", 600)["service_account"] == first["service_account"]


def test_a_foreign_account_of_the_same_name_is_untouched(lab: Lab, pool: Mount, double: Double) -> None:
    foreign = double.add_service_account(PROJECT, "three")
    write(pool, "three")
    creds = check_out(pool, "pool", 600)
    assert creds["service_account_id"] != foreign["id"]
    give_in(pool, creds)
    delete_library_set(pool, "pool", dry_run=False)
    state = double.state()
    assert [account["id"] for account in state["service_accounts"]] == [foreign["id"]] and len(state["api_keys"]) == 1


def test_foreign_keys_of_an_account_are_untouched(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600)
    foreign = pool.openai().create_account_key(PROJECT, creds["service_account_id"], "theirs", None, None)
    give_in(pool, creds)
    assert live_keys(lab) == [foreign.id]


def test_who_may_check_in(pool: Mount) -> None:
    creds = check_out(pool, "pool", 600)
    pool.issued_by = {"user": "bob", "controller": "control"}
    with pytest.raises(OpenAICredsError, match="is checked out by alice on control") as refused:
        give_in(pool, creds)
    assert "force: true" in sentence(refused.value, "service_account")
    pool.issued_by = {"user": "alice", "controller": "control", "playbook": "other.yml"}
    assert give_in(pool, creds, dry_run=True) == creds["lease_id"] == give_in(pool, creds)
    creds = check_out(pool, "pool", 600)
    pool.issued_by = {"user": "alice", "controller": "elsewhere"}
    assert give_in(pool, creds, force=True) == creds["lease_id"]


@BOTH_STORES
def test_an_expired_check_out_is_checked_in_by_cleanup(lab: Lab, pool: Mount, clock: Clock) -> None:
    creds = check_out(pool, "pool", 600)
    clock.move(600)
    assert status(pool)["checked_out_accounts"] == 1
    found = clean(pool)
    assert found["checked_in"] == [creds["lease_id"]] and found["revoked"] == [] and found["failed"] == []
    assert status(pool)["available_accounts"] == 2 and live_keys(lab) == [] and lab.accounts() == {"one", "two"}


def test_however_its_lease_ends_an_account_is_free(pool: Mount) -> None:
    creds = check_out(pool, "pool", 600)
    revoke(pool, matching(pool, "openai/library/pool/"))
    assert status(pool)["available_accounts"] == 2
    assert check_out(pool, "pool", 600, creds["service_account"])


def test_renewed_up_to_max_ttl(lab: Lab, pool: Mount, clock: Clock) -> None:
    creds = check_out(pool, "pool", 600)
    record = find_record(pool, creds["lease_id"])
    assert record and record.public()["library_set"] == "pool"
    renew(pool, record, 3600, dry_run=False)
    clock.move(3599)
    assert opens_models(lab, creds["api_key"])
    with pytest.raises(OpenAICredsError, match="ttl: 86401 s is longer than max_ttl of library set 'pool'"):
        check_out(pool, "pool", 86401)


def test_a_key_that_will_not_end_keeps_the_account(lab: Lab, pool: Mount, clock: Clock) -> None:
    creds = check_out(pool, "pool", 600)
    lab.double.fault(kind="refuse", status=403, method="DELETE", path="/api_keys/")
    lab.double.fault(kind="refuse", status=403, message="not allowed", method="POST", path="/api_keys/key")
    with pytest.raises(OpenAICredsError, match="not allowed"):
        give_in(pool, creds)
    assert status(pool)["checked_out_accounts"] == 1
    with pytest.raises(OpenAICredsError, match="already checked out"):
        check_out(pool, "pool", 600, creds["service_account"])
    lab.double.clear_faults()
    clock.move(10)
    assert clean(pool)["checked_in"] == [creds["lease_id"]]
    assert status(pool)["available_accounts"] == 2


def test_names_dropped_and_added(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600, "one")
    for dry_run in (True, False):
        with pytest.raises(OpenAICredsError, match="one of library set 'pool' is checked out by alice") as refused:
            write(pool, "two", "three", dry_run=dry_run)
        sentence(refused.value, "service_account_names")
        with pytest.raises(OpenAICredsError, match="is checked out by alice"):
            delete_library_set(pool, "pool", dry_run=dry_run)
    assert lab.accounts() == {"one", "two"} and opens_models(lab, creds["api_key"])
    # The one that could be dropped is not held any more either.
    give_in(pool, check_out(pool, "pool", 600, "two"))
    give_in(pool, creds)
    assert write(pool, "two", "three").changed
    assert lab.accounts() == {"two", "three"} and clean(pool)["failed"] == []
    assert delete_library_set(pool, "pool", dry_run=False).changed
    assert lab.accounts() == set() and not delete_library_set(pool, "pool", dry_run=False).changed
    assert list(pool.store.scan("library/")) == [] and account_intents(pool) == []


def test_an_account_that_will_not_go_is_tried_again(lab: Lab, pool: Mount, clock: Clock) -> None:
    lab.double.fault(kind="refuse", status=403, message="not now", method="DELETE", path="/service_accounts/")
    (warning,) = write(pool, "one").warnings
    assert "openai/library/pool/two" in warning and "not now" in warning
    assert lab.accounts() == {"one", "two"} and status(pool)["service_account_names"] == ["one"]
    (failure,) = clean(pool)["failed"]
    assert "not now" in failure["error"] and failure["service_account_id"]
    lab.double.clear_faults()
    clock.move(60)
    assert clean(pool)["recovered"] == ["openai/library/pool/two"]
    assert lab.accounts() == {"one"} and clean(pool)["recovered"] == []


def test_deleted_behind_our_back_is_made_again(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600, "one")
    give_in(pool, creds)
    pool.openai().delete_service_account(PROJECT, creds["service_account_id"])
    again = check_out(pool, "pool", 600, "one")
    assert again["service_account_id"] != creds["service_account_id"] and opens_models(lab, again["api_key"])
    assert lab.accounts() == {"one", "two"} and status(pool)["checked_out_accounts"] == 1
    give_in(pool, again)
    assert status(pool)["available_accounts"] == 2 and live_keys(lab) == [] and clean(pool)["recovered"] == []


def test_nothing_stays_on_record_of_an_account_that_was_made_again(pool: Mount) -> None:
    creds = check_out(pool, "pool", 600, "one")
    give_in(pool, creds)
    pool.openai().delete_service_account(PROJECT, creds["service_account_id"])
    true = AccountMaking.commit

    def crashing(making: AccountMaking, made: t.Any) -> None:
        true(making, made)
        raise Crash

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(AccountMaking, "commit", crashing)
        check_out(pool, "pool", 600, "one")
    clean(pool)
    assert list(pool.store.scan("library/")) == [] and account_intents(pool) == []


def test_nothing_stays_on_record_of_an_account_whose_end_was_interrupted(pool: Mount) -> None:
    give_in(pool, check_out(pool, "pool", 600, "two"))
    true = pool.store.delete

    def crashing(*paths: str) -> None:
        if any(path.startswith("library/") for path in paths):
            raise Crash
        true(*paths)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(pool.store, "delete", crashing)
        write(pool, "one")
    clean(pool)
    assert list(pool.store.scan("library/")) == [] and status(pool)["service_account_names"] == ["one"]


def test_deleted_while_it_is_checked_out(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600, "one")
    pool.openai().delete_service_account(PROJECT, creds["service_account_id"])
    assert give_in(pool, creds) == creds["lease_id"]
    assert opens_models(lab, check_out(pool, "pool", 600, "one")["api_key"])


def test_another_refusal_gives_the_account_back(lab: Lab, pool: Mount) -> None:
    lab.double.fault(kind="refuse", status=403, message="a policy", method="POST", path="/api_keys$", times=1)
    with pytest.raises(OpenAICredsError, match=r"API key creation failed.*a policy"):
        check_out(pool, "pool", 600, "one")
    assert status(pool)["available_accounts"] == 2 and lab.accounts() == {"one", "two"}
    assert check_out(pool, "pool", 600, "one")


def test_a_lost_answer_of_a_check_out(lab: Lab, pool: Mount) -> None:
    lab.double.fault(kind="drop_after", times=1, method="POST", path="/api_keys$")
    creds = check_out(pool, "pool", 600)
    assert live_keys(lab) == [creds["api_key_id"]] and status(pool)["checked_out_accounts"] == 1


@pytest.mark.parametrize("method", ["create_account_only", "make_member"])
@pytest.mark.parametrize("after", [False, True])
@BOTH_STORES
def test_a_write_that_crashed_at_a_call(lab: Lab, mount: Mount, crash: Crashing, method: str, after: bool) -> None:
    foreign = lab.double.add_service_account(PROJECT, "one")
    with crash(method, after=after):
        write(mount, "one")
    found = clean(mount)
    assert found["recovered"] == ["openai/library/pool/one"] and found["failed"] == [] and account_intents(mount) == []
    ours = [one for one in lab.double.state()["service_accounts"] if one["id"] != foreign["id"]]
    kept = [one["service_account_id"] for one in status(mount)["account_status"].values() if one["service_account_id"]]
    assert [one["id"] for one in ours] == kept
    write(mount, "one")
    ours = [one for one in lab.double.state()["service_accounts"] if one["id"] != foreign["id"]]
    assert [(one["name"], one["role"]) for one in ours] == [("one", "member")]
    assert [key["name"] for key in lab.double.state()["api_keys"]] == ["Secret Key"]


def crash_at_writes(
    monkeypatch: pytest.MonkeyPatch, mount: Mount, act: t.Callable[[], object], number: int, *, after: bool
) -> bool:
    """Let the store crash at its n-th change while something is done; says whether it came to that."""
    left = [number]

    def crashing(method: str) -> t.Callable[..., None]:
        true = getattr(VaultedFileStore, method)

        def crashed(self: VaultedFileStore, *args: t.Any) -> None:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Crash(method)
            true(self, *args)
            if left[0] == 0:
                raise Crash(method)

        return crashed

    with monkeypatch.context() as patch:
        for method in ("write", "delete"):
            patch.setattr(VaultedFileStore, method, crashing(method))
        with contextlib.suppress(Crash):
            act()
            return False
    return True


@pytest.mark.parametrize("after", [False, True])
def test_crashes_at_each_change_of_the_store(
    lab: Lab, pool: Mount, monkeypatch: pytest.MonkeyPatch, clock: Clock, after: bool
) -> None:
    """Whatever was interrupted, a cleanup leaves what the definitions say, no key without a lease, and no account lost."""
    creds: list[Data] = []
    acts: list[t.Callable[[], object]] = [
        lambda: creds.append(check_out(pool, "pool", 600)),
        lambda: creds and give_in(pool, creds[-1]),
        lambda: write(pool, "one", "three"),
        lambda: delete_library_set(pool, "pool", dry_run=False),
    ]
    for act in acts:
        number = 1
        while crash_at_writes(monkeypatch, pool, act, number, after=after):
            number += 1
            assert clean(pool)["failed"] == []
            for record in matching(pool, "openai/library/"):
                # The check-out that crashed after its lease was on record has a holder as far as anybody can tell.
                check_in(pool, "pool", account=record.lease.service_account, account_id=None, force=True, dry_run=False)
            revoke(pool, matching(pool, "openai/library/"))
            assert clean(pool)["failed"] == [] and account_intents(pool) == [] and live_keys(lab) == []
            write(pool, "one", "two")
            assert lab.accounts() == {"one", "two"} and len(lab.double.state()["service_accounts"]) == 2
            now = status(pool)
            assert now["available_accounts"] == 2, now
            creds[:] = [check_out(pool, "pool", 600)] if act is acts[1] else []
        assert number > 2
        revoke(pool, matching(pool, "openai/library/"))
        write(pool, "one", "two")
        creds[:] = [check_out(pool, "pool", 600)] if act is acts[0] else []
    assert live_keys(lab) == []


@pytest.mark.parametrize("after", [False, True])
def test_a_check_out_that_crashed_at_its_call(lab: Lab, pool: Mount, crash: Crashing, after: bool) -> None:
    with crash("create_account_key", after=after):
        check_out(pool, "pool", 600, "one")
    assert check_out(pool, "pool", 600, "one")
    clean(pool)
    assert len(live_keys(lab)) == 1


def test_an_account_being_lent_elsewhere_waits_for_the_grace(pool: Mount, crash: Crashing, clock: Clock) -> None:
    with crash("create_account_key", after=False):
        check_out(pool, "pool", 600, "one")
    (hold,) = (one for one in pool.store.scan("library/"))
    process = {"machine": "elsewhere", "pid": 1, "started": 1}
    owner = {"process": process, "work": "w", "since": pool.now()}
    pool.store.write(Write(hold.path, {**hold.data, "owner": owner}, hold.version))
    assert status(pool)["checked_out_accounts"] == 1
    for refused in (
        lambda: check_out(pool, "pool", 600, "one"),
        lambda: delete_library_set(pool, "pool", dry_run=False),
    ):
        with pytest.raises(OpenAICredsError):
            refused()
    with pytest.raises(OpenAICredsError, match="is being checked out or removed just now"):
        check_in(pool, "pool", account="one", account_id=None, force=True, dry_run=False)
    clock.move(601)
    assert check_out(pool, "pool", 600, "one")


def test_a_check_out_that_was_taken_over_gives_its_key_back(
    lab: Lab, pool: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = OpenAI.create_account_key

    def slow(self: OpenAI, *args: t.Any) -> t.Any:
        made = true(self, *args)
        for hold in pool.store.scan("library/"):
            pool.store.write(Write(hold.path, {**hold.data, "owner": None, "lease_id": None}, hold.version))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(OpenAI, "create_account_key", slow)
        with pytest.raises(OpenAICredsError, match=r"already checked out|no available"):
            check_out(pool, "pool", 600, "one")
    assert live_keys(lab) == [] and status(pool)["available_accounts"] == 2


def test_a_gateway_that_makes_a_key_all_the_same(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.openai()
    transport = type(mount.openai()._transport)
    true = transport.call

    def call(self: t.Any, method: str, path: str, **more: t.Any) -> t.Any:
        if "create_service_account_only" in (more.get("body") or {}):
            more["body"] = {"name": more["body"]["name"]}
        return true(self, method, path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(transport, "call", call)
        with pytest.raises(OpenAICredsError, match=r"service account creation failed.*none was asked for"):
            write(mount, "one")
    assert lab.accounts() == set() and lab.double.state()["api_keys"] == []


@pytest.mark.parametrize("kind", ["drop_after", "fail_after", "drop_before"])
def test_a_lost_answer_of_a_create(lab: Lab, mount: Mount, kind: str) -> None:
    lab.double.fault(kind=kind, times=1, method="POST", path="/service_accounts$")
    write(mount, "one")
    assert [account["name"] for account in lab.double.state()["service_accounts"]] == ["one"]
    assert account_intents(mount) == []


def test_a_role_that_cannot_be_given_leaves_nothing(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=403, message="not you", method="POST", path="/service_accounts/svc")
    with pytest.raises(OpenAICredsError, match="not you"):
        write(mount, "one")
    assert lab.accounts() == set() and account_intents(mount) == []
    with pytest.raises(OpenAICredsError, match="could not be made yet; run openai_library_set again"):
        check_out(mount, "pool", 600)
    assert status(mount)["account_status"]["one"]["status"] == "missing"
    lab.double.clear_faults()
    assert write(mount, "one").changed and check_out(mount, "pool", 600)


def test_an_orphan_is_only_deleted_on_request(lab: Lab, mount: Mount, crash: Crashing) -> None:
    with crash("create_account_only", after=True):
        write(mount, "one")
    found = clean(mount, orphans="report")
    assert [one["project_id"] for one in found["orphans"]] == [PROJECT] and found["recovered"] == []
    assert len(lab.accounts()) == 1
    clean(mount)
    assert lab.accounts() == set()


def test_a_project_and_a_config_in_use(pool: Mount) -> None:
    with pytest.raises(OpenAICredsError, match="project has library sets that use it, cannot delete: pool use 'lab'"):
        delete_project(pool, "lab", dry_run=False)
    with pytest.raises(OpenAICredsError, match=r"still has 2 library account\(s\)"):
        delete_config(pool, force=False, dry_run=False)
    assert any("2 library account(s) live on" in one for one in delete_config(pool, force=True, dry_run=False).warnings)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names(mount: Mount, name: str) -> None:
    for refused in (
        lambda: write(mount, "one", name=name),
        lambda: write(mount, name),
        lambda: check_out(mount, name, 60),
        lambda: delete_library_set(mount, name, dry_run=False),
    ):
        with pytest.raises(OpenAICredsError, match="is not a valid name"):
            refused()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"service_account_names": []}, "service_account_names: give at least one name"),
        ({"service_account_names": ["a", "a"]}, "service_account_names: a is given more than once"),
        ({"service_account_names": None}, "service_account_names: give the names"),
        ({"project": None}, "project, project_id: give exactly one"),
        ({"project": "other"}, "project: project not found"),
        ({"max_ttl": "soon"}, "max_ttl: "),
    ],
)
def test_bad_definitions(mount: Mount, given: Data, says: str) -> None:
    with pytest.raises(OpenAICredsError, match=says) as refused:
        write(mount, "one", **given)
    sentence(refused.value)


def test_the_project_of_accounts_stays(pool: Mount) -> None:
    with pytest.raises(OpenAICredsError, match="the accounts of library set 'pool' are in proj_lab") as refused:
        write(pool, "one", "two", project=None, project_id="proj_other")
    sentence(refused.value)
    assert not write(pool, "one", "two", project=None, project_id=PROJECT, dry_run=True).warnings


def test_names_that_no_path_may_have(lab: Lab, mount: Mount) -> None:
    names = ("A.b-C_d", "a.b-c_d", "x" * 128)
    for name in names:
        write(mount, "Acct.1", name=name)
        assert check_out(mount, name, 60)["service_account"] == "Acct.1"
    assert len(lab.double.state()["service_accounts"]) == len(names)


def test_an_unreadable_hold_stops_no_other_account(pool: Mount) -> None:
    give_in(pool, check_out(pool, "pool", 600, "one"))
    (hold,) = pool.store.scan("library/")
    pool.store.write(Write(hold.path, {"edited": True}, hold.version))
    for _unused in range(3):
        creds = check_out(pool, "pool", 600)
        assert creds["service_account"] == "two"
        give_in(pool, creds)
    now = status(pool)["account_status"]
    assert {name: one["status"] for name, one in now.items()} == {"one": "unknown", "two": "available"}


def test_what_a_check_out_reads_does_not_grow_with_the_set(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand accounts only those are looked at that are tried."""
    names = [f"account-{number}" for number in range(1000)]
    write(mount, names[0])
    (account,) = lab.double.state()["service_accounts"]

    def grow(data: Data) -> bool:
        entry = data["library_sets"]["pool"]
        entry["service_account_names"] = names
        entry["_accounts"] = {name: f"svc_{name}" for name in names} | {names[0]: account["id"]}
        return True

    mount.define(grow)
    read: list[str] = []
    true = VaultedFileStore.read

    def reading(self: VaultedFileStore, path: str) -> t.Any:
        read.append(path)
        return true(self, path)

    monkeypatch.setattr(VaultedFileStore, "read", reading)
    check_out(mount, "pool", 600, names[0])
    assert sum(path.startswith("library/") for path in read) <= 2
    monkeypatch.setattr(
        OpenAI, "create_account_key", lambda *_args: (_unused for _unused in ()).throw(StoreError("stop"))
    )
    read.clear()
    with pytest.raises(StoreError, match="stop"):
        check_out(mount, "pool", 600)
    assert sum(path.startswith("library/") for path in read) <= 4
