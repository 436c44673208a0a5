# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong at a call to OpenAI, or at a write to the store."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from unit.conftest import Crash
from unit.crashes.world import World

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError

Do = t.Callable[[], t.Any]

CALL, WRITE = "call", "write"
_GRACE_IS_OVER = 601
_A_DAY = 90_000


class Happening:
    """An accident while it happens: to whom, and what becomes of the rest of the act.

    dead says that the process has ended: it does nothing more. every is what happens from now on at every event of the
    kind; late are calls that OpenAI gets when the act is over.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False
        self.every: t.Callable[[Do], t.Any] | None = None
        self.late: list[Do] = []

    def die(self) -> t.NoReturn:
        self.dead = True
        raise Crash


@dataclasses.dataclass(frozen=True)
class Accident:
    """happen is called instead of the event, with what does it and, for several documents, what does half of it.

    unseen says that the act takes place on a machine that whoever cleans up afterwards cannot see; of_several that it only
    happens to a write of several documents. common ones are tried in make test.
    """

    name: str
    kind: str
    happen: t.Callable[[Happening, Do, Do | None], t.Any]
    unseen: bool = False
    of_several: bool = False
    common: bool = True

    @property
    def for_variants(self) -> bool:
        """Whether it is the end of the process; what is left before an event is what is left after the one before it."""
        return self.name.startswith("killed") and "before" not in self.name


def _killed_before(here: Happening, do: Do, half: Do | None) -> t.NoReturn:
    here.die()


def _killed_after(here: Happening, do: Do, half: Do | None) -> t.NoReturn:
    do()
    here.die()


def _killed_halfway(here: Happening, do: Do, half: Do | None) -> t.NoReturn:
    assert half
    half()
    here.die()


def _stalled(seconds: int, *, before: bool) -> t.Callable[[Happening, Do, Do | None], t.Any]:
    """The process stands still for so long that somebody on another machine takes it for dead and cleans up."""

    def stand_still(world: World) -> None:
        world.clock.move(seconds)
        # A mount that is being moved is not cleaned up.
        with world.on_another_machine(), contextlib.suppress(OpenAICredsError):
            world.clean()
            with world.others():
                world.while_stalled()

    def happen(here: Happening, do: Do, half: Do | None) -> t.Any:
        if before:
            stand_still(here.world)
        result = do()
        if not before:
            stand_still(here.world)
        return result

    return happen


def _late(here: Happening, do: Do, half: Do | None) -> t.Any:
    here.late.append(do)
    here.world.double.fault(kind="drop_before", times=1)
    return do()


def _answer(**fault: t.Any) -> t.Callable[[Happening, Do, Do | None], t.Any]:
    def happen(here: Happening, do: Do, half: Do | None) -> t.Any:
        here.world.double.fault(**{"retry_after": 0, **fault})
        return do()

    return happen


def _store(
    *, does: bool, may_have_happened: bool, always: bool = False
) -> t.Callable[[Happening, Do, Do | None], t.Any]:
    """The store says that a write failed. does says whether it has been done."""

    def fail(do: Do) -> t.NoReturn:
        if does:
            do()
        raise StoreError("store: nothing works in this test", may_have_happened=may_have_happened)

    def happen(here: Happening, do: Do, half: Do | None) -> t.NoReturn:
        here.every = fail if always else None
        fail(do)

    return happen


def _once_and_from_then_on(name: str, common: bool, **fault: t.Any) -> t.Iterator[Accident]:
    yield Accident(name, CALL, _answer(**fault, times=1), common=common)
    yield Accident(f"{name} from then on", CALL, _answer(**fault), common=common)


def _bad_answers() -> t.Iterator[Accident]:
    for kind in ("drop_before", "drop_after", "fail_after", "truncate", "malformed", "wrong_shape"):
        yield from _once_and_from_then_on(kind, kind in ("drop_after", "wrong_shape"), kind=kind)
    for status in (400, 401, 403, 404, 409, 500, 503):
        yield from _once_and_from_then_on(
            f"refused with {status}", status in (401, 403, 500), kind="refuse", status=status
        )
    yield Accident("rate_limit", CALL, _answer(kind="rate_limit", times=1), common=False)
    yield Accident("slow_after", CALL, _answer(kind="slow_after", delay=0.01, times=1), common=False)


ACCIDENTS = {
    f"{accident.kind} {accident.name}": accident
    for accident in (
        *(Accident("killed before", kind, _killed_before) for kind in (CALL, WRITE)),
        *(Accident("killed after", kind, _killed_after) for kind in (CALL, WRITE)),
        Accident("killed halfway", WRITE, _killed_halfway, of_several=True),
        *(Accident("killed before, unseen", kind, _killed_before, unseen=True, common=False) for kind in (CALL, WRITE)),
        *(Accident("killed after, unseen", kind, _killed_after, unseen=True) for kind in (CALL, WRITE)),
        Accident("late", CALL, _late),
        *(
            Accident(f"stalled {when} for {what}", kind, _stalled(seconds, before=when == "before"), common=common)
            for when in ("before", "after")
            for what, seconds, common in (("longer than the grace", _GRACE_IS_OVER, True), ("a day", _A_DAY, False))
            for kind in (CALL, WRITE)
        ),
        *_bad_answers(),
        Accident("refused", WRITE, _store(does=False, may_have_happened=False)),
        Accident("refused from then on", WRITE, _store(does=False, may_have_happened=False, always=True)),
        Accident("done without an answer", WRITE, _store(does=True, may_have_happened=True)),
        Accident("not done without an answer", WRITE, _store(does=False, may_have_happened=True)),
        Accident(
            "not done without an answer from then on",
            WRITE,
            _store(does=False, may_have_happened=True, always=True),
            common=False,
        ),
    )
}
