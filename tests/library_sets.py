# SPDX-License-Identifier: GPL-3.0-or-later
"""A library set in tests: written, looked at, returned to."""

from __future__ import annotations

import time
import typing as t

from lab import Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.status import library_status
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

DEFAULTS = {"max_ttl": "24h", "description": ""}


def write(mount: Mount, *names: str, name: str = "pool", dry_run: bool = False, **given: t.Any) -> t.Any:
    given = {"project": "lab", "service_account_names": list(names), **given}
    return write_library_set(mount, name, defaults=DEFAULTS, dry_run=dry_run, **given)


def status(mount: Mount, name: str = "pool") -> Data:
    (one,) = library_status(mount, name)
    return one


def live_keys(lab: Lab) -> list[str]:
    """Return the ids of the keys of service accounts that work, but for those that somebody else has made."""
    state = lab.double.state()
    now = (state["frozen_at"] or time.time()) + state["clock_offset"]
    return [
        key["id"]
        for key in state["api_keys"]
        if key["name"] != "Secret Key" and (key["expires_at"] is None or key["expires_at"] > now)
    ]


def give_in(mount: Mount, creds: Data, **more: t.Any) -> str | None:
    given = {"account": None, "account_id": creds["service_account_id"], "force": False, "dry_run": False}
    return check_in(mount, "pool", **{**given, **more})
