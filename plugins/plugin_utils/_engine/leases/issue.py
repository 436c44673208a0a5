# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue leases: a service account with a key, on record from before it exists."""

from __future__ import annotations

import contextlib
import threading
import typing as t
from functools import partial

from ..definitions.roles import Role, find_role
from ..durations import rfc3339
from ..errors import OpenAICredsError, StoreError, UnreadableError, unless_done
from ..journal.making import NotBegun, Unanswered, make
from ..mount import Mount
from ..names import random_text, render_template
from ..run.threads import concurrently
from ..store.base import Data, Stored, bucket
from .claims import spent
from .find import active_records
from .intents import INTENTS, Claim
from .lease import LEASES, Lease, credential
from .making import LeaseMaking, new_intent
from .revoke import revoke

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

PLACEHOLDER_KEY = "sk-check-mode-placeholder-this-is-not-a-key"
_CREATE_ROUNDS = 3
#: How many calls there are at a time where several leases are issued; what is about to call, or has, is written meanwhile.
CALLS_AT_ONCE = 8
THREADS = 2 * CALLS_AT_ONCE
_ISSUED = "leases issued"


def unissued(now: int, duration: int, *, renewable: bool) -> Data:
    """Return a credential for a dry run, of which no more is known than for how many seconds it would live."""
    return {
        **dict.fromkeys(("lease_id", "api_key_id", "service_account", "service_account_id", "project_id")),
        "lease_duration": duration,
        "lease_renewable": renewable,
        "expires_at": rfc3339(now + duration),
        "api_key": PLACEHOLDER_KEY,
    }


def placeholder(mount: Mount, role_name: str, ttl: int | None) -> tuple[Data, list[str]]:
    """Return a credential for a dry run, and warnings where a real run would fail as things are now."""
    warnings = []
    known: Data = {}
    try:
        role = find_role(mount, role_name)
        duration, renewable = _duration(role, ttl), role.renewable
        account = role.service_account or role.service_account_id or _name(role)
        known.update(project_id=role.project_id, service_account=account, service_account_id=role.service_account_id)
    except OpenAICredsError as error:
        if mount.definitions("roles").get(role_name) is not None:
            raise
        duration, renewable = ttl or 0, False
        warnings.append(unless_done(error))
    else:
        if not mount.definitions("config"):
            warnings.append(unless_done(mount.unconfigured()))
    return {**unissued(mount.now(), duration, renewable=renewable), **known}, warnings


class Place(t.NamedTuple):
    """Where the claim of a run is to be, over which version, and what it says."""

    path: str
    version: int
    claim: Claim


def _ignore(_lease: Lease) -> None:
    pass


def issue(
    mount: Mount,
    role_name: str,
    ttl: int | None = None,
    place: Place | None = None,
    on_issued: t.Callable[[Lease], object] = _ignore,
    *,
    calls: threading.Semaphore | None = None,
) -> Data:
    """Create a service account with a key, or a key of the role's account, and return its credential; see issue_lease."""
    return credential(*issue_lease(mount, _lease_maker(mount, role_name, ttl), place, on_issued, calls=calls))


def issue_lease(
    mount: Mount,
    prepare: t.Callable[[bool], Lease],
    place: Place | None = None,
    on_issued: t.Callable[[Lease], object] = _ignore,
    *,
    keep_key: bool = False,
    calls: threading.Semaphore | None = None,
) -> tuple[Lease, str]:
    """Make what a lease is for, on record from before it exists; returns the lease and its key.

    prepare returns a lease with a unique name that is still to be made (see new_lease); it is called again for another try,
    then with True.
    on_issued is handed the lease as soon as it is on record. With keep_key the lease holds the key. With a place the intent
    stays there as the run's claim on the lease; raises Conflict if somebody else of the run was faster. calls is held
    during each call to OpenAI, where threads issue several leases; their intents are kept together, but for claims.
    """
    began = mount.clock()
    for round_ in range(_CREATE_ROUNDS):
        lease = prepare(round_ > 0)
        intent = new_intent(mount, lease, place.claim if place else None)
        path, version = (place.path, place.version) if place else (_intent_path(mount, together=calls is not None), 0)
        making = LeaseMaking(mount, lease, Stored(intent, path, version), keep_key=keep_key, calls=calls)
        try:
            made = make(making)
        except (NotBegun, Unanswered) as error:
            problem = error
        else:
            on_issued(making.lease)
            return making.lease, made.key.value
        if place:
            place = place._replace(version=making.intent.version + 1 if place.claim.shared else 0)
    if isinstance(problem, NotBegun):
        raise UnreadableError(str(problem))
    gave_up = OpenAICredsError(f"{making.failed} {_CREATE_ROUNDS} times, lastly: {problem}")
    if place and place.claim.shared:
        with contextlib.suppress(StoreError):
            given_up = spent(making.intent.value, mount.now(), making.failure(gave_up, unanswered_since=began))
            mount.store.write(given_up.write(place.path, place.version))
    raise gave_up


def new_lease(mount: Mount, client: OpenAI, path: str, duration: int, max_duration: int, **more: t.Any) -> Lease:
    """Return a lease that is to be made, with an id below a path such as creds/my-role; durations are in seconds."""
    now = mount.now()
    hour = bucket(now + duration)
    key = mount.store.new_key(f"{LEASES}{hour}", now + duration)
    return Lease(
        lease_id=f"{mount.name}/{path}/{hour}{key}",
        issued_at=now,
        expires_at=now + duration,
        duration=duration,
        max_expires_at=now + max_duration,
        api_endpoint=client.endpoint,
        organization_id=client.organization_id,
        issued_by=mount.issued_by,
        **more,
    )


def issue_several(
    mount: Mount,
    role_name: str,
    ttl: int | None,
    count: int,
    on_issued: t.Callable[[Lease], object] = _ignore,
) -> list[Data]:
    """Issue credentials, several at a time: all of them, or none that stays. on_issued is called in threads."""
    if count == 1:
        return [issue(mount, role_name, ttl, on_issued=on_issued)]
    prepare = _lease_maker(mount, role_name, ttl)
    calls = threading.Semaphore(CALLS_AT_ONCE)
    issued: list[Lease] = []
    mount.progress.expect(_ISSUED, count)

    def issue_one(_nth: int) -> Data:
        return credential(*issue_lease(mount, prepare, on_issued=note, calls=calls))

    def note(lease: Lease) -> None:
        issued.append(lease)
        mount.progress.add(_ISSUED, 1)
        on_issued(lease)

    try:
        return list(concurrently(issue_one, range(count), THREADS, mount.progress.waiting))
    except OpenAICredsError as error:
        # Whatever was begun has ended by now, and what came of it is known.
        ended = revoke(mount, active_records(mount, (lease.lease_id for lease in issued)))
        left = [one.record.subject for one in ended if one.error]
        if left:
            raise OpenAICredsError(
                f"{error}; of those issued before, {len(left)} could not be revoked again: {', '.join(left)}"
            ) from None
        raise


def _intent_path(mount: Mount, *, together: bool) -> str:
    return f"{INTENTS}{mount.store.new_key(INTENTS.rstrip('/'), 0) if together else random_text(16)}"


def _duration(role: Role, ttl: int | None) -> int:
    if ttl is not None and ttl > role.max_ttl:
        raise OpenAICredsError(f"ttl: {ttl} s is longer than max_ttl of role {role.name!r} ({role.max_ttl} s)")
    return role.ttl if ttl is None else ttl


def _name(role: Role) -> str:
    return render_template(role.template, role.name, role.project_name)


def _lease_maker(mount: Mount, role_name: str, ttl: int | None) -> t.Callable[[bool], Lease]:
    """Return what makes a new lease of a role each time it is called (see issue_lease); raises if none can be issued from the
    role."""
    mount.store.prepare(writes=1)
    definitions = mount.all_definitions()
    role = find_role(mount, role_name, definitions=definitions)
    client = mount.openai(mount.check_configured(definitions))
    return partial(_role_lease, mount, client, role, _duration(role, ttl))


def _role_lease(mount: Mount, client: OpenAI, role: Role, duration: int, again: bool) -> Lease:
    unique = _name(role)
    return new_lease(
        mount,
        # For another try, as the mount is configured by then.
        mount.openai() if again else client,
        f"creds/{role.name}",
        duration,
        role.max_ttl,
        role=role.name,
        renewable=role.renewable,
        native_expiry=role.native_expiry,
        scopes=role.scopes,
        service_account=role.service_account or role.service_account_id or unique,
        service_account_id=role.service_account_id,
        api_key_name=unique if role.service_account_id else None,
        project_id=role.project_id,
    )
