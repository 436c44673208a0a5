# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles whose leases are keys of one account, which is never touched; with both of OpenAI's ways to end such keys."""

from __future__ import annotations

import typing as t

import pytest
from account_keys import keys, untouched
from double.client import Double
from lab import PROJECT, Lab
from on_record import kinds
from unit.test_leases import opens_models
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import write_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records, find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from conftest import Clock

    Crash = t.Callable[..., t.ContextManager[None]]

CREATE = {"method": "POST", "path": "/api_keys$"}


@pytest.fixture(params=["deletes keys", "refuses to"])
def account(request: pytest.FixtureRequest, double: Double, lab: Lab, mount: Mount, clock: Clock) -> Data:
    """An account with a key that somebody else has made, and the role of the lab issuing keys of it."""
    double.settings(refuse_service_account_key_delete=request.param == "refuses to")
    # Time passes while a key's end is waited for.
    mount.openai()._sleep = clock.move
    made = double.add_service_account(PROJECT, "workload")
    lab.role(service_account_id=made["id"])
    return made


def clean(mount: Mount, **options: t.Any) -> Data:
    defaults = {"orphans": "delete", "max_concurrency": 4, "limit": None, "grace": 600, "dry_run": False}
    return cleanup(mount, **{**defaults, **options})


@pytest.mark.parametrize("scopes", [None, ["api.model.read"]])
def test_one_call_makes_a_key_of_the_account(lab: Lab, mount: Mount, account: Data, scopes: list[str] | None) -> None:
    lab.role("scoped", service_account_id=account["id"], scopes=scopes)
    since = lab.double.mark()
    creds = issue(mount, "scoped")
    assert [(call["method"], call["status"]) for call in lab.double.requests(since)] == [("POST", 200)]
    assert creds["service_account_id"] == account["id"] and creds["service_account"] == "workload"
    (name,) = keys(lab, account).values()
    assert name.startswith("vault-scoped-") and list(keys(lab, account)) == [creds["api_key_id"]]
    assert opens_models(lab, creds["api_key"])
    record = find_record(mount, creds["lease_id"])
    assert record and record.public()["api_key_id"] == creds["api_key_id"]


def test_revoked(lab: Lab, mount: Mount, account: Data) -> None:
    first, second = issue_several(mount, "my-role", None, 2)
    (ended,) = revoke(mount, active_records(mount, [first["lease_id"]]))
    assert ended.error is None
    assert list(keys(lab, account)) == [second["api_key_id"]] and untouched(lab, account)
    assert not opens_models(lab, first["api_key"]) and opens_models(lab, second["api_key"])


def test_expired(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    creds = issue_several(mount, "my-role", 600, 5)
    clock.move(600)
    assert clean(mount)["revoked"] == sorted(one["lease_id"] for one in creds)
    assert keys(lab, account) == {} and untouched(lab, account) and lab.leases() == {}


def test_without_native_expiry(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    lab.role(service_account_id=account["id"], native_expiry=False)
    issue(mount, "my-role", 600)
    clock.move(600)
    assert len(keys(lab, account)) == 1
    assert len(clean(mount)["revoked"]) == 1
    assert keys(lab, account) == {} and untouched(lab, account)


def test_renewed(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    creds = issue(mount, "my-role", 600)
    record = find_record(mount, creds["lease_id"])
    assert record
    renew(mount, record, 3600, dry_run=False)
    clock.move(3599)
    assert opens_models(lab, creds["api_key"])


@pytest.mark.parametrize("after", [False, True])
def test_interrupted(lab: Lab, mount: Mount, account: Data, crash: Crash, after: bool) -> None:
    with crash("create_account_key", after=after):
        issue(mount, "my-role")
    assert len(keys(lab, account)) == int(after)
    found = clean(mount)
    assert len(found["recovered"]) == 1 and len(found["orphans"]) == int(after)
    assert keys(lab, account) == {} and untouched(lab, account) and lab.leases() == {}


def test_a_key_that_comes_late_is_watched_for(lab: Lab, mount: Mount, account: Data, crash: Crash) -> None:
    with crash("create_account_key", after=False):
        issue(mount, "my-role")
    clean(mount)
    assert kinds(mount.store) == ["watch"]
    (watch,) = mount.store.scan("watches/")
    mount.openai().create_account_key(PROJECT, account["id"], watch.data["thing"]["name"], None, None)
    clean(mount)
    assert keys(lab, account) == {} and untouched(lab, account) and kinds(mount.store) == []


def test_a_lost_answer_is_found_by_the_name_of_the_key(lab: Lab, mount: Mount, account: Data) -> None:
    lab.double.fault(kind="drop_after", times=1, **CREATE)
    creds = issue(mount, "my-role")
    assert list(keys(lab, account)) == [creds["api_key_id"]] and untouched(lab, account)


def test_only_keys_of_the_account_are_looked_at(lab: Lab, mount: Mount, account: Data, crash: Crash) -> None:
    """Another account may have a key of the same name."""
    other = lab.double.add_service_account(PROJECT, "other")
    with crash("create_account_key", after=False):
        issue(mount, "my-role")
    (intent,) = mount.store.scan("intents/")
    name = intent.data["lease"]["api_key_name"]
    mount.openai().create_account_key(PROJECT, other["id"], name, None, None)
    clean(mount)
    assert list(keys(lab, other).values()) == [name]


def test_revoked_while_it_is_shared(lab: Lab, mount: Mount, account: Data) -> None:
    first, _issued = shared_credential(mount, "my-role", None, 300)
    revoke(mount, active_records(mount, [first["lease_id"]]))
    second, issued = shared_credential(mount, "my-role", None, 300)
    assert issued and list(keys(lab, account)) == [second["api_key_id"]]


def test_deleted_at_openai_by_somebody_else(lab: Lab, mount: Mount, account: Data) -> None:
    creds = issue(mount, "my-role")
    lab.double.settings(refuse_service_account_key_delete=False)
    assert mount.openai().delete_project_key(PROJECT, creds["api_key_id"])
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert ended.error is None and lab.leases() == {}


def test_an_account_that_is_gone_is_said(lab: Lab, mount: Mount, account: Data) -> None:
    creds = issue(mount, "my-role")
    mount.openai().delete_service_account(PROJECT, account["id"])
    with pytest.raises(OpenAICredsError) as refused:
        issue(mount, "my-role")
    assert "service_account_id" in sentence(refused.value) and account["id"] in str(refused.value)
    assert str(refused.value).startswith("API key creation failed")
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert ended.error is None and lab.leases() == {}


def test_neither_deleted_nor_moved(lab: Lab, mount: Mount, account: Data, clock: Clock) -> None:
    creds = issue(mount, "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE", path="/api_keys/")
    lab.double.fault(kind="refuse", status=403, message="not allowed", method="POST", path="/api_keys/key")
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert ended.error and "not allowed" in ended.error
    assert list(lab.leases().values()) == ["failed"]
    lab.double.clear_faults()
    clock.move(10)
    assert clean(mount)["revoked"] == [creds["lease_id"]]
    assert keys(lab, account) == {} and untouched(lab, account)


def test_a_key_that_only_seems_to_end(lab: Lab, mount: Mount, account: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of its end counts when a list shows it."""
    creds = issue(mount, "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE", path="/api_keys/")
    monkeypatch.setattr(OpenAI, "update_key", lambda *_args, **_options: 0)
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert ended.error and "still lists" in ended.error
    assert list(lab.leases().values()) == ["failed"]


def test_an_account_of_another_project_is_refused_when_the_role_is_written(lab: Lab, mount: Mount) -> None:
    with pytest.raises(OpenAICredsError, match="service_account_id: svc_acct_none is not an account of proj_lab"):
        lab.role(service_account_id="svc_acct_none")
    with pytest.raises(OpenAICredsError, match="service_account_id: "):
        lab.role(service_account_id="no/account")


def test_the_role_says_what_was_given(lab: Lab, mount: Mount, account: Data) -> None:
    outcome = write_role(mount, "my-role", defaults={}, dry_run=False)
    assert not outcome.changed and outcome.after
    assert outcome.after["service_account_id"] == account["id"]
    assert not [option for option in outcome.after if option.startswith("_")]
