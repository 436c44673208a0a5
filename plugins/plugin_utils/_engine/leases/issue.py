# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue leases: a service account with a key, on record from before it exists."""

from __future__ import annotations

import contextlib
import typing as t

from ..definitions.roles import Role, find_role
from ..errors import ApiError, OpenAICredsError, StoreError
from ..mount import Mount
from ..names import random_text, render_template
from ..run.processes import at_work, this_process
from ..store.base import Data, Document, Write, bucket
from .find import active_records
from .intents import abandon, accounts_of, clear, failure, settle, spent
from .lease import INTENTS, LEASES, credential, lease_path
from .revoke import revoke

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

PLACEHOLDER_KEY = "sk-check-mode-placeholder-this-is-not-a-key"
_CREATE_ROUNDS = 3


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


def issue(mount: Mount, role_name: str, ttl: int | None = None, claim: Claim | None = None) -> Data:
    """Create a service account with a key, on record from before it exists, and return its credential.

    With a claim the intent stays behind as the run's pointer to the lease; raises Conflict if somebody else of the run
    was faster.
    """
    mount.store.prepare(writes=1)
    role = find_role(mount, role_name)
    duration = _duration(role, ttl)
    began = mount.now()
    for _round in range(_CREATE_ROUNDS):
        lease = _new_lease(mount, role, duration)
        with at_work(lease["lease_id"]):
            intent = _write_issue_intent(mount, lease, claim)
            mount.store.prepare(writes=1)
            client = _client_for(mount, intent)
            credential_, unanswered = _issue_once(mount, client, intent, lease)
        if credential_:
            return credential_
        if claim:
            claim = claim._replace(version=intent.version + 1 if claim.shared else 0)
    error = OpenAICredsError(f"service account creation failed {_CREATE_ROUNDS} times, lastly: {unanswered}")
    if claim and claim.shared:
        with contextlib.suppress(StoreError):
            failed = failure(mount, lease, error, began, unanswered=True)
            mount.store.write(Write(claim.path, spent(mount, intent, failed), claim.version))
    raise error


def _client_for(mount: Mount, intent: Document) -> OpenAI:
    """Return a client for what an intent says. It is asked for after that is written: whoever moves the mount to another
    store says so before looking for intents, so one of them sees the other."""
    try:
        return mount.openai()
    except OpenAICredsError as error:
        clear(mount, intent, failure(mount, intent.data["lease"], error, mount.now(), unanswered=False))
        raise


def _issue_once(mount: Mount, client: OpenAI, intent: Document, lease: Data) -> tuple[Data | None, ApiError | None]:
    """Do what an intent says; returns the credential, or why none came of it and nothing is left of it."""
    began = mount.now()
    try:
        api_key = _create(mount, client, lease)
    except ApiError as error:
        if not error.may_have_happened:
            refused = OpenAICredsError(f"service account creation failed: {error}")
            clear(mount, intent, failure(mount, lease, refused, began, unanswered=error.status is None))
            raise refused from None
        unanswered = error
    else:
        _commit(mount, client, intent, lease, api_key)
        return credential(lease, api_key), None
    try:
        settle(mount, client, intent, accounts_of(client, lease))
    except OpenAICredsError as error:
        unsettled = OpenAICredsError(
            f"service account creation failed: {unanswered}; {lease['service_account']} may exist at OpenAI, the next "
            f"openai_cleanup looks for it ({error})"
        )
        abandon(mount, intent, failure(mount, lease, unsettled, began, unanswered=unanswered.status is None))
        raise unsettled from None
    return None, unanswered


def issue_several(mount: Mount, role_name: str, ttl: int | None, count: int) -> list[Data]:
    """Issue credentials one after the other: all of them, or none that stays."""
    credentials: list[Data] = []
    try:
        while len(credentials) < count:
            credentials.append(issue(mount, role_name, ttl))
    except OpenAICredsError:
        revoke(mount, active_records(mount, (credential["lease_id"] for credential in credentials)))
        raise
    return credentials


def _duration(role: Role, ttl: int | None) -> int:
    if ttl is not None and ttl > role.max_ttl:
        raise OpenAICredsError(f"ttl: {ttl} s is longer than max_ttl of role {role.name!r} ({role.max_ttl} s)")
    return role.ttl if ttl is None else ttl


def _name(role: Role) -> str:
    return render_template(role.template, role.name, role.project_name)


def _new_lease(mount: Mount, role: Role, duration: int) -> Data:
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


def _create(mount: Mount, client: OpenAI, lease: Data) -> str:
    """Create the account that a lease names, fill in its ids and return its key."""
    late = mount.now() - lease["issued_at"]
    # The next second may have begun since; only more than that is taken off.
    expires_in = max(1, lease["duration"] - (late if late > 1 else 0)) if lease["native_expiry"] else None
    account_id, key = client.create_service_account(lease["project_id"], lease["service_account"], expires_in)
    lease.update(service_account_id=account_id, api_key_id=key.id)
    return key.value


def _commit(mount: Mount, client: OpenAI, intent: Document, lease: Data, api_key: str) -> None:
    """Limit the key if asked to and record the lease; if that fails, take the account back."""
    path = lease_path(lease["lease_id"])
    try:
        if lease["scopes"]:
            try:
                client.update_key(lease["project_id"], lease["api_key_id"], scopes=lease["scopes"])
            except ApiError as error:
                raise OpenAICredsError(
                    f"API key creation failed: it could not be limited to its scopes: {error}"
                ) from None
        claim = {"claim": intent.path} if "run" in intent.data else {}
        # Other processes of the run have the key from the lease.
        shared = {"api_key": api_key} if intent.data.get("shared") else {}
        mount.store.write(Write(path, {**lease, **claim, **shared}, due=lease["expires_at"]))
        current = mount.store.read(intent.path)
        if current is None or current.version != intent.version:
            # This process was taken for dead. Whoever took over looks for the lease after taking the intent, and this
            # one for the intent after writing the lease, so one of them sees the other.
            raise OpenAICredsError(f"{lease['service_account']} took so long that a cleanup has taken over; try again")
    except OpenAICredsError as error:
        try:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
            mount.store.delete(path)
            clear(mount, intent, failure(mount, lease, error, mount.now(), unanswered=False))
        except OpenAICredsError as second:
            both = OpenAICredsError(f"{error}; the next openai_cleanup removes the account ({second})")
            abandon(mount, intent, failure(mount, lease, both, mount.now(), unanswered=False))
            raise both from None
        raise
    if "run" not in intent.data:
        # The lease is on record; an intent that stays is dropped by the next cleanup.
        with contextlib.suppress(StoreError):
            mount.store.delete(intent.path)
