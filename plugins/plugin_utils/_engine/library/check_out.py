# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check out: lend an account that nobody has, with a fresh key that ends with the lease."""

from __future__ import annotations

import contextlib
import itertools
import random
import typing as t

from ..definitions.library_sets import LibrarySet, find_library_set
from ..durations import rfc3339
from ..errors import OpenAICredsError, UnreadableError
from ..journal.making import NotMade
from ..leases.find import active_records
from ..leases.issue import issue_lease, new_lease, unissued
from ..leases.lease import Lease, credential, read_leases
from ..leases.revoke import revoke
from ..mount import Mount
from ..names import random_text
from ..store.base import Data, Stored
from .account_making import make_account
from .holds import Hold, Taken, hold_path, holder_of, is_free, read_holds

#: How many accounts are looked at together at the most.
_MOST_AT_ONCE = 256


def _ignore(_lease: Lease) -> None:
    pass


def check_out(
    mount: Mount,
    name: str,
    ttl: int,
    account: str | None = None,
    on_issued: t.Callable[[Lease], object] = _ignore,
) -> Data:
    """Lend an account of a set, a particular one if it is named, for ttl seconds; returns the credential.

    on_issued is handed the lease as soon as it is certain.
    """
    mount.store.prepare(writes=1)
    library_set = find_library_set(mount, name)
    _check_ttl(library_set, ttl)
    for candidate, hold in _free(mount, library_set, account):
        with contextlib.suppress(Taken):
            lease, key = _lend(mount, library_set, candidate, hold, ttl)
            on_issued(lease)
            return _credential(lease, key)
    raise _none_free(library_set, account)


def plan_check_out(mount: Mount, name: str, ttl: int, account: str | None = None) -> Data:
    """Return a credential for a dry run; raises where a real run would fail as things are now."""
    library_set = find_library_set(mount, name)
    _check_ttl(library_set, ttl)
    candidate = next(_free(mount, library_set, account), None)
    if candidate is None:
        raise _none_free(library_set, account)
    return {
        **placeholder(mount, ttl),
        "service_account": candidate[0],
        "service_account_id": library_set.accounts[candidate[0]],
        "project_id": library_set.origin.project_id,
    }


def placeholder(mount: Mount, ttl: int) -> Data:
    """Return a credential for a dry run of which no more is known."""
    return {**unissued(mount.now(), ttl, renewable=True), "checkout_time": rfc3339(mount.now())}


def _credential(lease: Lease, key: str) -> Data:
    return {**credential(lease, key), "checkout_time": rfc3339(lease.issued_at)}


def _check_ttl(library_set: LibrarySet, ttl: int) -> None:
    if ttl > library_set.max_ttl:
        raise OpenAICredsError(
            f"ttl: {ttl} s is longer than max_ttl of library set {library_set.name!r} ({library_set.max_ttl} s)"
        )


def _free(mount: Mount, library_set: LibrarySet, account: str | None) -> t.Iterator[tuple[str, Stored[Hold] | None]]:
    """Yield accounts that seem to be free, and what is recorded of who had them, in an order that treats all alike.

    They are looked at when they are asked for: the first ones one by one, and if those are lent, more and more at a time.
    """
    if account is not None and account not in library_set.names:
        raise OpenAICredsError(f"service_account: {account!r} is not in library set {library_set.name!r}")
    names = library_set.names if account is None else (account,)
    made = [name for name in names if name in library_set.accounts]
    if not made:
        raise OpenAICredsError(
            f"service_account_names: {', '.join(names)} of library set {library_set.name!r} could not be made yet; run "
            "openai_library_set again"
        )
    size, shuffled = 1, _shuffled(made)
    while some := list(itertools.islice(shuffled, size)):
        for name in _not_lent(mount, library_set, some):
            # Only now is all known of it. What cannot be read may be lent, and must not keep others from being.
            with contextlib.suppress(UnreadableError):
                hold = read_holds(mount, library_set, [name]).get(name)
                if is_free(mount, hold):
                    yield name, hold
        size = min(2 * size, _MOST_AT_ONCE)


def _shuffled(names: list[str]) -> t.Iterator[str]:
    """Yield names in any order, which is chosen as they are asked for: mostly one will do. The list is used up."""
    while names:
        nth = random.randrange(len(names))
        names[nth], names[-1] = names[-1], names[nth]
        yield names.pop()


def _not_lent(mount: Mount, library_set: LibrarySet, accounts: list[str]) -> list[str]:
    """Return those of several accounts whose leases are not on record, or cannot be read."""
    if len(accounts) == 1:
        return accounts
    holds = read_holds(mount, library_set, accounts, lambda _error: None)
    leases = [hold.value.lease_id for hold in holds.values() if hold.value.lease_id]
    lent = {one.value.lease_id for one in read_leases(mount, leases, lambda _error: None)}
    return [name for name in accounts if name not in holds or holds[name].value.lease_id not in lent]


def _none_free(library_set: LibrarySet, account: str | None) -> OpenAICredsError:
    if account is not None:
        return OpenAICredsError(f"service_account: service account is already checked out: {account!r}")
    return OpenAICredsError(
        f"name: no available service accounts in library set {library_set.name!r}: all {len(library_set.names)} are checked "
        "out; try again later"
    )


def _lend(
    mount: Mount, library_set: LibrarySet, account: str, hold: Stored[Hold] | None, ttl: int, *, again: bool = True
) -> tuple[Lease, str]:
    """Take an account and issue a key of it; raises Taken if somebody else has the account.

    With again, one that is not at OpenAI any more is made again.
    """
    holder = holder_of(mount, library_set, account, hold)

    def prepare(_again: bool) -> Lease:
        lease = new_lease(
            mount,
            mount.openai(),
            f"library/{library_set.name}",
            ttl,
            library_set.max_ttl,
            library_set=library_set.name,
            renewable=True,
            native_expiry=True,
            service_account=account,
            service_account_id=library_set.accounts[account],
            api_key_name=f"library-{account[:64]}-{random_text(16)}",
            project_id=library_set.origin.project_id,
        )
        holder.take(lease.lease_id)
        return lease

    with holder.at_it():
        try:
            lease, key = issue_lease(mount, prepare)
        except NotMade as error:
            if not again or not error.answered or not _is_gone(mount, library_set, account):
                raise
            replaced = _make_again(mount, library_set, account)
        else:
            try:
                holder.let_go()
            except Taken:
                revoke(mount, active_records(mount, [lease.lease_id]))
                raise
            return lease, key
    return _lend(mount, replaced, account, None, ttl, again=False)


def _is_gone(mount: Mount, library_set: LibrarySet, account: str) -> bool:
    """Say whether OpenAI does not know an account any more."""
    account_id = library_set.accounts[account]
    return mount.openai().find_service_account(library_set.origin.project_id, account_id) is None


def _make_again(mount: Mount, library_set: LibrarySet, account: str) -> LibrarySet:
    """Make an account again that somebody has deleted at OpenAI; returns the set with it. This process has the account."""
    account_id = library_set.accounts[account]
    now = find_library_set(mount, library_set.name)
    if now.accounts.get(account) != account_id:
        # It may be this process that has put it on record again; nobody else would ever look at it.
        mount.store.delete(hold_path(library_set.name, account_id))
        raise Taken(f"{account}: the service account has been dropped from its set meanwhile; try again")
    make_account(mount, now, account, replaces=account_id)
    return find_library_set(mount, library_set.name)
