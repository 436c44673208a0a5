# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of library sets are lent to one holder at a time; with both of OpenAI's ways to end keys."""

from __future__ import annotations

import random
import typing as t

import pytest
from lab import BOTH_STORES, PROJECT, Lab
from library_sets import give_in, live_keys, status, write
from unit.conftest import Clock
from unit.test_account_keys import clean
from unit.test_leases import opens_models
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import (
    check_out,
    plan_check_out,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore


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


def test_deleted_behind_our_back_is_made_again(lab: Lab, pool: Mount) -> None:
    creds = check_out(pool, "pool", 600, "one")
    give_in(pool, creds)
    pool.openai().delete_service_account(PROJECT, creds["service_account_id"])
    again = check_out(pool, "pool", 600, "one")
    assert again["service_account_id"] != creds["service_account_id"] and opens_models(lab, again["api_key"])
    assert lab.accounts() == {"one", "two"} and status(pool)["checked_out_accounts"] == 1
    give_in(pool, again)
    assert status(pool)["available_accounts"] == 2 and live_keys(lab) == [] and clean(pool)["recovered"] == []


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


def test_accounts_that_are_lent_are_looked_at_together(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """To find the only one of many that is free takes few looks into the store."""
    names = [f"account-{number}" for number in range(40)]
    write(mount, *names)
    for name in names[1:]:
        check_out(mount, "pool", 600, name)
    looks: list[t.Sequence[str]] = []
    true = type(mount.store).read_each

    def reading(self: t.Any, paths: t.Sequence[str]) -> t.Any:
        looks.append(paths)
        return true(self, paths)

    monkeypatch.setattr(type(mount.store), "read_each", reading)
    monkeypatch.setattr(random, "sample", lambda population, _count: [*population[1:], population[0]])
    assert check_out(mount, "pool", 600)["service_account"] == names[0]
    assert sum(paths[0].startswith("library/") for paths in looks) <= 10
