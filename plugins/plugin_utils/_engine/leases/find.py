# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find leases: all of a mount, those below a prefix, one by its id."""

from __future__ import annotations

import typing as t

from ..errors import OpenAICredsError, UnreadableError, quoted
from ..mount import Mount
from ..store.base import Document, readable, refuse_unreadable
from .lease import INTENTS, LEASES, Record, read_leases, refused_path

#: Is handed why a document cannot be read. Unless one is given, the first such document is refused.
OnUnreadable = t.Callable[[UnreadableError], object]


def records(mount: Mount, unreadable: OnUnreadable = refuse_unreadable) -> t.Iterator[Record]:
    """Yield every lease of a mount."""
    mount.check_is_here()
    # What cannot be read in the intents is handed over when they are read again.
    refused = {
        intent.data["lease"]["lease_id"]: intent
        for intent in readable(mount.store.scan(INTENTS), lambda _error: None)
        if intent.data["kind"] == "revoke"
    }
    seen = set()
    for document in readable(mount.store.scan(LEASES), unreadable):
        lease_id = document.data["lease_id"]
        seen.add(lease_id)
        intent = refused.get(lease_id)
        yield _unfinished(intent, document) if intent else _issued(mount, document)
    # Again, since a lease that is found impossible to end while leases are read becomes an intent alone.
    intents = readable(mount.store.scan(INTENTS), unreadable)
    alone = [intent for intent in intents if intent.data["kind"] in ("issue", "revoke")]
    for intent in sorted(alone, key=lambda intent: str(intent.data["kind"]), reverse=True):
        lease_id = intent.data["lease"]["lease_id"]
        if lease_id not in seen:
            seen.add(lease_id)
            yield _unfinished(intent, None)
    # A move may have begun during the scans. Then this was not every lease, so it has to fail.
    mount.check_is_here()


def matching(mount: Mount, prefix: str | None, unreadable: OnUnreadable = refuse_unreadable) -> list[Record]:
    """Return the leases whose id begins with a prefix, part by part; all without one."""
    parts = (mount.name if prefix is None else prefix).rstrip("/").split("/")
    if parts[0] != mount.name:
        raise OpenAICredsError(f"prefix: {quoted(prefix)} must begin with the mount, as in {mount.name}/creds/my-role/")
    start = "/".join(parts) + "/"
    return [record for record in records(mount, unreadable) if f"{record.lease['lease_id']}/".startswith(start)]


def find_record(mount: Mount, lease_id: str, unreadable: OnUnreadable = refuse_unreadable) -> Record | None:
    """Return one lease by its id, or None: there is none, or it is in what cannot be read."""
    if not lease_id.startswith(f"{mount.name}/"):
        raise OpenAICredsError(f"lease_id: {quoted(lease_id)} is not of this mount, {mount.name!r}")
    document = next(read_leases(mount, [lease_id], unreadable), None)
    if document is None or "ending" in document.data:
        refused = next(readable(mount.store.read_each([refused_path(lease_id)]), unreadable), None)
        if refused and refused.data["lease"]["lease_id"] == lease_id:
            return _unfinished(refused, document)
    if document:
        return _issued(mount, document)
    # It may be being issued, which is recorded under another key.
    intents = readable(mount.store.scan(INTENTS), unreadable)
    issuing = (intent for intent in intents if intent.data["kind"] == "issue")
    found = next((intent for intent in issuing if intent.data["lease"]["lease_id"] == lease_id), None)
    mount.check_is_here()
    return _unfinished(found, None) if found else None


def active_records(mount: Mount, lease_ids: t.Iterable[str]) -> list[Record]:
    """Return those of these leases that nobody has begun to end."""
    found = read_leases(mount, lease_ids)
    active = [Record(document.data, "active", document, None) for document in found if "ending" not in document.data]
    mount.check_is_here()
    return active


def _issued(mount: Mount, document: Document) -> Record:
    status = "active" if mount.now() < document.data["expires_at"] else "expired"
    return Record(document.data, "pending" if "ending" in document.data else status, document, None)


def _unfinished(intent: Document, document: Document | None) -> Record:
    status = "failed" if intent.data["kind"] == "revoke" else "pending"
    return Record(intent.data["lease"], status, document, intent)
