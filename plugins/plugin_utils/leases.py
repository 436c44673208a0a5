# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leases: issue, renew, revoke, find.

    leases/<hour>/<key>    a lease, below the hour in which it was to end when it was issued
    intents/<key>          work that has begun: a lease being issued, under a key of its own or that of a run's claim;
                           or one being revoked, under its own key, also one that will not go

Record before effect: before an account is created, an intent holds its exact name; before a lease that is not yet due
is revoked, an intent holds the lease. Whatever is interrupted, cleanup finds the intent and carries on (see cleanup).
Lease ids end in the hour and the key, so that a lease is read from its id alone.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from .concurrently import concurrently
from .durations import rfc3339
from .errors import ApiError, Conflict, OpenAICredsError
from .mount import Mount
from .names import base36, random_text, render_template
from .process import this_process
from .roles import Role, find_role
from .store import Data, Document, Write

if t.TYPE_CHECKING:
    from .client import OpenAI

LEASES = "leases/"
INTENTS = "intents/"

_HOUR = 3600
_HOUR_DIGITS = 4
_UNIQUE = re.compile(r"[0-9a-z]{4}[0-9a-z]+(-[0-9a-z]+)?", re.ASCII)
_CREATE_ROUNDS = 3
#: A create whose connection broke may still take effect; for so long its name is looked for again.
WATCH_SECONDS = 600
_FIRST_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 3600
#: Ended leases whose records are removed together, so that records kept together are rewritten once.
_FLUSH = 256


def lease_path(lease_id: str) -> str:
    """Return where a lease is stored; raises OpenAICredsError if this is not the id of a lease."""
    unique = lease_id.rpartition("/")[2]
    if not _UNIQUE.fullmatch(unique):
        raise OpenAICredsError(f"lease_id: {lease_id!r} is not the id of a lease such as openai/creds/my-role/…")
    return f"{LEASES}{unique[:_HOUR_DIGITS]}/{unique[_HOUR_DIGITS:]}"


def _revocation_path(lease_id: str) -> str:
    """Return where it is recorded that a lease is to end: kept together like the leases themselves."""
    hour, _slash, key = lease_path(lease_id).removeprefix(LEASES).partition("/")
    return f"{INTENTS}{hour}{key}"


def credential(lease: Data, api_key: str) -> Data:
    """Return what is handed to whoever asked for a credential."""
    return {
        "lease_id": lease["lease_id"],
        "lease_duration": lease["duration"],
        "lease_renewable": lease["renewable"],
        "expires_at": rfc3339(lease["expires_at"]),
        "api_key": api_key,
        "api_key_id": lease["api_key_id"],
        "service_account": lease["service_account"],
        "service_account_id": lease["service_account_id"],
        "project_id": lease["project_id"],
    }


PLACEHOLDER_KEY = "sk-check-mode-placeholder-this-is-not-a-key"


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
        warnings.append(f"{error} (a real run fails unless the role has been made by then)")
    lease.update(duration=duration, expires_at=mount.now() + duration, renewable=renewable)
    return credential(lease, PLACEHOLDER_KEY), warnings


class Claim(t.NamedTuple):
    """The record by which a run shares a lease: its intent stays, at a path that all of the run know."""

    path: str
    version: int
    run: Data


def issue(mount: Mount, role_name: str, ttl: int | None = None, claim: Claim | None = None) -> Data:
    """Create a service account with a key, on record from before it exists, and return its credential.

    With a claim the intent stays behind as the run's pointer to the lease, which then holds the key as well; raises
    Conflict if somebody else of the run was faster.
    """
    mount.store.prepare(writes=2)
    role = find_role(mount, role_name)
    duration = _duration(role, ttl)
    client = mount.openai()
    for _round in range(_CREATE_ROUNDS):
        lease = _new_lease(mount, role, duration)
        intent = _write_issue_intent(mount, lease, claim)
        try:
            api_key = _create(mount, client, lease, duration)
        except ApiError as error:
            if not error.may_have_happened:
                clear(mount, intent)
                raise OpenAICredsError(f"service account creation failed: {error}") from None
            unanswered = error
        else:
            _commit(mount, client, intent, lease, api_key)
            return credential(lease, api_key)
        try:
            settle(mount, client, intent, accounts_of(client, lease))
        except OpenAICredsError as error:
            _abandon(mount, intent)
            raise OpenAICredsError(
                f"service account creation failed: {unanswered}; {lease['service_account']} may exist at OpenAI, the next "
                f"openai_cleanup looks for it ({error})"
            ) from None
        if claim:
            claim = claim._replace(version=intent.version + 1)
    raise OpenAICredsError(f"service account creation failed {_CREATE_ROUNDS} times, lastly: {unanswered}")


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
    hour = base36((now + duration) // _HOUR, _HOUR_DIGITS)
    key = mount.store.new_key(f"{LEASES}{hour}")
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
        data["run"] = claim.run
    mount.store.write(Write(path, data, version))
    return Document(path, data, version + 1)


def _create(mount: Mount, client: OpenAI, lease: Data, duration: int) -> str:
    """Create the account that a lease names, fill in its ids and return its key."""
    expires_in = max(1, duration - (mount.now() - lease["issued_at"])) if lease["native_expiry"] else None
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
        shared = {"claim": intent.path, "api_key": api_key} if "run" in intent.data else {}
        mount.store.write(Write(path, {**lease, **shared}, due=lease["expires_at"]))
    except OpenAICredsError as error:
        try:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
            mount.store.delete(path)
            clear(mount, intent)
        except OpenAICredsError as second:
            _abandon(mount, intent)
            raise OpenAICredsError(f"{error}; the next openai_cleanup removes the account ({second})") from None
        raise
    if "run" not in intent.data:
        mount.store.delete(intent.path)


def clear(mount: Mount, intent: Document) -> None:
    """Remove an intent whose work is finished.

    A run's claim is only marked as spent, so that its version goes on growing: were it removed while the run goes on,
    somebody slow could take a new claim for the one that he knew.
    """
    if "run" not in intent.data:
        mount.store.delete(intent.path)
        return
    try:
        mount.store.write(
            Write(intent.path, {"kind": "spent", "run": intent.data["run"], "created_at": mount.now()}, intent.version)
        )
    except Conflict:
        pass  # Somebody else has cleared it and gone on.


def _abandon(mount: Mount, intent: Document) -> None:
    """Say on the intent that nobody is at it any more, so that it can be taken over at once."""
    try:
        mount.store.write(Write(intent.path, {**intent.data, "owner": None}, intent.version))
    except OpenAICredsError:
        pass  # Then it is taken over when this process has ended.


def accounts_of(client: OpenAI, lease: Data) -> list[str]:
    """Return the ids of the accounts that bear the name which only this lease was to have."""
    accounts = client.list_service_accounts(lease["project_id"])
    return [account.id for account in accounts if account.name == lease["service_account"]]


def settle(mount: Mount, client: OpenAI, intent: Document, found: t.Sequence[str]) -> None:
    """Remove the accounts found that an unfinished issue has created, then its intent.

    An account that does not exist may still come to, while its request is under way somewhere: then a watch stays
    behind for a while.
    """
    lease = intent.data["lease"]
    for account_id in found:
        client.delete_service_account(lease["project_id"], account_id)
    watching = not found and mount.now() < intent.data["created_at"] + WATCH_SECONDS
    if watching and intent.data["kind"] == "issue":
        watch = {"kind": "watch", "lease": lease, "created_at": intent.data["created_at"]}
        mount.store.write(Write(f"{INTENTS}{random_text(16)}", watch))
    if not watching or intent.data["kind"] == "issue":
        clear(mount, intent)


class Record(t.NamedTuple):
    """A lease as it stands: the document of the lease, that of an intent, or both.

    status is active, expired, pending (work on it has begun and not finished) or failed (it will not go).
    """

    lease: Data
    status: str
    document: Document | None
    intent: Document | None

    def public(self) -> Data:
        """Return what users see of it; never a key."""
        intent = self.intent.data if self.intent else {}
        lease = {
            name: self.lease.get(name)
            for name in ("lease_id", "role", "renewable", "service_account", "service_account_id", "api_key_id")
        }
        return {
            **lease,
            "project_id": self.lease["project_id"],
            "status": self.status,
            "issued_at": rfc3339(self.lease["issued_at"]),
            "expires_at": rfc3339(self.lease["expires_at"]),
            "issued_by": self.lease["issued_by"],
            **({"error": intent["error"], "attempts": intent["attempts"]} if self.status == "failed" else {}),
        }


def records(mount: Mount) -> t.Iterator[Record]:
    """Yield every lease of a mount."""
    # Intents first: one that is finished while leases are read is then seen as a lease, or twice, but never not at all.
    intents = [intent for intent in mount.store.scan(INTENTS) if intent.data["kind"] in ("issue", "revoke")]
    revoking = {intent.data["lease"]["lease_id"]: intent for intent in intents if intent.data["kind"] == "revoke"}
    seen = set()
    for document in mount.store.scan(LEASES):
        lease_id = document.data["lease_id"]
        seen.add(lease_id)
        intent = revoking.get(lease_id)
        yield _unfinished(intent, document) if intent else _issued(mount, document)
    for unfinished in intents:
        lease_id = unfinished.data["lease"]["lease_id"]
        if lease_id not in seen and revoking.get(lease_id, unfinished) is unfinished:
            yield _unfinished(unfinished, None)


def matching(mount: Mount, prefix: str | None) -> list[Record]:
    """Return the leases whose id begins with a prefix, part by part; all without one."""
    parts = (prefix or mount.name).rstrip("/").split("/")
    if parts[0] != mount.name:
        raise OpenAICredsError(f"prefix: {prefix!r} must begin with the mount, as in {mount.name}/creds/my-role/")
    start = "/".join(parts) + "/"
    return [record for record in records(mount) if f"{record.lease['lease_id']}/".startswith(start)]


def find_record(mount: Mount, lease_id: str) -> Record | None:
    """Return one lease by its id, or None."""
    document = read_lease(mount, lease_id)
    intent = mount.store.read(_revocation_path(lease_id))
    if intent:
        return _unfinished(intent, document)
    if document:
        return _issued(mount, document)
    # It may be being issued, which is recorded under another key.
    return next((record for record in records(mount) if record.lease["lease_id"] == lease_id), None)


def read_lease(mount: Mount, lease_id: str) -> Document | None:
    """Return the document of a lease that is not yet being ended, or None."""
    document = mount.store.read(lease_path(lease_id))
    return document if document and document.data["lease_id"] == lease_id else None


def active_records(mount: Mount, lease_ids: t.Iterable[str]) -> list[Record]:
    """Return those of these leases that nobody has begun to end."""
    documents = [read_lease(mount, lease_id) for lease_id in lease_ids]
    return [Record(document.data, "active", document, None) for document in documents if document]


def _issued(mount: Mount, document: Document) -> Record:
    status = "active" if mount.now() < document.data["expires_at"] else "expired"
    return Record(document.data, status, document, None)


def _unfinished(intent: Document, document: Document | None) -> Record:
    status = "failed" if intent.data.get("attempts") else "pending"
    return Record(intent.data["lease"], status, document, intent)


def renew(mount: Mount, record: Record, increment: int | None, *, dry_run: bool) -> Record:
    """Move the end of a lease to so many seconds from now (its own ttl if not given), also at OpenAI."""
    lease, document = record.lease, record.document
    lease_id = lease["lease_id"]
    if document is None or record.status != "active":
        raise OpenAICredsError(f"lease_id: {lease_id} is {record.status} and cannot be renewed")
    if not lease["renewable"]:
        raise OpenAICredsError(f"lease_id: {lease_id} is not renewable; its role says renewable: false")
    duration = increment or lease["duration"]
    end_ = mount.now() + duration
    if end_ > lease["max_expires_at"]:
        left = max(0, lease["max_expires_at"] - mount.now())
        raise OpenAICredsError(
            f"increment: {duration} s would take {lease_id} past its max_ttl; at most {left} s from now are left"
        )
    renewed = {**lease, "expires_at": end_}
    if not dry_run:
        # OpenAI first: whatever is interrupted, the key lives at least as long as the record says.
        if lease["native_expiry"]:
            mount.openai().update_key(lease["project_id"], lease["api_key_id"], expires_in=duration)
        try:
            mount.store.write(Write(document.path, renewed, document.version, due=end_))
        except Conflict:
            raise OpenAICredsError(
                f"lease_id: {lease_id} was changed by somebody else at the same time; try again"
            ) from None
    return Record(renewed, "active", document, None)


class Ended(t.NamedTuple):
    """What became of a lease that was to be ended: error is None when its account is gone."""

    lease: Data
    error: str | None


def revoke(mount: Mount, leases: t.Sequence[Record], *, force: bool = False, concurrency: int = 16) -> list[Ended]:
    """End leases before their time; with force their records go even if OpenAI refuses."""
    intents = {record.lease["lease_id"]: record.intent for record in leases if record.intent}
    writes = [_revocation(mount, record.lease) for record in leases if not record.intent]
    try:
        mount.store.write(*writes)
    except Conflict:
        # Somebody else revokes one of them as well. It is enough that it is on record.
        for write in writes:
            with contextlib.suppress(Conflict):
                mount.store.write(write)
    intents.update({write.data["lease"]["lease_id"]: Document(write.path, write.data, 1) for write in writes})
    return end(mount, [record.lease for record in leases], intents, force=force, concurrency=concurrency)


def _revocation(mount: Mount, lease: Data) -> Write:
    data = {
        "kind": "revoke",
        "lease": {name: value for name, value in lease.items() if name != "api_key"},
        "owner": this_process(),
        "created_at": mount.now(),
        "attempts": 0,
        "error": None,
        "retry_at": 0,
    }
    return Write(_revocation_path(lease["lease_id"]), data)


def end(
    mount: Mount,
    leases: t.Sequence[Data],
    intents: t.Mapping[str, Document],
    *,
    force: bool = False,
    concurrency: int = 16,
) -> list[Ended]:
    """Delete the accounts of leases at OpenAI, and their records as that goes on.

    intents are those to revoke, by lease id. A lease that is due needs none: it is found again because it is due. One
    that will not go is kept as an intent from then on, with its error and the time to try again.
    """
    if not leases:
        return []
    client = mount.openai()

    def delete(lease: Data) -> Ended:
        try:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
        except OpenAICredsError as error:
            return Ended(lease, str(error))
        return Ended(lease, None)

    ended: list[Ended] = []
    recorded = 0
    for one in concurrently(delete, leases, concurrency):
        ended.append(one)
        if len(ended) - recorded >= _FLUSH:
            _record_ended(mount, ended[recorded:], intents, force)
            recorded = len(ended)
    _record_ended(mount, ended[recorded:], intents, force)
    return ended


def _record_ended(mount: Mount, ended: t.Sequence[Ended], intents: t.Mapping[str, Document], force: bool) -> None:
    gone = [one.lease for one in ended if one.error is None or force]
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    for one in ended:
        if "claim" in one.lease:
            claim = mount.store.read(one.lease["claim"])
            if claim and claim.data.get("lease", {}).get("lease_id") == one.lease["lease_id"]:
                clear(mount, claim)
    mount.store.delete(*(lease_path(lease["lease_id"]) for lease in gone))
    mount.store.delete(*(intents[lease["lease_id"]].path for lease in gone if lease["lease_id"] in intents))
    kept = [one for one in ended if one.error is not None and not force]
    for one in kept:
        intent = intents.get(one.lease["lease_id"])
        write = (
            _revocation(mount, one.lease) if intent is None else Write(intent.path, dict(intent.data), intent.version)
        )
        attempts = write.data["attempts"] + 1
        wait = 0 if attempts == 1 else min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 2, 20))
        write.data.update(attempts=attempts, error=one.error, retry_at=mount.now() + wait, owner=None)
        with contextlib.suppress(Conflict):  # another cleanup has tried as well, and said so
            mount.store.write(write)
    mount.store.delete(*(lease_path(one.lease["lease_id"]) for one in kept))
