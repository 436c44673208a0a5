# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mount's config: which organization, where, and the admin key."""

from __future__ import annotations

import re

from .client import AdminKey, OpenAI, check_endpoint
from .definitions import Outcome
from .errors import ApiError, OpenAICredsError
from .leases import records
from .mount import Mount
from .names import check_openai_id
from .store import Data

DEFAULT_ENDPOINT = "https://api.openai.com/v1"
_PUBLIC = ("api_endpoint", "organization_id", "admin_api_key_id")


def public_config(config: Data | None) -> Data | None:
    """Return what users see of a config: never its key."""
    return {name: config[name] for name in _PUBLIC} if config else None


def write_config(
    mount: Mount,
    *,
    admin_api_key: str | None,
    admin_api_key_id: str | None,
    organization_id: str | None,
    api_endpoint: str | None,
    replace_key: bool,
    validate: bool,
    dry_run: bool,
) -> Outcome:
    """Configure a mount. What is None stays as it is stored; the stored key stays unless replace_key."""
    while True:
        outcome = _write_config(
            mount, admin_api_key, admin_api_key_id, organization_id, api_endpoint, replace_key, validate, dry_run
        )
        if outcome:
            return outcome


def _write_config(
    mount: Mount,
    admin_api_key: str | None,
    admin_api_key_id: str | None,
    organization_id: str | None,
    api_endpoint: str | None,
    replace_key: bool,
    validate: bool,
    dry_run: bool,
) -> Outcome | None:
    """Try once; returns None if the config was changed by somebody else meanwhile."""
    stored = mount.definitions("config") or None
    config: Data = dict(stored) if stored else {"api_endpoint": DEFAULT_ENDPOINT, "organization_id": None}
    if api_endpoint is not None:
        config["api_endpoint"] = check_endpoint(api_endpoint, "api_endpoint")
    if organization_id is not None:
        config["organization_id"] = check_openai_id(organization_id, "organization_id")
    warnings: tuple[str, ...] = ()
    if stored is None or replace_key:
        config["admin_api_key"] = _check_key(admin_api_key)
        new = stored is None or config["admin_api_key"] != stored["admin_api_key"]
        if admin_api_key_id is not None:
            config["admin_api_key_id"] = check_openai_id(admin_api_key_id, "admin_api_key_id")
        elif new:
            config["admin_api_key_id"] = None
        if validate and (new or config != stored):
            keys = _validate(mount, config)
            if config["admin_api_key_id"] is None:
                config["admin_api_key_id"] = _own_id(keys, config["admin_api_key"])
                if config["admin_api_key_id"] is None:
                    warnings = ("admin_api_key_id was not found at OpenAI; give it to be able to rotate the key",)
        if new:
            config["created_at"] = mount.now()

    def change(data: Data) -> bool:
        if (data.get("config") or None) != stored:
            return False
        data["config"] = config
        return True

    changed = config != stored
    if changed and not dry_run and not mount.define(change):
        return None
    return Outcome(changed, _masked(stored), _masked(config), warnings)


def delete_config(mount: Mount, *, force: bool, dry_run: bool) -> Outcome:
    """Forget a mount's config, and its key. Refused while something of the mount's still needs it, unless force."""

    def change(data: Data) -> bool:
        in_use = 0 if force else sum(1 for _record in records(mount))
        if in_use:
            raise OpenAICredsError(
                f"mount {mount.name!r} still has {in_use} lease(s); revoke them first, or use force: true"
            )
        return data.pop("config", None) is not None

    stored = mount.definitions("config") or None
    changed = change({"config": stored} if stored else {}) if dry_run else mount.define(change)
    return Outcome(changed, _masked(stored), None)


def _check_key(key: str | None) -> str:
    if not key:
        raise OpenAICredsError("admin_api_key: give the organization's admin key, or set OPENAI_ADMIN_KEY")
    if not re.fullmatch(r"[\x21-\x7e]{8,1024}", key):
        raise OpenAICredsError("admin_api_key: this is not a key; it has spaces, control or non-ASCII characters in it")
    return str(key)


def _validate(mount: Mount, config: Data) -> list[AdminKey]:
    """Prove that the key works, by listing the organization's admin keys."""
    try:
        client = OpenAI(config["api_endpoint"], config["admin_api_key"], config["organization_id"], log=mount.log)
        return client.list_admin_keys()
    except ApiError as error:
        raise OpenAICredsError(f"error validating OpenAI configuration: {error}") from None


def _own_id(keys: list[AdminKey], value: str) -> str | None:
    """Return the id of the one listed key whose redacted value fits this key."""
    fitting = []
    for key in keys:
        shown = re.split(r"\*+|\.{3,}|…", key.redacted_value)
        if len(shown) > 1 and value.startswith(shown[0]) and value.endswith(shown[-1]):
            fitting.append(key.id)
    return fitting[0] if len(fitting) == 1 else None


def _masked(config: Data | None) -> Data | None:
    """Return a config for a diff: a key shows as changed, never as it is."""
    return {**config, "admin_api_key": "********"} if config else None
