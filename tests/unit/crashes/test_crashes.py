# SPDX-License-Identifier: GPL-3.0-or-later
"""Every accident at every call and every write of every scenario: the invariants hold."""

from __future__ import annotations

import os
import typing as t

import pytest
from lab import Lab
from unit.conftest import Clock
from unit.crashes.accidents import ACCIDENTS, WRITE
from unit.crashes.harness import Harness, Scenario
from unit.crashes.scenarios import SCENARIOS

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import counts, share
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library import accounts
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client, transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation import making
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file_cipher import Cipher

pytestmark = pytest.mark.once
#: What is tried with the store in Vault by make test.
SAMPLE = {("issue", "write killed after"), ("rotate", "call killed after"), ("cleanup", "write killed halfway")}
#: Every accident with every scenario on either store takes an hour: make test-crashes.
ALL = os.environ.get("OPENAI_CREDS_TEST_CRASHES") == "all"


def _when(store: str, scenario: Scenario, accident: str) -> t.Literal["test", "long", "all"]:
    """Say what tries an accident with a scenario: make test, make test-long as well, or make test-crashes only.

    make test-long tries every accident with what each scenario stands for, in files. What differs little from another scenario is
    tried with the end of the process. In Vault, what may come of its writes is tried, and the end of the process: what OpenAI
    answers makes no difference there, and what is left before an event is what is left after the one before it.
    """
    happens = ACCIDENTS[accident]
    variant = scenario.variant or scenario.long
    if store == "vault_kv":
        if (scenario.name, accident) in SAMPLE:
            return "test"
        ends = happens.for_variants and not (variant and happens.unseen)
        of_the_store = happens.kind == WRITE and happens.common and "before" not in accident and not variant
        return "long" if ends or of_the_store else "all"
    ends = happens.common and happens.for_variants
    if not scenario.long and (ends if scenario.variant else happens.common):
        return "test"
    return "long" if ends or not variant else "all"


def _matrix() -> t.Iterator[t.Any]:
    for store in ("vaulted_file", "vault_kv"):
        for scenario in SCENARIOS.values():
            for name, accident in ACCIDENTS.items():
                when = _when(store, scenario, name)
                if getattr(scenario, f"{accident.kind}s") and (ALL or when != "all"):
                    marks = () if when == "test" else pytest.mark.long
                    yield pytest.param(store, scenario.name, name, marks=marks, id=f"{store}-{scenario.name}-{name}")


@pytest.fixture
def harness(lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """One that waits for nobody, and derives one vault key only."""
    monkeypatch.setattr(making, "_PROOF_WAITS", (0, 0))
    monkeypatch.setattr(transport, "_BACKOFF_SECONDS", 0.0005)
    monkeypatch.setattr(client, "_UNKNOWN_WAITS", (0, 0))
    # Time passes while the end of a key is waited for.
    monkeypatch.setattr(client.OpenAI, "wait", lambda _self, seconds: clock.move(seconds))
    monkeypatch.setattr(share, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(share, "_LONGEST_WAIT_SECONDS", 0.01)
    # One after the other, so that the events are the same each time.
    monkeypatch.setattr(accounts, "_AT_ONCE", 1)
    shards: dict[str, int] = {}
    monkeypatch.setattr(counts, "shard_of", lambda group: shards.setdefault(group, len(shards)) % counts.SHARDS)
    monkeypatch.setattr(Cipher, "_new_salt", lambda _self: b"the same for all")
    monkeypatch.setattr(Cipher, "prepare", lambda _self, _files: None)
    # What is killed here is killed between writes, and the machine stays on.
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    return Harness(lab, clock, monkeypatch)


@pytest.mark.parametrize(("lab_store", "scenario", "accident"), list(_matrix()))
def test_invariants_hold(harness: Harness, scenario: str, accident: str) -> None:
    harness.try_at_each(SCENARIOS[scenario], ACCIDENTS[accident])
