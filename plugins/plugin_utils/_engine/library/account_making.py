# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an account of a library set adds to the procedure that makes things (see journal.making).

    library_intents/<key>    an account that is being made: for which set, under which unique name, and its id once known

Names that users give need not be unique at OpenAI, where somebody else may have an account of the same name. So an account is
made under a unique name, which the intent holds before that. When its id is on record too, it gets the name that users gave,
and with the same call the role of a member. An intent that has the id rolls forward, one that has not is found by the unique
name and taken back. It has no key, and its commit puts the id into the set's definition.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import typing as t

from ..definitions.library_sets import LibrarySet, defined_library_set, put_account, subject_of
from ..errors import Conflict, OpenAICredsError, StoreError, UnreadableError
from ..journal.making import Made, Making, Overtaken, Unanswered, Uncertain, make
from ..journal.owners import Owner, is_left, read_owner, this_owner
from ..journal.things import Thing, check_pins, end_thing
from ..mount import Mount
from ..names import random_text
from ..openai.answers import NewKey
from ..store.base import Data, Found, Stored, Write, converted, refuse_unreadable
from .holds import hold_path

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

ACCOUNT_INTENTS = "library_intents/"
_ROUNDS = 3
#: An account is made without one.
_NO_KEY = NewKey("", "", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccountIntent:
    """An account that is being made for a set, under a name that users gave; replaces is the id that it had before.

    thing has its unique name, and its id once that is known. owner is None when nobody is at it any more.
    """

    library_set: str
    account: str
    thing: Thing
    replaces: str | None = None
    owner: Owner | None = None

    def write(self, path: str, version: int = 0) -> Write:
        """Return the write of its document over a version."""
        return Write(path, dataclasses.asdict(self), version)

    def is_left(self, now: int, grace: int) -> bool:
        """Say whether nobody is at it any more."""
        return is_left(self.owner, now, grace)


class AccountMaking(Making):
    """One account, by this process or left by another one."""

    failed = "service account creation failed"
    #: It ends with its set.
    ends_at = sys.maxsize

    def __init__(self, mount: Mount, intent: Stored[AccountIntent]) -> None:
        self.mount = mount
        self.intent = intent
        self.thing = intent.value.thing
        self.subject = subject_of(mount, intent.value.library_set, intent.value.account)
        self.owner = this_owner(random_text(16), mount.now())

    def begin(self) -> None:
        self._write(dataclasses.replace(self.intent.value, owner=self.owner))

    def create(self, client: OpenAI) -> Made:
        account_id = client.create_account_only(str(self.thing.project_id), str(self.thing.name))
        return self._made(account_id)

    def accept(self, client: OpenAI, made: Made) -> None:
        check_pins(client, made.thing, self.subject)
        account_id = str(made.thing.id)
        if self.intent.value.thing.id is None:
            self._keep_id(made.thing)
        client.make_member(str(self.thing.project_id), account_id, self.intent.value.account)

    def _keep_id(self, thing: Thing) -> None:
        try:
            self._write(dataclasses.replace(self.intent.value, thing=thing))
        except Conflict:
            raise self._overtaken() from None
        except StoreError as error:
            if error.may_have_happened:
                raise Uncertain(f"{error}; the next openai_cleanup carries on with {thing.name}") from None
            raise

    def commit(self, made: Made) -> None:
        intent = self.intent.value
        entry = self._entry()
        try:
            ours = entry is not None and put_account(
                self.mount, entry, intent.account, str(made.thing.id), intent.replaces
            )
        except StoreError as error:
            raise Uncertain(str(error)) from None
        if not ours:
            raise OpenAICredsError(
                f"{self.subject}: the library set was changed by somebody else at the same time, and does not need this account"
            )

    def finish(self) -> None:
        # An intent that stays is dropped by the next cleanup.
        with contextlib.suppress(StoreError):
            self._clear_committed()

    def check_owner(self) -> None:
        try:
            current = self.mount.store.read(self.intent.path)
        except StoreError as error:
            raise Uncertain(str(error)) from None
        if current is None or current.version != self.intent.version:
            raise self._overtaken()

    def take_over(self) -> bool:
        self._write(dataclasses.replace(self.intent.value, owner=self.owner))
        if not self._is_committed():
            return True
        self._clear_committed()
        return False

    def _clear_committed(self) -> None:
        intent = self.intent.value
        # First, since nobody would find it without the intent.
        replaced = [hold_path(intent.library_set, intent.replaces)] if intent.replaces else []
        self.mount.store.delete(*replaced, self.intent.path)

    def made(self) -> Made | None:
        account_id = self.intent.value.thing.id
        return self._made(account_id) if account_id else None

    def _made(self, account_id: str) -> Made:
        return Made(dataclasses.replace(self.thing, id=account_id), _NO_KEY)

    def clear(self, why: OpenAICredsError | None = None) -> None:
        self.mount.store.delete(self.intent.path)

    def abandon(self, why: OpenAICredsError | None = None) -> None:
        with contextlib.suppress(OpenAICredsError):  # then it is taken over when this process has ended
            self._write(dataclasses.replace(self.intent.value, owner=None))

    def withdraw(self, client: OpenAI, made: Made, why: OpenAICredsError) -> t.NoReturn:
        """Delete the account, unless the set has it by now; raises why."""
        try:
            check_pins(client, made.thing, self.subject)
            if self._is_committed(made.thing.id):
                self._clear_committed()
            else:
                end_thing(client, made.thing)
                self.clear()
        except OpenAICredsError as second:
            self.abandon()
            raise OpenAICredsError(
                f"{why}; the next openai_cleanup carries on with {self.subject} ({second})"
            ) from None
        raise why

    def gives_way(self, client: OpenAI, made: Made, why: Overtaken) -> t.NoReturn:
        """Delete the account, unless whoever has taken over carries on with it."""
        found = self.mount.store.read(self.intent.path)
        carried_on = found is not None and found.data["thing"]["id"] == made.thing.id
        if not carried_on and not self._is_committed(made.thing.id):
            end_thing(client, made.thing)
        raise why

    def _entry(self) -> LibrarySet | None:
        return defined_library_set(self.mount, self.intent.value.library_set)

    def _is_committed(self, account_id: str | None = None) -> bool:
        wanted = account_id or self.intent.value.thing.id
        entry = self._entry()
        return wanted is not None and entry is not None and wanted in entry.accounts.values()

    def _overtaken(self) -> Overtaken:
        return Overtaken(f"{self.subject}: making it took so long that somebody else has taken it over; try again")

    def _write(self, intent: AccountIntent) -> None:
        self.mount.store.write(intent.write(self.intent.path, self.intent.version))
        self.intent = Stored(intent, self.intent.path, self.intent.version + 1)


def make_account(mount: Mount, library_set: LibrarySet, account: str, replaces: str | None = None) -> str:
    """Make an account of a set, on record from before it exists; returns its id."""
    for _round in range(_ROUNDS):
        thing = library_set.thing(f"library-{account[:64]}-{random_text(16)}")
        intent = AccountIntent(library_set=library_set.name, account=account, thing=thing, replaces=replaces)
        making = AccountMaking(mount, Stored(intent, f"{ACCOUNT_INTENTS}{random_text(16)}", 0))
        try:
            return str(make(making).thing.id)
        except Unanswered as error:
            problem = error
    raise OpenAICredsError(f"{making.failed} {_ROUNDS} times, lastly: {problem}")


def account_intents(
    mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> list[Stored[AccountIntent]]:
    """Return the accounts that are being made, and those whose making was interrupted."""
    return list(_intents_in(mount.store.scan(ACCOUNT_INTENTS), unreadable))


def _intents_in(
    found: t.Iterable[Found], unreadable: t.Callable[[UnreadableError], object]
) -> t.Iterator[Stored[AccountIntent]]:
    return converted(found, _read, unreadable)


def _read(data: Data) -> AccountIntent:
    return AccountIntent(**{**data, "thing": Thing(**data["thing"]), "owner": read_owner(data["owner"])})
