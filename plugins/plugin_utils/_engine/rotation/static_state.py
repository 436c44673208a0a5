# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of static roles: which lease is a static role's current key, and who is changing that.

    static/<name>        the current lease, those that gave way, the next one while it is made, and who is at it
    unfinished/<name>    that somebody has begun to change it, so that cleanup finds what was interrupted without
                         looking at every static role

Whoever changes it takes the document by one compare-and-set, so that two exclude each other across controllers; an owner that has
ended, or cannot be seen for longer than the grace, has left it to others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ..errors import Conflict, OpenAICredsError, UnreadableError
from ..journal.owners import GRACE_SECONDS, Owner, is_left, read_owner, this_owner
from ..mount import Mount
from ..names import path_part, random_text
from ..run.processes import at_work
from ..store.base import Data, Stored, Write, converted, refuse_unreadable

STATIC = "static/"
UNFINISHED = "unfinished/"


@dataclasses.dataclass(frozen=True)
class Replaced:
    """A lease that gave way, and the Unix time at which it is to end. with_account says that its account ends with it."""

    lease_id: str
    ends_at: int
    with_account: bool


@dataclasses.dataclass(frozen=True)
class Next:
    """A lease that is being made. origin is the account that the user had given then; overlap is in seconds."""

    lease_id: str
    origin: str
    overlap: int
    new_account: bool


@dataclasses.dataclass(frozen=True)
class StaticState:
    """What is on record of a static role beside its definition.

    current is the id of its lease, account_id the account that this is a key of, origin the account that the user had given
    then, last_rotated a Unix time. replaced are leases that live on during an overlap, or whose end is still to be moved.
    """

    current: str | None = None
    account_id: str | None = None
    origin: str | None = None
    last_rotated: int | None = None
    replaced: tuple[Replaced, ...] = ()
    next: Next | None = None
    owner: Owner | None = None


class Busy(Conflict):
    """Somebody else is changing a static role, or was faster."""


def state_path(name: str) -> str:
    """Return where the state of a static role is."""
    return f"{STATIC}{path_part(name)}"


def read_states(
    mount: Mount,
    names: t.Sequence[str],
    unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable,
) -> dict[str, Stored[StaticState]]:
    """Return the states of those of these static roles that have one."""
    paths = {state_path(name): name for name in names}
    return {paths[one.path]: one for one in converted(mount.store.read_each(list(paths)), _read, unreadable)}


def read_state(mount: Mount, name: str) -> Stored[StaticState]:
    """Return the state of a static role; that of one that has none yet is empty, with version 0."""
    return read_states(mount, [name]).get(name) or Stored(StaticState(), state_path(name), 0)


def unfinished(mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable) -> t.Iterator[str]:
    """Yield the names of static roles that somebody has begun to change."""
    for one in converted(mount.store.scan(UNFINISHED), lambda data: str(data["name"]), unreadable):
        yield one.value


class Hold:
    """A static role's state while this process alone changes it."""

    def __init__(self, mount: Mount, name: str, stored: Stored[StaticState], owner: Owner) -> None:
        self._mount, self._name, self._version, self._owner = mount, name, stored.version, owner
        self.state = stored.value

    def now(self) -> int:
        """Return the mount's time, a Unix time."""
        return self._mount.now()

    def write(self, **changes: t.Any) -> None:
        """Change the state; raises Busy if it is not this process's any more."""
        state = dataclasses.replace(self.state, **{"owner": self._owner, **changes})
        try:
            self._mount.store.write(Write(state_path(self._name), dataclasses.asdict(state), self._version))
        except Conflict:
            raise busy(self._name) from None
        self._version += 1
        self.state = state

    def begin(self) -> None:
        """Let cleanup find it. Only its owner does so, after taking it, and only its owner says that it is finished."""
        with contextlib.suppress(Conflict):
            self._mount.store.write(Write(_unfinished_path(self._name), {"name": self._name}))

    def finish(self) -> None:
        """Say that nothing is left to do."""
        self._mount.store.delete(_unfinished_path(self._name))
        self.write(owner=None)

    def remove(self) -> None:
        """Remove the state: there is no such static role any more, and nothing live is left that only this knows."""
        self._mount.store.delete(state_path(self._name))
        self._mount.store.delete(_unfinished_path(self._name))


@contextlib.contextmanager
def hold(mount: Mount, name: str, grace: int = GRACE_SECONDS) -> t.Iterator[Hold]:
    """Take a static role's state for this process, or raise Busy; what raises leaves it to others at once."""
    stored = read_state(mount, name)
    now = mount.now()
    if not is_left(stored.value.owner, now, grace):
        raise busy(name)
    owner = this_owner(random_text(16), now)
    with at_work(owner.work):
        held = Hold(mount, name, stored, owner)
        held.write()
        try:
            yield held
        except Busy:
            raise
        except OpenAICredsError:
            with contextlib.suppress(OpenAICredsError):  # then others wait until this process has ended
                held.write(owner=None)
            raise


def busy(name: str) -> Busy:
    """Return the error that says that somebody else is at it."""
    return Busy(f"name: static role {name!r} is being rotated or changed by somebody else; try again")


def _unfinished_path(name: str) -> str:
    return f"{UNFINISHED}{path_part(name)}"


def _read(data: Data) -> StaticState:
    following = data["next"]
    return StaticState(
        **{
            **data,
            "replaced": tuple(Replaced(**one) for one in data["replaced"]),
            "next": Next(**following) if following else None,
            "owner": read_owner(data["owner"]),
        }
    )
