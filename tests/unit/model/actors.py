# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes on machines, one of which works at a time; and what goes wrong while it does."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import typing as t

import pytest
from unit.conftest import Crash
from unit.crashes.accidents import ACCIDENTS, Do, Happening
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import processes
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import Process

MACHINES = ("here", "there")
#: All that the crash harness knows, but for those that are somebody else's work meanwhile: see Meanwhile.
TROUBLES = sorted(name for name in ACCIDENTS if "stalled" not in name and "slow" not in name and "unseen" not in name)


@dataclasses.dataclass(frozen=True)
class Trouble:
    """An accident at the n-th event of its kind."""

    name: str
    at: int


@dataclasses.dataclass(frozen=True)
class Meanwhile:
    """At the n-th event the process stands still for so many seconds, while somebody else does something."""

    what: str
    at: int
    after: bool
    seconds: int
    machine: str
    choice: int


class Actor:
    """A process at an operation. run is the number of the run that it belongs to, if any."""

    def __init__(self, world: World, trouble: Trouble | Meanwhile | None, run: int | None) -> None:
        self.here = Happening(world)
        self.trouble = trouble
        self.run = run
        self.events = {"call": 0, "write": 0}
        #: Whether anything went wrong, or somebody else did something meanwhile.
        self.disturbed = False


class Actors:
    """Who is at work: the last of them, while the others stand still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._numbers = itertools.count(1000)
        self.running: set[int] = set()
        self.stack: list[Actor] = []
        self.meanwhile: t.Callable[[Meanwhile], None] = lambda _meanwhile: None
        self._now = self.process(MACHINES[0])
        monkeypatch.setattr(processes, "_machine", lambda: self._now["machine"])
        monkeypatch.setattr(processes, "process_of", lambda _pid: self._now)
        monkeypatch.setattr(processes, "_started", lambda pid: 1 if pid in self.running else None)
        monkeypatch.setattr(processes, "_run", None)

    def process(self, machine: str) -> Process:
        """Start a process."""
        number = next(self._numbers)
        self.running.add(number)
        return {"machine": machine, "pid": number, "started": 1}

    def end(self, process: Process) -> None:
        self.running.discard(int(process["pid"]))

    @contextlib.contextmanager
    def watching(self, machine: str) -> t.Iterator[None]:
        """Look at something from a machine, without taking part."""
        with self._as(self.process(machine), None):
            stack, self.stack = self.stack, []
            try:
                yield
            finally:
                self.stack = stack

    @contextlib.contextmanager
    def at_work(self, actor: Actor, process: Process, run: Process | None = None) -> t.Iterator[None]:
        """Let what is done in this context be done by a process, which has ended then."""
        self.stack.append(actor)
        try:
            with self._as(process, run):
                yield
        finally:
            self.stack.pop()

    @contextlib.contextmanager
    def _as(self, process: Process, run: Process | None) -> t.Iterator[None]:
        before = self._now, processes._run
        self._now, processes._run = process, run
        try:
            yield
        finally:
            self.end(process)
            self._now, processes._run = before

    def event(self, kind: str, _what: str, do: Do, half: Do | None) -> t.Any:
        """Do something that the process at work does at OpenAI or in the store, unless it is to go wrong."""
        if not self.stack:
            return do()
        actor = self.stack[-1]
        if actor.here.dead:
            raise Crash
        actor.events[kind] += 1
        result = self._do(actor, kind, do, half)
        if actor.here.dead:
            raise Crash
        return result

    def _do(self, actor: Actor, kind: str, do: Do, half: Do | None) -> t.Any:
        trouble = actor.trouble
        if isinstance(trouble, Meanwhile) and sum(actor.events.values()) == trouble.at:
            actor.disturbed = True
            if not trouble.after:
                self.meanwhile(trouble)
            result = do()
            if trouble.after:
                self.meanwhile(trouble)
            return result
        if isinstance(trouble, Trouble) and ACCIDENTS[trouble.name].kind == kind:
            if actor.here.every:
                return actor.here.every(do)
            if actor.events[kind] == trouble.at:
                actor.disturbed = True
                # Of a single document there is no half: nothing is done.
                return ACCIDENTS[trouble.name].happen(actor.here, do, half or (lambda: None))
        return do()
