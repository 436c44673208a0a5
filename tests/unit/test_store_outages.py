# SPDX-License-Identifier: GPL-3.0-or-later
"""What an issue does when the store does not say what became of a write, and what it says of that."""

from __future__ import annotations

import typing as t

import pytest
from lab import BOTH_STORES, Lab
from unit.test_leases import intents, opens_models, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue, issue_several
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

pytestmark = BOTH_STORES


class Outage:
    """A store that, from the write of a lease on, cannot be reached; that write has landed or not."""

    def __init__(self, mount: Mount, monkeypatch: pytest.MonkeyPatch, landed: bool, lasts: bool) -> None:
        self.down = False
        store = mount.store
        write, read, delete = store.write, store.read, store.delete

        def check() -> None:
            if self.down and lasts:
                raise StoreError("url: Vault cannot answer now", may_have_happened=True)

        def writing(*writes: Write) -> None:
            check()
            if any(one.path.startswith("leases/") for one in writes):
                if landed:
                    write(*writes)
                self.down = True
                raise StoreError("url: Vault cannot answer now", may_have_happened=True)
            write(*writes)

        def reading(path: str) -> Document | None:
            check()
            return read(path)

        def reading_each(paths: t.Sequence[str]) -> t.Iterator[Document]:
            return filter(None, map(reading, paths))

        def deleting(*paths: str) -> None:
            check()
            delete(*paths)

        for name, function in {
            "write": writing,
            "read": reading,
            "read_each": reading_each,
            "delete": deleting,
        }.items():
            monkeypatch.setattr(store, name, function)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("landed", [True, False])
def test_nothing_is_deleted_that_a_record_may_name(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch, shared: bool, landed: bool
) -> None:
    def take(where: Mount) -> dict[str, t.Any]:
        return shared_credential(where, "my-role", None, 300)[0] if shared else issue(where, "my-role")

    Outage(mount, monkeypatch, landed, lasts=True)
    error = refused(take, mount)
    monkeypatch.undo()
    (name,) = lab.accounts()
    assert f"{name} may exist at OpenAI" in error and "cannot answer now" in error
    assert lab.leases() == {name: "active" if landed else "pending"}
    if shared:
        again = take(lab.mount(clock=clock))
        assert opens_models(lab, again["api_key"])
        assert (again["service_account"] == name) is landed
    cleanup(lab.mount(clock=clock), orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)
    assert lab.accounts() == set(lab.leases())
    assert (name in lab.accounts()) is landed
    clock.move(7200)
    cleanup(lab.mount(clock=clock), orphans="delete", max_concurrency=2, limit=None, grace=600, dry_run=False)
    assert lab.accounts() == set() and lab.leases() == {}


def test_a_write_that_turns_out_to_have_landed_is_one(lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    Outage(mount, monkeypatch, landed=True, lasts=False)
    creds = issue(mount, "my-role")
    assert opens_models(lab, creds["api_key"]) and lab.leases() == {creds["service_account"]: "active"}
    assert intents(mount) == []


@pytest.mark.parametrize("gone", [True, False])
def test_an_error_says_what_became_of_the_account(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    true = mount.store.write

    def full(*writes: Write) -> None:
        if any(write.path.startswith("leases/") for write in writes):
            raise StoreError("store_path: cannot write: No space left on device")
        true(*writes)

    monkeypatch.setattr(mount.store, "write", full)
    if not gone:
        lab.double.fault(kind="refuse", status=403, method="DELETE")
    error = refused(issue, mount, "my-role")
    assert error.endswith("the service account was removed again") is gone
    assert ("may exist at OpenAI, the next openai_cleanup looks for it" in error) is not gone
    assert (lab.accounts() == set()) is gone
    assert ("issue" in intents(mount)) is not gone


def test_what_is_left_of_several_is_named(lab: Lab, mount: Mount) -> None:
    lab.double.fault(kind="refuse", status=403, skip=2, method="POST", path="/service_accounts$")
    lab.double.fault(kind="refuse", status=403, method="DELETE")
    with pytest.raises(OpenAICredsError, match="of those issued before, 2 could not be revoked again: openai/creds/"):
        issue_several(mount, "my-role", None, 5)
    assert list(lab.leases().values()) == ["failed", "failed"]
