# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of an issue whose process stands still for longer than the grace."""

from __future__ import annotations

import pytest
from ansible.parsing.vault import VaultSecret
from lab import VAULT_PASSWORD, Lab
from unit.conftest import Clock

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import processes
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move


def test_a_mount_that_is_moved_while_an_issuer_stands_still_has_no_lease_without_a_key(
    lab: Lab, mount: Mount, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer has put the lease on record, and is on another machine, where it is taken for dead."""
    password = [("default", VaultSecret(VAULT_PASSWORD.encode()))]
    there = Mount(mount.name, VaultedFileStore(str(lab.home / "there"), mount.name, password), clock=clock)
    true = mount.store.write

    def write(*writes: Write) -> None:
        true(*writes)
        if writes[0].path.startswith("leases/"):
            monkeypatch.setattr(mount.store, "write", true)
            clock.move(601)
            with monkeypatch.context() as here:
                here.setattr(processes, "_machine", lambda: "another machine")
                move(lab.mount(clock=clock), there, to="there", grace=600, dry_run=False)

    monkeypatch.setattr(mount.store, "write", write)
    with pytest.raises(OpenAICredsError):
        issue(mount, "my-role")
    keys = {key["id"] for key in lab.double.state()["api_keys"]}
    found = list(records(there))
    assert len(found) == 1 and {str(one.lease.api_key_id) for one in found} == keys
    clock.move(3601)
    cleanup(there, orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)
    assert not lab.accounts() and not list(records(there))
