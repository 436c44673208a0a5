# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check in: end the key of an account that is checked out, so that others can have the account."""

from __future__ import annotations

from ..definitions.library_sets import LibrarySet, find_library_set
from ..errors import OpenAICredsError
from ..leases.revoke import revoke
from ..mount import Mount
from .holds import is_being_changed, lease_of, read_holds

#: What of a lease's issuer says who its holder is: jobs and playbooks of a user differ.
_HOLDER = ("user", "controller")


def check_in(
    mount: Mount, name: str, *, account: str | None, account_id: str | None, force: bool, dry_run: bool
) -> str | None:
    """Check in an account of a set, by its name or id; returns the id of the lease that has ended, or None if there is none.

    Only the user that has checked it out may, from the same controller, unless force.
    """
    library_set = find_library_set(mount, name)
    account = _name_of(library_set, account, account_id)
    if account not in library_set.accounts:
        return None
    hold = read_holds(mount, library_set, [account]).get(account)
    if is_being_changed(mount, hold):
        raise OpenAICredsError(
            f"service_account: {account} of library set {name!r} is being checked out or removed just now; try again"
        )
    record = lease_of(mount, hold)
    if record is None:
        return None
    by = record.lease.issued_by
    if not force and any(by.get(part) != mount.issued_by.get(part) for part in _HOLDER):
        raise OpenAICredsError(
            f"service_account: {account} of library set {name!r} is checked out by {by.get('user')} on {by.get('controller')}; "
            "let them check it in, or use force: true"
        )
    if not dry_run:
        for one in revoke(mount, [record]):
            if one.error:
                raise OpenAICredsError(f"service_account: {account} could not be checked in: {one.error}")
    return record.subject


def _name_of(library_set: LibrarySet, account: str | None, account_id: str | None) -> str:
    if account_id is not None:
        names = [name for name, id_ in library_set.accounts.items() if id_ == account_id]
        if not names:
            raise OpenAICredsError(
                f"service_account_id: {account_id!r} is not the id of an account of library set {library_set.name!r}"
            )
        return names[0]
    if account not in library_set.names:
        raise OpenAICredsError(f"service_account: {account!r} is not in library set {library_set.name!r}")
    return account
