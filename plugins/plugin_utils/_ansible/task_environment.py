# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keyword environment of a play, block or task, which a module honours in what it reads from the environment."""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._engine.errors import OpenAICredsError
from .sources import is_blank

_OWN = ("OPENAI_CREDS_", "VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_")
_OF_OPENAI = frozenset({"OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_BASE_URL"})
#: What the HTTP clients read: proxies and certificates to trust.
_NETWORK = (
    *(f"{scheme}_PROXY" for scheme in ("HTTP", "HTTPS", "ALL", "NO")),
    *(f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


@contextlib.contextmanager
def task_environment(environment: t.Any, template: t.Callable[[t.Any], t.Any]) -> t.Iterator[None]:
    """Have the environment of a task hold while it is at work, as far as this collection reads it.

    Other names, such as HOME, are about the managed host; state must not move with them. A worker process runs one task
    at a time and starts no other program meanwhile, so nobody else sees the values.
    """
    before = {}
    try:
        for name, value in _merged(environment, template).items():
            if name.startswith(_OWN) or name in _OF_OPENAI or name in _NETWORK:
                before[name] = os.environ.get(name)
                _set(name, value)
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def network_environment() -> tuple[str | None, ...]:
    """Return what the environment says of proxies and certificates now."""
    return tuple(os.environ.get(name) for name in _NETWORK)


def _merged(environment: t.Any, template: t.Callable[[t.Any], t.Any]) -> dict[str, t.Any]:
    # A list has those of the play first, so that the task's own wins.
    parts = environment if isinstance(environment, list) else [environment]
    merged: dict[str, t.Any] = {}
    for part in parts:
        merged |= template(part) or {}
    return {str(name): value for name, value in merged.items()}


def _set(name: str, value: t.Any) -> None:
    if is_blank(value):
        os.environ.pop(name, None)
        return
    try:
        os.environ[name] = str(value)
    except ValueError:
        raise OpenAICredsError(f"environment: {name} cannot be set to this; it has a null character in it") from None
