# SPDX-License-Identifier: GPL-3.0-or-later
"""The config, projects and roles of a mount, on the real store."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import PROJECT, ROLE, Lab
from unit.wording import HOSTILE_NAMES, NOT_TEXTS, sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import (
    delete_config,
    public_config,
    write_config,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.change import (
    Outcome,
    read_definitions,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.projects import (
    delete_project,
    write_project,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import (
    delete_role,
    find_role,
    write_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.things import ADMIN_KEY, Thing
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.watches import watch_for
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import active_records, records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.answers import NewKey
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import AdminKey, OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation import making
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.state import (
    KeyEnding,
    KeyIntent,
    Rotation,
)

CONFIG: dict[str, t.Any] = {
    "admin_api_key": None,
    "admin_api_key_id": None,
    "organization_id": None,
    "api_endpoint": None,
    "replace_key": False,
    "validate": False,
    "dry_run": False,
}
OnDisk = t.Callable[[], dict[str, bytes]]


def configure(mount: Mount, **options: t.Any) -> Outcome:
    return write_config(mount, **{**CONFIG, **options})


def role(mount: Mount, name: t.Any = "r", dry_run: bool = False, **options: t.Any) -> Outcome:
    return write_role(mount, name, **{**ROLE, **options}, defaults={}, dry_run=dry_run)


def refused(function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as caught:
        function(*args, **kwargs)
    return sentence(caught.value)


# The config.


def test_a_mount_without_a_config(lab: Lab) -> None:
    mount = lab.mount()
    assert "OpenAI client not configured" in refused(mount.openai)
    assert public_config(mount, mount.config()) is None
    assert "admin_api_key" in refused(configure, mount)
    assert not lab.store_path.exists()


def test_a_config_is_proven_before_it_is_stored(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_PROOF_WAITS", (0, 0))
    mount, double = lab.mount(), lab.double
    text = refused(configure, mount, admin_api_key="sk-admin-thisisnotthekey", api_endpoint=double.url, validate=True)
    assert text.startswith("error validating OpenAI configuration")
    assert "thisisnotthekey" not in text
    assert not lab.store_path.exists()
    outcome = configure(mount, admin_api_key=double.admin_key, api_endpoint=double.url, validate=True)
    assert outcome.changed
    assert outcome.after and outcome.after["admin_api_key_id"] == double.admin_key_id
    assert mount.openai().list_service_accounts(PROJECT) == []


def test_another_endpoint_is_proven_before_it_is_stored(lab: Lab) -> None:
    """The stored key stays; but it must work where it is sent from now on."""
    mount = lab.configure()
    before = mount.definitions("config")
    text = refused(configure, mount, api_endpoint=lab.double.url + "/nonsense", validate=True)
    assert text.startswith("error validating OpenAI configuration")
    assert mount.definitions("config") == before


def test_another_organization_is_proven_before_it_is_stored(lab: Lab) -> None:
    mount = lab.configure()
    before = mount.definitions("config")
    text = refused(configure, mount, organization_id="org-another", validate=True)
    assert text.startswith("error validating OpenAI configuration")
    assert mount.definitions("config") == before


def test_the_stored_key_stays_unless_it_is_to_be_replaced(lab: Lab) -> None:
    mount, key = lab.configure(), lab.double.admin_key
    before = mount.definitions("config")
    again = configure(mount, admin_api_key="sk-admin-the-old-one-again", admin_api_key_id="key_old")
    assert not again.changed
    assert mount.definitions("config") == before
    assert mount.definitions("config")["admin_api_key"] == key
    replaced = configure(mount, admin_api_key="sk-admin-another-one", replace_key=True)
    assert replaced.changed
    assert mount.definitions("config")["admin_api_key"] == "sk-admin-another-one"
    assert mount.definitions("config")["admin_api_key_id"] is None, "the id of another key is not this key's"


def test_what_is_not_given_stays(lab: Lab) -> None:
    mount = lab.configure()
    before = dict(mount.definitions("config"))
    assert configure(mount, organization_id="org-other").changed
    assert mount.definitions("config") == {**before, "organization_id": "org-other"}
    assert not configure(mount).changed


def test_the_same_key_with_its_id_at_last(lab: Lab) -> None:
    """openai_config warns that the id was not found and asks for it: to give it then has to be of use."""
    mount = lab.mount()
    configure(mount, admin_api_key=lab.double.admin_key, api_endpoint=lab.double.url)
    assert mount.definitions("config")["admin_api_key_id"] is None
    configure(mount, admin_api_key=lab.double.admin_key, admin_api_key_id=lab.double.admin_key_id)
    assert mount.definitions("config")["admin_api_key_id"] == lab.double.admin_key_id


@pytest.mark.parametrize("redacted", ["********", "...", "sk-a…"])
def test_a_key_is_not_taken_for_another_whose_value_is_hidden(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, redacted: str
) -> None:
    """The id found is the one that a rotation will delete."""
    listed = [AdminKey("key_of_somebody_else", "theirs", redacted)]
    monkeypatch.setattr(OpenAI, "list_admin_keys", lambda self: listed)
    mount = lab.mount()
    outcome = configure(mount, admin_api_key="sk-admin-mine", api_endpoint=lab.double.url, validate=True)
    assert mount.definitions("config")["admin_api_key_id"] is None
    assert outcome.warnings


@pytest.mark.parametrize(
    "key", ["", " ", "short", "sk-admin with spaces", "sk-admin\nX: y", "sk-ädmin-key", "k" * 2000]
)
def test_keys_that_are_none(lab: Lab, key: str) -> None:
    text = refused(configure, lab.mount(), admin_api_key=key)
    assert text.startswith("admin_api_key:")
    assert not key.strip() or key not in text
    assert not lab.store_path.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("api_endpoint", "http://api.openai.com/v1"),
        ("api_endpoint", "ftp://x"),
        ("api_endpoint", ""),
        ("organization_id", "org\nX-Evil: 1"),
        ("organization_id", "../x"),
        ("admin_api_key_id", "key/../x"),
    ],
)
def test_options_of_the_config_that_are_wrong(lab: Lab, option: str, value: str) -> None:
    text = refused(configure, lab.mount(), **{"admin_api_key": "sk-admin-key-0", option: value})
    assert text.startswith(f"{option}:")
    assert not lab.store_path.exists()


def test_a_dry_run_of_the_config(lab: Lab, on_disk: OnDisk) -> None:
    mount = lab.mount()
    assert configure(mount, admin_api_key="sk-admin-key-0", dry_run=True).changed
    assert not lab.store_path.exists()
    lab.configure()
    before = on_disk()
    assert configure(mount, admin_api_key="sk-admin-key-0", replace_key=True, dry_run=True).changed
    assert not configure(mount, admin_api_key="sk-admin-key-0", dry_run=True).changed
    assert delete_config(mount, force=True, dry_run=True).changed
    assert on_disk() == before


def test_a_diff_of_the_config_shows_that_the_key_changed_and_never_the_key(lab: Lab) -> None:
    mount = lab.mount()
    keys = ["sk-admin-first-key", "sk-admin-second-key"]
    first = configure(mount, admin_api_key=keys[0], api_endpoint=lab.double.url)
    second = configure(mount, admin_api_key=keys[1], admin_api_key_id=None, replace_key=True)
    third = delete_config(mount, force=True, dry_run=False)
    shown = repr([first, second, third, public_config(mount, mount.config())])
    assert not any(key in shown for key in keys)
    assert first.before is None and first.after is not None
    assert third.after is None and third.before is not None


def test_a_diff_of_the_config_is_what_the_info_module_shows(lab: Lab) -> None:
    mount = lab.mount()
    first = configure(mount, admin_api_key="sk-admin-first-key")
    assert first.after == public_config(mount, mount.config())
    second = configure(mount, rotation_period="30d")
    assert second.before == first.after
    assert second.after == public_config(mount, mount.config())
    third = configure(mount, admin_api_key="sk-admin-second-key", replace_key=True)
    assert third.before and third.after
    shown = {name: value for name, value in third.after.items() if name != "admin_api_key"}
    assert shown == public_config(mount, mount.config())
    assert delete_config(mount, force=True, dry_run=False).before == shown


def test_what_is_left_at_openai_is_named_when_a_config_is_forgotten(lab: Lab) -> None:
    """A rotation was interrupted, and there are leases: nobody else will ever know of them."""
    mount = lab.configure()
    creds = issue(mount, "my-role")
    to_come = Thing(ADMIN_KEY, "name-of-the-intent", lab.double.url, None)
    ending = KeyEnding(replace(to_come, name=None, id="key_ending"), None, 0, 0)
    intent = KeyIntent(to_come, lab.double.admin_key_id, 0, None, None)
    key = NewKey("key_new", "sk-admin-new-key-value", None)
    watch_for(mount, "the admin key", Thing(ADMIN_KEY, "name-that-is-watched", lab.double.url, None), 0)
    for rotation, named in (
        (Rotation(intent, (ending,)), "name-of-the-intent"),
        (Rotation(replace(intent, key=key), (ending,)), "key_new"),
    ):
        lab.configure()
        mount.define(lambda data, rotation=rotation: rotation.store(data) or True)
        for dry_run in (True, False):
            text = " ".join(delete_config(mount, force=True, dry_run=dry_run).warnings)
            for wanted in (named, "key_ending", "name-that-is-watched", creds["lease_id"]):
                assert wanted in text
            assert "sk-admin-new" not in text


def test_a_diff_in_which_only_the_key_changed_is_not_empty(lab: Lab) -> None:
    mount = lab.mount(clock=lambda: 1_800_000_000)
    configure(mount, admin_api_key="sk-admin-first-key")
    second = configure(mount, admin_api_key="sk-admin-second-key", replace_key=True)
    assert second.changed
    assert second.before != second.after


def test_a_config_in_use_is_kept_unless_forced(lab: Lab, on_disk: OnDisk) -> None:
    mount = lab.configure()
    issue(mount, "my-role")
    before = on_disk()
    assert "1 lease" in refused(delete_config, mount, force=False, dry_run=False)
    assert "1 lease" in refused(delete_config, mount, force=False, dry_run=True)
    assert on_disk() == before
    assert delete_config(mount, force=True, dry_run=False).changed
    assert not delete_config(mount, force=True, dry_run=False).changed
    assert lab.double.admin_key not in repr(mount.store.read("definitions"))


def test_a_config_goes_when_all_leases_have_gone(lab: Lab) -> None:
    mount = lab.configure()
    creds = issue(mount, "my-role")
    revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert delete_config(mount, force=False, dry_run=False).changed


def test_a_config_goes_when_all_leases_of_this_run_have_gone(lab: Lab) -> None:
    """What a run remembers of a lease that it shared is not a lease."""
    mount = lab.configure()
    creds, _issued = shared_credential(mount, "my-role", None, 300)
    revoke(mount, active_records(mount, [creds["lease_id"]]))
    assert not list(records(mount))
    assert delete_config(mount, force=False, dry_run=False).changed


# Projects.


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, *NOT_TEXTS], ids=lambda name: ascii(name)[:24])
def test_hostile_names_change_nothing(lab: Lab, name: t.Any) -> None:
    mount = lab.mount()
    assert refused(write_project, mount, name, PROJECT, "", dry_run=False).startswith("name:")
    assert refused(delete_project, mount, name, dry_run=False).startswith("name:")
    assert refused(role, mount, name).startswith("name:")
    assert refused(delete_role, mount, name, dry_run=False).startswith("name:")
    assert refused(find_role, mount, name).startswith("name:")
    if name is not None:
        assert refused(read_definitions, mount, "roles", name).startswith("name:")
        assert refused(role, mount, project=name, project_id=None).startswith("project:")
    if name not in (None, "a-", "a_"):  # which are as good an id as any
        assert refused(role, mount, project_id=name).startswith("project_id:")
    assert not lab.store_path.exists()


def test_projects_come_and_go(lab: Lab) -> None:
    mount = lab.mount()
    first = write_project(mount, "a", "proj_1", "one", dry_run=False)
    assert first == (True, None, {"name": "a", "project_id": "proj_1", "description": "one"}, ())
    assert not write_project(mount, "a", "proj_1", "one", dry_run=False).changed
    changed = write_project(mount, "a", "proj_2", "one", dry_run=False)
    assert changed.changed and changed.before == first.after
    write_project(mount, "b", "proj_3", "", dry_run=False)
    assert [entry["name"] for entry in read_definitions(mount, "projects", None)] == ["a", "b"]
    assert [entry["name"] for entry in read_definitions(mount, "projects", "b")] == ["b"]
    assert read_definitions(mount, "projects", "c") == []
    assert delete_project(mount, "a", dry_run=False).before == changed.after
    assert not delete_project(mount, "a", dry_run=False).changed


def test_a_project_in_use_stays(lab: Lab) -> None:
    mount = lab.mount()
    write_project(mount, "a", PROJECT, "", dry_run=False)
    write_project(mount, "free", PROJECT, "", dry_run=False)
    for name in ("r2", "r1"):
        role(mount, name, project="a", project_id=None)
    for dry_run in (True, False):
        text = refused(delete_project, mount, "a", dry_run=dry_run)
        assert text.startswith("project has roles that use it, cannot delete")
        assert "r1, r2" in text
    assert delete_project(mount, "free", dry_run=False).changed
    delete_role(mount, "r1", dry_run=False)
    role(mount, "r2")
    assert delete_project(mount, "a", dry_run=False).changed


def test_a_project_is_not_deleted_while_a_role_begins_to_use_it(lab: Lab) -> None:
    """Whoever comes second is refused, whichever that is; never do both succeed."""
    for number in range(12):
        name = f"p{number}"
        write_project(lab.mount(), name, PROJECT, "", dry_run=False)
        outcomes: dict[str, bool] = {}
        barrier = threading.Barrier(2)

        def attempt(what: str, act: t.Callable[[], Outcome]) -> None:
            barrier.wait()  # noqa: B023 - the threads end in this round
            try:
                outcomes[what] = act().changed  # noqa: B023
            except OpenAICredsError:
                outcomes[what] = False  # noqa: B023

        def delete(name: str = name) -> Outcome:
            return delete_project(lab.mount(), name, dry_run=False)

        def use(name: str = name) -> Outcome:
            return role(lab.mount(), f"r-{name}", project=name, project_id=None)

        threads = [threading.Thread(target=attempt, args=pair) for pair in (("delete", delete), ("use", use))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes.values()) == [False, True], outcomes


def test_many_definitions_at_once_are_all_kept(lab: Lab) -> None:
    errors = []

    def write(number: int) -> None:
        try:
            write_project(lab.mount(), f"p{number}", PROJECT, "", dry_run=False)
        except OpenAICredsError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(read_definitions(lab.mount(), "projects", None)) == 16


# Roles.


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"ttl": "2h", "max_ttl": "1h"}, "ttl:"),
        ({"ttl": "25h"}, "ttl:"),
        ({"ttl": "never"}, "ttl:"),
        ({"max_ttl": "0"}, "max_ttl:"),
        ({"max_ttl": "11y"}, "max_ttl:"),
        ({"project": "lab", "project_id": PROJECT}, "project, project_id:"),
        ({"project": None, "project_id": None}, "project, project_id:"),
        ({"project": "nowhere", "project_id": None}, "project: project not found"),
        ({"scopes": ["api model"]}, "scopes:"),
        ({"scopes": ["api.model.read", ""]}, "scopes:"),
        ({"scopes": ["x\n"]}, "scopes:"),
        ({"service_account_name_template": "same"}, "service_account_name_template:"),
        ({"service_account_name_template": "{role_name}/{random_suffix}"}, "service_account_name_template:"),
    ],
)
def test_roles_that_are_wrong(lab: Lab, options: dict[str, t.Any], begins: str) -> None:
    mount = lab.mount()
    assert refused(role, mount, **options).startswith(begins)
    assert not lab.store_path.exists()


def test_what_a_role_says_is_what_is_used(lab: Lab) -> None:
    mount = lab.mount()
    write_project(mount, "lab", PROJECT, "", dry_run=False)
    role(mount, "r", project="lab", project_id=None, ttl="90", max_ttl="1h30m", renewable=False, scopes=["a.b"])
    found = find_role(mount, "r")
    assert (found.project_id, found.project_name) == (PROJECT, "lab")
    assert (found.ttl, found.max_ttl, found.renewable, found.scopes) == (90, 5400, False, ["a.b"])
    write_project(mount, "lab", "proj_moved", "", dry_run=False)
    assert find_role(mount, "r").project_id == "proj_moved"
    assert "OpenAI client not configured" in refused(find_role, mount, "other"), (
        "the mount may be another than is meant"
    )
    lab.configure()
    assert "role not found" in refused(find_role, mount, "other")


def test_roles_come_and_go(lab: Lab) -> None:
    mount = lab.mount()
    assert role(mount).changed
    assert not role(mount).changed
    assert not role(mount, ttl="60m").changed, "it is as long as 1h"
    changed = role(mount, ttl="30m")
    assert changed.changed and changed.before and changed.after
    assert (changed.before["ttl"], changed.after["ttl"]) == (3600, 1800)
    assert delete_role(mount, "r", dry_run=False).changed
    assert not delete_role(mount, "r", dry_run=False).changed


#: What a new role has where a user says nothing.
NEW_ROLE = {name: value for name, value in ROLE.items() if name not in ("project", "project_id", "scopes")}


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"max_ttl": "20h"},
        {"project": "lab"},
        {"project_id": "proj_other"},
        {"ttl": 60.0},
        {"renewable": True},
        {"scopes": ["c.d"]},
        {"native_expiry": True, "service_account_description": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_an_update_of_a_role_changes_only_what_is_given(lab: Lab, update: dict[str, t.Any], dry_run: bool) -> None:
    """Else rights grow in silence: without scopes, renewable, for longer."""
    mount = lab.mount()
    write_project(mount, "lab", PROJECT, "", dry_run=False)
    write_role(
        mount,
        "r",
        project_id=PROJECT,
        service_account_name_template="mine-{random_suffix}",
        service_account_description="of mine",
        ttl="5m",
        max_ttl="10m",
        renewable=False,
        scopes=["a.b"],
        native_expiry=False,
        defaults=NEW_ROLE,
        dry_run=False,
    )
    before = stored_role(mount)
    nulls = dict.fromkeys(set(ROLE) - set(update))
    outcome = write_role(mount, "r", **update, **nulls, defaults=NEW_ROLE, dry_run=dry_run)
    seconds = {"20h": 72000, 60.0: 60}
    wanted = {
        **before,
        **{name: seconds.get(value, value) if "ttl" in name else value for name, value in update.items()},
    }
    if "project" in update:
        wanted["project_id"] = None
    assert outcome.after == {"name": "r", **wanted}
    assert outcome.before == {"name": "r", **before}
    assert outcome.changed is (wanted != before)
    assert stored_role(mount) == (before if dry_run else wanted)


def stored_role(mount: Mount) -> dict[str, t.Any]:
    """Return the role r as it is stored, without what only the collection notes."""
    return {option: value for option, value in mount.definitions("roles")["r"].items() if option[0] != "_"}


def test_a_new_role_has_the_defaults(lab: Lab) -> None:
    mount = lab.mount()
    write_role(mount, "r", project_id=PROJECT, ttl="5m", defaults=NEW_ROLE, dry_run=False)
    role = mount.definitions("roles")["r"]
    assert (role["ttl"], role["max_ttl"], role["renewable"], role["scopes"]) == (300, 86400, True, None)


def test_an_update_is_judged_together_with_what_stays(lab: Lab) -> None:
    mount = lab.mount()
    role(mount, ttl="2h", service_account_name_template="{project_name}-{random_suffix}")
    before = mount.definitions("roles")["r"]
    rest = dict.fromkeys(ROLE)
    assert refused(role, mount, **{**rest, "max_ttl": "1h"}) == "ttl: 7200 s is longer than max_ttl (1h)"
    assert refused(role, mount, **{**rest, "ttl": "25h"}) == "ttl: 25h is longer than max_ttl (86400 s)"
    too_long = {"project_id": "p" * 125}
    assert refused(role, mount, **{**rest, **too_long}).startswith("service_account_name_template:")
    assert mount.definitions("roles")["r"] == before


def test_scopes_are_lifted_only_by_defining_the_role_anew(lab: Lab) -> None:
    mount = lab.mount()
    role(mount, scopes=["a.b"])
    assert refused(role, mount, scopes=[]).startswith("scopes: an empty list would mean all permissions at OpenAI")
    assert refused(role, mount, name="new", scopes=[]).startswith("scopes:")
    assert find_role_scopes(mount) == ["a.b"]
    delete_role(mount, "r", dry_run=False)
    role(mount)
    assert find_role_scopes(mount) is None


def find_role_scopes(mount: Mount) -> t.Any:
    return mount.definitions("roles")["r"]["scopes"]


def test_an_update_of_a_project_changes_only_what_is_given(lab: Lab) -> None:
    mount = lab.mount()
    assert refused(write_project, mount, "a", None, "one", dry_run=False).startswith("project_id:")
    write_project(mount, "a", "proj_1", "one", dry_run=False)
    assert not write_project(mount, "a", None, None, dry_run=False).changed
    write_project(mount, "a", "proj_2", None, dry_run=False)
    assert mount.definitions("projects")["a"] == {"project_id": "proj_2", "description": "one"}
    write_project(mount, "a", None, "", dry_run=False)
    assert mount.definitions("projects")["a"] == {"project_id": "proj_2", "description": ""}


def test_dry_runs_change_nothing_and_say_what_would(lab: Lab, on_disk: OnDisk) -> None:
    mount = lab.mount()
    assert role(mount, dry_run=True).changed
    assert write_project(mount, "p", PROJECT, "", dry_run=True).changed
    assert not delete_role(mount, "r", dry_run=True).changed
    unknown = role(mount, project="p", project_id=None, dry_run=True)
    assert unknown.changed and "not registered" in unknown.warnings[0]
    assert not lab.store_path.exists()
    role(mount)
    write_project(mount, "p", PROJECT, "", dry_run=False)
    before = on_disk()
    for outcome, changed in [
        (role(mount, dry_run=True), False),
        (role(mount, ttl="2h", dry_run=True), True),
        (delete_role(mount, "r", dry_run=True), True),
        (write_project(mount, "p", "proj_x", "", dry_run=True), True),
        (delete_project(mount, "p", dry_run=True), True),
    ]:
        assert outcome.changed is changed
    assert on_disk() == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    project=st.sampled_from([None, "lab", "nowhere"]),
    project_id=st.sampled_from([None, PROJECT, "bad/id"]),
    ttl=st.sampled_from(["1", "30m", "1h", "2d", "x", "-1", ""]),
    max_ttl=st.sampled_from(["1", "1h", "2d", "400000d"]),
    scopes=st.lists(st.sampled_from(["api.model.read", "a b", "ü"]), max_size=2),
    template=st.sampled_from(["{random_suffix}", "{role_name}-{{.RandomSuffix}}", "x", "-{random_suffix}"]),
)
def test_every_combination_is_taken_or_refused_whole(lab: Lab, **given_: t.Any) -> None:
    mount = lab.mount("combos")
    write_project(mount, "lab", PROJECT, "", dry_run=False)
    delete_role(mount, "r", dry_run=False)
    template = given_.pop("template")
    options = {**ROLE, **given_, "service_account_name_template": template}
    good = (
        (options["project"], options["project_id"]) in [("lab", None), (None, PROJECT)]
        and options["ttl"] in ("1", "30m", "1h", "2d")
        and options["max_ttl"] != "400000d"
        and {"1": 1, "30m": 1800, "1h": 3600, "2d": 172800}[options["ttl"]]
        <= {"1": 1, "1h": 3600, "2d": 172800}[options["max_ttl"]]
        and options["scopes"]
        and not {"a b", "ü"} & set(options["scopes"])
        and template not in ("x", "-{random_suffix}")
    )
    try:
        planned = write_role(mount, "r", **options, defaults={}, dry_run=True)
        done = write_role(mount, "r", **options, defaults={}, dry_run=False)
    except OpenAICredsError as error:
        sentence(error)
        assert not good, str(error)
        assert "r" not in mount.definitions("roles")
    else:
        assert good
        assert planned[:3] == done[:3], "a dry run says what a run does"
        assert done.changed and done.after == {"name": "r", **stored_role(mount)}


@pytest.mark.parametrize("option", ["project", "service_account_name_template", "ttl", "max_ttl", "renewable"])
def test_a_role_that_somebody_has_edited_is_named(lab: Lab, option: str) -> None:
    mount = lab.configure()

    def edit(data: dict[str, t.Any]) -> bool:
        del data["roles"]["my-role"][option]
        return True

    mount.define(edit)
    text = refused(find_role, mount, "my-role")
    assert text == "store: role 'my-role' does not hold what it should; somebody has edited it"
    if option in ("ttl", "max_ttl", "service_account_name_template"):
        assert refused(write_role, mount, "my-role", defaults=ROLE, dry_run=False) == text
    delete_role(mount, "my-role", dry_run=False)
    role(mount, "my-role")
    assert find_role(mount, "my-role").max_ttl == 86400
