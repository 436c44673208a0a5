# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mount has on record beside its leases, and how to let it be somebody else's."""

from __future__ import annotations

import typing as t

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import claims
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import lease_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data, Document, Store, Write

#: What an unfinished thing is called here, by the folder that it is in.
_KINDS = {"intents/": "issue", "claims/": "claim", "watches/": "watch", "refusals/": "refusal"}


def unfinished(store: Store) -> list[Document]:
    """Return what is on record beside leases and definitions, as far as it can be read."""
    found = (one for folder in _KINDS for one in store.scan(folder))
    return [one for one in found if isinstance(one, Document)]


def kind_of(document: Document) -> str:
    """Return issue, claim, spent (a claim without a lease), watch or refusal."""
    if document.path.startswith("claims/") and document.data["lease"] is None:
        return "spent"
    return next(kind for folder, kind in _KINDS.items() if document.path.startswith(folder))


def kinds(store: Store) -> list[str]:
    return [kind_of(document) for document in unfinished(store)]


def owned(process: Data | None, document: Document) -> Data | None:
    """Return how it is stored that a process is at an intent, since that was made."""
    if process is None:
        return None
    return {"process": process, "work": document.data["lease"]["lease_id"], "since": document.data["created_at"]}


def give_owner(mount: Mount, document: Document, process: Data | None) -> None:
    """Let a process be at an intent."""
    data = {**document.data, "owner": owned(process, document)}
    mount.store.write(Write(document.path, data, document.version, document.data["due"]))


def give_run(mount: Mount, claim: Document, run: Data) -> None:
    """Let a claim, and its lease, be of a run."""
    path = f"{claims._prefix(run)}{claim.path.rpartition('-')[2].partition('_')[2]}"
    data = {**claim.data, "claim": {**claim.data["claim"], "run": run}}
    mount.store.delete(claim.path)
    mount.store.write(Write(path, data, due=claim.data["due"]))
    lease = claim.data["lease"] and mount.store.read(lease_path(claim.data["lease"]["lease_id"]))
    if lease:
        mount.store.write(Write(lease.path, {**lease.data, "claim": path}, lease.version, lease.data["expires_at"]))


def the_only(found: t.Sequence[Document]) -> Document:
    """Return what is alone on record."""
    (one,) = found
    return one
