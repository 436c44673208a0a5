# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write and delete library sets, with the accounts that they have at OpenAI."""

from __future__ import annotations

import contextlib
import typing as t

from ..definitions.change import Outcome
from ..definitions.library_sets import (
    ENDINGS,
    AccountEnding,
    LibrarySet,
    NotHeld,
    all_library_sets,
    define_library_set,
    defined_library_set,
    drop_library_set,
    find_library_set,
    read_endings,
)
from ..errors import Conflict, OpenAICredsError, StoreError
from ..journal.ending import Ended, end, refused_again
from ..journal.making import recover
from ..journal.owners import GRACE_SECONDS, Owner
from ..mount import Mount
from ..run.threads import concurrently
from ..store.base import Data
from .account_making import AccountMaking, account_intents, make_account
from .holds import Holder, hold_path, holder_of, is_being_changed, lease_of, read_holds, take_for_good

#: How many accounts are made at a time.
_AT_ONCE = 8
_MADE = "accounts made"


def write_library_set(mount: Mount, name: str, *, defaults: Data, dry_run: bool, **given: t.Any) -> Outcome:
    """Write a set, and make and delete accounts until it has those that it names.

    An account that is checked out is not dropped. What OpenAI refuses to delete is tried again by the next cleanup.
    """

    def define(held: t.Container[str], *, dry: bool) -> Outcome:
        return define_library_set(mount, name, defaults=defaults, held=held, dry_run=dry, **given)

    if dry_run:
        outcome = _plan(mount, name, lambda held: define(held, dry=True))
        return outcome._replace(changed=outcome.changed or bool(_missing(mount, name)))
    mount.check_configured()
    outcome = _with_holds(mount, name, lambda held: define(held, dry=False))
    _recover_left(mount, name)
    missing = _missing(mount, name)
    library_set = find_library_set(mount, name)
    progress = mount.progress
    progress.expect(_MADE, len(missing))
    made = concurrently(lambda account: make_account(mount, library_set, account), missing, _AT_ONCE, progress.waiting)
    for _account_id in made:
        progress.add(_MADE, 1)
    warnings = (*outcome.warnings, *_end_dropped(mount))
    return outcome._replace(changed=outcome.changed or bool(missing), warnings=warnings)


def delete_library_set(mount: Mount, name: str, *, dry_run: bool) -> Outcome:
    """Delete a set and its accounts, unless one of them is checked out."""
    if dry_run:
        return _plan(mount, name, lambda held: drop_library_set(mount, name, held=held, dry_run=True))
    outcome = _with_holds(mount, name, lambda held: drop_library_set(mount, name, held=held, dry_run=False))
    return outcome._replace(warnings=tuple(_end_dropped(mount))) if outcome.changed else outcome


def count_accounts(mount: Mount) -> int:
    """Return how many accounts of library sets there are at OpenAI, or may be."""
    intents = account_intents(mount, lambda _error: None)
    return sum(len(one.accounts) for one in all_library_sets(mount)) + len(mount.definitions(ENDINGS)) + len(intents)


def end_accounts(mount: Mount, due: t.Sequence[AccountEnding], concurrency: int = 16) -> list[Ended[AccountEnding]]:
    """Delete accounts that no set has any more; returns what became of each."""
    return end(mount, due, _AccountEndings(mount), concurrency=concurrency)


class _AccountEndings:
    """The records of accounts that are to be deleted. Their marks are their holds, so that none is deleted while it is lent."""

    ended = "accounts deleted"

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def mark(self, batch: list[AccountEnding], _owner: Owner, *, only_due: bool) -> list[AccountEnding]:
        return [one for one in batch if take_for_good(self._mount, *_place(one))]

    def look_ahead(self, batch: list[AccountEnding]) -> None:
        """They are not counted."""

    def clear(self, ended: t.Sequence[Ended[AccountEnding]], *, force: bool) -> dict[str, StoreError]:
        mount = self._mount

        def clear(data: Data) -> bool:
            left = data.get(ENDINGS, {})
            changed = False
            for one in ended:
                account_id = str(one.record.thing.id)
                if account_id not in left:
                    continue
                if one.error is None:
                    del left[account_id]
                else:
                    refusal = refused_again(one.record.refusal, one.error, mount.now())
                    left[account_id] = AccountEnding(one.record.subject, one.record.thing, refusal).stored()
                changed = True
            return changed

        # Holds first: nobody would look for one without its account.
        gone = [_place(one.record) for one in ended if one.error is None]
        mount.store.delete(*(hold_path(set_name, account_id) for set_name, _account, account_id in gone))
        mount.define(clear)
        return {}


def _place(ending: AccountEnding) -> tuple[str, str, str]:
    """Return the set that has dropped an account, and the account's name and id."""
    set_name, account = ending.subject.split("/")[-2:]
    return set_name, account, str(ending.thing.id)


def _end_dropped(mount: Mount) -> t.Iterator[str]:
    """Delete what sets have dropped; yields warnings on what would not go."""
    now = mount.now()
    due = [one for one in read_endings(mount) if not one.refusal or one.refusal.is_due(now)]
    for one in end_accounts(mount, due):
        if one.error:
            yield f"{one.record.subject} is not deleted yet, the next openai_cleanup tries again: {one.error}"


def _recover_left(mount: Mount, name: str) -> None:
    """Carry on what an interrupted write of the set has left."""
    for intent in account_intents(mount, lambda _error: None):
        if intent.value.library_set == name and intent.value.is_left(mount.now(), GRACE_SECONDS):
            with contextlib.suppress(Conflict):  # somebody else is at it
                recover(AccountMaking(mount, intent))


def _missing(mount: Mount, name: str) -> list[str]:
    """Return the accounts of a set that have not been made."""
    library_set = defined_library_set(mount, name)
    return [account for account in library_set.names if account not in library_set.accounts] if library_set else []


def _plan(mount: Mount, name: str, change: t.Callable[[t.Container[str]], Outcome]) -> Outcome:
    """Return what a change would do; raises if an account that it would drop is checked out."""
    try:
        return change(())
    except NotHeld as dropped:
        library_set = find_library_set(mount, name)
        holds = read_holds(mount, library_set, dropped.ids)
        for account in dropped.ids:
            _refuse_if_lent(mount, name, account, holds.get(account))
        return change(dropped.ids.values())


def _with_holds(mount: Mount, name: str, change: t.Callable[[t.Container[str]], Outcome]) -> Outcome:
    """Make a change while this process has the accounts that it drops, so that nobody is lent one of them."""
    held: dict[str, Holder] = {}
    with contextlib.ExitStack() as at_work:
        while True:
            try:
                outcome = change(held)
            except NotHeld as dropped:
                _hold(mount, find_library_set(mount, name), dropped.ids, held, at_work)
            else:
                _forget_gone(mount, name, held)
                return outcome


def _forget_gone(mount: Mount, name: str, held: t.Collection[str]) -> None:
    """Leave no hold of an account that somebody else has dropped and deleted before this process took it."""
    if not held:
        return
    library_set = defined_library_set(mount, name)
    known = {*(library_set.accounts.values() if library_set else ()), *mount.definitions(ENDINGS)}
    mount.store.delete(*(hold_path(name, account_id) for account_id in held if account_id not in known))


def _hold(
    mount: Mount, library_set: LibrarySet, ids: dict[str, str], held: dict[str, Holder], at_work: contextlib.ExitStack
) -> None:
    wanted = [account for account, id_ in ids.items() if library_set.accounts.get(account) == id_]
    holds = read_holds(mount, library_set, wanted)
    for account in wanted:
        _refuse_if_lent(mount, library_set.name, account, holds.get(account))
        holder = holder_of(mount, library_set, account, holds.get(account))
        at_work.enter_context(holder.at_it())
        holder.take(None)
        held[ids[account]] = holder


def _refuse_if_lent(mount: Mount, name: str, account: str, hold: t.Any) -> None:
    if is_being_changed(mount, hold):
        raise OpenAICredsError(
            f"service_account_names: {account} of library set {name!r} is being checked out or removed just now; try again"
        )
    if record := lease_of(mount, hold):
        by = record.lease.issued_by
        raise OpenAICredsError(
            f"service_account_names: {account} of library set {name!r} is checked out by {by.get('user')} on "
            f"{by.get('controller')}; check it in first"
        )
