# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue leases: a service account with a key, on record from before it exists."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import typing as t

from ..clocks import FAR_SECONDS
from ..definitions.roles import Role, find_role
from ..errors import ApiError, OpenAICredsError, StoreError, UnreadableError
from ..mount import Mount
from ..names import random_text, render_template
from ..run.processes import at_work, this_process
from ..store.base import Data, Document, Write, bucket
from .find import active_records
from .intents import abandon, accounts_of, clear, failure, settle, spent
from .lease import INTENTS, LEASES, check_pins, credential, lease_path, read_lease
from .revoke import revoke

if t.TYPE_CHECKING:
    from ..openai.client import NewKey, OpenAI

PLACEHOLDER_KEY = "sk-check-mode-placeholder-this-is-not-a-key"
_CREATE_ROUNDS = 3
#: Times in answers are whole seconds, and a second may begin while OpenAI makes a key.
_ROUNDING_SECONDS = 2


def placeholder(mount: Mount, role_name: str, ttl: int | None) -> tuple[Data, list[str]]:
    """Return a credential for a dry run, and warnings where a real run would fail as things are now."""
    warnings = []
    lease: Data = dict.fromkeys(("lease_id", "api_key_id", "service_account_id", "project_id", "service_account"))
    try:
        role = find_role(mount, role_name)
        duration, renewable = _duration(role, ttl), role.renewable
        lease.update(project_id=role.project_id, service_account=_name(role))
    except OpenAICredsError as error:
        if mount.definitions("roles").get(role_name) is not None:
            raise
        duration, renewable = ttl or 0, False
        warnings.append(f"{error} (a real run fails unless that is done by then)")
    else:
        if not mount.definitions("config"):
            warnings.append(f"{mount.unconfigured()} (a real run fails unless that is done by then)")
    lease.update(duration=duration, expires_at=mount.now() + duration, renewable=renewable)
    return credential(lease, PLACEHOLDER_KEY), warnings


class Claim(t.NamedTuple):
    """The record by which a run is known to hold a lease: its intent, which stays behind.

    With shared it is at a path that all of the run know, and the lease holds the key as well. replaced are the leases
    that the claim was for before, as in the intent.
    """

    path: str
    version: int
    run: Data
    shared: bool
    replaced: list[Data]


class _InDoubt(OpenAICredsError):
    """It is not known whether the lease is on record, so nothing that it may name can be deleted."""


def issue(mount: Mount, role_name: str, ttl: int | None = None, claim: Claim | None = None) -> Data:
    """Create a service account with a key, on record from before it exists, and return its credential.

    With a claim the intent stays behind as the run's pointer to the lease; raises Conflict if somebody else of the run
    was faster.
    """
    mount.store.prepare(writes=1)
    role = find_role(mount, role_name)
    duration = _duration(role, ttl)
    began = mount.clock()
    for _round in range(_CREATE_ROUNDS):
        begun = time.monotonic()
        lease = _new_lease(mount, role, duration)
        with at_work(lease["lease_id"]):
            intent = _write_issue_intent(mount, lease, claim)
            mount.store.prepare(writes=1)
            client = _client_for(mount, intent)
            problem: OpenAICredsError | None
            try:
                mount.store.check_writable(lease_path(lease["lease_id"]))
            except UnreadableError as error:
                # The next round takes another place in the store.
                clear(mount, intent)
                problem = error
            else:
                credential_, problem = _issue_once(mount, client, intent, lease, begun)
                if credential_:
                    return credential_
        if claim:
            claim = claim._replace(version=intent.version + 1 if claim.shared else 0)
    if isinstance(problem, UnreadableError):
        raise problem
    gave_up = OpenAICredsError(f"service account creation failed {_CREATE_ROUNDS} times, lastly: {problem}")
    if claim and claim.shared:
        with contextlib.suppress(StoreError):
            failed = failure(mount, lease, gave_up, began)
            mount.store.write(Write(claim.path, spent(mount, intent, failed), claim.version))
    raise gave_up


def _client_for(mount: Mount, intent: Document) -> OpenAI:
    """Return a client for what an intent says. It is asked for after that is written: whoever moves the mount to another
    store says so before looking for intents, so one of them sees the other. If the endpoint was changed meanwhile, what the
    intent pins is refused."""
    try:
        client = mount.openai()
        check_pins(client, intent.data["lease"])
    except OpenAICredsError as error:
        clear(mount, intent, failure(mount, intent.data["lease"], error))
        raise
    return client


def _issue_once(
    mount: Mount, client: OpenAI, intent: Document, lease: Data, begun: float
) -> tuple[Data | None, ApiError | None]:
    """Do what an intent says; returns the credential, or why none came of it and nothing is left of it."""
    began = mount.clock()
    # The next second may have begun since; only more than that is taken off.
    late = int(time.monotonic() - begun)
    asked = max(1, lease["duration"] - (late if late > 1 else 0)) if lease["native_expiry"] else None
    try:
        account_id, key = client.create_service_account(lease["project_id"], lease["service_account"], asked)
    except ApiError as error:
        if not error.may_have_happened:
            refused = OpenAICredsError(f"service account creation failed: {error}")
            clear(mount, intent, failure(mount, lease, refused, began if error.status is None else None))
            raise refused from None
        unanswered = error
    else:
        lease.update(service_account_id=account_id, api_key_id=key.id)
        _commit(mount, client, intent, lease, key, asked)
        return credential(lease, key.value), None
    try:
        _check_owner(mount, intent)
        settle(mount, client, intent, accounts_of(client, lease))
    except OpenAICredsError as error:
        unsettled = OpenAICredsError(
            f"service account creation failed: {unanswered}; {lease['service_account']} may exist at OpenAI, the next "
            f"openai_cleanup looks for it ({error})"
        )
        abandon(mount, intent, failure(mount, lease, unsettled, began if unanswered.status is None else None))
        raise unsettled from None
    return None, unanswered


def issue_several(mount: Mount, role_name: str, ttl: int | None, count: int) -> list[Data]:
    """Issue credentials one after the other: all of them, or none that stays."""
    credentials: list[Data] = []
    try:
        while len(credentials) < count:
            credentials.append(issue(mount, role_name, ttl))
    except OpenAICredsError as error:
        ended = revoke(mount, active_records(mount, (credential["lease_id"] for credential in credentials)))
        left = [one.lease["lease_id"] for one in ended if one.error]
        if left:
            raise OpenAICredsError(
                f"{error}; of those issued before, {len(left)} could not be revoked again: {', '.join(left)}"
            ) from None
        raise
    return credentials


def _duration(role: Role, ttl: int | None) -> int:
    if ttl is not None and ttl > role.max_ttl:
        raise OpenAICredsError(f"ttl: {ttl} s is longer than max_ttl of role {role.name!r} ({role.max_ttl} s)")
    return role.ttl if ttl is None else ttl


def _name(role: Role) -> str:
    return render_template(role.template, role.name, role.project_name)


def _new_lease(mount: Mount, role: Role, duration: int) -> Data:
    client = mount.openai()
    now = mount.now()
    hour = bucket(now + duration)
    key = mount.store.new_key(f"{LEASES}{hour}", now + duration)
    return {
        "lease_id": f"{mount.name}/creds/{role.name}/{hour}{key}",
        "role": role.name,
        "issued_at": now,
        "expires_at": now + duration,
        "duration": duration,
        "max_expires_at": now + role.max_ttl,
        "renewable": role.renewable,
        "native_expiry": role.native_expiry,
        "scopes": role.scopes,
        "service_account": _name(role),
        "service_account_id": None,
        "api_key_id": None,
        "project_id": role.project_id,
        "api_endpoint": client.endpoint,
        "organization_id": client.organization_id,
        "issued_by": mount.issued_by,
    }


def _write_issue_intent(mount: Mount, lease: Data, claim: Claim | None) -> Document:
    # A copy: the intent says what will be created, whatever is learnt of it later.
    data: Data = {"kind": "issue", "lease": dict(lease), "owner": this_process(), "created_at": mount.now()}
    path, version = f"{INTENTS}{random_text(16)}", 0
    if claim:
        path, version = claim.path, claim.version
        data |= {"run": claim.run, "shared": claim.shared, "replaced": claim.replaced}
    mount.store.write(Write(path, data, version))
    return Document(path, data, version + 1)


def _commit(mount: Mount, client: OpenAI, intent: Document, lease: Data, key: NewKey, asked: int | None) -> None:
    """Limit the key if need be and record the lease; where that fails for certain, take the account back."""
    try:
        due = _limit(mount, client, lease, key, asked)
        _record(mount, intent, lease, key.value, due)
        _check_owner(mount, intent)
    except _InDoubt as error:
        in_doubt = OpenAICredsError(
            f"{error}; {lease['service_account']} may exist at OpenAI, the next openai_cleanup looks for it"
        )
        abandon(mount, intent, failure(mount, lease, in_doubt))
        raise in_doubt from None
    except OpenAICredsError as error:
        _take_back(mount, client, intent, lease, error)
    if "run" not in intent.data:
        # The lease is on record; an intent that stays is dropped by the next cleanup.
        with contextlib.suppress(StoreError):
            mount.store.delete(intent.path)


def _limit(mount: Mount, client: OpenAI, lease: Data, key: NewKey, asked: int | None) -> int:
    """Limit a new key to its scopes and its end, and the lease to what OpenAI says of that; returns when the lease is due.

    OpenAI's clock counts, since it ends the key. asked is how many seconds the key was to live, None for no end.
    """
    created = mount.now() if key.created_at is None else key.created_at
    answered = time.monotonic()
    end = key.expires_at
    # A gateway may have dropped what was asked for.
    unlimited = asked is not None and (end is None or end - created > asked + _ROUNDING_SECONDS)
    if lease["scopes"] or unlimited:
        what = "its end" if unlimited else "its scopes"
        try:
            changed_end = client.update_key(
                lease["project_id"],
                lease["api_key_id"],
                expires_in=asked if unlimited else None,
                scopes=lease["scopes"] or None,
            )
        except ApiError as error:
            raise OpenAICredsError(f"API key creation failed: it could not be limited to {what}: {error}") from None
        end = changed_end if unlimited else end
    if asked is None:
        # A policy of the organization may end the key earlier.
        end = min(created + lease["duration"], sys.maxsize if end is None else end)
    elif end is None or end - created > asked + FAR_SECONDS + time.monotonic() - answered:
        raise OpenAICredsError(
            "API key creation failed: native_expiry: OpenAI, or a gateway on the way, does not end the key when asked to"
        )
    return _set_times(mount, lease, created, end)


def _set_times(mount: Mount, lease: Data, created: int, end: int) -> int:
    """Let a lease end when its key does; returns when it is due."""
    if mount.far_clock:
        # So that other processes here need not ask OpenAI what time it is.
        lease["clock"] = dataclasses.asdict(mount.far_clock)
    planned = int(lease["expires_at"])
    longest_after = FAR_SECONDS if not lease["native_expiry"] else _ROUNDING_SECONDS
    if planned - FAR_SECONDS <= end <= planned + longest_after:
        # Nearly as planned: the due time that stands in the lease's name still does.
        lease["expires_at"] = min(planned, end) if lease["native_expiry"] else planned
        return planned
    lease["max_expires_at"] += created - lease["issued_at"]
    lease.update(issued_at=created, expires_at=end, duration=min(lease["duration"], end - created))
    return end


def _record(mount: Mount, intent: Document, lease: Data, api_key: str, due: int) -> None:
    claim = {"claim": intent.path} if "run" in intent.data else {}
    # Other processes of the run have the key from the lease.
    shared = {"api_key": api_key} if intent.data.get("shared") else {}
    try:
        mount.store.write(Write(lease_path(lease["lease_id"]), {**lease, **claim, **shared}, due=due))
    except StoreError as error:
        if not error.may_have_happened:
            raise
        # A run may be given the key by then, so only a record that is certainly there settles it.
        recorded = None
        with contextlib.suppress(StoreError):
            recorded = read_lease(mount, lease["lease_id"])
        if recorded is None:
            raise _InDoubt(str(error)) from None


def _check_owner(mount: Mount, intent: Document) -> None:
    """Raise if somebody has taken over the intent of this process, for having taken this one for dead or to revoke it.

    Whoever takes over looks for the lease after taking the intent, and this one for the intent after writing the lease,
    so one of them sees the other.
    """
    try:
        current = mount.store.read(intent.path)
    except StoreError as error:
        raise _InDoubt(str(error)) from None
    if current is None or current.version != intent.version:
        raise OpenAICredsError(
            f"{intent.data['lease']['service_account']}: openai_lease has revoked it, or a cleanup has taken it over, while "
            "it was being issued; try again"
        )


def _take_back(mount: Mount, client: OpenAI, intent: Document, lease: Data, error: OpenAICredsError) -> t.NoReturn:
    """Delete the account of an issue that has failed and its records; raises the error with what became of it."""
    try:
        client.delete_service_account(lease["project_id"], lease["service_account_id"])
    except OpenAICredsError as second:
        left = OpenAICredsError(
            f"{error}; {lease['service_account']} may exist at OpenAI, the next openai_cleanup looks for it ({second})"
        )
        abandon(mount, intent, failure(mount, lease, left))
        raise left from None
    removed = OpenAICredsError(f"{error}; the service account was removed again")
    try:
        mount.store.delete(lease_path(lease["lease_id"]))
        clear(mount, intent, failure(mount, lease, removed))
    except OpenAICredsError as second:
        recorded = OpenAICredsError(
            f"{error}; the service account was removed again, and the next openai_cleanup removes its record ({second})"
        )
        abandon(mount, intent, failure(mount, lease, recorded))
        raise recorded from None
    raise removed
