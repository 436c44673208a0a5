# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lease and its records: where they are, and when somebody has to look at them.

    leases/<hour>/<key>    a lease, below the hour in which it was to end when it was issued; also one being revoked
    intents/<key>          a lease being issued, under a key of its own or that of a run's claim (see share); or one that
                           OpenAI has refused to end, under its own key

Record before effect: before an account is created, an intent holds its exact name; before one is deleted, its lease
says who is ending it and is due at once; before a key's end is moved, its lease says so, and ends at the earlier of both
times. Whatever is interrupted, cleanup finds the record and carries on (see cleanup). That a lease is renewed, or being
ended, is said by compare-and-set, so that one of two who try at once is refused. Lease ids end in the hour and the key,
so that a lease is read from its id alone.

A lease pins the endpoint and the organization that it was issued at, and ends when OpenAI says that its key does.
"""

from __future__ import annotations

import re
import typing as t

from ..durations import rfc3339
from ..errors import OpenAICredsError, UnreadableError, quoted
from ..mount import Mount
from ..run.processes import is_abandoned
from ..run.processes import is_at_work as _is_at_work
from ..store.base import Data, Document, readable, refuse_unreadable

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

LEASES = "leases/"
INTENTS = "intents/"

_HOUR_DIGITS = 4
_UNIQUE = re.compile(r"[0-9a-z]{4}[0-9a-z]+(-[0-9a-z]+)?", re.ASCII)
_FIRST_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 3600


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


def refused_path(lease_id: str) -> str:
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


def read_lease(mount: Mount, lease_id: str) -> Document | None:
    """Return the document of a lease, also of one being ended, or None."""
    return next(read_leases(mount, [lease_id]), None)


def read_leases(
    mount: Mount,
    lease_ids: t.Iterable[str],
    unreadable: t.Callable[[UnreadableError], object] = refuse_unreadable,
) -> t.Iterator[Document]:
    """Yield the documents of those of these leases that have one."""
    wanted = {lease_path(lease_id): lease_id for lease_id in lease_ids}
    for document in readable(mount.store.read_each(list(wanted)), unreadable):
        if document.data["lease_id"] == wanted[document.path]:
            yield document


def is_being_ended(record: Document, now: int, grace: int) -> bool:
    """Say whether somebody is ending the lease of a record just now; see is_abandoned."""
    ending = record.data.get("ending")
    return ending is not None and not is_abandoned(
        _is_at_work(ending["owner"], ending["work"]), ending["at"], now, grace
    )


def taken_lease(client: OpenAI, credential: Data) -> Data:
    """Return what it takes to end the lease of a credential just issued, for a run that has to remember it."""
    names = ("lease_id", "service_account", "service_account_id", "project_id")
    pins = {"api_endpoint": client.endpoint, "organization_id": client.organization_id}
    return {**{name: credential[name] for name in names}, **pins}


def check_pins(client: OpenAI, lease: Data) -> None:
    """Raise unless a client is for the endpoint and the organization that a lease was issued at.

    What was made there is not found elsewhere, and what is not found would count as ended.
    """
    endpoint, organization = lease["api_endpoint"], lease["organization_id"]
    if endpoint != client.endpoint:
        option, pinned, configured = "api_endpoint", endpoint, client.endpoint
    elif organization and organization != client.organization_id:
        option, pinned, configured = "organization_id", organization, client.organization_id or "none"
    else:
        return
    raise OpenAICredsError(
        f"{option}: {lease['lease_id']} was issued at {pinned} and can only be changed there, but the mount is configured "
        f"for {configured}; set {option} back in openai_config"
    )


def is_time_to_retry(retry_at: int, now: int) -> bool:
    """Say whether something that OpenAI has refused may be tried again.

    A time further ahead than the longest wait was written by a clock that was wrong.
    """
    return not 0 < retry_at - now <= _LONGEST_RETRY_SECONDS


def retry_wait(attempts: int) -> int:
    """Return how many seconds to wait before something that OpenAI refused so many times is tried again."""
    return 0 if attempts == 1 else min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 2, 20))
