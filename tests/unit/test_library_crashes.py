# SPDX-License-Identifier: GPL-3.0-or-later
"""Library sets when something is interrupted or an answer is lost; with both of OpenAI's ways to end keys."""

from __future__ import annotations

import contextlib
import typing as t

import pytest
from lab import BOTH_STORES, PROJECT, Lab
from library_sets import give_in, live_keys, status, write
from unit.conftest import Clock, Crash
from unit.test_account_keys import clean

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.account_making import (
    AccountMaking,
    account_intents,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import (
    check_out,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore

Crashing = t.Callable[..., t.ContextManager[None]]


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
@pytest.mark.once
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


@pytest.mark.parametrize("kind", ["drop_after", "fail_after", "drop_before"])
def test_a_lost_answer_of_a_create(lab: Lab, mount: Mount, kind: str) -> None:
    lab.double.fault(kind=kind, times=1, method="POST", path="/service_accounts$")
    write(mount, "one")
    assert [account["name"] for account in lab.double.state()["service_accounts"]] == ["one"]
    assert account_intents(mount) == []


def test_an_orphan_is_only_deleted_on_request(lab: Lab, mount: Mount, crash: Crashing) -> None:
    with crash("create_account_only", after=True):
        write(mount, "one")
    found = clean(mount, orphans="report")
    assert [one["project_id"] for one in found["orphans"]] == [PROJECT] and found["recovered"] == []
    assert len(lab.accounts()) == 1
    clean(mount)
    assert lab.accounts() == set()
