# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: issued, renewed, revoked and found, against the double."""

from __future__ import annotations

import gc
import os
import threading
import typing as t
import urllib.error
import urllib.request

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lab import PROJECT, Lab
from on_record import kinds, unfinished
from unit.wording import HOSTILE_NAMES, sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import (
    delete_config,
    write_config,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import delete_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    ApiError,
    OpenAICredsError,
    StoreError,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import (
    Record,
    active_records,
    find_record,
    matching,
    records,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import (
    issue,
    issue_several,
    placeholder,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

CREATE = {"method": "POST", "path": "/service_accounts$"}
Crash = t.Callable[..., t.ContextManager[None]]
OnDisk = t.Callable[[], dict[str, bytes]]


def opens_models(lab: Lab, key: str) -> bool:
    request = urllib.request.Request(f"{lab.double.url}/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        assert error.code in (401, 403)
        return False


def record_of(mount: Mount, creds: dict[str, t.Any]) -> Record:
    record = find_record(mount, creds["lease_id"])
    assert record is not None
    return record


def refused(function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as caught:
        function(*args, **kwargs)
    return sentence(caught.value)


def intents(mount: Mount) -> list[str]:
    return kinds(mount.store)


# Ids.


@pytest.mark.parametrize(
    "lease_id", ["openai/creds/r/", "openai/creds/r/ABCD12", "0000/..", "0000", "0000a-", "0000a-b-c"]
)
def test_what_is_not_the_id_of_a_lease(lease_id: str) -> None:
    with pytest.raises(OpenAICredsError) as caught:
        lease_path(lease_id)
    sentence(caught.value, "lease_id")


@pytest.mark.parametrize(
    "lease_id", [*HOSTILE_NAMES, "x/../../definitions", "openai/creds/my-role/../../../definitions"]
)
def test_hostile_lease_ids_find_nothing(lab: Lab, mount: Mount, lease_id: str) -> None:
    try:
        assert find_record(mount, lease_id) is None
    except OpenAICredsError as error:
        sentence(error, "lease_id")


@given(st.one_of(st.text(), st.text("az09-/._\n", max_size=40)))
@example("openai/creds/r/0000a-b-c")
@example("0000a\n")
@example("0000\u0661")
def test_no_lease_id_leads_out_of_the_leases(lease_id: str) -> None:
    try:
        path = lease_path(lease_id)
    except OpenAICredsError as error:
        sentence(error, "lease_id")
        return
    top, hour, key = path.split("/")
    assert top == "leases" and len(hour) == 4
    assert key.count("-") <= 1
    assert set(hour + key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_message_does_not_repeat_a_whole_book() -> None:
    with pytest.raises(OpenAICredsError) as caught:
        lease_path("x/" * 50_000)
    sentence(caught.value, "lease_id")


def test_an_id_of_another_mount_role_or_lease_finds_nothing(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    unique = creds["lease_id"].rpartition("/")[2]
    assert find_record(mount, creds["lease_id"])
    for other in (f"openai/creds/other/{unique}", creds["lease_id"] + "0"):
        assert find_record(mount, other) is None
        assert active_records(mount, [other]) == []
    for other in (f"other/creds/my-role/{unique}", unique):
        with pytest.raises(OpenAICredsError, match="is not of this mount, 'openai'"):
            find_record(mount, other)


def test_an_id_of_another_lease_does_not_find_one_that_is_being_ended(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    revoke(mount, [record_of(mount, creds)])
    unique = creds["lease_id"].rpartition("/")[2]
    assert record_of(mount, creds).status == "failed"
    assert find_record(mount, f"openai/creds/other/{unique}") is None


# Issue.


def test_a_credential_is_all_that_the_contract_says(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role", 600)
    assert set(creds) == {
        "lease_id",
        "lease_duration",
        "lease_renewable",
        "expires_at",
        "api_key",
        "api_key_id",
        "service_account",
        "service_account_id",
        "project_id",
    }
    assert creds["lease_duration"] == 600
    assert opens_models(lab, creds["api_key"])
    assert intents(mount) == []
    record = record_of(mount, creds)
    assert record.lease.api_key is None, "a key that nobody shares is not kept"
    assert creds["api_key"] not in repr(record.public())
    assert {"lease_id", "role", "status", "issued_at", "expires_at", "renewable", "issued_by"} <= set(record.public())


def test_one_credential_is_one_call_to_openai(lab: Lab, mount: Mount) -> None:
    issue(mount, "my-role")
    assert [(call["method"], call["path"]) for call in lab.double.requests()] == [
        ("POST", f"/v1/organization/projects/{PROJECT}/service_accounts")
    ]
    assert 3595 <= lab.double.requests()[0]["body"]["expires_in_seconds"] <= 3600


@pytest.mark.parametrize(("ttl", "native"), [(None, False), (60, False), (60, True)])
def test_native_expiry_is_asked_for_when_wanted(lab: Lab, mount: Mount, ttl: int | None, native: bool) -> None:
    lab.role(native_expiry=native)
    creds = issue(mount, "my-role", ttl)
    assert ("expires_in_seconds" in lab.double.requests()[0]["body"]) is native
    lab.double.clock(100_000)
    assert opens_models(lab, creds["api_key"]) is not native


@pytest.mark.parametrize("ttl", [86401, 10**9])
def test_more_than_max_ttl_is_refused_before_anything_happens(
    lab: Lab, mount: Mount, on_disk: OnDisk, ttl: int
) -> None:
    before = on_disk()
    assert refused(issue, mount, "my-role", ttl).startswith("ttl:")
    assert refused(placeholder, mount, "my-role", ttl).startswith("ttl:")
    assert "role not found" in refused(issue, mount, "nobody")
    assert on_disk() == before
    assert lab.double.requests() == []


@pytest.mark.parametrize(
    "kind", ["drop_after", "fail_after", "truncate", "malformed", "wrong_shape", "drop_before", "refuse"]
)
def test_a_create_that_may_have_happened_leaves_one_account(lab: Lab, mount: Mount, kind: str) -> None:
    lab.double.fault(kind=kind, times=1, **CREATE)
    creds = issue(mount, "my-role")
    assert lab.accounts() == {creds["service_account"]}
    assert opens_models(lab, creds["api_key"])
    assert lab.leases() == {creds["service_account"]: "active"}
    names = [call["body"]["name"] for call in lab.double.requests() if call["method"] == "POST"]
    assert len(names) == len(set(names)) == 2, "no name is sent twice"
    assert "issue" not in intents(mount)


def test_a_create_that_never_works_leaves_nothing(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="fail_after", **CREATE)
    assert refused(issue, mount, "my-role").startswith("service account creation failed")
    assert lab.accounts() == set()
    assert lab.leases() == {}


def test_a_create_that_is_refused_leaves_nothing(lab: Lab, mount: Mount, on_disk: OnDisk) -> None:
    lab.double.fault(kind="refuse", status=403, message="not allowed", **CREATE)
    assert refused(issue, mount, "my-role").startswith("service account creation failed")
    assert len([call for call in lab.double.requests() if call["method"] == "POST"]) == 1
    assert lab.leases() == {} and intents(mount) == []


def test_what_cannot_be_looked_for_is_on_record(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="drop_after", times=1, **CREATE)
    lab.double.fault(kind="refuse", status=403, method="GET", path="/service_accounts")
    assert "openai_cleanup" in refused(issue, mount, "my-role")
    assert list(lab.leases().values()) == ["pending"]
    assert set(lab.leases()) == lab.accounts()
    assert unfinished(mount.store)[0].data["owner"] is None


def test_scopes_that_cannot_be_set_take_the_account_back(lab: Lab, mount: Mount) -> None:
    lab.role(scopes=["api.model.read"])
    creds = issue(mount, "my-role")
    assert len(lab.double.requests()) == 2
    assert opens_models(lab, creds["api_key"])
    lab.double.fault(kind="refuse", status=400, method="POST", path="/api_keys/")
    assert refused(issue, mount, "my-role").startswith("API key creation failed")
    assert lab.accounts() == {creds["service_account"]}
    assert set(lab.leases()) == lab.accounts() and intents(mount) == []


def test_scopes_limit(lab: Lab, mount: Mount) -> None:
    lab.role(scopes=["api.nothing"])
    assert not opens_models(lab, issue(mount, "my-role")["api_key"])


def test_a_lease_that_cannot_be_recorded_takes_the_account_back(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = mount.store.write

    def full(*writes: t.Any) -> None:
        if any(write.path.startswith("leases/") for write in writes):
            raise StoreError("store_path: cannot write: No space left on device")
        true(*writes)

    monkeypatch.setattr(mount.store, "write", full)
    assert "No space left" in refused(issue, mount, "my-role")
    assert lab.accounts() == set()
    assert lab.leases() == {} and intents(mount) == []


def test_several_are_all_or_none(lab: Lab, mount: Mount) -> None:
    assert len({creds["lease_id"] for creds in issue_several(mount, "my-role", None, 5)}) == 5
    lab.double.fault(kind="refuse", status=403, skip=2, **CREATE)
    refused(issue_several, mount, "my-role", None, 5)
    assert len(lab.accounts()) == len(lab.leases()) == 5


def test_several_are_issued_at_a_time_but_not_all_at_once(lab: Lab, mount: Mount) -> None:
    lab.role(scopes=["api.model.read"])
    lab.double.clear_requests()
    lab.double.settings(latency=0.5)
    issue_several(mount, "my-role", None, 12)
    lab.double.settings(latency=0.0)
    calls = sorted(request["time"] for request in lab.double.requests())
    assert len(calls) == 24
    # Each takes half a second.
    assert all(later - call > 0.45 for call, later in zip(calls, calls[8:]))
    assert calls[7] - calls[0] < 0.5


def test_several_that_fail_in_the_middle_leave_nothing_whoever_was_at_work(lab: Lab, mount: Mount) -> None:
    lab.double.settings(latency=0.05)
    lab.double.fault(kind="drop_after", skip=20, **CREATE)
    lab.double.fault(kind="refuse", status=400, method="DELETE", skip=5, times=1)
    issued: list[str] = []
    error = refused(issue_several, mount, "my-role", None, 60, lambda lease: issued.append(lease.lease_id))
    lab.double.settings(latency=0.0)
    lab.double.clear_faults()
    assert len(issued) >= 20
    left = lab.leases()
    assert all(lease_id in error for lease_id in left) and len(left) <= 1
    cleanup(mount, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
    assert lab.accounts() == set() and lab.leases() == {} and intents(mount) == []


def test_many_issues_do_not_use_up_file_descriptors(lab: Lab, mount: Mount) -> None:
    # So slowly that there are as many connections as calls at once, which are kept.
    lab.double.settings(latency=0.2)
    issue_several(mount, "my-role", None, 30)
    lab.double.settings(latency=0.0)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    issue_several(mount, "my-role", None, 30)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < before + 5


def test_a_placeholder_is_none_and_changes_nothing(lab: Lab, mount: Mount, on_disk: OnDisk) -> None:
    before = on_disk()
    creds, warnings = placeholder(mount, "my-role", None)
    assert creds["lease_id"] is None and "not-a-key" in creds["api_key"] and not warnings
    creds, warnings = placeholder(mount, "nobody", None)
    assert creds["lease_id"] is None and "role not found" in warnings[0]
    assert on_disk() == before and lab.double.requests() == []


# Renew.


def test_renewing_moves_the_end_here_and_at_openai(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role", 600)
    clock.move(300)
    lab.double.clock(300)
    renewed = renew(mount, record_of(mount, creds), 7200, dry_run=False)
    assert renewed.lease.expires_at == clock() + 7200
    assert record_of(mount, creds).lease == renewed.lease
    update = lab.double.requests()[-1]
    assert update["body"] == {"expires_in_seconds": 7200} and update["path"].endswith(creds["api_key_id"])
    lab.double.clock(7000)
    assert opens_models(lab, creds["api_key"])
    lab.double.clock(7600)
    assert not opens_models(lab, creds["api_key"])


def test_renewing_without_an_increment_gives_the_ttl_of_the_issue(mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role", 600)
    clock.move(599)
    assert renew(mount, record_of(mount, creds), None, dry_run=False).lease.expires_at == clock() + 600


def test_max_ttl_counts_from_the_issue_and_is_never_shortened_to(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role", 86400)
    start = clock()
    clock.move(86000)
    for increment in (401, None, 10**9):
        text = refused(renew, mount, record_of(mount, creds), increment, dry_run=False)
        assert text.startswith("increment:") and "400 s" in text
    assert record_of(mount, creds).lease.expires_at == start + 86400
    assert renew(mount, record_of(mount, creds), 400, dry_run=False).lease.expires_at == start + 86400
    changes = [call["method"] for call in lab.double.requests() if call["method"] != "GET"]
    assert changes == ["POST", "POST"], "a create and one update"


def test_max_ttl_is_that_of_the_issue(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role", 60)
    lab.role(max_ttl="100d")
    refused(renew, mount, record_of(mount, creds), 86401, dry_run=False)
    delete_role(mount, "my-role", dry_run=False)
    renew(mount, record_of(mount, creds), 86400, dry_run=False)


def test_what_cannot_be_renewed(lab: Lab, mount: Mount, clock: Clock, crash: Crash) -> None:
    lab.role("fixed", renewable=False)
    fixed, short, ending = issue(mount, "fixed"), issue(mount, "my-role", 60), issue(mount, "my-role")
    assert "not renewable" in refused(renew, mount, record_of(mount, fixed), None, dry_run=False)
    with crash("delete_service_account", after=False):
        revoke(mount, [record_of(mount, ending)])
    assert "pending" in refused(renew, mount, record_of(mount, ending), None, dry_run=False)
    clock.move(60)
    assert record_of(mount, short).status == "expired"
    assert "expired" in refused(renew, mount, record_of(mount, short), None, dry_run=False)


@pytest.mark.parametrize("native", [True, False])
def test_renewing_without_native_expiry_does_not_call(lab: Lab, mount: Mount, native: bool) -> None:
    lab.role(native_expiry=native)
    creds = issue(mount, "my-role")
    lab.double.clear_requests()
    renew(mount, record_of(mount, creds), None, dry_run=False)
    assert len(lab.double.requests()) == int(native)


def test_a_renewal_that_openai_refuses_changes_nothing(lab: Lab, mount: Mount, clock: Clock) -> None:
    creds = issue(mount, "my-role")
    before = record_of(mount, creds)
    clock.move(5)
    lab.double.fault(kind="refuse", status=400, method="POST", path="/api_keys/")
    refused(renew, mount, record_of(mount, creds), None, dry_run=False)
    assert record_of(mount, creds).lease == before.lease


def test_a_dry_renewal_changes_nothing(lab: Lab, mount: Mount, on_disk: OnDisk) -> None:
    creds = issue(mount, "my-role")
    lab.double.clear_requests()
    before = on_disk()
    assert renew(mount, record_of(mount, creds), 7200, dry_run=True).lease.expires_at > mount.now() + 7000
    refused(renew, mount, record_of(mount, creds), 10**9, dry_run=True)
    assert on_disk() == before and lab.double.requests() == []


def test_a_renewal_and_a_revocation_at_once_do_not_bring_a_lease_back(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    seen = record_of(mount, creds)
    revoke(mount, [seen])
    refused(renew, mount, seen, None, dry_run=False)
    assert lab.leases() == {}


# Revoke and find.


def test_a_revoked_key_opens_nothing(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    (ended,) = revoke(mount, [record_of(mount, creds)])
    assert ended.error is None
    assert not opens_models(lab, creds["api_key"])
    assert lab.accounts() == set() and lab.leases() == {} and intents(mount) == []
    assert find_record(mount, creds["lease_id"]) is None


def test_revoking_needs_neither_role_nor_project_nor_a_key_that_lives(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role", 60)
    delete_role(mount, "my-role", dry_run=False)
    lab.double.clock(1000)
    assert revoke(mount, [record_of(mount, creds)])[0].error is None
    assert lab.accounts() == set()


def test_revoking_nothing_changes_nothing(lab: Lab) -> None:
    assert revoke(lab.mount(), []) == []
    assert not lab.store_path.exists()


def test_what_has_gone_counts_as_revoked(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    mount.openai().delete_service_account(PROJECT, creds["service_account_id"])
    assert revoke(mount, [record_of(mount, creds)])[0].error is None
    assert lab.leases() == {}


def test_what_cannot_be_seen_does_not_count_as_gone(lab: Lab, mount: Mount) -> None:
    """A wrong endpoint answers 404 to everything; that says nothing of an account."""
    lab.role(native_expiry=False)
    creds = issue(mount, "my-role")
    write_config(
        mount,
        admin_api_key=None,
        admin_api_key_id=None,
        organization_id=None,
        api_endpoint=lab.double.url.removesuffix("/v1"),
        replace_key=False,
        validate=False,
        force=True,
        dry_run=False,
    )
    revoke(mount, [record_of(mount, creds)])
    assert opens_models(lab, creds["api_key"])
    assert lab.leases() == {creds["service_account"]: "failed"}


def test_what_will_not_go_is_failed_and_does_not_stop_the_others(lab: Lab, mount: Mount) -> None:
    creds = issue_several(mount, "my-role", None, 4)
    bad = creds[1]
    lab.double.fault(kind="refuse", status=403, method="DELETE", path=bad["service_account_id"])
    ended = revoke(mount, [record_of(mount, one) for one in creds])
    assert {one.record.subject for one in ended if one.error} == {bad["lease_id"]}
    assert lab.leases() == {bad["service_account"]: "failed"}
    public = record_of(mount, bad).public()
    assert (public["status"], public["attempts"]) == ("failed", 1) and "403" in public["error"]
    assert revoke(mount, [record_of(mount, bad)])[0].error
    assert record_of(mount, bad).public()["attempts"] == 2
    assert revoke(mount, [record_of(mount, bad)], force=True)[0].error
    assert lab.leases() == {} and lab.accounts() == {bad["service_account"]}


@pytest.mark.parametrize("works", [True, False])
def test_the_same_leases_revoked_by_several_at_once(lab: Lab, mount: Mount, clock: Clock, works: bool) -> None:
    creds = issue_several(mount, "my-role", None, 3)
    found = [record_of(mount, one) for one in creds]
    lab.double.settings(latency=0.05)
    if not works:
        lab.double.fault(kind="refuse", status=403, method="DELETE")
    errors: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: errors.extend(one.error for one in revoke(lab.mount(clock=clock), found)))
        for _unused in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 9
    assert all((error is None) is works for error in errors)
    assert set(lab.leases().values()) == (set() if works else {"failed"})
    assert len(lab.leases()) == len(intents(mount)) == (0 if works else 3)
    lab.double.clear_faults()
    assert not any(one.error for one in revoke(mount, list(records(mount))))
    assert lab.accounts() == set() and lab.leases() == {} and intents(mount) == []


def at_the_mark(monkeypatch: pytest.MonkeyPatch, mount: Mount, act: t.Callable[[], object]) -> None:
    """Let something happen just before a mount's next write."""
    true = mount.store.write

    def write(*writes: t.Any) -> None:
        monkeypatch.setattr(mount.store, "write", true)
        act()
        true(*writes)

    monkeypatch.setattr(mount.store, "write", write)


@pytest.mark.parametrize("only_due", [True, False])
@pytest.mark.parametrize("what", ["renewed", "ended", "refused"])
def test_what_somebody_else_does_to_one_of_many_meanwhile(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, what: str, only_due: bool
) -> None:
    """Cleanup leaves it to him. Who revokes by name ends it all the same, and is told what came of it."""
    creds = issue_several(mount, "my-role", None, 5)
    found = [record_of(mount, one) for one in creds]
    other = lab.mount(clock=mount.clock)

    def act() -> None:
        if what == "renewed":
            renew(other, found[2], 7200, dry_run=False)
            return
        if what == "refused":
            lab.double.fault(kind="refuse", status=403, method="DELETE", times=1)
        revoke(other, [found[2]])

    at_the_mark(monkeypatch, mount, act)
    ended = revoke(mount, found, only_due=only_due)
    assert not any(one.error for one in ended)
    assert len(ended) == (4 if only_due else 5)
    left = {"renewed": "active", "refused": "failed"}.get(what) if only_due else None
    assert list(lab.leases().values()) == ([left] if left else [])
    assert len(lab.accounts()) == (1 if only_due and what != "ended" else 0)


def test_a_renewal_of_what_is_being_ended_meanwhile_is_refused(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, crash: Crash
) -> None:
    creds = issue(mount, "my-role")
    record = record_of(mount, creds)

    def act() -> None:
        with crash("delete_service_account", after=False):
            revoke(lab.mount(clock=mount.clock), [record])

    at_the_mark(monkeypatch, mount, act)
    assert "by somebody else" in refused(renew, mount, record, 7200, dry_run=False)
    assert record_of(mount, creds).status == "pending"


def test_a_lease_that_is_being_ended_gives_no_key(lab: Lab, mount: Mount, crash: Crash) -> None:
    creds, _issued = shared_credential(mount, "my-role", None, 0)
    with crash("delete_service_account", after=False):
        revoke(mount, [record_of(mount, creds)])
    (document,) = mount.store.scan("leases/")
    assert creds["api_key"] not in repr(document)
    assert active_records(mount, [creds["lease_id"]]) == []
    other, issued = shared_credential(mount, "my-role", None, 0)
    assert issued and other["lease_id"] != creds["lease_id"]


@pytest.mark.parametrize("force", [True, False])
def test_keys_end_also_where_that_cannot_be_recorded(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    creds = issue_several(mount, "my-role", None, 2)
    found = [record_of(mount, one) for one in creds]

    def full(*_writes: t.Any) -> None:
        raise StoreError("store_path: cannot write: No space left on device")

    monkeypatch.setattr(mount.store, "write", full)
    monkeypatch.setattr(mount.store, "delete", full)
    errors = [str(one.error) for one in revoke(mount, found, force=force)]
    assert len(errors) == 2
    assert all("its key is ended at OpenAI, but its record stays" in error and "No space" in error for error in errors)
    assert lab.accounts() == set() and len(lab.leases()) == 2
    monkeypatch.undo()
    assert not any(one.error for one in revoke(mount, found, force=force))
    assert lab.leases() == {}


def test_what_is_due_waits_where_that_cannot_be_recorded(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may just have been renewed."""
    creds = issue(mount, "my-role")

    def full(*_writes: t.Any) -> None:
        raise StoreError("store_path: cannot write: No space left on device")

    monkeypatch.setattr(mount.store, "write", full)
    (ended,) = revoke(mount, [record_of(mount, creds)], only_due=True)
    assert "No space left" in str(ended.error)
    assert lab.accounts() == {creds["service_account"]}


def test_by_force_also_what_openai_has_refused_somebody_else_meanwhile(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    creds = issue(mount, "my-role")
    found = record_of(mount, creds)
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    at_the_mark(monkeypatch, mount, lambda: revoke(lab.mount(clock=mount.clock), [found]))
    assert revoke(mount, [found], force=True)[0].error
    assert lab.leases() == {} and intents(mount) == []


def test_nothing_is_begun_by_a_mount_that_is_not_configured(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    found = record_of(mount, creds)
    delete_config(mount, force=True, dry_run=False)
    assert "not configured" in refused(revoke, mount, [found])
    assert record_of(mount, creds) == found


def test_as_many_calls_at_once_as_are_allowed(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also more than there are in the few batches that are under way otherwise."""
    monkeypatch.setattr(mount.store, "batch", 2)
    issue_several(mount, "my-role", None, 12)
    together = threading.Barrier(12)

    def delete(*_args: t.Any, **_options: t.Any) -> bool:
        together.wait(30)
        return True

    monkeypatch.setattr(OpenAI, "delete_service_account", delete)
    assert not any(one.error for one in revoke(mount, list(records(mount)), concurrency=12))


def test_no_more_calls_at_once_than_are_allowed(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount.store, "batch", 2)
    issue_several(mount, "my-role", None, 12)
    at_once, most = 0, 0
    #: Nobody leaves before as many are there as are allowed, so that it does not depend on the machine's speed.
    all_there = threading.Barrier(3)
    counting = threading.Lock()

    def delete(*_args: t.Any, **_options: t.Any) -> bool:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        all_there.wait(30)
        with counting:
            at_once -= 1
        return True

    monkeypatch.setattr(OpenAI, "delete_service_account", delete)
    assert not [one.error for one in revoke(mount, list(records(mount)), concurrency=3) if one.error]
    assert most == 3


def test_many_end_in_batches_of_which_several_are_under_way(lab: Lab, mount: Mount) -> None:
    count = 4 * mount.store.batch + 3
    creds = [issue(mount, "my-role") for _unused in range(count)]
    lab.double.settings(latency=0.05)
    ended = revoke(mount, iter(active_records(mount, [one["lease_id"] for one in creds])), concurrency=7)
    assert sorted(one.record.subject for one in ended) == sorted(one["lease_id"] for one in creds)
    assert lab.accounts() == set() and list(mount.store.scan("leases/")) == []
    spans = [(one["time"], one["finished"]) for one in lab.double.requests() if one["method"] == "DELETE"]
    at_once = max(sum(begun <= moment < end for begun, end in spans) for moment, _end in spans)
    assert len(spans) == count and at_once <= 7


def test_matching_is_part_by_part(lab: Lab, mount: Mount) -> None:
    lab.role("my-role-2")
    one, two = issue(mount, "my-role"), issue(mount, "my-role-2")

    def found(prefix: str | None) -> set[str]:
        return {record.lease.lease_id for record in matching(mount, prefix)}

    both = {one["lease_id"], two["lease_id"]}
    assert found(None) == found("openai/") == found("openai") == found("openai/creds/") == both
    assert found("openai/creds/my-role/") == found("openai/creds/my-role") == {one["lease_id"]}
    assert found(one["lease_id"]) == {one["lease_id"]}
    assert found("openai/creds/my-rol") == found("openai/library/") == found("openai/creds/my-role/x") == set()
    for prefix in ("other/", "creds/", "/", "openai2/creds", "../openai", "OPENAI/"):
        with pytest.raises(OpenAICredsError) as caught:
            matching(mount, prefix)
        sentence(caught.value, "prefix")


@pytest.mark.parametrize("prefix", ["", " "])
def test_an_empty_prefix_is_not_everything(mount: Mount, prefix: str) -> None:
    """A variable that is empty by mistake must not end all leases of a mount."""
    issue(mount, "my-role")
    with pytest.raises(OpenAICredsError) as caught:
        matching(mount, prefix)
    sentence(caught.value, "prefix")


def test_every_lease_is_listed_once_with_its_status(lab: Lab, mount: Mount, clock: Clock, crash: Crash) -> None:
    active, ending, expired = (issue(mount, "my-role", ttl) for ttl in (3600, 3600, 60))
    with crash("create_service_account", after=True):
        issue(mount, "my-role")
    with crash("delete_service_account", after=False):
        revoke(mount, [record_of(mount, ending)])
    clock.move(60)
    found = [(record.lease.service_account, record.status) for record in records(mount)]
    statuses = dict(found)
    assert len(found) == len(statuses) == 4
    assert statuses.pop(active["service_account"]) == "active"
    assert statuses.pop(ending["service_account"]) == "pending"
    assert statuses.pop(expired["service_account"]) == "expired"
    assert list(statuses.values()) == ["pending"]


def test_an_error_of_the_api_is_a_sentence(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=400, message="two\nlines\r\nof it", echo_authorization=True, **CREATE)
    with pytest.raises(OpenAICredsError) as caught:
        issue(mount, "my-role")
    assert not isinstance(caught.value, ApiError)
    assert lab.double.admin_key not in sentence(caught.value)
