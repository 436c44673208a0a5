# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Things at OpenAI: how each kind is found by its name, and ended.

What ends a thing is data in its record, with the endpoint and the organization that it was made at: what was made there is
not found elsewhere, and what is not found would count as ended.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import OpenAICredsError
from ..openai.account_keys import end_keys, try_end_key

if t.TYPE_CHECKING:
    from ..openai.client import OpenAI

ACCOUNT = "account"
ACCOUNT_KEY = "account_key"
ADMIN_KEY = "admin_key"


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something made at OpenAI, or to be made there: an account of a project, a key of an account, or an admin key.

    name is the unique name under which it is found again; of something that others have made only the id may be known.
    account_id is that of the account whose key it is, which is never touched.
    """

    kind: str
    name: str | None
    endpoint: str
    organization_id: str | None
    project_id: str | None = None
    id: str | None = None
    account_id: str | None = None


def was_made_here(client: OpenAI, thing: Thing) -> bool:
    """Say whether a client is for the endpoint and the organization that a thing was made at."""
    return _difference(client, thing) is None


def check_pins(client: OpenAI, thing: Thing, subject: str) -> None:
    """Raise unless a client is for the endpoint and the organization that a thing was made at. subject says what it is for."""
    if difference := _difference(client, thing):
        option, pinned, configured = difference
        raise OpenAICredsError(
            f"{option}: {subject} was issued at {pinned} and can only be changed there, but the mount is configured "
            f"for {configured}; set {option} back in openai_config"
        )


def _difference(client: OpenAI, thing: Thing) -> tuple[str, str, str] | None:
    """Return the option that a client differs in from where a thing was made, what it was then, and what it is; or None."""
    if thing.endpoint != client.endpoint:
        return "api_endpoint", thing.endpoint, client.endpoint
    if thing.organization_id and thing.organization_id != client.organization_id:
        return "organization_id", thing.organization_id, client.organization_id or "none"
    return None


def ids_by_name(client: OpenAI, thing: Thing) -> dict[str | None, list[str]]:
    """Return the ids of all things where this one is or would be, by their names."""
    found: dict[str | None, list[str]] = {}
    if thing.kind == ADMIN_KEY:
        for key in client.list_admin_keys():
            found.setdefault(key.name, []).append(key.id)
    elif thing.kind == ACCOUNT_KEY:
        for project_key in client.list_project_keys(t.cast(str, thing.project_id)):
            if project_key.account_id == thing.account_id:
                found.setdefault(project_key.name, []).append(project_key.id)
    else:
        for account in client.list_service_accounts(t.cast(str, thing.project_id)):
            found.setdefault(account.name, []).append(account.id)
    return found


def ids_of(client: OpenAI, thing: Thing, subject: str) -> list[str]:
    """Return the ids of the things that bear the name which only this one was to have."""
    check_pins(client, thing, subject)
    return ids_by_name(client, thing).get(thing.name, [])


def end_thing(client: OpenAI, thing: Thing) -> None:
    """End a thing at OpenAI; one that is in no list has ended."""
    if thing.kind == ADMIN_KEY:
        client.delete_admin_key(t.cast(str, thing.id))
    elif thing.kind == ACCOUNT_KEY:
        project_id, key_id = t.cast(str, thing.project_id), t.cast(str, thing.id)
        if not try_end_key(client, project_id, key_id):
            for error in end_keys(client, [(project_id, key_id)])[0].values():
                raise error
    else:
        client.delete_service_account(t.cast(str, thing.project_id), t.cast(str, thing.id))
