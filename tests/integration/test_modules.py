# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules and the lookup return and change, through real ansible-playbook processes."""

from __future__ import annotations

import json
import typing as t

import pytest
from lab import BOTH_STORES, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import PLACEHOLDER_KEY, issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke

pytestmark = BOTH_STORES

CREDENTIAL = {
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
LEASE = {
    "lease_id",
    "role",
    "status",
    "issued_at",
    "expires_at",
    "renewable",
    "service_account",
    "service_account_id",
    "api_key_id",
    "project_id",
    "issued_by",
}


def results(lab: Lab, tasks: list[dict[str, t.Any]], *args: str, rc: int = 0) -> list[dict[str, t.Any]]:
    """Run tasks and return the registered result of each, whole."""
    plays = []
    names = []
    for number, task in enumerate(tasks):
        names.append(f"result_{number}")
        plays.append({**task, "register": names[-1], "ignore_errors": bool(rc)})
    target = lab.path / "results.json"
    content = "{{ [" + ", ".join(names) + "] | to_json }}"
    plays.append(
        {"ansible.builtin.copy": {"content": content, "dest": str(target)}, "check_mode": False, "diff": False}
    )
    run = lab.play(plays, *args)
    assert run.rc == 0, run.out
    found: list[dict[str, t.Any]] = json.loads(target.read_text())
    return found


def test_everything_once_and_again(lab: Lab) -> None:
    """The second time nothing changes, and check mode says before what the real run then does."""
    tasks: list[dict[str, t.Any]] = [
        {
            "ephemeral.openai.openai_config": {
                "admin_api_key": lab.double.admin_key,
                "organization_id": lab.double.organization,
                "api_endpoint": lab.double.url,
            }
        },
        {"ephemeral.openai.openai_project": {"name": "web", "project_id": PROJECT, "description": "d"}},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project": "web"}},
    ]
    before = results(lab, tasks, "--check", "--diff")
    assert [result["changed"] for result in before] == [True] * 3
    assert lab.mount().store.read("definitions") is None
    first = results(lab, tasks)
    assert [result["changed"] for result in first] == [True] * 3
    assert first[0]["config"] == {
        "api_endpoint": lab.double.url,
        "organization_id": lab.double.organization,
        "admin_api_key_id": lab.double.admin_key_id,
        "admin_api_key_expires_at": None,
        "rotation_period": None,
        "rotation_schedule": None,
        "rotation_window": None,
        "disable_automated_rotation": False,
        "last_rotated": None,
        "next_rotation": None,
        "previous_admin_api_key_id": None,
        "previous_admin_api_keys": [],
    }
    assert first[1]["project"] == {"name": "web", "project_id": PROJECT, "description": "d"}
    assert first[2]["role"] == {
        "name": "my-role",
        "project": "web",
        "project_id": None,
        "service_account_id": None,
        "service_account_name_template": "vault-{{.RoleName}}-{{.RandomSuffix}}",
        "service_account_description": "Service account created by ephemeral.openai",
        "ttl": 3600,
        "max_ttl": 86400,
        "renewable": True,
        "scopes": None,
        "native_expiry": True,
    }
    assert [result["changed"] for result in results(lab, tasks)] == [False] * 3
    infos = results(
        lab,
        [
            {"ephemeral.openai.openai_config_info": {}},
            {"ephemeral.openai.openai_project_info": {}},
            {"ephemeral.openai.openai_role_info": {"name": "my-role"}},
            {"ephemeral.openai.openai_role_info": {"name": "none"}},
        ],
    )
    assert infos[0]["config"] == first[0]["config"]
    assert infos[1]["projects"] == [first[1]["project"]]
    assert infos[2]["roles"] == [first[2]["role"]]
    assert infos[3]["roles"] == []
    absent = [
        {"ephemeral.openai.openai_role": {"name": "my-role", "state": "absent"}},
        {"ephemeral.openai.openai_project": {"name": "web", "state": "absent"}},
        {"ephemeral.openai.openai_config": {"state": "absent"}},
    ]
    assert [result["changed"] for result in results(lab, absent)] == [True] * 3
    assert [result["changed"] for result in results(lab, absent)] == [False] * 3


def test_in_use_cannot_be_deleted(lab: Lab) -> None:
    lab.configure()
    lab.role(project="lab", project_id=None)
    issue(lab.mount(), "my-role")
    refused = results(
        lab,
        [
            {"ephemeral.openai.openai_project": {"name": "lab", "state": "absent"}},
            {"ephemeral.openai.openai_config": {"state": "absent"}},
        ],
        rc=2,
    )
    assert "project has roles that use it, cannot delete" in refused[0]["msg"]
    assert "still has 1 lease(s)" in refused[1]["msg"]
    assert results(lab, [{"ephemeral.openai.openai_config": {"state": "absent", "force": True}}])[0]["changed"]


def test_a_stored_admin_key_stays_unless_told_otherwise(lab: Lab) -> None:
    lab.configure()
    other = lab.double.add_admin_key("other")
    task = {"ephemeral.openai.openai_config": {"admin_api_key": other["value"]}}
    always = {"ephemeral.openai.openai_config": {"admin_api_key": other["value"], "update_admin_key": "always"}}
    assert results(lab, [task])[0]["changed"] is False
    assert lab.mount().definitions("config")["admin_api_key"] == lab.double.admin_key
    changed = results(lab, [always])[0]
    assert changed["changed"] is True and changed["config"]["admin_api_key_id"] == other["id"]
    assert lab.mount().definitions("config")["admin_api_key"] == other["value"]
    assert results(lab, [always])[0]["changed"] is False


def test_credentials_and_leases(lab: Lab) -> None:
    lab.configure(scopes=["api.model.read"])
    one, several, info = results(
        lab,
        [
            {"ephemeral.openai.openai_creds": {"name": "my-role", "ttl": "15m"}},
            {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 3}},
            {"ephemeral.openai.openai_lease_info": {}},
        ],
    )
    assert set(one["creds"]) == CREDENTIAL and "creds_list" not in one
    assert one["creds"]["lease_duration"] == 900
    assert one["creds"]["lease_id"].startswith("openai/creds/my-role/")
    assert len({creds["api_key"] for creds in several["creds_list"]}) == 3 and "creds" not in several
    assert len(info["leases"]) == 4
    assert all(set(lease) == LEASE and lease["status"] == "active" for lease in info["leases"])
    assert set(info["leases"][0]["issued_by"]) == {"user", "controller", "playbook"}
    keys = {key["id"]: key for key in lab.double.state()["api_keys"]}
    key = keys[one["creds"]["api_key_id"]]
    assert key["scopes"] == ["api.model.read"]
    assert key["expires_at"] - key["created_at"] == 900

    name = {"lease_id": one["creds"]["lease_id"]}
    checked = results(
        lab,
        [
            {"ephemeral.openai.openai_lease": {**name, "state": "renewed", "increment": "2h"}},
            {"ephemeral.openai.openai_lease": name},
            {"ephemeral.openai.openai_cleanup": {}},
        ],
        "--check",
    )
    assert [result["changed"] for result in checked] == [True, True, False]
    assert len(lab.accounts()) == 4
    renewed, revoked, again, soon = results(
        lab,
        [
            {"ephemeral.openai.openai_lease": {**name, "state": "renewed", "increment": "2h"}},
            {"ephemeral.openai.openai_lease": name},
            {"ephemeral.openai.openai_lease": name},
            {"ephemeral.openai.openai_lease_info": {"expiring_within": "61m", "role": "my-role", "status": "active"}},
        ],
    )
    assert renewed["leases"][0]["expires_at"] > one["creds"]["expires_at"]
    assert (revoked["changed"], again["changed"], again["leases"]) == (True, False, [])
    assert len(soon["leases"]) == 3
    gone = results(lab, [{"ephemeral.openai.openai_lease": {"prefix": "openai/creds/my-role/"}}])[0]
    assert len(gone["leases"]) == 3
    assert lab.accounts() == set()
    assert lab.leases() == {}


def test_check_mode_issues_nothing(lab: Lab) -> None:
    """Also on a mount where nothing has been configured yet, as on the first check of a bootstrap playbook."""
    tasks = [
        {"ephemeral.openai.openai_creds": {"name": "my-role"}},
        {"ansible.builtin.set_fact": {"c": "{{ lookup('ephemeral.openai.openai_creds', 'my-role') }}"}},
    ]
    for configured in (False, True):
        if configured:
            lab.configure()
        issued, fact = results(lab, tasks, "--check")
        assert issued["changed"] is True
        place = f"kv_path {lab.kv_path} of engine_mount_point secret" if lab.vault else f"store_path {lab.store_path}"
        assert [f"has no admin key in {place};" in warning for warning in issued.get("warnings", [])] == [True] * (
            not configured
        )
        for creds in (issued["creds"], fact["ansible_facts"]["c"]):
            assert set(creds) == CREDENTIAL
            assert creds["api_key"] == PLACEHOLDER_KEY
            assert creds["lease_id"] is None
        assert lab.accounts() == set()


def test_cleanup_reports_and_fails_after_doing_all_it_can(lab: Lab) -> None:
    lab.configure()
    with lab.at(-7200) as past:
        stuck, gone, going = (issue(past, "my-role", 60) for _unused in range(3))
    later = issue(lab.mount(), "my-role", 600)
    lab.double.fault(kind="refuse", status=403, message="not this one", path=stuck["service_account_id"])
    lab.mount().openai().delete_service_account(PROJECT, gone["service_account_id"])
    result = results(lab, [{"ephemeral.openai.openai_cleanup": {}}], rc=2)[0]
    assert result["revoked"] == sorted([gone["lease_id"], going["lease_id"]])
    assert [one["lease_id"] for one in result["failures"]] == [stuck["lease_id"]]
    assert "not this one" in result["failures"][0]["error"] and stuck["lease_id"] in result["msg"]
    assert (result["active"], result["next_expiry"], result["changed"]) == (1, later["expires_at"], True)
    assert (result["checked_in"], result["recovered"], result["orphans"], result["failed"]) == ([], [], [], True)
    failed = results(lab, [{"ephemeral.openai.openai_lease_info": {"status": "failed"}}])[0]["leases"]
    assert [(lease["lease_id"], lease["attempts"]) for lease in failed] == [(stuck["lease_id"], 1)]
    lab.double.clear_faults()
    result = results(lab, [{"ephemeral.openai.openai_cleanup": {}}])[0]
    assert result["revoked"] == [stuck["lease_id"]]


@pytest.mark.parametrize(("orphans", "left"), [("report", 1), ("delete", 0), ("ignore", 1)])
def test_what_an_interrupted_issue_left(lab: Lab, orphans: str, left: int) -> None:
    lab.configure()
    foreign = lab.double.add_service_account(PROJECT, "vault-my-role-abcdefgh")
    lab.double.fault(kind="drop_after", method="POST", times=1)
    lab.double.fault(kind="refuse", status=403, method="GET")
    failed = results(lab, [{"ephemeral.openai.openai_creds": {"name": "my-role"}}], rc=2)[0]
    assert "service account creation failed" in failed["msg"]
    lab.double.clear_faults()
    assert set(lab.leases().values()) == {"pending"}
    result = results(lab, [{"ephemeral.openai.openai_cleanup": {"orphans": orphans}}])[0]
    assert len(result["orphans"]) == (0 if orphans == "ignore" else 1)
    assert len(result["recovered"]) == 1 - left
    assert len(lab.accounts() - {foreign["name"]}) == left
    assert foreign["name"] in lab.accounts()


def test_force_drops_what_will_not_go(lab: Lab) -> None:
    lab.configure()
    creds = issue(lab.mount(), "my-role")
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    task = {"ephemeral.openai.openai_lease": {"lease_id": creds["lease_id"]}}
    refused = results(lab, [task], rc=2)[0]
    assert "1 of 1 lease(s) could not be revoked: OpenAI answered 403" in refused["msg"]
    record = find_record(lab.mount(), creds["lease_id"])
    assert record and record.status == "failed"
    dropped = results(lab, [{"ephemeral.openai.openai_lease": {"lease_id": creds["lease_id"], "force": True}}])[0]
    assert dropped["changed"] is True and "403" in dropped["warnings"][0]
    assert lab.leases() == {}
    assert revoke(lab.mount(), []) == []


def test_a_lease_outlives_what_it_came_from(lab: Lab) -> None:
    lab.configure()
    lab.role(project="lab", project_id=None)
    creds = issue(lab.mount(), "my-role")
    results(
        lab,
        [
            {"ephemeral.openai.openai_role": {"name": "my-role", "state": "absent"}},
            {"ephemeral.openai.openai_project": {"name": "lab", "state": "absent"}},
            {"ephemeral.openai.openai_lease": {"lease_id": creds["lease_id"]}},
        ],
    )
    assert lab.accounts() == set()


def test_lookup_by_its_short_name_and_several_terms(lab: Lab) -> None:
    lab.configure()
    lab.role("other")
    lab.env["ANSIBLE_LOOKUP_PLUGINS"] = (
        f"{lab.env['ANSIBLE_COLLECTIONS_PATH']}/ansible_collections/ephemeral/openai/plugins/lookup"
    )
    query = "{{ query('openai_creds', 'my-role', 'other', 'my-role', ttl='10m') }}"
    fact = results(lab, [{"ansible.builtin.set_fact": {"found": query}}])[0]["ansible_facts"]["found"]
    assert [creds["lease_id"].split("/")[2] for creds in fact] == ["my-role", "other", "my-role"]
    assert fact[0]["lease_id"] == fact[2]["lease_id"]
    assert {creds["lease_duration"] for creds in fact} == {600}
    assert len(lab.accounts()) == 2
    mixed = "{{ query('openai_creds', 'my-role', 'nobody', reuse='none') }}"
    refused = results(lab, [{"ansible.builtin.set_fact": {"found": mixed}}], rc=2)[0]
    assert "role: role not found: 'nobody'" in refused["msg"]
    assert len(lab.accounts()) == 2
