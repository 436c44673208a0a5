# SPDX-License-Identifier: GPL-3.0-or-later
"""The crash harness: lets every accident happen at every event of a scenario, and checks the invariants.

A scenario says what is done. A clean run counts its events: calls to OpenAI, and writes and deletions of the store. Then it is
done again for each accident and each event that this can happen at, in a mount of its own. The invariants are checked

    at every event     what must hold at each instant, so also if the process were killed there
    after the act      and when calls that were late have arrived
    soon after         when cleanups have done what they can: no key is left that nobody can have
    days later         when every lease is over and cleanups have nothing left to do: neither side has anything left
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import typing as t

import pytest
from lab import Lab
from unit.conftest import Clock, Crash
from unit.crashes import invariants
from unit.crashes.accidents import CALL, WRITE, Accident, Do, Happening
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import DEFINITIONS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.transport import Transport

GRACE_IS_OVER = 601
TWO_DAYS = 2 * 86400
#: Longer than the longest wait before a refusal is tried again.
_HOUR = 3601
_ROUNDS = 6
_names = itertools.count(1)
#: The events of each kind, by scenario and whether the store is in files: whether each is of several documents, as in the
#: clean run.
_known: dict[tuple[str, bool], dict[str, list[bool]]] = {}


def _nothing(_world: World) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What somebody does, and all that it takes to be tried in every way.

    prepare comes before the act and nothing happens to it; next is what the user does after an accident, as often as it
    takes, such as the same again. holds checks what must hold in particular when all is over; done says whether the act
    succeeded. calls and writes are how many events the act has at the least: with fewer, this would test less than it
    says. in_a_run says that the act is a run's, as a lookup is; keys_are_not_deleted that OpenAI does not delete keys of accounts, so that
    their ends are moved; variant that it differs little from another scenario, so that make test tries it only with the end of
    the process; long that make test does not try it at all.
    """

    name: str
    act: t.Callable[[World], object]
    prepare: t.Callable[[World], object] = _nothing
    next: t.Callable[[World], object] = _nothing
    holds: t.Callable[[World, bool], None] = lambda _world, _done: None
    calls: int = 1
    writes: int = 1
    in_a_run: bool = False
    keys_are_not_deleted: bool = False
    variant: bool = False
    long: bool = False


class _Act:
    """One run of a scenario's act, with an accident at one event, or none."""

    def __init__(self, accident: Accident | None, at: int) -> None:
        self.accident = accident
        self.at = at
        self.world: World | None = None
        self.happening: Happening | None = None
        self.events: dict[str, list[str]] = {CALL: [], WRITE: []}
        self.several: dict[str, list[bool]] = {CALL: [], WRITE: []}
        self.broken: list[str] = []
        self.fired = False
        #: Events count as long as the act lasts.
        self.on = False

    def event(self, kind: str, what: str, do: Do, half: Do | None) -> t.Any:
        if not self.on:
            return do()
        here = t.cast(Happening, self.happening)
        if here.dead:
            raise Crash
        self.events[kind].append(what)
        self.several[kind].append(half is not None)
        # Until the accident all is as in the clean run, where it has been checked.
        if self.accident is None or self.fired:
            self.check(f"before {what}")
        result = self._do(here, kind, do, half)
        if self.accident is None or self.fired:
            self.check(f"after {what}")
        if here.dead:
            raise Crash
        return result

    def _do(self, here: Happening, kind: str, do: Do, half: Do | None) -> t.Any:
        accident = self.accident
        if accident and kind == accident.kind:
            if here.every:
                return here.every(do)
            if len(self.events[kind]) == self.at:
                self.fired = True
                return accident.happen(here, do, half)
        return do()

    def check(self, when: str) -> None:
        world = t.cast(World, self.world)
        self.broken += [f"{when}: {broken}" for broken in invariants.at_every_instant(world)]


class Harness:
    """Runs scenarios in one lab."""

    def __init__(self, lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lab = lab
        self._clock = clock
        self._start = clock.time
        self._act: _Act | None = None
        lab.configure()
        definitions = lab.store().read(DEFINITIONS)
        assert definitions
        self._definitions = definitions.data
        true = Transport._attempt

        def attempt(transport: Transport, method: str, path: str, *args: t.Any) -> t.Any:
            def do() -> t.Any:
                return true(transport, method, path, *args)

            world = self._act and self._act.world
            return world.event(CALL, f"{method} {path}", do) if world else do()

        monkeypatch.setattr(Transport, "_attempt", attempt)

    def events(self, scenario: Scenario) -> dict[str, list[bool]]:
        """Do it once without an accident; returns of the events, by their kind, whether each is of several documents."""
        act = self._run(scenario, None, 0)
        assert len(act.events[CALL]) >= scenario.calls, act.events
        assert len(act.events[WRITE]) >= scenario.writes, act.events
        return act.several

    def try_at_each(self, scenario: Scenario, accident: Accident) -> None:
        """Let an accident happen at each event that it can happen to."""
        known = (scenario.name, self._lab.vault is None)
        if known not in _known:
            _known[known] = self.events(scenario)
        events = _known[known][accident.kind]
        for at, several in enumerate(events, 1):
            if several or not accident.of_several:
                assert self._run(scenario, accident, at).fired, f"event {at} of {len(events)} did not come"

    def _run(self, scenario: Scenario, accident: Accident | None, at: int) -> _Act:
        self._lab.double.reset()
        self._lab.double.settings(refuse_service_account_key_delete=scenario.keys_are_not_deleted)
        self._clock.time = self._start
        self._clock.move(0)
        act = self._act = _Act(accident, at)
        world = World(self._lab, self._clock, f"m{next(_names)}", self._definitions, act.event)
        act.world, act.happening = world, Happening(world)
        world.store_was_down = (
            accident is not None and accident.kind == WRITE and accident.name.endswith("from then on")
        )
        with world.others():
            scenario.prepare(world)
        try:
            done = self._do(scenario, act, world)
            self._check_later(scenario, act, world, done)
        finally:
            world.end_run()
        problems = [*act.broken]
        assert not problems, (
            f"{scenario.name}, {accident.name if accident else 'no accident'} at {at}: {problems[0]}"
            + (f"\nand {len(problems) - 1} more" if problems[1:] else "")
            + f"\nevents: {act.events}\nerrors: {[str(error) for error in world.errors]}"
        )
        return act

    def _do(self, scenario: Scenario, act: _Act, world: World) -> bool:
        """Do the act, and let arrive what was late; returns whether it succeeded."""
        here = t.cast(Happening, act.happening)
        done = False
        with contextlib.ExitStack() as around:
            if act.accident and act.accident.unseen:
                around.enter_context(world.on_another_machine())
            if scenario.in_a_run:
                around.enter_context(world.in_a_run())
            act.on = True
            try:
                scenario.act(world)
                done = True
            except Crash:
                pass
            except OpenAICredsError as error:
                world.hear(error)
            finally:
                act.on = False
            world.await_others()
        if act.accident is None:
            assert done and not world.errors, world.errors
        self._lab.double.clear_faults()
        self._check(act, world, "after the act")
        for call in here.late:
            with contextlib.suppress(Exception):
                call()
            self._check(act, world, "when a late call has arrived")
        return done

    def _check_later(self, scenario: Scenario, act: _Act, world: World, done: bool) -> None:
        world.end_run()
        if act.accident and act.accident.unseen:
            before = invariants.unseen_work(world)
            with contextlib.suppress(OpenAICredsError):  # a mount that is being moved is not cleaned up
                world.clean()
            if before != invariants.unseen_work(world):
                act.broken.append("3: a cleanup has touched unfinished work before the grace was over")
            self._clock.move(GRACE_IS_OVER)
        for again in range(2):
            with world.others():
                scenario.next(world)
            world.clean()
            self._check(act, world, "soon after", *([invariants.when_cleaned] if again else []))
        self._clock.move(TWO_DAYS)
        for _round in range(_ROUNDS):
            result = world.clean()
            if not any((result["failed"], result["revoked"], result["recovered"], result["admin_api_keys"])):
                break
            self._clock.move(_HOUR)
        # What is known of a run that nobody here sees is forgotten a day after its leases have ended.
        self._clock.move(TWO_DAYS)
        world.clean()
        if result["failed"]:
            act.broken.append(f"9: cleanup does not come to an end: {result['failed']}")
        self._check(act, world, "days later", invariants.at_the_end)
        with world.others():
            scenario.holds(world, done)

    def _check(self, act: _Act, world: World, when: str, *more: invariants.Check) -> None:
        act.broken += [f"{when}: {broken}" for broken in invariants.at_rest(world, *more)]
