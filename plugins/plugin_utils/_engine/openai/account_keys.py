# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End keys of service accounts, and leave the accounts.

OpenAI's description says that it refuses to delete such keys, its newer SDK that it deletes them. Where it refuses, the end of
a key is moved to now. Either counts only when a list shows it.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import ApiError
from ..run.threads import concurrently

if t.TYPE_CHECKING:
    from .client import OpenAI

#: How long to wait before a list is read again: it may take a while until it shows what was changed.
_WAITS = (0.0, 1.2, 0.8, 1.5, 2.5)
#: How many keys are changed at a time.
_AT_ONCE = 16
#: OpenAI refuses to delete a key with one of these, if it does not delete keys of service accounts.
_REFUSED = (400, 403, 405, 409)
#: OpenAI takes no shorter life.
_SHORTEST_SECONDS = 1


def try_end_key(client: OpenAI, project_id: str, key_id: str) -> bool:
    """Delete a key; returns False if OpenAI does not find it, or deletes no such keys: then end_keys has to be asked."""
    try:
        return client.delete_project_key(project_id, key_id)
    except ApiError as error:
        if error.status not in _REFUSED or error.general:
            raise
        return False


def end_keys(
    client: OpenAI, keys: t.Iterable[tuple[str, str]], calls: t.ContextManager[t.Any] | None = None
) -> tuple[dict[str, ApiError], set[str]]:
    """End keys, by project and id, that could not be deleted.

    Returns why some of them, by their ids, are left, and the ids of those that are in no list any more. calls is held during
    each call.
    """
    projects: dict[str, list[str]] = {}
    for project_id, key_id in keys:
        projects.setdefault(project_id, []).append(key_id)
    errors: dict[str, ApiError] = {}
    gone: set[str] = set()
    for project_id, left in projects.items():
        errors.update(_end_keys(client, project_id, left, calls or contextlib.nullcontext(), gone))
    return errors, gone


def _end_keys(
    client: OpenAI, project_id: str, left: list[str], calls: t.ContextManager[t.Any], gone: set[str]
) -> dict[str, ApiError]:
    errors: dict[str, ApiError] = {}

    def expire(key_id: str) -> None:
        try:
            with calls:
                if not try_end_key(client, project_id, key_id):
                    client.update_key(project_id, key_id, expires_in=_SHORTEST_SECONDS)
            errors.pop(key_id, None)
        except ApiError as error:
            errors[key_id] = error

    for wait in _WAITS:
        if wait:
            client.wait(wait)
        try:
            with calls:
                listed = {key.id: key for key in client.list_project_keys(project_id)}
        except ApiError as error:
            return dict.fromkeys(left, error)
        gone.update(key_id for key_id in left if key_id not in listed)
        now = client.now()
        left = [key_id for key_id in left if key_id in listed and not _has_ended(listed[key_id].expires_at, now)]
        if not left:
            break
        # One whose end is near already only takes a while.
        todo = [key_id for key_id in left if not _has_ended(listed[key_id].expires_at, now + _SHORTEST_SECONDS)]
        for _unused in concurrently(expire, todo, _AT_ONCE):
            pass
    return {key_id: errors.get(key_id) or _lives(key_id) for key_id in left}


def _has_ended(expires_at: int | None, now: float) -> bool:
    return expires_at is not None and expires_at <= now


def _lives(key_id: str) -> ApiError:
    return ApiError(f"OpenAI still lists {key_id} as a key that works, though it was to end now")
