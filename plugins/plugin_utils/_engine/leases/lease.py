# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leases: issue, renew, revoke, find.

    leases/<hour>/<key>    a lease, below the hour in which it was to end when it was issued; also one being revoked
    intents/<key>          a lease being issued, under a key of its own or that of a run's claim (see share); or one that
                           OpenAI has refused to end, under its own key

Record before effect: before an account is created, an intent holds its exact name; before one is deleted, its lease
says who is ending it and is due at once. Whatever is interrupted, cleanup finds the record and carries on (see cleanup).
That a lease is renewed, or being ended, is said by compare-and-set, so that one of two who try at once is refused.
Lease ids end in the hour and the key, so that a lease is read from its id alone.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import typing as t

from ..definitions.roles import Role, find_role
from ..durations import rfc3339
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError, quoted
from ..mount import Mount
from ..names import random_text, render_template
from ..run.processes import at_work, is_abandoned, is_running, this_process
from ..run.processes import is_at_work as _is_at_work
from ..run.threads import concurrently
from ..store.base import Data, Document, Write, bucket

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

LEASES = "leases/"
INTENTS = "intents/"

_HOUR_DIGITS = 4
_UNIQUE = re.compile(r"[0-9a-z]{4}[0-9a-z]+(-[0-9a-z]+)?", re.ASCII)
_CREATE_ROUNDS = 3
#: A create whose connection broke may still take effect; for so long its name is looked for again.
WATCH_SECONDS = 600
_FIRST_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 3600
#: How many batches of leases are ended at a time: while OpenAI is asked for one, the records of others are written.
_BATCHES = 3


def lease_path(lease_id: str) -> str:
    """Return where a lease is stored; raises OpenAICredsError if this is not the id of a lease."""
    unique = lease_id.rpartition("/")[2]
    if not _UNIQUE.fullmatch(unique):
        raise OpenAICredsError(f"lease_id: {quoted(lease_id)} is not the id of a lease such as openai/creds/my-role/…")
    return f"{LEASES}{unique[:_HOUR_DIGITS]}/{unique[_HOUR_DIGITS:]}"


def due_at(path: str, data: Data) -> int:
    """Return the Unix time at which somebody has to look at a document: at any time at an intent, and at a lease that is
    being ended before its time."""
    if not path.startswith(LEASES) or ("ending" in data and data["ending"]["at"] < data["expires_at"]):
        return 0
    return int(data["expires_at"])


def _refused_path(lease_id: str) -> str:
    """Return where it is recorded that OpenAI has refused to end a lease: kept together like the leases themselves."""
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
            spent = _spent(mount, intent, failure(mount, lease, error, began, unanswered=True))
            mount.store.write(Write(claim.path, spent, claim.version))
    raise error


def failure(mount: Mount, lease: Data, error: OpenAICredsError, began: int, *, unanswered: bool) -> Data:
    """Return the record of why an issue came to nothing, for those of the run who wait for its lease.

    Where OpenAI did not answer, it also holds for whoever asks until as much time has passed as that took: else the hosts
    of a run would wait for that one after the other.
    """
    until = 2 * mount.now() - began if unanswered else 0
    return {"lease_id": lease["lease_id"], "error": str(error), "until": until}


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


def clear(mount: Mount, intent: Document, failed: Data | None = None) -> None:
    """Remove an intent whose work is finished; failed says why it came to nothing, for those who wait for it.

    A claim that a run shares is only marked as spent, so that its version goes on growing: were it removed while the run
    goes on, somebody slow could take a new claim for the one that he knew.
    """
    if not intent.data.get("shared"):
        mount.store.delete(intent.path)
        return
    with contextlib.suppress(Conflict):  # somebody else has cleared it and gone on
        mount.store.write(Write(intent.path, _spent(mount, intent, failed), intent.version))


def _spent(mount: Mount, claim: Document, failed: Data | None = None) -> Data:
    spent = {name: claim.data[name] for name in ("run", "shared", "replaced")}
    return {"kind": "spent", **spent, "failed": failed, "created_at": mount.now()}


def abandon(mount: Mount, intent: Document, failed: Data) -> None:
    """Say on the intent that nobody is at it any more, so that it can be taken over at once, and why; see clear."""
    with contextlib.suppress(OpenAICredsError):  # then it is taken over when this process has ended
        mount.store.write(Write(intent.path, {**intent.data, "owner": None, "failed": failed}, intent.version))


def is_at_work(intent: Document) -> bool | None:
    """Say whether the owner of an issue's intent is still at it; None if that cannot be seen from here."""
    return _is_at_work(intent.data["owner"], intent.data["lease"]["lease_id"])


def is_left(intent: Document, now: int, grace: int) -> bool:
    """Say whether nobody is at an issue any more; see is_abandoned."""
    return is_abandoned(is_at_work(intent), intent.data["created_at"], now, grace)


def is_being_ended(record: Document, now: int, grace: int) -> bool:
    """Say whether somebody is ending the lease of a record just now; see is_abandoned."""
    ending = record.data.get("ending")
    return ending is not None and not is_abandoned(
        _is_at_work(ending["owner"], ending["work"]), ending["at"], now, grace
    )


def take_over(mount: Mount, intent: Document) -> Document | None:
    """Make this process the owner of an interrupted issue; returns None if it turns out to have been finished."""
    data = {**intent.data, "owner": this_process(), "failed": None}
    mount.store.write(Write(intent.path, data, intent.version))
    taken = Document(intent.path, data, intent.version + 1)
    if read_lease(mount, intent.data["lease"]["lease_id"]) is None:
        return taken
    clear(mount, taken)
    return None


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
    if intent.data["kind"] == "issue":
        if not found:
            watch = {"kind": "watch", "lease": lease, "created_at": mount.now()}
            mount.store.write(Write(f"{INTENTS}{random_text(16)}", watch))
        clear(mount, intent)
    elif found or mount.now() >= intent.data["created_at"] + WATCH_SECONDS:
        mount.store.delete(intent.path)


class Record(t.NamedTuple):
    """A lease as it stands: the document of the lease, that of an intent, or both.

    status is active, expired, pending (it is being issued or ended) or failed (OpenAI has refused to end it).
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
    mount.check_is_here()
    refused = {
        intent.data["lease"]["lease_id"]: intent
        for intent in mount.store.scan(INTENTS)
        if intent.data["kind"] == "revoke"
    }
    seen = set()
    for document in mount.store.scan(LEASES):
        lease_id = document.data["lease_id"]
        seen.add(lease_id)
        intent = refused.get(lease_id)
        yield _unfinished(intent, document) if intent else _issued(mount, document)
    # Again, since a lease that is found impossible to end while leases are read becomes an intent alone.
    alone = [intent for intent in mount.store.scan(INTENTS) if intent.data["kind"] in ("issue", "revoke")]
    for intent in sorted(alone, key=lambda intent: str(intent.data["kind"]), reverse=True):
        lease_id = intent.data["lease"]["lease_id"]
        if lease_id not in seen:
            seen.add(lease_id)
            yield _unfinished(intent, None)
    # If it has moved meanwhile, that was not all.
    mount.check_is_here()


def matching(mount: Mount, prefix: str | None) -> list[Record]:
    """Return the leases whose id begins with a prefix, part by part; all without one."""
    parts = (mount.name if prefix is None else prefix).rstrip("/").split("/")
    if parts[0] != mount.name:
        raise OpenAICredsError(f"prefix: {quoted(prefix)} must begin with the mount, as in {mount.name}/creds/my-role/")
    start = "/".join(parts) + "/"
    return [record for record in records(mount) if f"{record.lease['lease_id']}/".startswith(start)]


def find_record(mount: Mount, lease_id: str) -> Record | None:
    """Return one lease by its id, or None."""
    if not lease_id.startswith(f"{mount.name}/"):
        raise OpenAICredsError(f"lease_id: {quoted(lease_id)} is not of this mount, {mount.name!r}")
    document = read_lease(mount, lease_id)
    if document is None or "ending" in document.data:
        refused = mount.store.read(_refused_path(lease_id))
        if refused and refused.data["lease"]["lease_id"] == lease_id:
            return _unfinished(refused, document)
    if document:
        return _issued(mount, document)
    # It may be being issued, which is recorded under another key.
    issuing = (intent for intent in mount.store.scan(INTENTS) if intent.data["kind"] == "issue")
    found = next((intent for intent in issuing if intent.data["lease"]["lease_id"] == lease_id), None)
    mount.check_is_here()
    return _unfinished(found, None) if found else None


def read_lease(mount: Mount, lease_id: str) -> Document | None:
    """Return the document of a lease, also of one being ended, or None."""
    return next(read_leases(mount, [lease_id]), None)


def active_records(mount: Mount, lease_ids: t.Iterable[str]) -> list[Record]:
    """Return those of these leases that nobody has begun to end."""
    found = read_leases(mount, lease_ids)
    active = [Record(document.data, "active", document, None) for document in found if "ending" not in document.data]
    mount.check_is_here()
    return active


def read_leases(mount: Mount, lease_ids: t.Iterable[str]) -> t.Iterator[Document]:
    """Yield the documents of those of these leases that have one."""
    wanted = {lease_path(lease_id): lease_id for lease_id in lease_ids}
    for document in mount.store.read_each(list(wanted)):
        if document.data["lease_id"] == wanted[document.path]:
            yield document


def _issued(mount: Mount, document: Document) -> Record:
    status = "active" if mount.now() < document.data["expires_at"] else "expired"
    return Record(document.data, "pending" if "ending" in document.data else status, document, None)


def _unfinished(intent: Document, document: Document | None) -> Record:
    status = "failed" if intent.data["kind"] == "revoke" else "pending"
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
    # After the record was read: what is moved after this has another version then.
    mount.check_is_here()
    renewed = {**lease, "expires_at": end_}
    if not dry_run:
        # OpenAI first: if a later end is not recorded after all, the key only lives longer than it is used.
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
    """What became of a lease that was to be ended: error is None when its account is gone.

    intent is the record of OpenAI's last refusal, if there has been one.
    """

    lease: Data
    error: str | None
    intent: Document | None = None


def revoke(
    mount: Mount,
    leases: t.Iterable[Record],
    *,
    force: bool = False,
    only_due: bool = False,
    run_is_over: bool = False,
    concurrency: int = 16,
) -> list[Ended]:
    """End leases, and their records as that goes on; returns those that were to end.

    With force their records go even if OpenAI refuses; with only_due, one that somebody else renews or ends at the same
    time is left to them. run_is_over says that the run that has claimed them asks for nothing more.
    """
    size = mount.store.batch
    batches = _batches(leases, size)
    first = list(itertools.islice(batches, 1))
    if not first:
        return []
    # Before anything has happened.
    mount.openai()
    work = random_text(16)
    ending = {"work": work, "owner": this_process()}
    calls = threading.Semaphore(concurrency)

    def end(batch: list[Record]) -> list[Ended]:
        try:
            try:
                batch = _mark(mount, batch, ending, only_due)
            except StoreError:
                # Ending a key needs no record to be safe, and a full disk must not prevent it.
                if not force:
                    raise
            # As with an issue, after that: if the mount moves, either this sees it or the move sees what is marked.
            client = mount.openai()
            ended = list(concurrently(lambda record: _delete(client, calls, record), batch, concurrency))
            _record_ended(mount, ended, force, run_is_over)
        except OpenAICredsError as error:
            # Others have ended and are to be told of. What was marked is finished by the next cleanup.
            return [Ended(record.lease, str(error)) for record in batch]
        return ended

    # Those that are known need no more threads than there are of them.
    every = [*first, *batches] if isinstance(leases, t.Sequence) else itertools.chain(first, batches)
    at_once = max(_BATCHES, -(-concurrency // size) + 2)
    with at_work(work):
        ended = concurrently(end, every, at_once)
        return [one for some in ended for one in some]


def _batches(leases: t.Iterable[Record], size: int) -> t.Iterator[list[Record]]:
    left = iter(leases)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _mark(mount: Mount, batch: list[Record], ending: Data, only_due: bool) -> list[Record]:
    """Say on the records of leases that they are being ended; returns those that are still to be."""
    marks = [
        (record, _being_ended(mount, record.intent or t.cast(Document, record.document), ending)) for record in batch
    ]
    try:
        mount.store.write(*(write for _record, write in marks))
    except Conflict:
        marked = concurrently(lambda one: _mark_one(mount, *one, ending, only_due), marks, mount.store.batch)
        return [record for record in marked if record]
    return [_marked(record, write) for record, write in marks]


def _mark_one(mount: Mount, record: Record, mark: Write, ending: Data, only_due: bool) -> Record | None:
    while True:
        found = mount.store.read(mark.path)
        if found is None and not only_due and not record.intent:
            # OpenAI may have refused somebody else meanwhile.
            found = mount.store.read(_refused_path(record.lease["lease_id"]))
            record = record._replace(intent=found, document=None)
        if found is None:
            # Somebody else has ended it.
            return None if only_due else record
        if found.data.get("ending", {}).get("work") == ending["work"]:
            return _marked(record, mark)
        if (found.path, found.version) != (mark.path, mark.version):
            if only_due:
                return None
            mark = _being_ended(mount, found, ending)
        with contextlib.suppress(Conflict):
            mount.store.write(mark)
            return _marked(record, mark)


def _being_ended(mount: Mount, record: Document, ending: Data) -> Write:
    # Nobody is given the key any more.
    data = {name: value for name, value in record.data.items() if name != "api_key"}
    data["ending"] = {**ending, "at": mount.now()}
    return Write(record.path, data, record.version, due=due_at(record.path, data))


def _marked(record: Record, mark: Write) -> Record:
    document = Document(mark.path, mark.data, mark.version + 1)
    return record._replace(intent=document) if record.intent else record._replace(document=document)


def _delete(client: OpenAI, calls: threading.Semaphore, record: Record) -> Ended:
    lease = record.lease
    try:
        with calls:
            client.delete_service_account(lease["project_id"], lease["service_account_id"])
    except OpenAICredsError as error:
        return Ended(lease, str(error), record.intent)
    return Ended(lease, None, record.intent)


def retry_wait(attempts: int) -> int:
    """Return how many seconds to wait before something that OpenAI refused so many times is tried again."""
    return 0 if attempts == 1 else min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 2, 20))


def _record_ended(mount: Mount, ended: t.Sequence[Ended], force: bool, run_is_over: bool) -> None:
    # Claims first: one without its lease would be taken for an issue that was interrupted.
    _clear_claims(mount, [one.lease for one in ended if "claim" in one.lease], run_is_over)
    for one in ended:
        if one.error is not None and not force:
            with contextlib.suppress(Conflict):  # somebody else has tried as well, and said so
                mount.store.write(_refused(mount, one.lease, one.error, one.intent))
    mount.store.delete(*(lease_path(one.lease["lease_id"]) for one in ended))
    mount.store.delete(*(one.intent.path for one in ended if one.intent and (one.error is None or force)))


def _clear_claims(mount: Mount, leases: t.Sequence[Data], run_is_over: bool) -> None:
    """Clear the claims of runs on leases that have ended. Those of a run that is over go."""
    if not leases:
        return
    ended = {lease["lease_id"] for lease in leases}
    found = mount.store.read_each(list({lease["claim"]: None for lease in leases}))
    claims = [claim for claim in found if claim.data.get("lease", {}).get("lease_id") in ended]
    kept = [
        claim
        for claim in claims
        if claim.data["shared"] and not run_is_over and is_running(claim.data["run"]) is not False
    ]
    try:
        if kept:
            mount.store.write(*(Write(claim.path, _spent(mount, claim), claim.version) for claim in kept))
    except Conflict:
        for claim in kept:
            clear(mount, claim)
    gone = [claim.path for claim in claims if claim not in kept]
    if gone:
        mount.store.delete(*gone)


def _refused(mount: Mount, lease: Data, error: str, before: Document | None) -> Write:
    """Return the record of a lease that OpenAI has refused to end: apart from the others, and tried again by cleanup."""
    attempts = before.data["attempts"] + 1 if before else 1
    data = {
        "kind": "revoke",
        "lease": {name: value for name, value in lease.items() if name not in ("api_key", "ending")},
        "attempts": attempts,
        "error": error,
        "retry_at": mount.now() + retry_wait(attempts),
    }
    return Write(_refused_path(lease["lease_id"]), data, before.version if before else 0)
