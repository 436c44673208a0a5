# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be read in the store is named, and stops nothing else."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from lab import BOTH_STORES, PROJECT, Lab, new_lab
from on_record import kinds, unfinished
from test_modules import results

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import delete_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import (
    active_records,
    find_record,
    matching,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.refusal import refusal_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_state import state_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_group import place_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_single import secret_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move

pytestmark = BOTH_STORES

Data = dict[str, t.Any]


def file_of(lab: Lab, path: str) -> Path:
    folder, _slash, key = path.rpartition("/")
    (file,) = (lab.store_path / "openai" / folder).glob(f"{key.partition('-')[0]}.*")
    return file


def names_beside(lab: Lab, path: str) -> list[str]:
    """Return the names of the secrets in the folder of a document."""
    assert lab.vault
    folder = f"{lab.kv_path}/openai/{path.rpartition('/')[0]}"
    return list(lab.vault.admin().secrets.kv.v2.list_secrets(folder, mount_point="secret")["data"]["keys"])


def damage(lab: Lab, path: str, how: int = 0) -> str:
    """Make a document unreadable, in one of several ways; returns what an error on it must name."""
    if lab.vault is None:
        file = file_of(lab, path)
        size = file.stat().st_size
        file.write_bytes((b"\0" * size, file.read_bytes()[: size // 2], b"not vaulted")[how % 3])
        return str(file)
    kv = lab.vault.admin().secrets.kv.v2
    together = place_of(path)
    path = together if together and path.rpartition("/")[2] not in names_beside(lab, path) else secret_of(path)
    secret = f"{lab.kv_path}/openai/{path}"
    if how % 3 == 0:
        kv.delete_latest_version_of_secret(secret, mount_point="secret")
    elif how % 3 == 1:
        version = kv.read_secret_metadata(secret, mount_point="secret")["data"]["current_version"]
        kv.destroy_secret_versions(secret, [version], mount_point="secret")
    else:
        kv.create_or_update_secret(secret, {"note": "edited"}, mount_point="secret")
    return path


def claim_of(mount: Mount) -> str:
    (claim,) = unfinished(mount.store)
    return claim.path


def clean(mount: Mount) -> Data:
    return cleanup(mount, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)


def issued(lab: Lab, hours: int, ago: int = 0) -> list[str]:
    """Issue leases that end in different hours; returns their ids."""
    lease_ids = []
    for hour in range(hours):
        with lab.at(3600 * hour - ago) as mount:
            lease_ids.append(str(issue(mount, "my-role", 600)["lease_id"]))
    return lease_ids


@pytest.mark.parametrize("how", range(3))
def test_cleanup_ends_what_it_can_read_and_names_the_rest(lab: Lab, how: int) -> None:
    lab.configure(native_expiry=False)
    due = issued(lab, 4, ago=86400)
    bad = due[how]
    account = next(a for a in lab.double.state()["service_accounts"] if a["name"] == _account(lab, bad))
    # An intent that nobody can read, too.
    shared_credential(lab.mount(), "my-role", None, 300)
    damaged = [damage(lab, lease_path(bad), how), damage(lab, claim_of(lab.mount()), how)]
    foretold = lab.mount()
    result = cleanup(foretold, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=True)
    assert sorted(result["revoked"]) == sorted(set(due) - {bad})
    for _again in range(2):
        result = clean(lab.mount())
        assert sorted(one["error"] for one in result["failed"]) == sorted(
            next(one["error"] for one in result["failed"] if place in one["error"]) for place in damaged
        )
        assert all(one["lease_id"] is None for one in result["failed"]) and len(result["failed"]) == 2
    left = {one["name"] for one in lab.double.state()["service_accounts"]}
    assert account["name"] in left and len(left) == 2, "the one that cannot be read and the one that lives"


def _account(lab: Lab, lease_id: str) -> str:
    record = find_record(lab.mount(), lease_id)
    assert record
    return str(record.lease.service_account)


def test_a_lease_ends_although_its_claim_cannot_be_read(lab: Lab) -> None:
    lab.configure()
    creds = shared_credential(lab.mount(), "my-role", None, 300)[0]
    other = issue(lab.mount(), "my-role")
    damage(lab, claim_of(lab.mount()))
    mount = lab.mount()
    ended = revoke(mount, active_records(mount, [creds["lease_id"], other["lease_id"]]))
    assert [one.error for one in ended] == [None, None] and lab.accounts() == set()
    assert list(mount.store.scan("leases/")) == []


def test_a_refusal_that_cannot_be_recorded_keeps_its_lease_and_no_other(lab: Lab) -> None:
    lab.configure()
    stuck, other = (issue(lab.mount(), "my-role") for _unused in range(2))
    lab.double.fault(kind="refuse", method="DELETE", path=f"{stuck['service_account_id']}$", status=403, message="no")
    mount = lab.mount()
    revoke(mount, matching(mount, stuck["lease_id"]))
    damage(lab, refusal_path(stuck["lease_id"]))
    assert find_record(lab.mount(), other["lease_id"])
    unreadable: list[UnreadableError] = []
    found = matching(lab.mount(), None, unreadable.append)
    assert [record.lease.lease_id for record in found] == [other["lease_id"]] and len(unreadable) == 1
    ended = revoke(mount, found)
    assert [one.error for one in ended] == [None]
    assert lab.accounts() == {stuck["service_account"]} and list(lab.mount().store.scan("leases/")) == []


def test_the_modules_do_what_they_can_and_name_the_rest(lab: Lab) -> None:
    lab.configure()
    due = issued(lab, 3)
    place = damage(lab, lease_path(due[1]))
    results_ = results(
        lab,
        [
            {"ephemeral.openai.openai_lease_info": {}},
            {"ephemeral.openai.openai_lease_info": {"lease_id": due[1]}},
            {"ephemeral.openai.openai_lease_info": {"lease_id": due[0]}},
            {"ephemeral.openai.openai_lease": {"lease_id": due[1], "state": "revoked"}},
            {"ephemeral.openai.openai_lease": {"prefix": "openai", "state": "revoked"}, "check_mode": True},
            {"ephemeral.openai.openai_config": {"state": "absent"}},
            {"ephemeral.openai.openai_lease": {"prefix": "openai/creds/my-role/", "state": "revoked"}},
            {"ephemeral.openai.openai_lease": {"prefix": "openai/creds/my-role/", "state": "revoked"}},
            {"ephemeral.openai.openai_cleanup": {}},
        ],
        rc=1,
    )
    listed, one, good, by_id, foretold, absent, revoked, again, cleaned = results_
    assert [lease["lease_id"] for lease in listed["leases"]] == [due[0], due[2]]
    assert len(listed["warnings"]) == 1 and place in listed["warnings"][0] and not listed.get("failed")
    assert one["leases"] == [] and place in one["warnings"][0]
    assert len(good["leases"]) == 1 and "warnings" not in good
    assert by_id["failed"] and by_id["msg"].startswith("lease_id: ") and place in by_id["msg"]
    assert foretold["failed"] and foretold["changed"] and len(foretold["leases"]) == 2
    assert absent["failed"] and place in absent["msg"] and "force: true" in absent["msg"]
    assert revoked["failed"] and revoked["changed"] and len(revoked["leases"]) == 2
    assert revoked["msg"].startswith("prefix: ") and place in revoked["msg"]
    assert again["failed"] and not again["changed"] and place in again["msg"]
    assert len(lab.double.state()["service_accounts"]) == 1
    if lab.vault is not None:  # In files, what is not due is not opened.
        return
    assert not cleaned.get("failed")


def test_the_end_of_a_run_revokes_also_what_it_cannot_read(lab: Lab) -> None:
    if lab.vault is not None:
        pytest.skip("the same on both; on Vault it takes a login in the middle of the run")
    lab.configure()
    take = "{{ lookup('ephemeral.openai.openai_creds', 'my-role', ttl='%s').lease_id }}"
    done = lab.play(
        [
            {"ansible.builtin.debug": {"msg": [take % "1h", take % "3h"]}},
            {"ansible.builtin.shell": f"for f in {lab.store_path}/openai/leases/*/*; do echo x > $f; break; done"},
        ],
        env={"ANSIBLE_CALLBACKS_ENABLED": "ephemeral.openai.openai_leases"},
    )
    said = " ".join(done.out.split())
    assert "openai_leases: revoked 2 lease(s)" in said, "one by its record, the other by what the run knows"
    assert "not revoked" not in said
    assert lab.accounts() == set()


def test_a_mount_is_not_moved_while_something_cannot_be_read(lab: Lab, tmp_path: Path) -> None:
    lab.configure()
    (lease_id,) = issued(lab, 1)
    place = damage(lab, lease_path(lease_id))
    source = lab.mount()
    target = Mount("openai", new_lab(tmp_path / "other", lab.double, None).store())
    for dry_run in (True, False):
        with pytest.raises(OpenAICredsError) as caught:
            move(source, target, to="vaulted_file", grace=600, dry_run=dry_run)
        assert str(caught.value).startswith("from: ") and place in str(caught.value)
    source.check_is_here()
    assert target.store.read("definitions") is None


def test_a_config_is_forgotten_by_force_although_something_cannot_be_read(lab: Lab) -> None:
    lab.configure()
    (lease_id,) = issued(lab, 1)
    place = damage(lab, lease_path(lease_id))
    with pytest.raises(OpenAICredsError, match="force: true"):
        delete_config(lab.mount(), force=False, dry_run=False)
    outcome = delete_config(lab.mount(), force=True, dry_run=False)
    assert outcome.changed and any(place in warning for warning in outcome.warnings)


def test_nothing_is_issued_when_what_it_needs_cannot_be_read(lab: Lab) -> None:
    """The claim of the run, or the definitions: before anything has happened."""
    lab.configure()
    shared_credential(lab.mount(), "my-role", None, 300)
    place = damage(lab, claim_of(lab.mount()))
    lab.double.clear_requests()
    with pytest.raises(UnreadableError) as caught:
        shared_credential(lab.mount(), "my-role", None, 300)
    assert place in str(caught.value)
    place = damage(lab, "definitions")
    for act in (lambda: issue(lab.mount(), "my-role"), lambda: clean(lab.mount())):
        with pytest.raises(UnreadableError) as caught:
            act()
        assert place in str(caught.value)
    assert lab.double.requests() == []


@pytest.mark.parametrize("how", range(3))
def test_a_file_that_cannot_be_read_costs_no_call_and_no_credential(lab: Lab, how: int) -> None:
    """In the hour in which a lease is to end: another group is used."""
    lab.configure()
    first = issue(lab.mount(), "my-role")
    damage(lab, lease_path(first["lease_id"]), how)
    lab.double.clear_requests()
    found = [issue(lab.mount(), "my-role") for _unused in range(2)]
    found.append(shared_credential(lab.mount(), "my-role", None, 300)[0])
    assert [request["method"] for request in lab.double.requests()] == ["POST"] * 3
    for creds in found:
        assert find_record(lab.mount(), creds["lease_id"])
    assert kinds(lab.store()) == ["claim"]


@pytest.mark.parametrize("what", ["state", "lease"])
def test_a_static_role_that_cannot_be_read_stops_no_other(lab: Lab, what: str) -> None:
    mount = lab.configure()
    # Keys that end in different hours are on record apart.
    for name, ttl in (("first", "48h"), ("second", "72h")):
        write_static_role(
            mount,
            name,
            defaults={"api_key_name": "key", "rotation_period": "24h", "rotation_strategy": "new_key", "overlap": "0"},
            dry_run=False,
            service_account_id=lab.double.add_service_account(PROJECT, name)["id"],
            project_id=PROJECT,
            ttl=ttl,
        )
    before = {name: current_credential(mount, name) for name in ("first", "second")}
    damage(lab, state_path("first") if what == "state" else lease_path(before["first"]["lease_id"]))
    listed, refused, made = results(
        lab,
        [
            {"ephemeral.openai.openai_static_role_info": {}},
            {"ephemeral.openai.openai_static_creds": {"name": "first"}},
            {"ephemeral.openai.openai_static_creds": {"name": "second", "rotate": "always"}},
        ],
        rc=1,
    )
    first, second = listed["static_roles"]
    assert first["rotation_due"] and not second["rotation_due"] and refused["failed"] and made["rotated"]
    assert first["api_key_id"] is None and first["expires_at"] is None
    assert (first["last_rotated"] is None) is (what == "state")
    assert second["api_key_id"] == before["second"]["api_key_id"]
    (warning,) = listed["warnings"]
    assert warning == f"what is on record of static role 'first' cannot be read: {refused['msg']}"


@pytest.mark.parametrize("how", range(3))
def test_several_leases_are_issued_although_an_intent_cannot_be_read(lab: Lab, how: int) -> None:
    """Another group of intents is used."""
    lab.configure()
    mount = lab.mount()
    path = f"intents/{mount.store.new_key('intents', 0)}"
    mount.store.write(Write(path, {"left": True}))
    damage(lab, path, how)
    lab.double.clear_requests()
    found = [creds for _again in range(2) for creds in issue_several(lab.mount(), "my-role", None, 3)]
    assert [request["method"] for request in lab.double.requests()] == ["POST"] * 6
    assert all(find_record(lab.mount(), creds["lease_id"]) for creds in found)
