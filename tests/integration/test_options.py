# SPDX-License-Identifier: GPL-3.0-or-later
"""Options as users give them: null, not at all, as floats; and what the documentation says of check and diff mode."""

from __future__ import annotations

import json
import re
import typing as t

import yaml
from integration.test_modules import results
from lab import COLLECTIONS, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue

MODULES = sorted(
    path.stem for path in (COLLECTIONS / "ansible_collections/ephemeral/openai/plugins/modules").glob("*.py")
)
#: Needs a store in Vault as well; test_store_move.py runs it, with --check too.
MOVES = "openai_store_move"
ON_A_FRESH_NODE = "OpenAI client not configured: mount 'openai' has no admin key in"


def described(lab: Lab) -> dict[str, dict[str, t.Any]]:
    """Return what ansible-doc says of each module."""
    full = [f"ephemeral.openai.{name}" for name in MODULES]
    shown = lab.command("ansible-doc", "--json", *full)
    assert shown.rc == 0, shown.out
    # Before it may stand a warning about a collection of Ansible's own.
    start = next(match.start() for match in re.finditer(r"^{", shown.out, re.MULTILINE))
    return {name.rpartition(".")[2]: text["doc"] for name, text in json.loads(shown.out[start:]).items()}


def prepared(lab: Lab) -> str:
    """Configure a mount with a lease that lives and one that is due; returns the id of the first."""
    lab.configure()
    with lab.at(-7200) as past:
        issue(past, "my-role", 60)
    account = lab.double.add_service_account(PROJECT, "workload")["id"]
    static = {"name": "static", "project": "lab", "service_account_id": account}
    pool = {"name": "pool", "project": "lab", "service_account_names": ["held", "free"]}
    results(
        lab,
        [
            {"ephemeral.openai.openai_static_role": static},
            {"ephemeral.openai.openai_library_set": pool},
            {"ephemeral.openai.openai_library_checkout": {"name": "pool", "service_account": "held"}},
        ],
    )
    return str(issue(lab.mount(), "my-role")["lease_id"])


def test_the_attributes_in_the_documentation_are_true(lab: Lab) -> None:
    """Of a real run with --check and --diff, on a host that cannot be reached."""
    lease_id = prepared(lab)
    args: dict[str, dict[str, t.Any]] = {
        "openai_config": {"rotation_period": "30d"},
        "openai_admin_key": {"rotate": "always"},
        "openai_project": {"name": "lab", "description": "another"},
        "openai_role": {"name": "my-role", "ttl": "10m"},
        "openai_creds": {"name": "my-role"},
        "openai_lease": {"lease_id": lease_id},
        "openai_static_role": {"name": "static", "rotation_period": "1h"},
        "openai_static_creds": {"name": "static", "rotate": "always"},
        "openai_library_set": {"name": "pool", "description": "another"},
        "openai_library_checkout": {"name": "pool"},
        "openai_library_checkin": {"name": "pool", "service_account": "held"},
        "openai_metrics": {"textfile": str(lab.path / "openai_creds.prom")},
    }
    modules = [name for name in MODULES if name != MOVES]
    attributes = {name: text["attributes"] for name, text in described(lab).items()}
    lab.double.clear_requests()
    before = {path: path.read_bytes() for path in lab.store_path.rglob("*") if path.is_file()}
    names = [f"result_{name}" for name in modules]
    target = lab.path / "results.json"
    tasks: list[dict[str, t.Any]] = [
        {f"ephemeral.openai.{name}": args.get(name, {}), "register": f"result_{name}"} for name in modules
    ]
    content = "{{ [" + ", ".join(names) + "] | to_json }}"
    copied = {"ansible.builtin.copy": {"content": content, "dest": str(target)}, "check_mode": False, "diff": False}
    tasks.append({**copied, "delegate_to": "localhost"})
    host = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    done = lab.play([host], "-i", "unreachable.invalid,", "--check", "--diff")
    assert done.rc == 0, done.out
    found = dict(zip(modules, json.loads(target.read_text())))
    for name in modules:
        assert attributes[name]["action"]["support"] == "full"
        assert attributes[name]["check_mode"]["support"] == "full"
        assert found[name]["changed"] is (name in args or name == "openai_cleanup"), name
        assert ("diff" in found[name]) is (attributes[name]["diff_mode"]["support"] == "full"), name
    assert {path: path.read_bytes() for path in lab.store_path.rglob("*") if path.is_file()} == before
    assert not [request for request in lab.double.requests() if request["method"] != "GET"]
    shown = found["openai_config"]["diff"]
    assert shown["after"] == found["openai_config"]["config"]
    assert shown["before"] == found["openai_config_info"]["config"]
    assert found["openai_role"]["diff"]["before"] == found["openai_role_info"]["roles"][0]
    assert found["openai_project"]["diff"]["before"] == found["openai_project_info"]["projects"][0]


def test_a_module_that_runs_in_the_background_is_refused_in_a_sentence(lab: Lab) -> None:
    tasks = [{"ephemeral.openai.openai_role_info": {}, "async": 60, "poll": poll} for poll in (0, 5)]
    for result in results(lab, tasks, rc=2):
        assert result["msg"].startswith("async: ephemeral.openai.openai_role_info runs on the controller"), result


def test_a_null_is_an_option_that_is_not_given(lab: Lab) -> None:
    lease_id = prepared(lab)
    needed: dict[str, dict[str, t.Any]] = {
        "openai_project": {"name": "lab"},
        "openai_role": {"name": "my-role"},
        "openai_creds": {"name": "my-role"},
        "openai_lease": {"lease_id": lease_id},
        "openai_static_role": {"name": "static"},
        "openai_static_creds": {"name": "static"},
        "openai_library_set": {"name": "pool"},
        "openai_library_checkout": {"name": "pool"},
        "openai_library_checkin": {"name": "pool", "service_account": "held"},
        "openai_metrics": {"textfile": str(lab.path / "openai_creds.prom")},
    }
    modules = [name for name in MODULES if name != MOVES]
    before = {section: lab.mount().definitions(section) for section in ("config", "projects", "roles")}
    options = {name: set(text["options"]) for name, text in described(lab).items()}
    tasks: list[dict[str, t.Any]] = [
        {f"ephemeral.openai.{name}": {**dict.fromkeys(options[name]), **needed.get(name, {})}} for name in modules
    ]
    nulls = "ttl=none, reuse=none, min_remaining=none, mount=none, store_path=none"
    for _unused in range(2):
        lookup = "{{ lookup('ephemeral.openai.openai_creds', 'my-role', " + nulls + ").lease_id }}"
        tasks.append({"ansible.builtin.set_fact": {"lease": lookup}})
    lab.env["OPENAI_BASE_URL"] = lab.double.url
    *found, first, second = results(lab, tasks)
    changed = {name for name, result in zip(modules, found) if result["changed"]}
    taken = {"openai_library_checkin", "openai_library_checkout"}
    assert changed == {"openai_creds", "openai_cleanup", "openai_lease", "openai_metrics", *taken}
    assert {section: lab.mount().definitions(section) for section in before} == before
    assert first["ansible_facts"] == second["ansible_facts"], "reuse is what it is by default"
    missing = results(lab, [{"ephemeral.openai.openai_role": {"name": None, "ttl": "1h"}}], rc=2)[0]
    assert "missing required arguments: name" in missing["msg"]


def test_what_an_info_module_returns_can_be_put_back(lab: Lab) -> None:
    lab.configure()
    lab.role("registered", project="lab", project_id=None, scopes=["api.model.read"], renewable=False)
    before = lab.store_path / "openai"
    content = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
    documented = described(lab)
    plays: list[dict[str, t.Any]] = []
    for module, key in (("openai_project", "projects"), ("openai_role", "roles")):
        plays.append({f"ephemeral.openai.{module}_info": {}, "register": key})
        taken = set(documented[module]["options"]) & {
            *("name", "project", "project_id", "description", "ttl", "max_ttl", "renewable", "scopes", "native_expiry"),
            *("service_account_name_template", "service_account_description"),
        }
        args = {option: "{{ item." + option + " }}" for option in sorted(taken)}
        loop = "{{ " + key + "." + key + " }}"
        plays.append({f"ephemeral.openai.{module}": args, "loop": loop, "loop_control": {"label": ""}})
    plays.append({"ephemeral.openai.openai_config_info": {}, "register": "mount"})
    options = set(documented["openai_config"]["options"])
    shown = ("api_endpoint", "organization_id", "admin_api_key_id", "disable_automated_rotation")
    shown = (*shown, "rotation_period", "rotation_schedule", "rotation_window")
    assert set(shown) <= options
    plays.append({"ephemeral.openai.openai_config": {name: "{{ mount.config." + name + " }}" for name in shown}})
    done = lab.play(plays)
    assert done.rc == 0 and "changed=0" in done.out, done.out
    assert {path: path.read_bytes() for path in before.rglob("*") if path.is_file()} == content


def test_check_mode_of_a_play_that_begins_with_nothing(lab: Lab) -> None:
    """What a task before would have made is not there, which is a warning; a real run would fail if it were not."""
    creds = {"ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued"}
    lease = {"lease_id": "{{ issued.creds.lease_id }}"}
    tasks: list[dict[str, t.Any]] = [
        {"ephemeral.openai.openai_config": {"admin_api_key": lab.double.admin_key, "api_endpoint": lab.double.url}},
        {"ephemeral.openai.openai_project": {"name": "web", "project_id": PROJECT}},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project": "web"}},
        creds,
        {"ephemeral.openai.openai_lease": {**lease, "state": "renewed"}},
        {"ephemeral.openai.openai_lease": lease},
        {"ephemeral.openai.openai_lease": {"prefix": "openai"}},
        {
            "ephemeral.openai.openai_lease": {
                "lease_id": "openai/creds/my-role/al5k000-0123456789ab",
                "state": "renewed",
            }
        },
        {"ephemeral.openai.openai_cleanup": {}},
        {"ephemeral.openai.openai_admin_key": {}},
        {"ephemeral.openai.openai_admin_key": {"rotate": "always"}},
        {"ephemeral.openai.openai_lease_info": {}},
    ]
    tasks[3:4] = [{"ephemeral.openai.openai_creds": {"name": "my-role"}}, creds]
    done = lab.play(tasks, "--check")
    assert done.rc == 0, done.out
    assert "failed=0" in done.out
    said = " ".join(done.out.split())
    assert ON_A_FRESH_NODE in said and "(a real run fails unless that is done by then)" in said
    assert not lab.store_path.exists()
    assert not [request for request in lab.double.requests() if request["method"] != "GET"]


def test_without_a_config_that_is_what_is_said(lab: Lab) -> None:
    """And not that a role is not found, or that there was nothing to do."""
    lab.role()
    tasks: list[dict[str, t.Any]] = [
        {"ephemeral.openai.openai_creds": {"name": "my-role"}},
        {"ephemeral.openai.openai_creds": {"name": "other"}},
        {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'other') }}"}},
        {"ephemeral.openai.openai_admin_key": {}},
        {"ephemeral.openai.openai_cleanup": {}},
        {"ephemeral.openai.openai_lease": {"prefix": "openai/creds/my-role/"}},
        {"ephemeral.openai.openai_lease": {"lease_id": "openai/creds/my-role/al5k000-0123456789ab"}},
        {
            "ephemeral.openai.openai_lease": {
                "lease_id": "openai/creds/my-role/al5k000-0123456789ab",
                "state": "renewed",
            }
        },
    ]
    for result in results(lab, tasks, rc=2):
        assert result["failed"] is True
        assert f"{ON_A_FRESH_NODE} store_path {lab.store_path}" in result["msg"]
    info, config = results(
        lab, [{f"ephemeral.openai.{name}": {}} for name in ("openai_lease_info", "openai_config_info")]
    )
    assert info["leases"] == [] and ON_A_FRESH_NODE in info["warnings"][0]
    assert config["config"] is None


def test_whole_numbers_may_be_floats(lab: Lab) -> None:
    """As JSON and Jinja2's division make them."""
    lab.configure()
    fact = "{{ lookup('ephemeral.openai.openai_creds', 'my-role', ttl=600 / 2, min_remaining=30.0).lease_duration }}"
    role, creds, _cleanup, found, renewed, _lookup = results(
        lab,
        [
            {"ephemeral.openai.openai_role": {"name": "my-role", "ttl": 3600.0, "max_ttl": "{{ 120 * 60 / 2 }}"}},
            {"ephemeral.openai.openai_creds": {"name": "my-role", "ttl": 1800.0, "count": 2.0}},
            {"ephemeral.openai.openai_cleanup": {"limit": 5.0, "max_concurrency": "{{ 8 / 2 }}", "grace": 60.0}},
            {"ephemeral.openai.openai_lease_info": {"expiring_within": 1800.0}},
            {"ephemeral.openai.openai_lease": {"prefix": "openai", "state": "renewed", "increment": 900.0}},
            {"ansible.builtin.set_fact": {"duration": fact}},
        ],
    )
    assert (role["role"]["ttl"], role["role"]["max_ttl"]) == (3600, 3600)
    assert [one["lease_duration"] for one in creds["creds_list"]] == [1800, 1800]
    assert len(found["leases"]) == len(renewed["leases"]) == 2
    assert _lookup["ansible_facts"]["duration"] == 300


def test_a_key_that_nobody_can_read_is_said_to_be_one(lab: Lab) -> None:
    lab.configure()
    args = {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 2}}
    play = lab.play([args, {**args, "register": "kept"}])
    adhoc = lab.command("ansible", "localhost", "-m", "ephemeral.openai.openai_creds", "-a", "name=my-role")
    leases = [record["lease_id"] for record in results(lab, [{"ephemeral.openai.openai_lease_info": {}}])[0]["leases"]]
    assert len(leases) == 5
    told = 0
    for run, count in ((play, 2), (adhoc, 1)):
        assert run.rc == 0, run.out
        said = " ".join(run.out.split())
        assert said.count("nobody can read the key that was issued, since the task has no register") == 1, run.out
        named = [lease_id for lease_id in leases if lease_id in said.replace(" ", "") or lease_id in said]
        assert len(named) == count, run.out
        told += len(named)
        assert "LEAKMARKER" not in run.out
    assert told == 3


def test_the_playbooks_say_how_they_run() -> None:
    """Who runs them with become, a limit or async is told what comes of it."""
    for path in sorted((COLLECTIONS / "ansible_collections/ephemeral/openai/playbooks").glob("*.yml")):
        header = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
        if path.name == "schedule.yml":
            # The one that runs on hosts of the inventory.
            assert "--become" in header
            continue
        assert "become has no effect" in header and "--limit" in header, path.name
        assert all(play["hosts"] == "localhost" for play in yaml.safe_load(path.read_text()))
