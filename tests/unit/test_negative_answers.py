# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenAI's refusals do not mean: a 404 is not the end of an account, a dead admin key not the fault of a lease."""

from __future__ import annotations

import typing as t

import pytest
from lab import PROJECT, Lab
from unit.conftest import Clock

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client, transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup


def clean(mount: Mount, **options: t.Any) -> Data:
    defaults = {"orphans": "report", "max_concurrency": 4, "limit": None, "grace": 600, "dry_run": False}
    return cleanup(mount, **{**defaults, **options})


def refusals(mount: Mount) -> list[Data]:
    return [refusal.data for refusal in mount.store.scan("refusals/")]


@pytest.mark.parametrize("what", ["key", "network"])
def test_a_failure_of_the_whole_is_met_once(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """With a dead admin key, or no way to OpenAI, no lease is to blame."""
    issue_several(mount, "my-role", None, 20)
    clock.move(3600)
    lab.double.clear_requests()
    if what == "key":
        lab.double.fault(kind="refuse", status=401, code="invalid_api_key")
    else:
        monkeypatch.setattr(transport, "_BACKOFF_SECONDS", 0)
        monkeypatch.setattr(mount.openai()._transport, "_endpoint", "http://127.0.0.1:1/v1")
    result = clean(mount, max_concurrency=4)
    assert len(result["failed"]) == 20 and result["revoked"] == []
    assert sum(request["method"] == "DELETE" for request in lab.double.requests()) <= 4
    assert refusals(mount) == []
    assert len(lab.accounts()) == 20
    lab.double.clear_faults()
    monkeypatch.undo()
    assert len(clean(mount)["revoked"]) == 20, "at once, without a growing delay"
    assert lab.accounts() == set() and lab.leases() == {}


def test_leases_that_ended_before_the_failure_of_the_whole_are_recorded(lab: Lab, mount: Mount, clock: Clock) -> None:
    issue_several(mount, "my-role", None, 8)
    clock.move(3600)
    lab.double.fault(kind="refuse", status=401, method="DELETE", skip=3)
    result = clean(mount, max_concurrency=1)
    assert len(result["revoked"]) == 3 and len(result["failed"]) == 5
    assert len(lab.leases()) == len(lab.accounts()) == 5


def test_force_drops_records_also_where_nobody_can_be_asked(lab: Lab, mount: Mount) -> None:
    creds = issue_several(mount, "my-role", None, 5)
    lab.double.fault(kind="refuse", status=401)
    ended = revoke(mount, active_records(mount, [one["lease_id"] for one in creds]), force=True)
    assert len(ended) == 5 and all(one.error for one in ended)
    assert lab.leases() == {}


# What OpenAI does not find.


def test_a_404_to_a_young_account_is_not_believed(lab: Lab, mount: Mount) -> None:
    lab.double.settings(young_not_found=0.8)
    creds = issue(mount, "my-role")
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert ended.error is None
    assert lab.accounts() == set() and lab.leases() == {}


def test_an_account_that_is_listed_and_not_found_stays_on_record(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_UNKNOWN_WAITS", (0, 0))
    creds = issue(mount, "my-role")
    lab.double.fault(kind="refuse", status=404, code="not_found", method="DELETE")
    (ended,) = revoke(mount, active_records(mount, [creds["lease_id"]]))
    # Whether anybody tries again depends on whether the record stays, which force decides.
    assert ended.error == f"OpenAI lists {creds['service_account_id']}, but answers 404 when it is to be deleted"
    assert lab.leases() == {creds["service_account"]: "failed"}
    lab.double.clear_faults()
    assert clean(mount)["revoked"] == [creds["lease_id"]]
    assert lab.accounts() == set() and lab.leases() == {}


def test_many_that_are_gone_share_lists(lab: Lab, mount: Mount, clock: Clock) -> None:
    """As after a restored backup."""
    size = mount.store.batch
    creds = issue_several(mount, "my-role", None, 2 * size)
    for one in creds:
        mount.openai().delete_service_account(PROJECT, one["service_account_id"])
    clock.move(3600)
    lab.double.clear_requests()
    assert len(clean(mount, max_concurrency=2)["revoked"]) == 2 * size
    assert len([request for request in lab.double.requests() if request["method"] == "GET"]) <= 3


def test_leases_of_a_project_that_is_not_found_stay_on_record(lab: Lab, mount: Mount, clock: Clock) -> None:
    """The admin key may have come to belong to another organization."""
    creds = issue(mount, "my-role")
    clock.move(3600)
    lab.double.fault(kind="refuse", status=404, code="not_found", path="/projects/")
    assert [one["lease_id"] for one in clean(mount)["failed"]] == [creds["lease_id"]]
    assert lab.leases() == {creds["service_account"]: "failed"} and len(lab.accounts()) == 1


def test_a_key_to_be_limited_may_be_young(lab: Lab, mount: Mount) -> None:
    lab.role(scopes=["api.model.read"])
    lab.double.settings(young_not_found=0.5)
    issue(mount, "my-role")
    (key,) = lab.double.state()["api_keys"]
    assert key["scopes"] == ["api.model.read"] and len(lab.leases()) == 1
