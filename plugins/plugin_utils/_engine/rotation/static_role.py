# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotation of static roles: each has one current lease, which holds its key.

    take      the role's state says who is at it (see static_state)
    issue     the state names the lease that is to come; then that is issued (see leases.issue)
    switch    one compare-and-set makes it the current one, and the one before a replaced one
    let end   the replaced lease ends at once, or its record says when
    finish    the state says that nobody is at it

Whatever is interrupted, the next rotation or cleanup carries on: a lease that was issued becomes the current one, one that was not
is made anew. All the rest, how leases are made, ended, listed and refused, is what it is for every lease.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ..definitions.change import Outcome, delete_definition, read_definitions, whole
from ..definitions.static_roles import (
    NEW_ACCOUNT,
    NEW_KEY,
    STATIC_ROLES,
    StaticRole,
    define_static_role,
    find_static_role,
    rotates_after,
)
from ..durations import rfc3339
from ..errors import Conflict, OpenAICredsError, UnreadableError, unless_done
from ..journal.owners import GRACE_SECONDS, is_left
from ..leases.find import Record, adopt, as_issued, find_issued, find_record
from ..leases.issue import issue_lease, new_lease, unissued
from ..leases.lease import Lease, credential, read_lease, read_leases
from ..leases.refusal import with_way_out
from ..leases.revoke import revoke
from ..leases.withdraw import revoke_found
from ..mount import Mount
from ..names import check_name, random_text
from ..store.base import Data, refuse_unreadable
from .static_state import Busy, Hold, Next, Replaced, StaticState, hold, read_state, read_states

#: Of the name of an account that was taken over, so much stands in the names of its successors.
_LONGEST_NAME = 100
_KEY_SUFFIX = 8
_WAY_OUT = "openai_static_creds with rotate: always makes a new one"


@dataclasses.dataclass(frozen=True)
class Report:
    """What was done: rotated says whether there is a new key, warnings what a user should know; unread why a lease that is to
    end cannot be read, so that this is not finished."""

    rotated: bool = False
    warnings: tuple[str, ...] = ()
    unread: UnreadableError | None = None


def write_static_role(mount: Mount, name: str, *, defaults: Data, dry_run: bool, **given: t.Any) -> Outcome:
    """Write a static role (see define_static_role) and issue its first key, also the first one of another account."""
    planned = define_static_role(mount, name, defaults=defaults, dry_run=True, **given)
    _refuse_keys_of_own_account(mount, name, t.cast(Data, planned.after))
    if not dry_run:
        mount.check_configured()
        planned = define_static_role(mount, name, defaults=defaults, dry_run=False, **given)
    elif not mount.definitions("config"):
        return planned._replace(warnings=(*planned.warnings, unless_done(mount.unconfigured())))
    if dry_run:
        state = read_state(mount, name).value
        return planned._replace(changed=planned.changed or state.current is None)
    role = find_static_role(mount, name)
    state = read_state(mount, name).value
    if state.current and state.origin == role.origin:
        return planned
    report = rotate_static_role(mount, name, always=False)
    return planned._replace(changed=planned.changed or report.rotated, warnings=(*planned.warnings, *report.warnings))


def _refuse_keys_of_own_account(mount: Mount, name: str, entry: Data) -> None:
    """Raise if an account that new_account has made were to get new keys: it ends with its lease."""
    state = read_state(mount, name).value
    with whole(f"static role {name!r}"):
        new_key = entry["rotation_strategy"] == NEW_KEY
    if not new_key or not state.current or not state.origin:
        return
    if state.origin.endswith(f"/{entry['service_account_id']}") and _is_account(read_lease(mount, state.current)):
        raise OpenAICredsError(
            f"rotation_strategy: the account of static role {name!r} was made by new_account; to go on with new_key, give "
            "another service_account_id too"
        )


def _is_account(stored: t.Any) -> bool:
    return stored is not None and stored.value.api_key_name is None


def rotate_static_role(mount: Mount, name: str, *, always: bool) -> Report:
    """Give a static role a new key if that is due, or always; first of all finish what was interrupted.

    A rotation that is carried on counts: there is no second one.
    """
    role = find_static_role(mount, name)
    state = read_state(mount, name).value
    if not (always or is_due(mount, role, state) or _is_interrupted(mount, state)):
        return Report()
    try:
        with hold(mount, name) as held:
            # Whoever deletes the role takes its state first, so either this sees it or waits for it.
            if name not in mount.definitions(STATIC_ROLES):
                _end_everything(mount, held)
                raise Busy(f"name: static role {name!r} was deleted meanwhile")
            role = find_static_role(mount, name)
            held.begin()
            report = _carry_on(mount, held)
            if not report.rotated and (always or is_due(mount, role, held.state)):
                lease = _issue(mount, role, held)
                try:
                    _switch(held, lease)
                except Conflict:
                    # Somebody took this process for dead. Unless they go on with this key, nobody is to have it.
                    revoke(mount, [as_issued(lease)], only_due=True)
                    raise
                report = dataclasses.replace(_let_end(mount, held), rotated=True)
            if report.unread:
                # Then cleanup carries on.
                held.write(owner=None)
            else:
                held.finish()
    except Busy as error:
        if always or read_state(mount, name).value.current is None:
            raise
        return Report(warnings=(str(error),))
    return report


def recover_static_role(mount: Mount, name: str, grace: int) -> Report:
    """Finish what was interrupted, also the deletion of a static role; what somebody is at is left alone.

    Raises what keeps it from being finished, when all the rest is.
    """
    try:
        with hold(mount, name, grace) as held:
            deleted = name not in mount.definitions(STATIC_ROLES)
            report = _end_everything(mount, held) if deleted else _carry_on(mount, held)
            if report.unread:
                raise report.unread
            if not deleted:
                held.finish()
            return report
    except Busy:
        return Report()


def delete_static_role(mount: Mount, name: str, *, dry_run: bool) -> Outcome:
    """Forget a static role and end the keys that were made for it, and the account if it was made by new_account."""
    check_name(name, "name")
    there = name in mount.definitions(STATIC_ROLES)
    state = read_state(mount, name)
    if dry_run or not (there or state.version):
        return delete_definition(mount, STATIC_ROLES, name, dry_run=True)
    # Raises if the keys cannot be ended.
    if state.value.current:
        mount.check_configured()
    with hold(mount, name) as held:
        held.begin()
        outcome = delete_definition(mount, STATIC_ROLES, name, dry_run=False)
        report = _end_everything(mount, held)
    return outcome._replace(changed=True, warnings=report.warnings)


def current_credential(mount: Mount, name: str) -> Data:
    """Return the credential that a static role has now, or raise; nothing is changed."""
    role = find_static_role(mount, name)
    state = read_state(mount, name).value
    if state.current is None:
        raise _without_key(name)
    stored = read_lease(mount, state.current)
    mount.check_is_here()
    if stored is None or stored.value.ending or stored.value.api_key is None:
        raise OpenAICredsError(f"name: the key of static role {role.name!r} has ended or was revoked; {_WAY_OUT}")
    if mount.now() >= stored.value.expires_at:
        raise OpenAICredsError(
            f"name: the key of static role {role.name!r} ended at {rfc3339(stored.value.expires_at)}, as its ttl says, and nobody "
            f"had rotated it by then; {_WAY_OUT}"
        )
    return credential(stored.value, stored.value.api_key)


def planned_credential(mount: Mount, name: str, *, always: bool) -> tuple[bool, Data, list[str]]:
    """Return for a dry run whether there would be a rotation, the credential or a placeholder, and warnings."""
    try:
        role = find_static_role(mount, name)
    except OpenAICredsError as error:
        # Whoever defines it makes its first key.
        return always, *_not_yet(mount, error)
    state = read_state(mount, name).value
    if not (always or is_due(mount, role, state)):
        return False, current_credential(mount, name), []
    creds = unissued(mount.now(), role.ttl, renewable=False)
    creds.update(
        project_id=role.project_id,
        service_account=role.service_account,
        service_account_id=state.account_id or role.service_account_id,
    )
    return True, creds, []


def present_credential(mount: Mount, name: str) -> tuple[Data, list[str]]:
    """Return for a dry run the credential that a static role has, or a placeholder if it is not there yet, and warnings."""
    try:
        find_static_role(mount, name)
        if read_state(mount, name).value.current is None:
            raise _without_key(name)
    except OpenAICredsError as error:
        return _not_yet(mount, error)
    return current_credential(mount, name), []


def _without_key(name: str) -> OpenAICredsError:
    return OpenAICredsError(f"name: static role {name!r} has no key yet; {_WAY_OUT}")


def _not_yet(mount: Mount, error: OpenAICredsError) -> tuple[Data, list[str]]:
    """Return a placeholder for what an earlier task of a dry run would have made, and the warning."""
    return unissued(mount.now(), 0, renewable=False), [unless_done(error)]


def is_due(mount: Mount, role: StaticRole, state: StaticState) -> bool:
    """Say whether a static role needs a new key: it has none, or one of another account than is wanted, or an old one."""
    if state.current is None or state.last_rotated is None or state.origin != role.origin:
        return True
    now = mount.now()
    # A key that was made further ahead than the next time was made by a clock that was wrong.
    return not state.last_rotated - role.rotates_after <= now < state.last_rotated + role.rotates_after


def next_rotations(
    mount: Mount, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> dict[str, int]:
    """Return the Unix time at which each static role is, or was, to be rotated next; 0 if that is at once for another reason than
    its age. Hand over why a state cannot be read."""
    definitions = mount.all_definitions()
    names = list(definitions.get(STATIC_ROLES, {}))
    states = read_states(mount, names, unreadable)
    now = mount.now()
    found = {}
    for name in names:
        state = states[name].value if name in states else StaticState()
        try:
            role = find_static_role(mount, name, definitions=definitions)
        except OpenAICredsError:
            found[name] = 0  # so that whoever rotates it is told what is wrong
            continue
        planned = (state.last_rotated or 0) + role.rotates_after
        is_of_age = state.current is not None and state.origin == role.origin and planned <= now
        found[name] = planned if is_of_age or not is_due(mount, role, state) else 0
    return found


def read_static_roles(
    mount: Mount, name: str | None, unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable
) -> list[Data]:
    """Return static roles as users see them, sorted by name; never a key.

    Of what cannot be read it is handed over which static role that is, and why; it counts as due, so that whoever rotates it is
    told as well.
    """
    entries = read_definitions(mount, STATIC_ROLES, name)
    names = [entry["name"] for entry in entries]
    unread: list[UnreadableError] = []
    states = read_states(mount, names, unread.append)
    found = (stored.value.current for stored in states.values())
    wanted = [lease_id for lease_id in found if lease_id]
    leases = {one.value.lease_id: one.value for one in read_leases(mount, wanted, unread.append)}
    # An error does not say which static role it is about, so they are read one by one.
    unknown = {role: why for role in names if unread and (why := _why_unreadable(mount, role))}
    for role, why in unknown.items():
        unreadable(UnreadableError(f"what is on record of static role {role!r} cannot be read: {why}"))
    definitions = mount.all_definitions()
    shown = [_public(mount, definitions, entry, states, leases) for entry in entries]
    return [{**one, "rotation_due": True} if one["name"] in unknown else one for one in shown]


def _why_unreadable(mount: Mount, name: str) -> UnreadableError | None:
    """Return why the state or the current lease of a static role cannot be read; None if they can."""
    try:
        if current := read_state(mount, name).value.current:
            read_lease(mount, current)
    except UnreadableError as error:
        return error
    return None


def _public(
    mount: Mount, definitions: Data, entry: Data, states: t.Mapping[str, t.Any], leases: t.Mapping[str, Lease]
) -> Data:
    state = states[entry["name"]].value if entry["name"] in states else StaticState()
    lease = leases.get(state.current or "")
    last = state.last_rotated
    live = lease is not None and not lease.ending and mount.now() < lease.expires_at
    # Due where something is wrong, so that whoever rotates it is told.
    planned, due = None, True
    with contextlib.suppress(OpenAICredsError):
        with whole(f"static role {entry['name']!r}"):
            after = rotates_after(entry["rotation_period"], entry["ttl"], entry["overlap"])
        planned = last + after if last else None
        due = is_due(mount, find_static_role(mount, entry["name"], definitions=definitions), state)
    return {
        **entry,
        "current_service_account_id": state.account_id,
        "last_rotated": rfc3339(last) if last else None,
        "next_rotation": rfc3339(planned) if planned else None,
        "rotation_due": due,
        "api_key_id": lease.api_key_id if lease and live else None,
        "expires_at": rfc3339(lease.expires_at) if lease and live else None,
    }


def _is_interrupted(mount: Mount, state: StaticState) -> bool:
    return state.owner is not None and is_left(state.owner, mount.now(), GRACE_SECONDS)


def _carry_on(mount: Mount, held: Hold) -> Report:
    """Finish what another process has left: switch to what it has issued, and let end what gave way."""
    rotated = False
    if following := held.state.next:
        try:
            record = find_record(mount, following.lease_id)
        except UnreadableError:
            # It must not keep another from being made, and ends when it can be read.
            left = Replaced(following.lease_id, held.now(), with_account=False)
            held.write(next=None, replaced=(*held.state.replaced, left))
            return _let_end(mount, held)
        if record and record.lease.api_key and adopt(mount, record):
            _switch(held, record.lease)
            rotated = True
        else:
            if record:
                # Fences the one who issues it, should they still be there.
                revoke_found(mount, [record], lambda: [], force=False)
            held.write(next=None)
    return dataclasses.replace(_let_end(mount, held), rotated=rotated)


def _issue(mount: Mount, role: StaticRole, held: Hold) -> Lease:
    """Issue the lease that is to be the next one; the state names it before."""
    state = held.state
    first = state.origin != role.origin
    new_account = role.rotation_strategy == NEW_ACCOUNT and not first
    account_id = None if new_account else role.service_account_id if first else state.account_id

    def prepare(_again: bool) -> Lease:
        unique = random_text(_KEY_SUFFIX)
        lease = new_lease(
            mount,
            mount.openai(),
            f"static/{role.name}",
            role.ttl,
            role.ttl,
            static_role=role.name,
            renewable=False,
            native_expiry=True,
            service_account=f"{role.service_account[:_LONGEST_NAME]}-{unique}" if new_account else role.service_account,
            service_account_id=account_id,
            api_key_name=None if new_account else f"{role.api_key_name}-{unique}",
            project_id=role.project_id,
        )
        held.write(next=Next(lease.lease_id, role.origin, role.overlap, new_account))
        return lease

    return issue_lease(mount, prepare, keep_key=True)[0]


def _switch(held: Hold, lease: Lease) -> None:
    """Make a lease that was issued the current one."""
    state, following = held.state, t.cast(Next, held.state.next)
    replaced = state.replaced
    if state.current:
        ends_at = held.now() + following.overlap
        replaced = (*replaced, Replaced(state.current, ends_at, following.new_account))
    held.write(
        current=lease.lease_id,
        account_id=lease.service_account_id,
        origin=following.origin,
        last_rotated=lease.issued_at,
        replaced=replaced,
        next=None,
    )


def _let_end(mount: Mount, held: Hold) -> Report:
    """Let the leases that gave way end when they are to; warns of those that would not.

    From then on their records say so, and cleanup sees to it. Those that live on, or cannot be read, stay in the state.
    """
    now = mount.now()
    warnings: list[str] = []
    live: list[Replaced] = []
    unread = None
    for one in held.state.replaced:
        try:
            if _lower_end(mount, one, held.state.account_id) is None:
                continue
            if one.ends_at <= now:
                warnings += _end(mount, filter(None, [find_issued(mount, one.lease_id)]))
                continue
        except UnreadableError as error:
            unread = error
            warnings.append(_would_not_end(one.lease_id, error))
        live.append(one)
    if tuple(live) != held.state.replaced:
        held.write(replaced=tuple(live))
    return Report(warnings=tuple(warnings), unread=unread)


def _lower_end(mount: Mount, replaced: Replaced, current_account: str | None) -> Lease | None:
    """Let the record of a lease say when it ends, and that nobody is given its key; returns None if it has ended."""
    while True:
        stored = read_lease(mount, replaced.lease_id)
        if stored is None or stored.value.ending:
            return None
        lease = stored.value
        name = lease.api_key_name
        if lease.service_account_id == current_account:
            # The account lives on.
            name = name or lease.service_account
        elif replaced.with_account:
            name = None
        expires_at = min(lease.expires_at, replaced.ends_at)
        lowered = dataclasses.replace(lease, api_key=None, api_key_name=name, expires_at=expires_at)
        if lowered == lease:
            return lease
        try:
            mount.store.write(lowered.write(stored.version))
        except Conflict:
            continue  # somebody else has begun to end it
        return lowered


def _end(mount: Mount, found: t.Iterable[Record]) -> list[str]:
    """End leases; returns why some would not, which stay on record for cleanup."""
    return [
        _would_not_end(one.record.subject, with_way_out(one.record.lease, one.error))
        for one in revoke_found(mount, list(found), lambda: [], force=False)
        if one.error
    ]


def _would_not_end(lease_id: str, why: object) -> str:
    return f"{lease_id} would not end, openai_cleanup tries again: {why}"


def _end_everything(mount: Mount, held: Hold) -> Report:
    """End all that was made for a static role that is not defined any more, and forget it, but for what cannot be read."""
    state = held.state
    replaced = {one.lease_id: one for one in state.replaced}
    following = state.next.lease_id if state.next else None
    found: list[Record] = []
    unread: dict[str, UnreadableError] = {}
    for lease_id in filter(None, [state.current, *replaced, following]):
        try:
            if lease_id in replaced:
                _lower_end(mount, replaced[lease_id], state.account_id)
            # Only the next one may still be being issued.
            record = find_record(mount, lease_id) if lease_id == following else find_issued(mount, lease_id)
        except UnreadableError as error:
            unread[lease_id] = error
        else:
            found += [record] if record else []
    warnings = _end(mount, found)
    if unread:
        held.write(
            current=state.current if state.current in unread else None,
            replaced=tuple(one for one in state.replaced if one.lease_id in unread),
            next=state.next if following in unread else None,
            owner=None,
        )
    else:
        held.remove()
    warnings += [_would_not_end(lease_id, why) for lease_id, why in unread.items()]
    return Report(warnings=tuple(warnings), unread=next(iter(unread.values()), None))
