# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount stays with its organization and its endpoint, and so do its leases."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from double.client import Double
from lab import PROJECT, Lab
from library_sets import write as write_library
from on_record import unfinished
from unit.test_leases import opens_models, record_of, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import (
    delete_config,
    write_config,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.projects import delete_project
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import delete_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.making import Made, Uncertain
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.things import ADMIN_KEY, Thing
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.watches import (
    WATCH_SECONDS,
    watch_for,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import delete_library_set
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import adopt, rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.making import AdminKeyMaking
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.state import rotation_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

Crash = t.Callable[..., t.ContextManager[None]]


def configure(mount: Mount, key: str | None, **options: t.Any) -> None:
    given = {
        "admin_api_key_id": None,
        "organization_id": None,
        "api_endpoint": None,
        "replace_key": True,
        "validate": True,
        "dry_run": False,
        **options,
    }
    write_config(mount, admin_api_key=key, **given)


def clean(mount: Mount) -> dict[str, t.Any]:
    return cleanup(mount, orphans="delete", max_concurrency=4, limit=None, grace=0, dry_run=False)


@pytest.fixture
def unnamed(lab: Lab, mount: Mount) -> Mount:
    """A configured mount that does not name its organization."""

    def forget(data: dict[str, t.Any]) -> bool:
        data["config"]["organization_id"] = None
        return True

    mount.define(forget)
    return mount


@pytest.fixture
def other(lab: Lab) -> dict[str, t.Any]:
    """The admin key of another organization."""
    state = lab.double.add_organization("org-other", ["proj_other"])
    return dict(state["admin_keys"][0])


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("has", ["lease", "role", "project", "watch", "library set", "account to delete"])
def test_the_key_of_another_organization_is_refused(
    lab: Lab, unnamed: Mount, other: dict[str, t.Any], validate: bool, dry_run: bool, has: str
) -> None:
    if has == "lease":
        issue(unnamed, "my-role")
    if has == "watch":
        watch_for(unnamed, "the admin key", Thing(ADMIN_KEY, "may-have-been-made", lab.double.url, None), 0)
    if has in ("library set", "account to delete"):
        write_library(unnamed, "one", project=None, project_id=PROJECT)
    if has == "account to delete":
        lab.double.fault(kind="refuse", status=403, method="DELETE")
        assert delete_library_set(unnamed, "pool", dry_run=False).warnings
    if has != "role":
        delete_role(unnamed, "my-role", dry_run=False)
    if has != "project":
        delete_project(unnamed, "lab", dry_run=False)
    before, accounts = unnamed.definitions("config"), lab.accounts()
    text = refused(configure, unnamed, other["value"], validate=validate, dry_run=dry_run)
    assert text.startswith("admin_api_key:") and "another organization" in text
    text = refused(adopt, unnamed, other["value"], other["id"], overlap=0, dry_run=dry_run)
    assert text.startswith("new_admin_api_key:") and "another organization" in text
    assert unnamed.definitions("config") == before and lab.accounts() == accounts


@pytest.fixture
def empty(unnamed: Mount) -> Mount:
    """One that has nothing but a key."""
    delete_role(unnamed, "my-role", dry_run=False)
    delete_project(unnamed, "lab", dry_run=False)
    return unnamed


@pytest.mark.parametrize("validate", [True, False])
def test_also_by_a_mount_that_has_nothing(empty: Mount, other: dict[str, t.Any], validate: bool) -> None:
    before = empty.definitions("config")
    assert "another organization" in refused(configure, empty, other["value"], validate=validate)
    assert "another organization" in refused(adopt, empty, other["value"], other["id"], overlap=0, dry_run=False)
    assert empty.definitions("config") == before


@pytest.mark.parametrize("how", ["named", "by force", "the old key is dead"])
def test_a_mount_that_has_nothing_may_go_to_another_organization(
    lab: Lab, empty: Mount, other: dict[str, t.Any], how: str
) -> None:
    if how == "the old key is dead":
        lab.double.add_admin_key("by hand")
        empty.openai().delete_admin_key(lab.double.admin_key_id)
    options = {"named": {"organization_id": "org-other"}, "by force": {"force": True}}
    configure(empty, other["value"], **options.get(how, {}))
    assert empty.definitions("config")["admin_api_key_id"] == other["id"]


@pytest.mark.parametrize("old_key", ["lives", "is gone", "is not known by its id"])
@pytest.mark.parametrize("adopted", [True, False])
def test_another_key_of_the_same_organization_is_taken(
    lab: Lab, unnamed: Mount, other: dict[str, t.Any], old_key: str, adopted: bool
) -> None:
    issue(unnamed, "my-role")
    new = lab.double.add_admin_key("by hand")
    if old_key == "is gone":
        OpenAI(lab.double.url, new["value"], None, log=print).delete_admin_key(lab.double.admin_key_id)
    elif old_key == "is not known by its id":

        def forget(data: dict[str, t.Any]) -> bool:
            data["config"]["admin_api_key_id"] = None
            return True

        unnamed.define(forget)
    if adopted:
        adopt(unnamed, new["value"], new["id"], overlap=0, dry_run=False)
    else:
        configure(unnamed, new["value"])
    assert unnamed.definitions("config")["admin_api_key_id"] == new["id"]


def make_leases_unreadable(lab: Lab) -> str:
    """Let nothing be left of the files with leases but their lengths; returns what names them."""
    files = [path for path in (lab.store_path / "openai" / "leases").rglob("*") if path.is_file()]
    for file in files:
        file.write_bytes(bytes(file.stat().st_size))
    (file,) = files
    return str(file)


@pytest.mark.parametrize("proof", ["the old key", "a project", "none"])
@pytest.mark.parametrize("adopted", [True, False])
def test_what_cannot_be_read_does_not_keep_a_dead_key(
    lab: Lab, unnamed: Mount, other: dict[str, t.Any], proof: str, adopted: bool
) -> None:
    issue(unnamed, "my-role")
    if proof != "a project":
        delete_role(unnamed, "my-role", dry_run=False)
        delete_project(unnamed, "lab", dry_run=False)
    new = lab.double.add_admin_key("by hand")
    if proof != "the old key":
        OpenAI(lab.double.url, new["value"], None, log=print).delete_admin_key(lab.double.admin_key_id)
    unreadable = make_leases_unreadable(lab)

    def bring(key: dict[str, t.Any]) -> None:
        if adopted:
            adopt(unnamed, key["value"], key["id"], overlap=0, dry_run=False)
        else:
            configure(unnamed, key["value"])

    text = refused(bring, other)
    assert text.startswith("new_admin_api_key: it" if adopted else "admin_api_key: it")
    assert "could not be proved" in text and unreadable in text and "force: true" in text
    if proof != "none":
        bring(new)
    else:
        assert refused(bring, new) == text
        configure(unnamed, new["value"], force=True)
    assert unnamed.definitions("config")["admin_api_key_id"] == new["id"]


def test_an_unreadable_lease_of_a_removed_config_is_no_proof_and_no_obstacle(
    lab: Lab, unnamed: Mount, other: dict[str, t.Any]
) -> None:
    issue(unnamed, "my-role")
    unreadable = make_leases_unreadable(lab)
    issue(unnamed, "my-role")
    delete_config(unnamed, force=True, dry_run=False)
    assert unreadable in refused(configure, unnamed, other["value"], api_endpoint=lab.double.url)
    configure(unnamed, lab.double.admin_key, api_endpoint=lab.double.url)
    assert lab.admin_key_works()


@pytest.mark.parametrize("by", ["adoption", "config"])
def test_two_who_bring_the_same_key_at_once_both_have_it(lab: Lab, unnamed: Mount, by: str) -> None:
    """As hosts of one task do: what the slower one asks with the key that has just gone shows nothing."""
    # Nothing else shows which organization this is.
    delete_role(unnamed, "my-role", dry_run=False)
    delete_project(unnamed, "lab", dry_run=False)
    rotate(unnamed, always=True, overlap=3600, expires_in=None, dry_run=False)
    new = lab.double.add_admin_key("by hand")
    # The slower one is about to ask for the list of keys when the faster one has finished.
    lab.double.fault(kind="slow", delay=1.0, method="GET", path="/admin_api_keys", times=1)
    since = lab.double.mark()

    def bring(mount: Mount) -> None:
        if by == "config":
            configure(mount, new["value"])
        else:
            adopt(mount, new["value"], new["id"], overlap=0, dry_run=False)

    with ThreadPoolExecutor(1) as pool:
        slower = pool.submit(bring, lab.mount(clock=unnamed.clock))
        while not lab.double.faults()[0]["applied"]:
            pass
        adopt(unnamed, new["value"], new["id"], overlap=0, dry_run=False)
        slower.result()
    assert unnamed.definitions("config")["admin_api_key_id"] == new["id"]
    assert lab.admin_key_works()
    deleted = [call for call in lab.double.requests(since) if call["method"] == "DELETE"]
    assert len(deleted) == 1


def test_by_force_it_is_taken_and_the_leases_stay_on_record(lab: Lab, unnamed: Mount, other: dict[str, t.Any]) -> None:
    creds = issue(unnamed, "my-role")
    configure(unnamed, other["value"], force=True)
    assert unnamed.definitions("config")["admin_api_key"] == other["value"]
    assert opens_models(lab, creds["api_key"])


def test_what_a_removed_config_has_left_is_only_taken_up_by_the_same_organization(
    lab: Lab, unnamed: Mount, other: dict[str, t.Any]
) -> None:
    creds = issue(unnamed, "my-role")
    delete_config(unnamed, force=True, dry_run=False)
    assert "another organization" in refused(configure, unnamed, other["value"], api_endpoint=lab.double.url)
    text = refused(configure, unnamed, other["value"], api_endpoint="http://127.0.0.1:1/v1", validate=False)
    assert text.startswith("api_endpoint:")
    configure(unnamed, lab.double.admin_key, api_endpoint=lab.double.url)
    assert not any(one.error for one in revoke(unnamed, [record_of(unnamed, creds)]))
    assert lab.accounts() == set()


def test_accounts_of_a_set_outlast_a_removed_config(lab: Lab, unnamed: Mount, other: dict[str, t.Any]) -> None:
    """Another organization does not get the mount as long as there are accounts of a set."""
    write_library(unnamed, "one")
    delete_config(unnamed, force=True, dry_run=False)
    assert "another organization" in refused(configure, unnamed, other["value"], api_endpoint=lab.double.url)
    configure(unnamed, lab.double.admin_key, api_endpoint=lab.double.url)
    delete_library_set(unnamed, "pool", dry_run=False)
    assert lab.accounts() == set()


def test_a_stored_key_that_is_dead_is_noticed(lab: Lab, mount: Mount) -> None:
    """As after a store was set back to before a rotation."""
    new = lab.double.add_admin_key("by hand")
    configure(mount, None, replace_key=False)
    OpenAI(lab.double.url, new["value"], None, log=print).delete_admin_key(lab.double.admin_key_id)
    text = refused(configure, mount, lab.double.admin_key, replace_key=False)
    assert "the stored admin key does not work any more" in text and "update_admin_key: always" in text
    configure(mount, None, replace_key=False, validate=False)
    configure(mount, new["value"])
    assert lab.admin_key_works()


# Endpoints.


@pytest.fixture(scope="module")
def elsewhere() -> t.Iterator[Double]:
    """Another endpoint, which has the same project."""
    with Double(organization="org-lab", projects=[PROJECT]) as double:
        yield double


def move_to(mount: Mount, there: Double) -> None:
    configure(mount, there.admin_key, api_endpoint=there.url, force=True)


def test_leases_end_only_where_they_were_issued(lab: Lab, mount: Mount, clock: Clock, elsewhere: Double) -> None:
    due, revoked, renewed = issue(mount, "my-role", 60), issue(mount, "my-role"), issue(mount, "my-role")
    move_to(mount, elsewhere)
    (ended,) = revoke(mount, [record_of(mount, revoked)])
    assert str(ended.error).startswith("api_endpoint:") and lab.double.url in str(ended.error)
    assert refused(renew, mount, record_of(mount, renewed), 60, dry_run=False).startswith("api_endpoint:")
    clock.move(60)
    elsewhere.clock(0, frozen_at=clock.time)
    failed = {one["lease_id"] for one in clean(mount)["failed"]}
    assert failed == {due["lease_id"], revoked["lease_id"]}
    assert not [call for call in elsewhere.requests() if call["method"] != "GET"]
    assert len(lab.accounts()) == 3 == len(lab.leases())
    configure(mount, lab.double.admin_key, api_endpoint=lab.double.url, force=True)
    clock.move(60)
    clean(mount)
    assert lab.accounts() == {renewed["service_account"]}
    elsewhere.reset()


@pytest.mark.parametrize("shared", [True, False])
def test_an_interrupted_issue_is_looked_for_where_it_was_made(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash, elsewhere: Double, shared: bool
) -> None:
    with crash("create_service_account", after=True):
        if shared:
            shared_credential(mount, "my-role", None, 300)
        else:
            issue(mount, "my-role")
    move_to(mount, elsewhere)
    if shared:
        assert refused(shared_credential, mount, "my-role", None, 300).startswith("api_endpoint:")
    result = clean(mount)
    assert result["recovered"] == [] and "api_endpoint:" in result["failed"][0]["error"]
    assert len(lab.accounts()) == 1 and list(lab.leases().values()) == ["pending"]
    configure(mount, lab.double.admin_key, api_endpoint=lab.double.url, force=True)
    assert len(clean(mount)["recovered"]) == 1
    assert lab.accounts() == set()
    elsewhere.reset()


def test_an_issue_under_way_stays_where_it_began(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, elsewhere: Double
) -> None:
    true = OpenAI.create_service_account

    def create(self: OpenAI, *args: t.Any) -> t.Any:
        monkeypatch.undo()
        move_to(lab.mount(clock=mount.clock), elsewhere)
        return true(self, *args)

    monkeypatch.setattr(OpenAI, "create_service_account", create)
    lab.double.fault(kind="drop_after", method="POST", path="/service_accounts$", times=1)
    creds = issue(mount, "my-role")
    assert lab.accounts() == set(), "it was looked for, and removed, where it was made"
    assert {one["name"] for one in elsewhere.state()["service_accounts"]} == {creds["service_account"]}
    elsewhere.reset()


def test_an_issue_that_meets_a_change_of_the_endpoint_makes_nothing(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, elsewhere: Double
) -> None:
    true = mount.store.write

    def write(*writes: t.Any) -> None:
        true(*writes)
        monkeypatch.undo()
        move_to(lab.mount(clock=mount.clock), elsewhere)

    monkeypatch.setattr(mount.store, "write", write)
    assert refused(issue, mount, "my-role").startswith("api_endpoint:")
    assert lab.accounts() == set() == {one["name"] for one in elsewhere.state()["service_accounts"]}
    assert unfinished(mount.store) == []
    elsewhere.reset()


@pytest.fixture(params=["endpoint", "organization"])
def away(
    request: pytest.FixtureRequest, elsewhere: Double, other: dict[str, t.Any]
) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """Where a mount goes by force: the option that says so, and its config there."""
    if request.param == "organization":
        yield "organization_id", {"admin_api_key": other["value"], "organization_id": "org-other"}
        return
    yield "api_endpoint", {"admin_api_key": elsewhere.admin_key, "api_endpoint": elsewhere.url}
    elsewhere.reset()


def go(mount: Mount, admin_api_key: str, *, dry_run: bool = False, **place: str) -> str:
    """Configure a mount by force; returns the warnings."""
    given = {"admin_api_key_id": None, "organization_id": None, "api_endpoint": None, **place}
    forced = {"replace_key": True, "validate": True, "force": True, "dry_run": dry_run}
    return " ".join(write_config(mount, admin_api_key=admin_api_key, **given, **forced).warnings)


def go_back(lab: Lab, mount: Mount) -> None:
    back = lab.double.add_admin_key("by hand")["value"]
    go(mount, back, api_endpoint=lab.double.url, organization_id=lab.double.organization)


def test_admin_keys_end_only_where_they_were_made(
    lab: Lab, mount: Mount, clock: Clock, away: tuple[str, dict[str, t.Any]]
) -> None:
    option, there = away
    rotate(mount, always=True, overlap=3600, expires_in=None, dry_run=False)
    # The one that has an overlap, and the one that a person's key replaces.
    old = {lab.double.admin_key_id, mount.check_configured().admin_api_key_id}
    for dry_run in (True, False):
        warnings = go(mount, **there, dry_run=dry_run)
        assert "delete them there" in warnings and all(str(key_id) in warnings for key_id in old)
    clock.move(3600)
    for dry_run in (True, False):
        result = cleanup(mount, orphans="ignore", max_concurrency=1, limit=None, grace=0, dry_run=dry_run)
        assert result["admin_api_keys"] == []
        failed = {one["admin_api_key_id"]: one["error"] for one in result["failed"]}
        assert set(failed) == old and all(error.startswith(f"{option}: admin key") for error in failed.values())
    assert old <= lab.admin_keys()
    go_back(lab, mount)
    clock.move(60)
    assert set(clean(mount)["admin_api_keys"]) == old
    assert not old & lab.admin_keys()


@pytest.mark.parametrize("step", ["create_admin_key", "list_admin_keys"])
def test_the_key_of_an_interrupted_rotation_ends_only_where_it_was_made(
    lab: Lab,
    mount: Mount,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    crash: Crash,
    away: tuple[str, dict[str, t.Any]],
    step: str,
) -> None:
    option, there = away
    before = lab.admin_keys()
    if step == "create_admin_key":
        with crash(step, after=True):
            rotate(mount, always=True, overlap=0, expires_in=None, dry_run=False)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(AdminKeyMaking, "accept", _keep_only)
            refused(rotate, mount, always=True, overlap=0, expires_in=None, dry_run=False)
    (made,) = lab.admin_keys() - before
    name = rotation_of(mount).intent
    assert name and (made if step == "list_admin_keys" else name.name) in go(mount, **there)
    result = clean(mount)
    assert result["admin_api_keys"] == []
    if step == "list_admin_keys":
        assert [one["error"].startswith(f"{option}: admin key") for one in result["failed"]] == [True]
    assert made in lab.admin_keys()
    # Elsewhere there can be another rotation meanwhile.
    assert rotate(mount, always=True, overlap=0, expires_in=None, dry_run=False).rotated
    go_back(lab, mount)
    clock.move(WATCH_SECONDS)
    assert made in clean(mount)["admin_api_keys"]
    assert made not in lab.admin_keys()


def _keep_only(making: AdminKeyMaking, _client: OpenAI, made: Made) -> None:
    making._keep(made)
    raise Uncertain("not proved")
