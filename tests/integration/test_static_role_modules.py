# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules, the lookup and the playbooks of static roles, in real ansible-playbook processes."""

from __future__ import annotations

import json
import typing as t

import pytest
from account_keys import keys, untouched
from double.client import Double
from integration.test_modules import results
from integration.test_playbooks import changed, run, wanted
from lab import BOTH_STORES, MARKER, PROJECT, Lab

ROLE = "ephemeral.openai.openai_static_role"
CREDS = "ephemeral.openai.openai_static_creds"


@pytest.fixture(params=["deletes keys", "refuses to"])
def account(request: pytest.FixtureRequest, double: Double, lab: Lab) -> dict[str, t.Any]:
    double.settings(refuse_service_account_key_delete=request.param == "refuses to")
    lab.configure()
    return double.add_service_account(PROJECT, "workload")


@BOTH_STORES
def test_from_the_first_key_to_the_last(lab: Lab, account: dict[str, t.Any]) -> None:
    define = {"name": "ds", "project": "lab", "service_account_id": account["id"], "ttl": "48h"}
    is_same = "lookup('ephemeral.openai.openai_static_creds', 'ds') == taken.creds"
    done = lab.play(
        [
            {ROLE: define, "check_mode": True, "register": "planned"},
            {"ansible.builtin.assert": {"that": ["planned is changed"]}},
            {ROLE: define, "register": "written", "diff": True},
            {ROLE: define, "register": "again"},
            {CREDS: {"name": "ds"}, "register": "taken"},
            {"ansible.builtin.assert": {"that": ["written is changed", "again is not changed", "not taken.rotated"]}},
            {"ansible.builtin.assert": {"that": [is_same, "taken.creds.api_key_id == written.static_role.api_key_id"]}},
            {CREDS: {"name": "ds", "rotate": "always"}, "check_mode": True, "register": "planned"},
            {"ansible.builtin.assert": {"that": ["planned.rotated", "planned.creds.lease_id is none", is_same]}},
            {CREDS: {"name": "ds", "rotate": "always"}, "register": "rotated"},
            {"ephemeral.openai.openai_static_role_info": {"name": "ds"}, "register": "shown"},
            {
                "ansible.builtin.assert": {
                    "that": [
                        "rotated.rotated and rotated is changed and rotated.creds != taken.creds",
                        "shown.static_roles[0].api_key_id == rotated.creds.api_key_id",
                        "shown.static_roles[0].expires_at == rotated.creds.expires_at",
                    ]
                }
            },
        ],
        "-vv",
    )
    assert done.rc == 0, done.out
    assert MARKER not in done.out
    assert len(keys(lab, account)) == 1 and untouched(lab, account)
    done = lab.play([{ROLE: {"name": "ds", "state": "absent"}}])
    assert changed(done) == 1
    assert keys(lab, account) == {} and untouched(lab, account)


def test_rotated_by_the_playbook(lab: Lab, account: dict[str, t.Any]) -> None:
    variables = wanted(
        lab, configure_static_roles=[{"name": "ds", "project": "lab", "service_account_id": account["id"]}]
    )
    assert changed(run(lab, "configure", **variables)) > 0
    assert changed(run(lab, "configure", **variables)) == 0
    before = list(keys(lab, account))
    idle = run(lab, "rotate")
    assert changed(idle) == 0 and "0 of 1 static roles rotated" in " ".join(idle.out.split())
    forced = run(lab, "rotate", "-vvv", openai_creds_force=True)
    assert changed(forced) == 2 and "1 of 1 static roles rotated" in " ".join(forced.out.split()), forced.out
    assert MARKER not in forced.out and json.dumps(before) not in forced.out
    assert len(keys(lab, account)) == 1 and list(keys(lab, account)) != before and untouched(lab, account)


def test_an_admin_key_that_cannot_be_rotated_holds_up_no_static_role(lab: Lab, account: dict[str, t.Any]) -> None:
    assert lab.play([{ROLE: {"name": "ds", "project": "lab", "service_account_id": account["id"]}}]).rc == 0
    before = list(keys(lab, account))
    lab.double.fault(kind="refuse", status=403, method="POST", path="/admin_api_keys$")
    failed = run(lab, "rotate", openai_creds_force=True)
    assert failed.rc == 2 and "admin key creation failed" in failed.out, failed.out
    assert len(keys(lab, account)) == 1 and list(keys(lab, account)) != before


def test_check_mode_foretells_what_a_play_does_with_a_static_role_of_its_own(
    lab: Lab, account: dict[str, t.Any]
) -> None:
    tasks = [
        {ROLE: {"name": "ds", "project": "lab", "service_account_id": account["id"]}},
        {CREDS: {"name": "ds"}},
        {CREDS: {"name": "ds", "rotate": "always"}},
        {
            "ansible.builtin.debug": {
                "msg": "{{ lookup('ephemeral.openai.openai_static_creds', 'ds').lease_id is none }}"
            }
        },
    ]
    planned = results(lab, tasks, "--check")
    assert [one["changed"] for one in planned] == [True, False, True, False]
    for one in planned[1:3]:
        assert "(a real run fails unless that is done by then)" in one["warnings"][0]
    assert planned[3]["msg"] is True
    assert keys(lab, account) == {}
    done = results(lab, tasks)
    assert [one["changed"] for one in done] == [True, False, True, False]
    assert done[3]["msg"] is False


def test_the_playbook_says_what_is_wrong(lab: Lab, account: dict[str, t.Any]) -> None:
    """The result is censored by the module, so that its errors are not."""
    assert lab.play([{ROLE: {"name": "ds", "project": "lab", "service_account_id": account["id"]}}]).rc == 0
    lab.mount().openai().delete_service_account(PROJECT, account["id"])
    failed = run(lab, "rotate", openai_creds_force=True)
    assert failed.rc and "new_account" in " ".join(failed.out.split())
