# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds: who has an account of a library set.

    library/<set>/<account>    which lease is, or is to be, a key of the account; who is lending or removing it just now

An account is taken by one compare-and-set on its document. It is free when nobody is at it and its lease, if one is named, is
not on record: so a check-out ends with its lease, however that ends. The document stays, so that its version goes on growing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import zlib

from ..definitions.library_sets import LibrarySet
from ..errors import Conflict, OpenAICredsError, StoreError, UnreadableError
from ..journal.owners import GRACE_SECONDS, Owner, is_left, read_owner, this_owner
from ..leases.find import Record, find_issued
from ..mount import Mount
from ..names import path_part, random_text
from ..run.processes import at_work
from ..store.base import Data, Stored, Write, converted, refuse_unreadable

HOLDS = "library/"
#: In files, who has the accounts of a set is kept together in so many.
_GROUPS = 16


class Taken(OpenAICredsError):
    """Somebody else was faster."""


@dataclasses.dataclass(frozen=True)
class Hold:
    """lease_id is the lease that is a key of the account, or was. owner is at lending or removing it, or None."""

    account: str
    lease_id: str | None = None
    owner: Owner | None = None


def hold_path(set_name: str, account_id: str) -> str:
    """Return where it is recorded who has an account."""
    group = zlib.crc32(account_id.encode()) % _GROUPS
    return f"{HOLDS}{path_part(set_name)}/{group:x}-{path_part(account_id)}"


def read_holds(
    mount: Mount,
    library_set: LibrarySet,
    accounts: t.Iterable[str],
    unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable,
) -> dict[str, Stored[Hold]]:
    """Return the holds of those of these accounts that were lent before, by the names of the accounts."""
    paths = {hold_path(library_set.name, library_set.accounts[account]): account for account in accounts}
    found = converted(mount.store.read_each(list(paths)), _read, unreadable)
    return {paths[hold.path]: hold for hold in found}


def is_being_changed(mount: Mount, hold: Stored[Hold] | None) -> bool:
    """Say whether somebody is lending or removing an account just now."""
    return hold is not None and not is_left(hold.value.owner, mount.now(), GRACE_SECONDS)


def lease_of(mount: Mount, hold: Stored[Hold] | None) -> Record | None:
    """Return the lease that an account is lent for, or None."""
    return find_issued(mount, hold.value.lease_id) if hold and hold.value.lease_id else None


def is_free(mount: Mount, hold: Stored[Hold] | None) -> bool:
    """Say whether an account may be taken.

    Whether somebody is at it is looked at first: what they have written is complete if they are not.
    """
    return not is_being_changed(mount, hold) and lease_of(mount, hold) is None


class Holder:
    """This process while it has an account for itself, so that nobody else lends or removes it."""

    def __init__(self, mount: Mount, path: str, account: str, version: int) -> None:
        self._mount, self._path, self._version = mount, path, version
        self.hold = Hold(account, None, this_owner(random_text(16), mount.now()))

    @contextlib.contextmanager
    def at_it(self) -> t.Iterator[None]:
        """Let others see that this process is at it; when the context ends, the lease that was named has the account."""
        with at_work(t.cast(Owner, self.hold.owner).work):
            try:
                yield
            except OpenAICredsError:
                # If it cannot be said, others wait until this process has ended.
                with contextlib.suppress(StoreError):
                    self.let_go()
                raise

    def take(self, lease_id: str | None) -> None:
        """Take the account for a lease, or go on having it for another one; raises Taken."""
        self._write(dataclasses.replace(self.hold, lease_id=lease_id))

    def let_go(self) -> None:
        """Say that this process has done what it took the account for; raises Taken if it was taken over meanwhile."""
        if self._taken:
            self._taken = False
            self._write(dataclasses.replace(self.hold, owner=None))

    #: Whether this process has the account now.
    _taken = False

    def _write(self, hold: Hold) -> None:
        try:
            self._mount.store.write(Write(self._path, dataclasses.asdict(hold), self._version))
        except Conflict:
            self._taken = False
            raise Taken(f"{hold.account}: somebody else has taken the service account meanwhile; try again") from None
        self._version += 1
        self._taken = hold.owner is not None
        self.hold = hold


def holder_of(mount: Mount, library_set: LibrarySet, account: str, hold: Stored[Hold] | None) -> Holder:
    """Return this process as the one that takes an account, over what is recorded of it."""
    path = hold_path(library_set.name, library_set.accounts[account])
    return Holder(mount, path, account, hold.version if hold else 0)


def take_for_good(mount: Mount, set_name: str, account: str, account_id: str) -> bool:
    """Take an account that no set has any more, so that it can be deleted; returns False as long as somebody has it.

    Whoever has dropped it may have been so slow that others took it for dead, and lent the account meanwhile.
    """
    path = hold_path(set_name, account_id)
    hold = next(converted(mount.store.read_each([path]), _read), None)
    if not is_free(mount, hold):
        return False
    try:
        Holder(mount, path, account, hold.version if hold else 0).take(None)
    except Taken:
        return False
    return True


def _read(data: Data) -> Hold:
    return Hold(data["account"], data["lease_id"], read_owner(data["owner"]))
