# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lease and its records: where they are, and when somebody has to look at them.

    leases/<hour>/<key>    a lease, below the hour in which it was to end when it was issued; also one being revoked
    intents/<key>          a lease being issued, under a key of its own or that of a run's claim (see share); or one that
                           OpenAI has refused to end, under its own key

Record before effect: before an account is created, an intent holds its exact name; before one is deleted, its lease
says who is ending it and is due at once. Whatever is interrupted, cleanup finds the record and carries on (see cleanup).
That a lease is renewed, or being ended, is said by compare-and-set, so that one of two who try at once is refused.
Lease ids end in the hour and the key, so that a lease is read from its id alone.
"""

from __future__ import annotations

import re
import typing as t

from ..durations import rfc3339
from ..errors import OpenAICredsError, quoted
from ..mount import Mount
from ..run.processes import is_abandoned
from ..run.processes import is_at_work as _is_at_work
from ..store.base import Data, Document

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


def read_leases(mount: Mount, lease_ids: t.Iterable[str]) -> t.Iterator[Document]:
    """Yield the documents of those of these leases that have one."""
    wanted = {lease_path(lease_id): lease_id for lease_id in lease_ids}
    for document in mount.store.read_each(list(wanted)):
        if document.data["lease_id"] == wanted[document.path]:
            yield document


def is_being_ended(record: Document, now: int, grace: int) -> bool:
    """Say whether somebody is ending the lease of a record just now; see is_abandoned."""
    ending = record.data.get("ending")
    return ending is not None and not is_abandoned(
        _is_at_work(ending["owner"], ending["work"]), ending["at"], now, grace
    )


def retry_wait(attempts: int) -> int:
    """Return how many seconds to wait before something that OpenAI refused so many times is tried again."""
    return 0 if attempts == 1 else min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 2, 20))
