# SPDX-License-Identifier: GPL-3.0-or-later
"""The role configure, the playbooks, by name and by path, and the scripts behind make demo and make live."""

from __future__ import annotations

import ast
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from lab import PROJECT, Lab, Run

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config import config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import issue as leases

CHECKOUT = Path(__file__).resolve().parents[2]
#: The options of a config that stays as it is.
KEPT: dict[str, t.Any] = {
    **dict.fromkeys(("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint")),
    **dict.fromkeys(("replace_key", "validate", "dry_run"), False),
}
BY_NAME, BY_PATH = "ephemeral.openai.{}", str(CHECKOUT / "playbooks" / "{}.yml")


def run(lab: Lab, playbook: str, *args: str, how: str = BY_NAME, **variables: t.Any) -> Run:
    """Run one of the collection's playbooks with extra variables."""
    extra = ("-e", json.dumps(variables)) if variables else ()
    return lab.command(
        "ansible-playbook", how.format(playbook), *extra, *args, env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    )


def wanted(lab: Lab, **more: t.Any) -> dict[str, t.Any]:
    """Return the variables of the role configure for the double."""
    return {
        "configure_admin_api_key": lab.double.admin_key,
        "configure_organization_id": lab.double.organization,
        "configure_api_endpoint": lab.double.url,
        "configure_projects": [{"name": "lab", "project_id": PROJECT, "description": "a project"}],
        "configure_roles": [
            {"name": "my-role", "project": "lab", "ttl": "30m", "max_ttl": "8h"},
            {"name": "reader", "project_id": PROJECT, "scopes": ["api.model.read"], "renewable": False},
        ],
        **more,
    }


def issue(lab: Lab, role: str = "my-role", count: int = 1) -> None:
    issued = lab.play([{"ephemeral.openai.openai_creds": {"name": role, "count": count}}])
    assert issued.rc == 0, issued.out


def changed(done: Run) -> int:
    assert done.rc == 0, done.out
    recap = re.search(r"^localhost .*changed=(\d+)", done.out, re.MULTILINE)
    assert recap, done.out
    return int(recap.group(1))


def test_each_playbook_is_also_a_file(lab: Lab) -> None:
    assert changed(run(lab, "configure", how=BY_PATH, **wanted(lab))) == 3
    issue(lab)
    assert changed(run(lab, "revoke", how=BY_PATH, openai_creds_prefix="openai/creds/my-role/")) == 1
    assert changed(run(lab, "cleanup", how=BY_PATH)) == 0
    lab.env["OPENAI_ADMIN_KEY"] = lab.double.admin_key
    lab.env["OPENAI_BASE_URL"] = lab.double.url
    assert changed(run(lab, "demo", how=BY_PATH, openai_creds_demo_project_id=PROJECT)) == 7
    assert not lab.accounts()


# configure


def test_configure_configures_once(lab: Lab) -> None:
    assert changed(run(lab, "configure", **wanted(lab))) == 3
    mount = lab.mount()
    assert mount.definitions("config")["admin_api_key"] == lab.double.admin_key
    assert mount.definitions("config")["api_endpoint"] == lab.double.url
    assert mount.definitions("projects") == {"lab": {"project_id": PROJECT, "description": "a project"}}
    roles = mount.definitions("roles")
    assert {name: (role["ttl"], role["max_ttl"]) for name, role in roles.items()} == {
        "my-role": (1800, 28800),
        "reader": (3600, 86400),
    }
    assert roles["reader"]["scopes"] == ["api.model.read"]
    assert roles["reader"]["renewable"] is False
    assert changed(run(lab, "configure", **wanted(lab))) == 0


def test_configure_in_check_mode_on_nothing_foretells_and_does_nothing(lab: Lab) -> None:
    assert changed(run(lab, "configure", "--check", "--diff", **wanted(lab))) == 3
    assert not lab.store_path.exists()
    assert not [request for request in lab.double.requests() if request["method"] != "GET"]


def test_configure_shows_what_changes_and_no_key(lab: Lab) -> None:
    noisy = {"ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["ephemeral.openai.configure"]}]
    lab.env["OPENAI_ADMIN_KEY"] = "sk-admin-environment-1234567890"
    # In a file, since Ansible itself prints its command line.
    variables = lab.path / "variables.json"
    variables.write_text(json.dumps(wanted(lab)))
    first = lab.play(play, "--diff", "-vvvv", "-e", f"@{variables}", env=noisy)
    assert changed(first) == 3
    assert lab.double.admin_key not in first.out
    assert lab.env["OPENAI_ADMIN_KEY"] not in first.out
    second = lab.play(play, "--diff", "-e", json.dumps(wanted(lab, configure_roles=[{"name": "my-role", "ttl": "1h"}])))
    assert changed(second) == 1
    assert re.search(r'^-.*"ttl": 1800', second.out, re.MULTILINE), second.out
    assert re.search(r'^\+.*"ttl": 3600', second.out, re.MULTILINE), second.out


def test_configure_takes_back_what_the_info_modules_return(lab: Lab) -> None:
    """A null is what is not given. And what an entry does not give stays: no right comes back by itself."""
    assert changed(run(lab, "configure", **wanted(lab))) == 3
    before = [lab.mount().definitions(section) for section in ("projects", "roles")]
    tasks = [
        {"ephemeral.openai.openai_project_info": {}, "register": "found_projects"},
        {"ephemeral.openai.openai_role_info": {}, "register": "found_roles"},
        {
            "ansible.builtin.include_role": {"name": "ephemeral.openai.configure"},
            "vars": {
                "configure_projects": "{{ found_projects.projects }}",
                "configure_roles": "{{ found_roles.roles + [{'name': 'reader', 'state': None, 'ttl': None}] }}",
            },
        },
    ]
    again = lab.play(tasks)
    assert changed(again) == 0
    assert [lab.mount().definitions(section) for section in ("projects", "roles")] == before
    assert before[1]["reader"]["scopes"] == ["api.model.read"]


def test_what_each_info_module_returns_can_be_put_back(lab: Lab) -> None:
    mount = lab.configure()
    account = lab.double.add_service_account(PROJECT, "workload")
    static_role = {"name": "ds", "project": "lab", "service_account_id": account["id"]}
    library_set = {"name": "pool", "project": "lab", "service_account_names": ["one"]}
    tasks = [
        {"ephemeral.openai.openai_static_role": static_role},
        {"ephemeral.openai.openai_library_set": library_set},
        {"ephemeral.openai.openai_library_checkout": {"name": "pool"}},
        {"ephemeral.openai.openai_admin_key": {"rotate": "always", "overlap": "1h"}},
    ]
    assert lab.play(tasks).rc == 0
    before = mount.all_definitions()
    tasks = []
    for what in ("config", "project", "role", "static_role", "library_set"):
        module, found = f"ephemeral.openai.openai_{what}", f"found_{what}.{what if what == 'config' else what + 's[0]'}"
        tasks.append({f"{module}_info": {}, "register": f"found_{what}"})
        tasks.append({module: f"{{{{ {found} }}}}"})
    configured = {f"configure_{what}s": f"{{{{ found_{what}.{what}s }}}}" for what in ("static_role", "library_set")}
    role = {"ansible.builtin.include_role": {"name": "ephemeral.openai.configure"}, "vars": configured}
    again = lab.play([*tasks, role], env={"ANSIBLE_INJECT_FACT_VARS": "false"})
    assert changed(again) == 0, again.out
    assert mount.all_definitions() == before


def test_configure_leaves_a_stored_key_alone_unless_told(lab: Lab) -> None:
    assert changed(run(lab, "configure", **wanted(lab))) == 3
    other = lab.double.add_admin_key()["value"]
    kept = wanted(lab, configure_admin_api_key=other)
    assert changed(run(lab, "configure", **kept)) == 0
    assert lab.mount().definitions("config")["admin_api_key"] == lab.double.admin_key
    assert changed(run(lab, "configure", configure_update_admin_key="always", **kept)) == 1
    assert lab.mount().definitions("config")["admin_api_key"] == other


@pytest.mark.parametrize("args", [(), ("--check",)])
def test_configure_removes_a_project_and_its_roles_in_one_run(lab: Lab, args: tuple[str, ...]) -> None:
    assert changed(run(lab, "configure", **wanted(lab))) == 3
    gone = {
        "configure_projects": [{"name": "lab", "state": "absent"}, {"name": "new", "project_id": PROJECT}],
        "configure_roles": [{"name": "my-role", "state": "absent"}, {"name": "reader", "project": "new"}],
    }
    assert changed(run(lab, "configure", *args, **wanted(lab, **gone))) == 3
    if not args:
        assert set(lab.mount().definitions("projects")) == {"new"}
        assert set(lab.mount().definitions("roles")) == {"reader"}
        assert changed(run(lab, "configure", **wanted(lab, **gone))) == 0


def test_configure_fails_for_a_project_that_stays_in_use(lab: Lab) -> None:
    assert changed(run(lab, "configure", **wanted(lab))) == 3
    gone = {"configure_projects": [{"name": "lab", "state": "absent"}], "configure_roles": []}
    failed = run(lab, "configure", **wanted(lab, **gone))
    assert failed.rc == 2
    assert "project has roles that use it, cannot delete" in failed.out


def test_configure_takes_templates_of_both_kinds(lab: Lab) -> None:
    roles = [
        "  - {name: go, project_id: proj_lab, service_account_name_template: !unsafe 'a-{{.RoleName}}-{{.RandomSuffix}}'}",
        "  - {name: jinja, project_id: proj_lab, service_account_name_template: 'b-{role_name}-{random_suffix}'}",
    ]
    variables = lab.path / "variables.yml"
    variables.write_text("\n".join([yaml.safe_dump(wanted(lab, configure_roles=None)), "configure_roles:", *roles]))
    done = lab.command("ansible-playbook", "ephemeral.openai.configure", "-e", f"@{variables}")
    assert changed(done) == 3
    for role in ("go", "jinja"):
        issue(lab, role)
    assert sorted(name[:-8] for name in lab.accounts()) == ["a-go-", "b-jinja-"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"configure_roles": [{"project": "lab"}]}, "missing required arguments: name found in configure_roles"),
        ({"configure_roles": [{"name": "a", "tll": "1h"}]}, "configure_roles.tll"),
        ({"configure_update_admin_key": "never"}, "on_create"),
        ({"configure_projects": [{"name": "lab"}]}, "project_id"),
        ({"configure_roles": [{"name": "../x", "project": "lab"}]}, "is not a valid name"),
        ({"configure_api_endpoint": "http://example.com/v1"}, "api_endpoint"),
    ],
)
def test_configure_says_what_is_wrong(lab: Lab, variables: dict[str, t.Any], message: str) -> None:
    failed = run(lab, "configure", **wanted(lab, **variables))
    assert failed.rc == 2, failed.out
    assert message in failed.out
    assert "Traceback" not in failed.out


def test_configure_documents_its_options_as_the_modules_do() -> None:
    specs = yaml.safe_load((CHECKOUT / "roles/configure/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    lists = {
        "configure_projects": "openai_project",
        "configure_roles": "openai_role",
        "configure_static_roles": "openai_static_role",
        "configure_library_sets": "openai_library_set",
    }
    for variable, module in lists.items():
        documented = documentation(module)
        described = options[variable]["options"]
        assert set(described) == set(documented)
        for name in set(documented):
            for key in ("type", "elements", "required"):
                assert described[name].get(key) == documented[name].get(key), (name, key)
            # Ansible refuses a null where the specification has a default or choices. They are told in words.
            assert not {"default", "choices"} & set(described[name]), name
            default = documented[name].get("default")
            # Ansible would take the braces of the template for Jinja2's.
            if default and name not in ("service_account_name_template", "service_account_description"):
                assert f"V({str(default).lower()})" in str(described[name]["description"]), name
            for choice in documented[name].get("choices", ()):
                assert f"V({choice})" in described[name]["description"], name
    documented = documentation("openai_config")
    others = set(options) - set(lists)
    assert {name.removeprefix("configure_") for name in others} == set(documented) - {"force", "state"}


def documentation(module: str) -> dict[str, t.Any]:
    tree = ast.parse((CHECKOUT / f"plugins/modules/{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return t.cast("dict[str, t.Any]", yaml.safe_load(ast.literal_eval(node.value))["options"])
    raise AssertionError(module)


# revoke


def test_revoke_ends_what_is_below_a_prefix_and_says_so(lab: Lab) -> None:
    lab.configure()
    lab.role("other")
    issue(lab, count=2)
    issue(lab, "other")
    foretold = run(lab, "revoke", "--check", openai_creds_prefix="openai/creds/my-role/")
    assert changed(foretold) == 1
    assert len(lab.accounts()) == 3
    done = run(lab, "revoke", openai_creds_prefix="openai/creds/my-role/")
    assert changed(done) == 1
    assert [name.startswith("vault-other-") for name in lab.accounts()] == [True]
    for out in (foretold.out, done.out):
        assert len(set(re.findall(r"openai/creds/my-role/\S+", out))) == 2
    assert "would_revoke:" in foretold.out and "revoked:" not in foretold.out
    assert "not_revoked: []" in done.out
    assert changed(run(lab, "revoke", openai_creds_prefix="openai")) == 1
    assert not lab.accounts()


@pytest.mark.parametrize("args", [(), ("--check",)])
def test_revoke_that_finds_nothing_says_so_and_fails(lab: Lab, args: tuple[str, ...]) -> None:
    """Whoever breaks the glass in a hurry would take green for success."""
    lab.configure()
    leases.issue(lab.mount(), "my-role")
    failed = run(lab, "revoke", *args, openai_creds_prefix="openai/creds/my-rolle/")
    assert failed.rc == 2
    said = " ".join(failed.out.split())
    assert "openai_creds_prefix: no lease begins with 'openai/creds/my-rolle/', so nothing was revoked" in said
    assert len(lab.accounts()) == 1
    fine = run(lab, "revoke", *args, openai_creds_prefix="openai/creds/my-rolle/", openai_creds_nothing_is_ok="yes")
    assert changed(fine) == 0
    assert "no lease begins with 'openai/creds/my-rolle/'" in " ".join(fine.out.split())


def test_what_is_not_configured_is_not_taken_for_nothing_to_do(lab: Lab) -> None:
    """A misspelt mount or store must not be green for ever."""
    elsewhere = {"openai_creds_store_path": str(lab.path / "misspelt")}
    for playbook, variables in (("cleanup", {}), ("revoke", {"openai_creds_prefix": "openai"})):
        failed = run(lab, playbook, **variables, **elsewhere)
        assert failed.rc == 2, failed.out
        said = " ".join(failed.out.split())
        assert "OpenAI client not configured: mount 'openai' has no admin key in store_path" in said
        assert elsewhere["openai_creds_store_path"] in said


# What the playbooks take


#: Variables that the playbooks take, by playbook, and those of them that have to be there.
TAKEN: dict[str, dict[str, t.Any]] = {
    "cleanup": {},
    "rotate": {},
    "revoke": {"openai_creds_prefix": "openai"},
    "demo": {"openai_creds_demo_project_id": PROJECT},
    "configure": {},
    "metrics": {"openai_creds_metrics_textfile": "~/openai_creds.prom"},
}
BOOLEANS = {
    "rotate": ["openai_creds_force"],
    "metrics": ["openai_creds_metrics_costs"],
    "revoke": ["openai_creds_force", "openai_creds_nothing_is_ok"],
    "configure": ["configure_validate", "configure_disable_automated_rotation"],
}


def variables_of(playbook: str) -> set[str]:
    """Return the variables that a playbook says it takes, but for those that choose the store."""
    if playbook == "configure":
        specs = yaml.safe_load((CHECKOUT / "roles/configure/meta/argument_specs.yml").read_text())
        return set(specs["argument_specs"]["main"]["options"])
    comment = "\n".join(
        re.findall(r"^#   (openai_creds_\w+) ", Path(BY_PATH.format(playbook)).read_text(), re.MULTILINE)
    )
    return set(comment.split())


@pytest.mark.parametrize("blank", ["", None])
@pytest.mark.parametrize("playbook", sorted(TAKEN))
def test_a_blank_field_of_a_form_is_not_given(lab: Lab, playbook: str, blank: str | None) -> None:
    lab.configure()
    leases.issue(lab.mount(), "my-role")
    lab.env.update(OPENAI_ADMIN_KEY=lab.double.admin_key, OPENAI_BASE_URL=lab.double.url)
    if playbook == "configure":
        config.write_config(lab.mount(), **KEPT, rotation_schedule="0 3 * * 0")
    before = dict(lab.mount().definitions("config"))
    taken = variables_of(playbook)
    assert taken >= set(TAKEN[playbook]) and (len(taken) > 2)
    done = run(lab, playbook, **{**dict.fromkeys(taken, blank), **TAKEN[playbook]})
    assert done.rc == 0, done.out
    assert "DEPRECATION" not in done.out and "WARNING" not in done.out.replace("no lease", "")
    if (playbook, blank) == ("configure", ""):
        # An empty schedule takes the stored one away, and nothing else is empty with a meaning.
        for name in ("rotation_schedule", "scheduled_at"):
            before[name] = None
    if playbook != "revoke":
        assert lab.mount().definitions("config") == before


@pytest.mark.parametrize("blank", ["", None])
def test_a_blank_field_of_an_entry_is_not_given(lab: Lab, blank: str | None) -> None:
    lab.configure(ttl="30m", renewable=False, scopes=["api.model.read"])
    lab.env.update(OPENAI_ADMIN_KEY=lab.double.admin_key, OPENAI_BASE_URL=lab.double.url)
    specs = yaml.safe_load((CHECKOUT / "roles/configure/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    blank_project, blank_role = (
        dict.fromkeys(options[variable]["options"], blank) for variable in ("configure_projects", "configure_roles")
    )
    before = lab.mount().definitions("roles")["my-role"]
    done = run(
        lab,
        "configure",
        configure_projects=[{**blank_project, "name": "lab"}],
        configure_roles=[
            {**blank_role, "name": "my-role"},
            {**blank_role, "name": "new-role", "project": "lab", "native_expiry": False},
        ],
    )
    assert done.rc == 0 and "WARNING" not in done.out, done.out
    roles = lab.mount().definitions("roles")
    assert roles["my-role"] == before
    assert roles["new-role"]["ttl"] == 3600 and roles["new-role"]["native_expiry"] is False
    for wrong in ({"configure_roles": ["my-role"]}, {"configure_projects": [{"name": ""}]}):
        failed = run(lab, "configure", **wrong)
        assert failed.rc == 2 and next(iter(wrong)) in failed.out and "dict2items" not in failed.out, failed.out


@pytest.mark.parametrize("playbook", sorted(BOOLEANS))
def test_free_text_is_neither_true_nor_false(lab: Lab, playbook: str) -> None:
    lab.configure()
    leases.issue(lab.mount(), "my-role")
    for variable in BOOLEANS[playbook]:
        failed = run(lab, playbook, **TAKEN[playbook], **{variable: "if need be"})
        assert failed.rc == 2, failed.out
        assert f"{variable}: 'if need be' is neither true nor false" in " ".join(failed.out.split())
        assert "DEPRECATION" not in failed.out
    assert len(lab.accounts()) == 1 and len(lab.admin_keys()) == 1


def test_check_mode_works_on_a_node_where_nothing_is_configured_yet(lab: Lab) -> None:
    lab.env.update(OPENAI_ADMIN_KEY=lab.double.admin_key, OPENAI_BASE_URL=lab.double.url)
    expected = {
        "cleanup": "a real run would give: 0 revoked",
        "rotate": "would not be rotated",
        "revoke": "would_revoke: []",
        "demo": "a real run would call",
        "configure": "changed=",
        "metrics": "changed=1",
    }
    taken = {**TAKEN, "metrics": {**TAKEN["metrics"], "openai_creds_metrics_costs": True}}
    for playbook, variables in taken.items():
        done = run(lab, playbook, "--check", **(wanted(lab) if playbook == "configure" else variables))
        assert done.rc == 0, done.out
        assert expected[playbook] in " ".join(done.out.split()), done.out
        if playbook in ("cleanup", "rotate", "revoke", "metrics"):
            assert "OpenAI client not configured" in done.out
    assert not lab.store_path.exists()
    assert not [request for request in lab.double.requests() if request["method"] != "GET"]


@pytest.mark.parametrize("variables", [{}, {"openai_creds_prefix": ""}])
def test_revoke_insists_on_a_prefix(lab: Lab, variables: dict[str, str]) -> None:
    lab.configure()
    issue(lab)
    failed = run(lab, "revoke", **variables)
    assert failed.rc == 2
    assert "Say what to revoke, as in -e openai_creds_prefix=openai/creds/my-role/" in failed.out
    assert len(lab.accounts()) == 1


def test_revoke_refuses_a_prefix_of_another_mount(lab: Lab) -> None:
    lab.configure()
    failed = run(lab, "revoke", openai_creds_prefix="opnai/creds/my-role/")
    assert failed.rc == 2
    assert "must begin with the mount" in failed.out


def test_revoke_does_what_it_can_and_says_what_would_not_go(lab: Lab) -> None:
    lab.configure()
    issue(lab, count=3)
    stuck = lab.double.state()["service_accounts"][1]
    lab.double.fault(kind="refuse", method="DELETE", path=f"{stuck['id']}$", status=403, message="not this one")
    failed = run(lab, "revoke", openai_creds_prefix="openai/creds/my-role/")
    assert failed.rc == 2
    assert lab.accounts() == {stuck["name"]}
    report = yaml.safe_load(re.search(r"^ *msg:\n( +)(not_revoked:.*?)\n\n", failed.out, re.DOTALL | re.MULTILINE)[0])[
        "msg"
    ]
    assert [entry["status"] for entry in report["not_revoked"]] == ["failed"]
    assert "not this one" in report["not_revoked"][0]["error"]
    assert len(report["revoked"]) == 2
    assert report["not_revoked"][0]["lease_id"] not in report["revoked"]
    forced = run(lab, "revoke", openai_creds_prefix="openai/creds/my-role/", openai_creds_force=True)
    assert changed(forced) == 1
    assert not lab.leases()


# cleanup


def test_cleanup_sums_up(lab: Lab) -> None:
    lab.configure(ttl="1s")
    lab.role("long")
    issue(lab, "long")
    issue(lab, count=3)
    lab.command("sleep", "1.5")
    foretold = run(lab, "cleanup", "--check")
    assert changed(foretold) == 1
    assert "3 revoked, 0 checked in, 0 recovered, 0 orphans, 0 failed; " in " ".join(foretold.out.split())
    limited = run(lab, "cleanup", openai_creds_limit=1, openai_creds_max_concurrency=1)
    assert changed(limited) == 1
    assert len(lab.accounts()) == 3
    done = run(lab, "cleanup", openai_creds_orphans="delete", openai_creds_grace="1s")
    assert changed(done) == 1
    summary = " ".join(done.out.split())
    assert "2 revoked, 0 checked in, 0 recovered, 0 orphans, 0 failed; 1 active, the next ends 20" in summary
    assert [name.startswith("vault-long-") for name in lab.accounts()] == [True]
    assert changed(run(lab, "cleanup")) == 0


def test_cleanup_that_cannot_read_a_lease_says_so(lab: Lab) -> None:
    lab.configure()
    with lab.at(-7200) as past:
        leases.issue(past, "my-role", 60)
    (file,) = (lab.store_path / "openai" / "leases").glob("*/*")
    file.write_text("not a vaulted file")
    done = lab.command("ansible-playbook", "ephemeral.openai.cleanup")
    assert done.rc and "part(s) of the store could not be read or written; the first: store_path: " in " ".join(
        done.out.split()
    ), done.out
    assert "Traceback" not in done.out


def test_cleanup_sums_up_also_what_would_not_go_and_fails(lab: Lab) -> None:
    lab.configure(ttl="1s")
    issue(lab, count=2)
    lab.command("sleep", "1.5")
    stuck = lab.double.state()["service_accounts"][0]
    lab.double.fault(kind="refuse", method="DELETE", path=f"{stuck['id']}$", status=403, message="not this one")
    failed = run(lab, "cleanup")
    assert failed.rc == 2
    assert "not this one" in failed.out
    assert "1 revoked, 0 checked in, 0 recovered, 0 orphans, 1 failed; 0 active, none to end" in " ".join(
        failed.out.split()
    )


# demo and live


def test_demo_runs_from_end_to_end_beside_a_mount_in_use(lab: Lab) -> None:
    lab.configure()
    issue(lab)
    before = lab.accounts()
    lab.env["OPENAI_ADMIN_KEY"] = lab.double.admin_key
    done = run(
        lab,
        "demo",
        openai_creds_demo_api_endpoint=lab.double.url,
        openai_creds_demo_organization_id=lab.double.organization,
        openai_creds_demo_project_id=PROJECT,
        openai_creds_mount="openai",
    )
    assert done.rc == 0, done.out
    assert "/models gives 200, with" in done.out
    assert "/models gives 401" in done.out
    assert "0 active leases, 0 orphans" in done.out
    assert "LEAKMARKER" not in done.out
    assert lab.accounts() == before == set(lab.leases())
    assert lab.mount().definitions("config")
    assert not lab.mount("openai-demo").definitions("config")


def test_demo_puts_away_what_it_made_when_it_fails(lab: Lab) -> None:
    lab.env["OPENAI_ADMIN_KEY"] = lab.double.admin_key
    lab.double.fault(kind="refuse", method="DELETE", path="/service_accounts/", status=403, times=1)
    failed = run(lab, "demo", openai_creds_demo_api_endpoint=lab.double.url, openai_creds_demo_project_id=PROJECT)
    assert failed.rc == 2
    assert "7. Revoke the lease" in failed.out
    assert "8. Make" not in failed.out
    assert "LEAKMARKER" not in failed.out
    assert not lab.accounts()


def test_demo_insists_on_a_project(lab: Lab) -> None:
    failed = run(lab, "demo")
    assert failed.rc == 2
    assert "Name a project to make a service account in" in failed.out


def script(lab: Lab, name: str, **env: str) -> Run:
    return lab.command(sys.executable, str(CHECKOUT / "tests" / name), env=env)


def test_make_demo(lab: Lab) -> None:
    done = script(lab, "demo.py")
    assert done.rc == 0, done.out
    assert "/models gives 401" in done.out
    assert "The demo went well" in done.out
    assert "make demo REAL=1" in done.out
    assert not lab.store_path.exists()


def openai(lab: Lab) -> dict[str, str]:
    return {
        "OPENAI_ADMIN_KEY": lab.double.admin_key,
        "OPENAI_ORG_ID": lab.double.organization,
        "OPENAI_TEST_PROJECT_ID": PROJECT,
        "OPENAI_BASE_URL": lab.double.url,
    }


@pytest.mark.once
def test_make_demo_is_for_the_real_openai_only_when_told(lab: Lab) -> None:
    refused = script(lab, "demo.py", REAL="1", OPENAI_ADMIN_KEY="sk-admin-1234567890")
    assert refused.rc == 2
    assert "REAL=1 needs OPENAI_ORG_ID, OPENAI_TEST_PROJECT_ID" in refused.out
    since = lab.double.mark()
    assert script(lab, "demo.py", **openai(lab)).rc == 0
    assert not lab.double.requests(since)
    done = script(lab, "demo.py", REAL="1", **openai(lab))
    assert done.rc == 0, done.out
    assert "This ran against the real OpenAI" in done.out
    assert lab.double.requests(since)
    assert not lab.accounts()


@pytest.mark.once
def test_make_demo_is_honest_about_a_failure_and_leaves_nothing(lab: Lab) -> None:
    lab.double.fault(kind="refuse", method="DELETE", path="/service_accounts/", status=403, times=2)
    failed = script(lab, "demo.py", REAL="1", **openai(lab))
    assert failed.rc == 2
    assert "The demo FAILED" in failed.out
    assert not lab.accounts()


def test_make_live(lab: Lab) -> None:
    lab.double.add_service_account(PROJECT, "vault-somebody-elses")
    done = script(lab, "live.py", **openai(lab))
    assert done.rc == 0, done.out
    assert "live: all checks passed; 1 other service accounts are as they were" in done.out
    assert "LEAKMARKER" not in done.out
    assert lab.accounts() == {"vault-somebody-elses"}


def test_make_live_says_when_it_did_nothing(lab: Lab) -> None:
    environment = openai(lab)
    del environment["OPENAI_ORG_ID"]
    done = script(lab, "live.py", **environment)
    assert done.rc == 0
    assert "Nothing was done" in done.out
    assert done.out.endswith("missing: OPENAI_ORG_ID.\n")
    assert not lab.double.requests()


@pytest.mark.once
def test_make_live_is_honest_about_a_failure_and_what_it_left(lab: Lab) -> None:
    lab.double.fault(kind="refuse", method="POST", path="/api_keys/", status=403)
    lab.double.fault(kind="refuse", method="DELETE", path="/service_accounts/", status=403)
    failed = script(lab, "live.py", **openai(lab))
    assert failed.rc == 1
    assert "FAILED: left at OpenAI: live-" in failed.out
    assert "live: FAILED" in failed.out
