# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make something at OpenAI: on record before it exists, and never unaccounted for.

    begin    an intent with the exact, unique name of what is to come
    create   OpenAI makes it
    accept   the secret is kept if the kind keeps it; the new thing is limited, or proved to work
    commit   one compare-and-set puts it where it belongs
    finish   what gave way is to end, and the intent goes

Each can be the last that happened. Whoever finds an intent that nobody is at takes it over, which fences its owner, and
carries it on: an intent that keeps the secret rolls forward, one that does not is taken back (see recover).

    refused        the intent goes
    no answer      what bears the name ends; what does not exist may still come to, so a watch stays for a while (see watches)
    not accepted   what was made ends, and the intent goes
    not certain    the intent stays, and says that nobody is at it
    overtaken      the kind gives way: it ends what was made, unless a record accounts for it
"""

from __future__ import annotations

import abc
import dataclasses
import typing as t

from ..errors import ApiError, OpenAICredsError
from ..mount import Mount
from ..openai.answers import NewKey
from ..run.processes import at_work
from .owners import Owner
from .things import Thing, check_pins, end_thing, ids_of
from .watches import watch_for

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI


class Uncertain(OpenAICredsError):
    """It is not known whether a step took effect, so nothing that a record may name can be ended."""


class Overtaken(OpenAICredsError):
    """Somebody else has taken over what this process was making."""


class Unanswered(OpenAICredsError):
    """A create had no answer, and nothing is left of it: it may be tried again."""


class NotBegun(OpenAICredsError):
    """Nothing was made, for a reason that may not hold for another try."""


class NotMade(OpenAICredsError):
    """A create failed. answered says whether OpenAI gave an answer."""

    def __init__(self, text: str, *, answered: bool) -> None:
        super().__init__(text)
        self.answered = answered


@dataclasses.dataclass(frozen=True)
class Made:
    """What OpenAI has made: the thing with its id, and its key."""

    thing: Thing
    key: NewKey


class Making(abc.ABC):
    """What a kind of credential adds to the procedure: its record, and what is particular to making it.

    subject says for users what is made, thing what it is to be at OpenAI, owner who makes it; ends_at is the Unix time at
    which it ends in any case.
    """

    #: What to say when it could not be created.
    failed: str
    mount: Mount
    subject: str
    thing: Thing
    owner: Owner
    ends_at: int

    @abc.abstractmethod
    def begin(self) -> None:
        """Put the intent on record; raises Conflict if somebody else is at it, NotBegun if it may be put elsewhere."""

    def check(self) -> None:  # noqa: B027 - most kinds have nothing to check
        """Raise NotBegun if the commit is not going to succeed, before anything hangs on it."""

    def taken_back(self) -> None:  # noqa: B027 - most kinds have nothing to do then
        """Hear that what was made, and never came to be on record, is about to end."""

    @abc.abstractmethod
    def create(self, client: OpenAI) -> Made:
        """Make it, by one call."""

    @abc.abstractmethod
    def accept(self, client: OpenAI, made: Made) -> None:
        """Keep, limit and prove it as the kind requires; raises Uncertain if it stays to be accepted later."""

    @abc.abstractmethod
    def commit(self, made: Made) -> None:
        """Put it where it belongs, by one compare-and-set; raises Uncertain or Overtaken."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Let end what gave way, and remove the intent."""

    @abc.abstractmethod
    def check_owner(self) -> None:
        """Raise Overtaken if the intent is not this process's any more."""

    @abc.abstractmethod
    def take_over(self) -> bool:
        """Make this process the owner, which fences whoever was; returns False if it turns out to have been committed.

        Raises Conflict if somebody else was faster.
        """

    @abc.abstractmethod
    def made(self) -> Made | None:
        """Return what was made if the intent keeps its secret, so that it can be carried on."""

    @abc.abstractmethod
    def clear(self, why: OpenAICredsError | None = None) -> None:
        """Remove the intent; why says why nothing came of it."""

    @abc.abstractmethod
    def abandon(self, why: OpenAICredsError | None = None) -> None:
        """Say on the intent, if that can be, that nobody is at it any more, so that it can be taken over at once."""

    @abc.abstractmethod
    def withdraw(self, client: OpenAI, made: Made, why: OpenAICredsError) -> t.NoReturn:
        """End what was made and not accepted, and remove the intent; raises why, with what became of it."""

    def gives_way(self, client: OpenAI, made: Made, why: Overtaken) -> t.NoReturn:
        """End what was made by a process that has been overtaken; raises why."""
        self.withdraw(client, made, why)


def make(making: Making) -> Made:
    """Make something new; returns it when it is committed."""
    with at_work(making.owner.work):
        making.begin()
        client = _client(making)
        made = _create(making, client)
        _carry_on(making, client, made)
        return made


def recover(making: Making, found: t.Sequence[str] | None = None) -> bool:
    """Carry on what was left: forward if the secret is kept or it is committed, else take it back.

    found are the ids that bear its name, if they are known already. Returns whether it was taken back. Raises Conflict if
    somebody else was faster, and what else goes wrong with the intent left as abandoned.
    """
    with at_work(making.owner.work):
        if not making.take_over():
            return False
        made = making.made()
        try:
            client = making.mount.openai()
            if made is None:
                _take_back(making, client, ids_of(client, making.thing, making.subject) if found is None else found)
        except OpenAICredsError as error:
            making.abandon(error)
            raise
        if made is None:
            return True
        _carry_on(making, client, made)
        return False


def _client(making: Making) -> OpenAI:
    """Return a client for what an intent says.

    It is asked for after that is written: whoever moves the mount to another store says so before looking for intents, so
    one of them sees the other.
    """
    try:
        client = making.mount.openai()
        check_pins(client, making.thing, making.subject)
        making.check()
    except OpenAICredsError as error:
        making.clear(None if isinstance(error, NotBegun) else error)
        raise
    return client


def _create(making: Making, client: OpenAI) -> Made:
    try:
        return making.create(client)
    except ApiError as error:
        unanswered, answered = str(error), error.status is not None
        failed = f"{making.failed}: {error}"
        if not error.may_have_happened:
            refused = NotMade(failed, answered=answered)
            making.clear(refused)
            raise refused from None
    try:
        making.check_owner()
        _take_back(making, client, ids_of(client, making.thing, making.subject))
    except OpenAICredsError as error:
        left = f"{making.thing.name} may exist at OpenAI, the next openai_cleanup looks for it ({error})"
        not_made = NotMade(f"{failed}; {left}", answered=answered)
        making.abandon(not_made)
        raise not_made from None
    raise Unanswered(unanswered)


def _carry_on(making: Making, client: OpenAI, made: Made) -> None:
    try:
        making.accept(client, made)
        making.commit(made)
    except Uncertain as error:
        making.abandon(error)
        raise
    except Overtaken as error:
        making.gives_way(client, made, error)
    except OpenAICredsError as error:
        making.withdraw(client, made, error)
    making.finish()


def _take_back(making: Making, client: OpenAI, found: t.Sequence[str]) -> None:
    if found:
        making.taken_back()
    for identifier in found:
        end_thing(client, dataclasses.replace(making.thing, id=identifier))
    if not found:
        watch_for(making.mount, making.subject, making.thing, making.ends_at)
    making.clear()
