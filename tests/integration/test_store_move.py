# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving a mount between stores: nothing lost, doubled or shown, whenever it is interrupted."""

from __future__ import annotations

import os
import secrets
import time
import typing as t
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from double.client import Double
from lab import MARKER, PROJECT, Lab
from on_record import unfinished
from unit.test_leases import opens_models

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.owners import Owner
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.journal.things import ADMIN_KEY, Thing
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import (
    active_records,
    find_record,
    matching,
    records,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.intents import Claim, Intent
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease, lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import check_out
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.status import library_status
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.state import KeyEnding, rotation_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    delete_static_role,
    rotate_static_role,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move

if t.TYPE_CHECKING:
    from bao import Bao


class Nodes(t.NamedTuple):
    """A control node whose state is in vaulted files, and one with the same mount in Vault."""

    files: Lab
    vault: Lab

    def mount(self, store: str) -> Mount:
        return (self.files if store == "vaulted_file" else self.vault).mount()


@pytest.fixture
def nodes(tmp_path: Path, double: Double, bao: Bao) -> Nodes:
    return Nodes(
        Lab(tmp_path / "files", double), Lab(tmp_path / "vault", double, bao, f"openai_creds/{secrets.token_hex(6)}")
    )


class Killed(BaseException):
    """Stands for the end of the process."""


class Dying(Store):
    """A store at whose nth operation, before or after its effect, the process dies."""

    def __init__(self, store: Store, left: list[int], after: bool) -> None:
        self._store, self._left, self._after = store, left, after

    def _do(self, operation: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        self._left[0] -= 1
        if self._left[0] == 0 and not self._after:
            raise Killed
        result = operation(*args)
        if self._left[0] == 0:
            raise Killed
        return result

    def read(self, path: str) -> t.Any:
        return self._store.read(path)

    def write(self, *writes: Write) -> None:
        for write in writes:
            self._do(self._store.write, write)

    def delete(self, *paths: str) -> None:
        for path in paths:
            self._do(self._store.delete, path)

    def scan(self, prefix: str) -> t.Any:
        return self._store.scan(prefix)

    def survey(self, prefix: str, now: int, *, tidy: bool) -> t.Any:
        return self._store.survey(prefix, now, tidy=tidy)

    def new_key(self, folder: str, due: int) -> str:
        return self._store.new_key(folder, due)


def moved(source: Mount, target: Mount, to: str, dry_run: bool = False) -> int | None:
    return move(source, target, to=to, grace=600, dry_run=dry_run)


def held(mount: Mount) -> dict[str, tuple[str, int]]:
    return {record.lease.lease_id: (record.status, record.lease.expires_at) for record in records(mount)}


def paths(store: Store) -> list[str]:
    return sorted(document.path for document in (*store.scan("leases/"), *unfinished(store)))


def names(store: VaultKVStore, folder: str = "") -> set[str]:
    """Return the names of all secrets of a mount."""
    found = [f"{folder}{name}" for name in store._engine.names(folder)]
    below = (names(store, name) for name in found if name.endswith("/"))
    return {name for name in found if not name.endswith("/")}.union(*below)


def test_nothing_but_the_definitions_stays_in_vault(nodes: Nodes) -> None:
    nodes.vault.configure()
    source = nodes.vault.mount()
    shared_credential(source, "my-role", None, 300)
    store = t.cast(VaultKVStore, source.store)
    assert any(name.startswith("claims/.hours/") for name in names(store))
    moved(source, nodes.files.mount(), "vaulted_file")
    assert names(store) == {"definitions"}


DIRECTIONS = [("vaulted_file", "vault_kv"), ("vault_kv", "vaulted_file")]


@pytest.mark.parametrize(("from_", "to"), DIRECTIONS)
def test_everything_is_there_afterwards_and_works(nodes: Nodes, double: Double, from_: str, to: str) -> None:
    home = nodes.files if from_ == "vaulted_file" else nodes.vault
    home.configure(ttl="10m")
    source, target = nodes.mount(from_), nodes.mount(to)
    leases = [issue(source, "my-role")["lease_id"] for _lease in range(5)]
    record = find_record(source, leases[0])
    assert record
    renew(source, record, 7200, dry_run=False)
    double.fault(kind="refuse", status=500, method="DELETE", times=100)
    assert revoke(source, matching(source, leases[1]))[0].error
    double.clear_faults()
    before = held(source)
    assert {status for status, _end in before.values()} == {"active", "failed"}
    assert moved(source, target, to, dry_run=True) == 5 and held(source) == before
    assert moved(source, target, to) == 5
    assert held(nodes.mount(to)) == before and paths(source.store) == []
    with pytest.raises(OpenAICredsError, match=f"has been moved to the store {to}"):
        issue(nodes.mount(from_), "my-role")
    with pytest.raises(OpenAICredsError, match=f"has been moved to the store {to}"):
        held(nodes.mount(from_))
    assert moved(nodes.mount(from_), nodes.mount(to), to) is None
    later = nodes.mount(to)
    due = before[leases[2]][1] + 1
    double.clock(due - time.time())
    later.clock = lambda: due
    result = cleanup(later, orphans="delete", max_concurrency=4, limit=None, grace=0, dry_run=False)
    assert sorted(result["revoked"]) == sorted(leases[1:]) and result["active"] == 1
    assert revoke(later, matching(later, None))[0].error is None
    assert double.state()["service_accounts"] == []
    # And back, into the store that it came from.
    assert moved(nodes.mount(to), nodes.mount(from_), from_) == 0
    issue(nodes.mount(from_), "my-role")


@pytest.mark.parametrize(("from_", "to"), DIRECTIONS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_interrupted_at_every_change_and_run_again(nodes: Nodes, from_: str, to: str, after: bool) -> None:
    """Back and forth, dying at one operation later each time, until it gets through."""
    home = nodes.files if from_ == "vaulted_file" else nodes.vault
    home.configure()
    for _lease in range(3):
        issue(nodes.mount(from_), "my-role")
    wanted = held(nodes.mount(from_))
    for operation in range(1, 100):
        left = [operation]
        source, target = nodes.mount(from_), nodes.mount(to)
        source.store, target.store = Dying(source.store, left, after), Dying(target.store, left, after)
        try:
            moved(source, target, to)
        except Killed:
            open_in = [store for store in (from_, to) if usable(nodes.mount(store))]
            assert len(open_in) <= 1, "usable in both stores"
            scans = [nodes.mount(store).store.scan("leases/") for store in (from_, to)]
            assert {document.data["lease_id"] for scan in scans for document in scan} == set(wanted)
            moved(nodes.mount(from_), nodes.mount(to), to)
        assert held(nodes.mount(to)) == wanted and paths(nodes.mount(from_).store) == []
        if left[0] > 0:
            break
        assert moved(nodes.mount(to), nodes.mount(from_), from_) == 3
    else:
        pytest.fail("it never got through")
    assert operation > 10


def with_static_role_and_library_set(home: Lab, mount: Mount) -> dict[str, str]:
    """Let a mount have a static role with an overlap, and a set of which one account is checked out; returns their keys."""
    home.configure()
    account = home.double.add_service_account(PROJECT, "workload")
    write_static_role(
        mount,
        "my-static-role",
        defaults={"api_key_name": "key", "rotation_period": "24h", "ttl": "48h", "overlap": "1h"},
        dry_run=False,
        service_account_id=account["id"],
        project_id=PROJECT,
        rotation_strategy="new_key",
    )
    rotate_static_role(mount, "my-static-role", always=True)
    given = {"project_id": PROJECT, "service_account_names": ["one", "two"], "max_ttl": "24h"}
    write_library_set(mount, "my-set", defaults={"description": ""}, dry_run=False, **given)
    lent = check_out(mount, "my-set", 3600)
    return {"static": current_credential(mount, "my-static-role")["api_key"], lent["service_account"]: lent["api_key"]}


def go_on_there(home: Lab, mount: Mount, keys: dict[str, str]) -> None:
    """Check that a static role and a library set that were moved are as they were, and work on."""
    assert current_credential(mount, "my-static-role")["api_key"] == keys["static"]
    (pool,) = library_status(mount, "my-set")
    assert {name for name, one in pool["account_status"].items() if one["status"] == "checked_out"} == {*keys} - {
        "static"
    }
    assert all(opens_models(home, key) for key in keys.values())
    (lent,) = {*keys} - {"static"}
    with pytest.raises(OpenAICredsError, match="already checked out"):
        check_out(mount, "my-set", 3600, lent)
    assert check_in(mount, "my-set", account=lent, account_id=None, force=True, dry_run=False)
    rotate_static_role(mount, "my-static-role", always=True)
    assert current_credential(mount, "my-static-role")["api_key"] != keys["static"]
    # Else its key may be so young that OpenAI does not know it, and only the next cleanup can end it.
    time.sleep(float(os.environ.get("OPENAI_CREDS_TEST_YOUNG", "0")))
    assert not delete_static_role(mount, "my-static-role", dry_run=False).warnings
    delete_library_set(mount, "my-set", dry_run=False)
    state = home.double.state()
    assert {one["name"] for one in state["service_accounts"]} == {"workload"} and len(state["api_keys"]) == 1
    assert not any(opens_models(home, key) for key in keys.values())
    for prefix in ("static/", "unfinished/", "library/", "library_intents/"):
        assert list(mount.store.scan(prefix)) == []


@pytest.mark.parametrize(("from_", "to"), DIRECTIONS)
def test_static_roles_and_library_sets_go_on_there(nodes: Nodes, from_: str, to: str) -> None:
    """Interrupted in the middle: the leases are there, the state of the static role is in both, and who has an account here."""
    home, there = (nodes.files, nodes.vault) if from_ == "vaulted_file" else (nodes.vault, nodes.files)
    keys = with_static_role_and_library_set(home, nodes.mount(from_))
    source, target = nodes.mount(from_), nodes.mount(to)
    true = source.store.delete

    def dying(*gone: str) -> None:
        if any(path.startswith("static/") for path in gone):
            raise Killed
        true(*gone)

    source.store.delete = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        moved(source, target, to)
    assert not usable(nodes.mount(from_)) and not usable(nodes.mount(to))
    for act in (rotate_static_role, current_credential):
        with pytest.raises(OpenAICredsError, match="is being moved"):
            act(nodes.mount(from_), "my-static-role", **({"always": True} if act is rotate_static_role else {}))
    assert moved(nodes.mount(from_), nodes.mount(to), to) is not None
    with pytest.raises(OpenAICredsError, match=f"has been moved to the store {to}"):
        check_out(nodes.mount(from_), "my-set", 60)
    go_on_there(there, nodes.mount(to), keys)


def test_a_mount_with_much_to_end_goes_too(nodes: Nodes) -> None:
    """What has keys in it is never stored in parts, however much it is."""
    nodes.files.configure()
    source, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")
    config = source.check_configured()
    things = [Thing(ADMIN_KEY, None, config.api_endpoint, config.organization_id, None, f"key_{n}") for n in range(60)]
    endings = [asdict(KeyEnding(thing, None, int(time.time()) + 3600, 3600)) for thing in things]
    source.define(lambda data: data.update(rotation={"intent": None, "endings": endings}) is None)
    many = {f"role-{nth}": {"description": "x" * 100} for nth in range(300)}
    source.define(lambda data: data.update(roles=many) is None)
    stored = source.store.read("definitions")
    assert stored and isinstance(stored.data["rotation"], dict) and isinstance(stored.data["roles"], list)
    assert moved(source, target, "vault_kv") is not None
    assert [ending.thing for ending in rotation_of(target).endings] == things and target.definitions("roles") == many


def usable(mount: Mount) -> bool:
    try:
        return bool(mount.definitions("config"))
    except OpenAICredsError:
        return False


def issuing(mount: Mount) -> Lease:
    """Return a lease as it is when its issue begins."""
    issue(mount, "my-role")
    (record,) = records(mount)
    revoke(mount, [record])
    return replace(record.lease, service_account_id=None, api_key_id=None)


def test_refused_while_somebody_is_at_work(nodes: Nodes) -> None:
    nodes.files.configure()
    source, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")
    lease = issuing(source)
    elsewhere = {**this_process(), "machine": "another"}
    for owner, age, refused in ((elsewhere, 0, True), (elsewhere, 601, False), (None, 0, False)):
        since = source.now() - age
        intent = Intent(lease=lease, created_at=since, owner=owner and Owner(owner, lease.lease_id, since))
        source.store.write(intent.write("intents/x"))
        definitions = source.store.read("definitions")
        assert definitions
        if refused:
            with pytest.raises(OpenAICredsError, match="is in use by 1 other run"):
                moved(source, target, "vault_kv")
            assert usable(source) and paths(target.store) == []
        else:
            assert moved(source, target, "vault_kv", dry_run=True) == 1
        source.store.delete("intents/x")


@pytest.mark.parametrize(("from_", "to"), DIRECTIONS)
def test_refused_while_somebody_ends_a_lease(nodes: Nodes, from_: str, to: str) -> None:
    (nodes.files if from_ == "vaulted_file" else nodes.vault).configure()
    source = nodes.mount(from_)
    path = lease_path(issue(source, "my-role")["lease_id"])
    elsewhere = {**this_process(), "machine": "another"}
    for age, refused in ((300, True), (900, False)):
        at = source.now() - age
        lease = source.store.read(path)
        assert lease
        ending = {"work": "x", "process": elsewhere, "since": at}
        source.store.write(Write(path, {**lease.data, "ending": ending}, lease.version, due=at))
        if refused:
            with pytest.raises(OpenAICredsError, match="is in use by 1 other run"):
                moved(source, nodes.mount(to), to)
        else:
            assert moved(source, nodes.mount(to), to) == 1
    there = nodes.mount(to)
    assert [status for status, _end in held(there).values()] == ["pending"]
    result = cleanup(there, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
    assert len(result["revoked"]) == 1 and nodes.files.accounts() == set()


def test_refused_where_there_is_another_mount_of_that_name(nodes: Nodes) -> None:
    nodes.files.configure()
    nodes.vault.configure()
    source, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")
    with pytest.raises(OpenAICredsError, match="has a state in the store vault_kv already"):
        moved(source, target, "vault_kv")
    assert usable(source) and usable(target)


def test_nobody_begins_in_the_target_while_documents_arrive(nodes: Nodes) -> None:
    """A bootstrap playbook that is pointed there already waits, and what it would have written does not stop the move."""
    nodes.files.configure()
    issue(nodes.mount("vaulted_file"), "my-role")
    source, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")
    source.store = Dying(source.store, [2], after=False)
    with pytest.raises(Killed):
        moved(source, target, "vault_kv")
    with pytest.raises(OpenAICredsError, match="is being moved to the store vault_kv"):
        nodes.vault.configure()
    assert moved(nodes.mount("vaulted_file"), nodes.mount("vault_kv"), "vault_kv") == 1
    assert usable(nodes.mount("vault_kv"))


def test_what_was_emptied_makes_way(nodes: Nodes) -> None:
    nodes.files.configure()
    nodes.vault.configure()
    target = nodes.mount("vault_kv")

    def empty(data: dict[str, t.Any]) -> bool:
        for section in data.values():
            section.clear()
        return True

    target.define(empty)
    assert moved(nodes.mount("vaulted_file"), target, "vault_kv") == 0
    assert usable(target)


def test_a_target_that_cannot_be_written_leaves_the_source_in_use(nodes: Nodes) -> None:
    nodes.files.configure()
    source, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")

    def refuse(*_writes: Write) -> None:
        raise OpenAICredsError("no")

    target.store.write = refuse  # type: ignore[method-assign]
    with pytest.raises(OpenAICredsError, match="no"):
        moved(source, target, "vault_kv")
    assert usable(source)


def test_a_mover_that_was_overtaken_stops(nodes: Nodes) -> None:
    """It stood still for so long that another one has finished; a renewal in the target stays."""
    nodes.files.configure()
    lease_id = issue(nodes.mount("vaulted_file"), "my-role")["lease_id"]
    slow, target = nodes.mount("vaulted_file"), nodes.mount("vault_kv")
    scan = slow.store.scan
    ends = []

    def standing_still(prefix: str) -> t.Any:
        documents = list(scan(prefix))
        if prefix == "leases/" and documents and not ends:
            ends.append(0)
            moved(nodes.mount("vaulted_file"), nodes.mount("vault_kv"), "vault_kv")
            there = nodes.mount("vault_kv")
            record = find_record(there, lease_id)
            assert record
            ends.append(renew(there, record, 7200, dry_run=False).lease.expires_at)
        return iter(documents)

    slow.store.scan = standing_still  # type: ignore[method-assign]
    with pytest.raises(OpenAICredsError, match="was changed, or is being moved, by somebody else"):
        moved(slow, target, "vault_kv")
    assert held(nodes.mount("vault_kv")) == {lease_id: ("active", ends[1])}


def test_a_renewal_that_comes_too_late_fails(nodes: Nodes) -> None:
    """Also where nothing has to be asked of OpenAI."""
    nodes.files.configure(native_expiry=False)
    lease_id = issue(nodes.mount("vaulted_file"), "my-role")["lease_id"]
    source = nodes.mount("vaulted_file")
    record = find_record(source, lease_id)
    assert record
    stopped = nodes.mount("vaulted_file")
    stopped.store = Dying(stopped.store, [3], after=False)
    with pytest.raises(Killed):
        moved(stopped, nodes.mount("vault_kv"), "vault_kv")
    with pytest.raises(OpenAICredsError, match="is being moved"):
        renew(source, record, 7200, dry_run=False)
    moved(nodes.mount("vaulted_file"), nodes.mount("vault_kv"), "vault_kv")
    for act in (lambda: find_record(source, lease_id), lambda: active_records(source, [lease_id])):
        with pytest.raises(OpenAICredsError, match="has been moved"):
            act()


def test_a_run_elsewhere_counts_until_its_claim_is_old(nodes: Nodes) -> None:
    nodes.files.configure()
    source = nodes.mount("vaulted_file")
    now = time.time()
    source.clock = lambda: now
    elsewhere = {**this_process(), "machine": "another"}
    for age, refused in ((599, True), (600, False)):
        spent = Intent(lease=None, created_at=source.now() - age, claim=Claim(run=elsewhere, shared=True))
        source.store.write(spent.write("claims/cx"))
        if refused:
            with pytest.raises(OpenAICredsError, match="is in use by 1 other run"):
                moved(source, nodes.mount("vault_kv"), "vault_kv", dry_run=True)
        else:
            moved(source, nodes.mount("vault_kv"), "vault_kv", dry_run=True)
        source.store.delete("claims/cx")


def test_an_issue_that_begins_before_the_move_fails_or_is_seen(nodes: Nodes, double: Double) -> None:
    """Between what an issue reads and its intent, the mount moves away."""
    nodes.files.configure()
    slow = nodes.mount("vaulted_file")
    write = slow.store.write

    def overtaken(*writes: Write) -> None:
        slow.store.write = write  # type: ignore[method-assign]
        moved(nodes.mount("vaulted_file"), nodes.mount("vault_kv"), "vault_kv")
        slow.store.write(*writes)

    slow.store.write = overtaken  # type: ignore[method-assign]
    with pytest.raises(OpenAICredsError, match="has been moved to the store vault_kv"):
        issue(slow, "my-role")
    assert double.state()["service_accounts"] == [] and paths(nodes.mount("vaulted_file").store) == []


def test_by_playbook(nodes: Nodes) -> None:
    nodes.files.configure()
    lease = issue(nodes.mount("vaulted_file"), "my-role")
    env = {
        name: value for name, value in nodes.vault.env.items() if name.startswith(("VAULT_", "ANSIBLE_HASHI", "OPENAI"))
    }
    env |= {"OPENAI_CREDS_STORE": "vaulted_file", "OPENAI_CREDS_STORE_PATH": str(nodes.files.store_path)}
    task = {"ephemeral.openai.openai_store_move": {"from": "vaulted_file", "to": "vault_kv"}, "register": "r"}
    shown = {"ansible.builtin.debug": {"msg": "moved {{ r.moved }} {{ r.changed }}"}}
    run = nodes.files.play([task, shown], "-vvvv", env=env)
    assert run.rc == 0, run.out
    assert "moved 1 True" in run.out and MARKER not in run.out and lease["api_key"] not in run.out
    run = nodes.files.play([task, shown], env=env)
    assert run.rc == 0 and "moved 0 False" in run.out, run.out
    run = nodes.files.play([{"ephemeral.openai.openai_lease_info": {}}], env=env)
    assert run.rc and "has been moved to the store vault_kv; use that one" in run.out
    run = nodes.files.play(
        [{"ephemeral.openai.openai_lease": {"lease_id": lease["lease_id"], "store": "vault_kv"}}], env=env
    )
    assert run.rc == 0, run.out
    assert nodes.files.accounts() == set()
