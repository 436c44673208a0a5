# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations against a model: see machine for what is done, expectations for what must hold."""

from __future__ import annotations

import os
import random
import threading
import time
import types
import typing as t
from pathlib import Path

import pytest
from double import objects
from double.inside import InsideDouble, answering
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from lab import MARKER, PROJECT, Lab, new_lab
from memory_store import MemoryStore
from unit.conftest import Clock
from unit.crashes.world import World, another_store
from unit.model.actors import Actors
from unit.model.machine import ACCOUNTS, ROLES, Machine

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine import names
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import run_end
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import threads
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file_cipher import Cipher

pytestmark = pytest.mark.once
_STEPS = 50
_START = 1_800_000_000.0
#: The examples are the same in each call, so that this never fails by chance; with make test-random they differ.
RANDOM = "OPENAI_CREDS_TEST_RANDOM" in os.environ


class MemoryLab(Lab):
    """A control node whose stores are in memory."""

    def store(self, name: str = "openai", server: t.Any = None) -> Store:
        return self._stores.setdefault(name, MemoryStore({}))

    def __init__(self, path: Path, double: InsideDouble) -> None:
        self._stores: dict[str, Store] = {}
        super().__init__(path, double)


@pytest.fixture
def inside_double() -> t.Iterator[InsideDouble]:
    double = InsideDouble(organization="org-lab", projects=[PROJECT], secret_marker=MARKER)
    with answering(double):
        yield double


class _NoThread:
    """There are none: so all goes on in one order, and a failure can be repeated."""

    def __init__(self, **_options: t.Any) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


@pytest.fixture(params=["memory", "vaulted_file", "vault_kv"])
def machine(
    request: pytest.FixtureRequest, tmp_path: Path, inside_double: InsideDouble, monkeypatch: pytest.MonkeyPatch
) -> type[Machine]:
    """A machine that waits for nobody, and repeats itself exactly."""
    clock = Clock(inside_double)
    true_sleep, here = time.sleep, threading.get_ident()

    def sleep(seconds: float) -> None:
        clock.move(seconds) if threading.get_ident() == here else true_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setitem(OpenAI.__init__.__kwdefaults__, "sleep", sleep)
    monkeypatch.setattr(run_end, "_WORKERS_SECONDS", 0.0)
    without = types.SimpleNamespace(Lock=threading.Lock, Event=threading.Event, Thread=_NoThread)
    monkeypatch.setattr(threads, "threading", without)
    # Hypothesis seeds it.
    monkeypatch.setattr(names, "_random", random)
    monkeypatch.setattr(objects, "secrets", random)
    monkeypatch.setattr(Cipher, "_new_salt", lambda _self: b"the same for all")
    monkeypatch.setattr(Cipher, "prepare", lambda _self, _files: None)
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    memory = request.param == "memory"
    vault = request.getfixturevalue("bao") if request.param == "vault_kv" else None
    path = tmp_path / "node"
    lab = MemoryLab(path, inside_double) if memory else new_lab(path, inside_double, vault)
    for account in ACCOUNTS:
        inside_double.add_service_account(PROJECT, account, id=account)
    lab.configure()
    for name, role in ROLES.items():
        lab.role(name, **role)
    definitions = lab.store().read(DEFINITIONS)
    assert definitions

    class ThisMachine(Machine):
        pass

    ThisMachine.lab, ThisMachine.clock, ThisMachine.actors = lab, clock, Actors(monkeypatch)
    ThisMachine.definitions = definitions.data
    ThisMachine.start_time = _START
    other: t.Callable[[World], Store] = (lambda _world: MemoryStore({})) if memory else another_store
    ThisMachine.another_store = staticmethod(other)  # type: ignore[assignment]
    return ThisMachine


def run(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=_STEPS,
            derandomize=not RANDOM,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            # Without the one that explains a failure: it takes long and says little here.
            phases=[Phase.generate, Phase.shrink],
        ),
    )


@pytest.mark.timeout(900)  # Shrinking an example that fails takes minutes.
@pytest.mark.parametrize(("machine", "examples"), [("memory", 8), ("vaulted_file", 1)], indirect=["machine"])
def test_a_few_hundred_steps(machine: type[Machine], examples: int) -> None:
    run(machine, examples)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("machine", "examples"), [("memory", 260), ("vaulted_file", 10), ("vault_kv", 20)], indirect=["machine"]
)
def test_ten_thousand_steps(machine: type[Machine], examples: int) -> None:
    run(machine, examples)
    assert machine.steps >= examples * _STEPS * 0.8, machine.steps
