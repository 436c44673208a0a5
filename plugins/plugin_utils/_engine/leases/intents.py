# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an issue has left when it was interrupted: who is at it, take it over, take its account back, clear it."""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import Conflict, OpenAICredsError
from ..mount import Mount
from ..names import random_text
from ..run.processes import is_abandoned, this_process
from ..run.processes import is_at_work as _is_at_work
from ..store.base import Data, Document, Write
from .lease import INTENTS, check_pins, read_lease

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

#: A create whose connection broke may still take effect; for so long its name is looked for again.
WATCH_SECONDS = 600


def is_at_work(intent: Document) -> bool | None:
    """Say whether the owner of an issue's intent is still at it; None if that cannot be seen from here."""
    return _is_at_work(intent.data["owner"], intent.data["lease"]["lease_id"])


def is_left(intent: Document, now: int, grace: int) -> bool:
    """Say whether nobody is at an issue any more; see is_abandoned."""
    return is_abandoned(is_at_work(intent), intent.data["created_at"], now, grace)


def take_over(mount: Mount, intent: Document) -> Document | None:
    """Make this process the owner of an issue, which fences whoever was at it; returns None if it turns out to have been
    finished.

    An issuer that is fenced takes its credential back, so nobody may be given what it still writes.
    """
    data = {**intent.data, "owner": this_process(), "taken": True, "failed": None}
    mount.store.write(Write(intent.path, data, intent.version))
    taken = Document(intent.path, data, intent.version + 1)
    if read_lease(mount, intent.data["lease"]["lease_id"]) is None:
        return taken
    clear(mount, taken)
    return None


def accounts_of(client: OpenAI, lease: Data) -> list[str]:
    """Return the ids of the accounts that bear the name which only this lease was to have."""
    check_pins(client, lease)
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
    elif found or abs(mount.now() - intent.data["created_at"]) >= WATCH_SECONDS:
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
        mount.store.write(Write(intent.path, spent(mount, intent, failed), intent.version))


def spent(mount: Mount, claim: Document, failed: Data | None = None) -> Data:
    """Return what a claim becomes when its lease has ended or none came of it; see clear."""
    kept = {name: claim.data[name] for name in ("run", "shared", "replaced")}
    return {"kind": "spent", **kept, "failed": failed, "created_at": mount.now()}


def abandon(mount: Mount, intent: Document, failed: Data | None = None) -> None:
    """Say on the intent that nobody is at it any more, so that it can be taken over at once, and why; see clear."""
    with contextlib.suppress(OpenAICredsError):  # then it is taken over when this process has ended
        mount.store.write(Write(intent.path, {**intent.data, "owner": None, "failed": failed}, intent.version))


def failure(mount: Mount, lease: Data, error: OpenAICredsError, unanswered_since: float | None = None) -> Data:
    """Return the record of why an issue came to nothing, for those of the run who wait for its lease.

    Where OpenAI did not answer, it also holds for whoever asks until as much time has passed as that took: else the hosts
    of a run would wait for that one after the other. unanswered_since is what the mount's clock said when that began, and not
    OpenAI's time, which may have become known since.
    """
    now = mount.now()
    until = 0 if unanswered_since is None else now + int(mount.clock() - unanswered_since)
    return {"lease_id": lease["lease_id"], "error": str(error), "at": now, "until": until}
