# SPDX-License-Identifier: GPL-3.0-or-later
"""Library sets through real ansible-playbook processes: what the modules return and change."""

from __future__ import annotations

import pytest
from integration.test_modules import CREDENTIAL, results
from lab import BOTH_STORES, MARKER, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import PLACEHOLDER_KEY

SET = {"name": "pool", "project": "lab", "service_account_names": ["one", "two"], "max_ttl": "2h"}
DEFINED = {
    "name": "pool",
    "project": "lab",
    "project_id": None,
    "service_account_names": ["one", "two"],
    "max_ttl": 7200,
    "description": "",
}


@BOTH_STORES
def test_from_the_definition_to_the_end(lab: Lab) -> None:
    lab.configure()
    module = "ephemeral.openai.openai_library_"
    found = results(
        lab,
        [
            {f"{module}set": SET},
            {f"{module}set": SET},
            {f"{module}checkout": {"name": "pool", "ttl": "30m"}},
            {f"{module}checkout": {"name": "pool"}},
            {f"{module}checkout": {"name": "pool"}},
            {f"{module}set_info": {}},
            {f"{module}set": {"name": "pool", "state": "absent"}},
            {f"{module}checkin": {"name": "pool", "service_account_id": "{{ result_2.creds.service_account_id }}"}},
            {f"{module}checkin": {"name": "pool", "service_account": "{{ result_3.creds.service_account }}"}},
            {f"{module}checkin": {"name": "pool", "service_account": "one"}},
            {f"{module}set_info": {"name": "pool"}},
            {f"{module}set": {"name": "pool", "state": "absent"}},
            {f"{module}set": {"name": "pool", "state": "absent"}},
        ],
        rc=1,
    )
    assert [one["changed"] for one in found] == [True, False, True, True] + [False] * 3 + [True, True] + [False] * 2 + [
        True,
        False,
    ]
    assert found[0]["library_set"] == found[1]["library_set"] == DEFINED and found[11]["library_set"] is None
    assert set(found[2]["creds"]) == CREDENTIAL | {"checkout_time"} and found[2]["creds"]["lease_duration"] == 1800
    assert found[4]["failed"] and "no available service accounts in library" in found[4]["msg"]
    (full,), (free,) = found[5]["library_sets"], found[10]["library_sets"]
    assert (full["available_accounts"], full["checked_out_accounts"]) == (0, 2)
    assert (free["available_accounts"], free["checked_out_accounts"]) == (2, 0)
    assert MARKER not in str(full)
    assert found[6]["failed"] and "check it in first" in found[6]["msg"]
    assert found[7]["checked_in"] == [found[2]["creds"]["lease_id"]]
    assert found[9]["checked_in"] == [] and "is not checked out" in found[9]["msg"]
    state = lab.double.state()
    assert state["service_accounts"] == [] and state["api_keys"] == []


def test_check_mode_and_diff(lab: Lab) -> None:
    lab.configure()
    module = "ephemeral.openai.openai_library_"
    since = lab.double.mark()
    tasks = [
        {f"{module}set": SET},
        {f"{module}checkout": {"name": "pool"}},
        {f"{module}checkin": {"name": "pool", "service_account_id": "{{ result_1.creds.service_account_id }}"}},
        {f"{module}checkin": {"name": "pool", "service_account": "one"}},
    ]
    planned = results(lab, tasks, "--check", "--diff")
    assert [one["changed"] for one in planned] == [True] * 4
    assert "library set not found" in planned[3]["warnings"][0]
    assert planned[0]["diff"] == {"before": {}, "after": DEFINED}
    assert planned[1]["creds"]["api_key"] == PLACEHOLDER_KEY and "library set not found" in planned[1]["warnings"][0]
    assert lab.double.requests(since) == []
    results(lab, tasks[:1])
    planned = results(lab, tasks, "--check")
    assert [one["changed"] for one in planned] == [False, True, False, False]
    assert planned[1]["creds"]["service_account"] in ("one", "two")
    assert lab.double.state()["api_keys"] == []


def test_output_is_censored_and_retries_wait(lab: Lab) -> None:
    lab.configure()
    module = "ephemeral.openai.openai_library_"
    run = lab.play(
        [
            {f"{module}set": {**SET, "service_account_names": ["one"]}},
            {f"{module}checkout": {"name": "pool", "ttl": 2}, "register": "first"},
            {
                "ephemeral.openai.openai_cleanup": {},
                "register": "round",
                "until": "round.checked_in | length > 0",
                "retries": 20,
                "delay": 1,
            },
            {
                f"{module}checkout": {"name": "pool"},
                "register": "lent",
                "until": "lent is succeeded",
                "retries": 3,
                "delay": 1,
            },
            {f"{module}checkout": {"name": "pool"}, "ignore_errors": True},
        ],
        "-vvvv",
        "--diff",
    )
    assert run.rc == 0, run.out
    assert MARKER not in run.out


@pytest.mark.parametrize("variable", ["configure_library_sets", "openai_creds_library_sets"])
def test_the_role_converges(lab: Lab, variable: str) -> None:
    lab.configure()
    entry = {**SET, "description": ""}
    for state, changed in (("present", 1), ("present", 0), ("absent", 1), ("absent", 0)):
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "roles": ["ephemeral.openai.configure"],
            "vars": {variable: [{**entry, "state": state}]},
        }
        run = lab.play([play])
        assert run.rc == 0 and f"changed={changed} " in run.out, run.out
        assert lab.accounts() == ({"one", "two"} if state == "present" else set())
