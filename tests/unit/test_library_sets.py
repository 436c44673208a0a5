# SPDX-License-Identifier: GPL-3.0-or-later
"""Library sets as they are defined, and their accounts, which are made without a key."""

from __future__ import annotations

import typing as t

import pytest
from double.client import Double
from lab import PROJECT, Lab
from library_sets import give_in, live_keys, status, write
from unit.conftest import Clock
from unit.test_account_keys import clean
from unit.test_leases import opens_models
from wording import HOSTILE_NAMES, sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import delete_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.projects import delete_project
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.account_making import (
    account_intents,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import (
    check_out,
    plan_check_out,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.status import library_status
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.gauges import collect
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import processes
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Write


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


def test_a_foreign_account_of_the_same_name_is_untouched(lab: Lab, pool: Mount, double: Double) -> None:
    foreign = double.add_service_account(PROJECT, "three")
    write(pool, "three")
    creds = check_out(pool, "pool", 600)
    assert creds["service_account_id"] != foreign["id"]
    give_in(pool, creds)
    delete_library_set(pool, "pool", dry_run=False)
    state = double.state()
    assert [account["id"] for account in state["service_accounts"]] == [foreign["id"]] and len(state["api_keys"]) == 1


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


def test_a_slow_drop_takes_no_account_that_was_lent_meanwhile(
    lab: Lab, pool: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drops it, on another machine, stands still for so long that others take it for dead."""
    creds: Data = {}
    slow = lab.mount(clock=clock)
    true = slow.store.write

    def write_late(*writes: Write) -> None:
        if writes[0].path == "definitions" and not creds:
            clock.move(601)
            with monkeypatch.context() as here:
                here.setattr(processes, "_machine", lambda: "another machine")
                creds.update(check_out(pool, "pool", 600))
        true(*writes)

    monkeypatch.setattr(slow.store, "write", write_late)
    delete_library_set(slow, "pool", dry_run=False)
    assert opens_models(lab, creds["api_key"]) and lab.accounts() == {creds["service_account"]}
    assert clean(pool)["failed"] == [] and opens_models(lab, creds["api_key"])
    clock.move(601)
    for _round in range(2):
        clean(pool)
    assert lab.accounts() == set() and list(pool.store.scan("library/")) == []


def test_a_set_that_others_have_made_smaller_is_deleted_whole(
    lab: Lab, pool: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before this process takes the accounts that it knows of."""
    slow = lab.mount()
    true = slow.store.write
    smaller: list[t.Any] = []

    def write_late(*writes: Write) -> None:
        if not smaller:
            smaller.append(write(pool, "one"))
        true(*writes)

    monkeypatch.setattr(slow.store, "write", write_late)
    delete_library_set(slow, "pool", dry_run=False)
    assert lab.accounts() == set() and list(pool.store.scan("library/")) == []


@pytest.mark.parametrize(("field", "value"), [("max_ttl", None), ("_at", {}), ("_accounts", 7)])
def test_a_set_that_somebody_has_edited_is_named_and_not_forgotten(pool: Mount, field: str, value: t.Any) -> None:
    def edit(data: Data) -> bool:
        data["library_sets"]["pool"].pop(field)
        if value is not None:
            data["library_sets"]["pool"][field] = value
        return True

    pool.define(edit)
    for act in (
        lambda: check_out(pool, "pool", 3600),
        lambda: status(Mount("openai", pool.store)),
        lambda: delete_library_set(pool, "pool", dry_run=False),
    ):
        with pytest.raises(StoreError) as refused:
            act()
        text = "store: library set 'pool' does not hold what it should; somebody has edited it"
        assert sentence(refused.value) == text
    # It hides nothing else.
    (warning,) = collect(pool, None).warnings
    assert warning.startswith("openai_creds_library_accounts is left out, ") and text in warning
    assert [text in warning for warning in delete_config(pool, force=True, dry_run=True).warnings] == [True]
