# SPDX-License-Identifier: GPL-3.0-or-later
"""A renewal is on record before its effect: no record ever ends later than its key."""

from __future__ import annotations

import typing as t

import pytest
from lab import Lab
from unit.test_clocks import key_end
from unit.test_leases import record_of, refused

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import shared_credential
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import this_process
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

if t.TYPE_CHECKING:
    from unit.conftest import Clock

Crash = t.Callable[..., t.ContextManager[None]]


def holds(lab: Lab, mount: Mount, creds: dict[str, t.Any]) -> bool:
    return bool(record_of(mount, creds).lease.expires_at <= key_end(lab, creds))


@pytest.mark.parametrize("increment", [60, 8 * 3600])
@pytest.mark.parametrize("after", [True, False])
def test_a_renewal_that_is_killed(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash, increment: int, after: bool
) -> None:
    creds = issue(mount, "my-role")
    with crash("update_key", after=after):
        renew(mount, record_of(mount, creds), increment, dry_run=False)
    assert holds(lab, mount, creds)
    assert record_of(mount, creds).status == "active"
    renewed = renew(mount, record_of(mount, creds), 1200, dry_run=False)
    assert renewed.lease.expires_at == key_end(lab, creds) == clock() + 1200
    clock.move(1200)
    cleanup(mount, orphans="report", max_concurrency=2, limit=None, grace=600, dry_run=False)
    assert lab.accounts() == set() and lab.leases() == {}


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("increment", [60, 8 * 3600])
@pytest.mark.parametrize("landed", [True, False])
def test_a_renewal_whose_record_is_lost(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, at: int, increment: int, landed: bool
) -> None:
    creds = issue(mount, "my-role")
    true, calls = mount.store.write, iter(range(10))

    def write(*writes: Write) -> None:
        failing = next(calls) == at
        if not failing or landed:
            true(*writes)
        if failing:
            raise StoreError("url: no answer", may_have_happened=True)

    monkeypatch.setattr(mount.store, "write", write)
    with pytest.raises(OpenAICredsError):
        renew(mount, record_of(mount, creds), increment, dry_run=False)
    assert holds(lab, mount, creds)


@pytest.mark.parametrize("kind", ["drop_after", "fail_after", "refuse", "drop_before"])
@pytest.mark.parametrize("increment", [60, 8 * 3600])
def test_a_renewal_of_which_openai_does_not_say_what_became(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, kind: str, increment: int
) -> None:
    creds = issue(mount, "my-role")
    monkeypatch.setattr(mount.openai()._transport, "_sleep", lambda _seconds: None)
    lab.double.fault(kind=kind, method="POST", path="/api_keys/")
    text = refused(renew, mount, record_of(mount, creds), increment, dry_run=False)
    assert "was not renewed and ends at" in text
    assert holds(lab, mount, creds)
    lab.double.clear_faults()
    renew(mount, record_of(mount, creds), 1200, dry_run=False)
    assert holds(lab, mount, creds)


@pytest.mark.parametrize(("mine", "theirs"), [(60, 8 * 3600), (8 * 3600, 60)])
def test_of_two_renewals_at_once_one_is_refused(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, mine: int, theirs: int
) -> None:
    creds = issue(mount, "my-role")
    true = OpenAI.update_key

    def update(self: OpenAI, *args: t.Any, **kwargs: t.Any) -> t.Any:
        monkeypatch.undo()
        other = lab.mount(clock=mount.clock)
        assert "is being renewed" in refused(renew, other, record_of(other, creds), theirs, dry_run=False)
        return true(self, *args, **kwargs)

    monkeypatch.setattr(OpenAI, "update_key", update)
    renewed = renew(mount, record_of(mount, creds), mine, dry_run=False)
    assert renewed.lease.expires_at == record_of(mount, creds).lease.expires_at == key_end(lab, creds)


@pytest.mark.parametrize(("mine", "theirs"), [(60, 8 * 3600), (8 * 3600, 60)])
def test_a_renewal_that_was_given_up_for_dead_and_comes_last(
    lab: Lab, mount: Mount, monkeypatch: pytest.MonkeyPatch, mine: int, theirs: int
) -> None:
    creds = issue(mount, "my-role")
    true = OpenAI.update_key

    def update(self: OpenAI, *args: t.Any, **kwargs: t.Any) -> t.Any:
        monkeypatch.undo()
        marked = mount.store.read(lease_path(creds["lease_id"]))
        assert marked
        dead = {**marked.data["renewing"], "process": {**this_process(), "started": 1}}
        mount.store.write(Write(marked.path, {**marked.data, "renewing": dead}, marked.version))
        renew(lab.mount(clock=mount.clock), record_of(mount, creds), theirs, dry_run=False)
        return true(self, *args, **kwargs)

    monkeypatch.setattr(OpenAI, "update_key", update)
    assert "changed by somebody else" in refused(renew, mount, record_of(mount, creds), mine, dry_run=False)
    assert holds(lab, mount, creds)


def test_a_run_is_not_handed_a_key_that_an_interrupted_renewal_has_shortened(
    lab: Lab, mount: Mount, clock: Clock, crash: Crash
) -> None:
    first, _issued = shared_credential(mount, "my-role", None, 300)
    with crash("update_key", after=True):
        renew(mount, record_of(mount, first), 301, dry_run=False)
    assert shared_credential(mount, "my-role", None, 300) == (
        {**first, "expires_at": record_of(mount, first).public()["expires_at"]},
        False,
    )
    clock.move(60)
    assert shared_credential(mount, "my-role", None, 300)[1]


def test_the_mark_of_a_renewal_is_gone_after_it(lab: Lab, mount: Mount) -> None:
    creds = issue(mount, "my-role")
    renew(mount, record_of(mount, creds), 60, dry_run=False)
    assert record_of(mount, creds).lease.renewing is None
