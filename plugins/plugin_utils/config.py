# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mount's config: which organization, where, and the admin key."""

from __future__ import annotations

import re
from functools import partial

from .client import AdminKey, OpenAI, check_endpoint
from .definitions import Outcome
from .errors import ApiError, OpenAICredsError
from .leases import records
from .mount import Mount
from .names import check_openai_id
from .store import Data

DEFAULT_ENDPOINT = "https://api.openai.com/v1"
_MASK = "********"
#: A redacted value that shows less of a key's end says nothing.
_TELLING = 3
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
    force: bool = False,
    dry_run: bool,
) -> Outcome:
    """Configure a mount. What is None stays as it is stored; the stored key stays unless replace_key.

    A mount that has leases keeps its endpoint and organization, unless force: another one knows nothing of them, and
    what is not found counts as ended.
    """
    while True:
        stored = mount.definitions("config") or None
        config: Data = dict(stored) if stored else {"api_endpoint": DEFAULT_ENDPOINT, "organization_id": None}
        if api_endpoint is not None:
            config["api_endpoint"] = check_endpoint(api_endpoint, "api_endpoint")
        if organization_id is not None:
            config["organization_id"] = check_openai_id(organization_id, "organization_id")
        for option in ("api_endpoint", "organization_id"):
            if stored and stored[option] and config[option] != stored[option] and not force:
                _refuse_if_in_use(mount, f"{option}: a mount cannot move while it has leases;")
        new = stored is None
        if stored is None or replace_key:
            config["admin_api_key"] = _check_key(admin_api_key)
            new = stored is None or config["admin_api_key"] != stored["admin_api_key"]
            if new:
                config.update(admin_api_key_id=None, created_at=mount.now())
        if admin_api_key_id is not None and admin_api_key in (None, config["admin_api_key"]):
            config["admin_api_key_id"] = check_openai_id(admin_api_key_id, "admin_api_key_id")
        changed = config != stored
        warnings: tuple[str, ...] = ()
        if validate and changed:
            keys = _validate(mount, config)
            config["admin_api_key_id"] = config["admin_api_key_id"] or _own_id(keys, config["admin_api_key"])
            if config["admin_api_key_id"] is None:
                warnings = ("admin_api_key_id was not found at OpenAI; give it to be able to rotate the key",)
        if changed and not dry_run and not mount.define(partial(_replace, stored, config)):
            continue  # somebody else has changed it meanwhile
        after = {**config, "admin_api_key": _MASK + (" (replaced)" if stored and new else "")}
        return Outcome(changed, _masked(stored), after, warnings)


def _replace(stored: Data | None, config: Data, data: Data) -> bool:
    if (data.get("config") or None) != stored:
        return False
    data["config"] = config
    return True


def delete_config(mount: Mount, *, force: bool, dry_run: bool) -> Outcome:
    """Forget a mount's config, and its key. Refused while something of the mount's still needs it, unless force."""

    def change(data: Data) -> bool:
        if not force:
            _refuse_if_in_use(mount, "")
        return data.pop("config", None) is not None

    stored = mount.definitions("config") or None
    changed = change({"config": stored} if stored else {}) if dry_run else mount.define(change)
    return Outcome(changed, _masked(stored), None)


def _refuse_if_in_use(mount: Mount, why: str) -> None:
    in_use = sum(1 for _record in records(mount))
    if in_use:
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} still has {in_use} lease(s); revoke them first, or use force: true".strip()
        )


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
        if len(shown) > 1 and len(shown[-1]) >= _TELLING and value.startswith(shown[0]) and value.endswith(shown[-1]):
            fitting.append(key.id)
    return fitting[0] if len(fitting) == 1 else None


def _masked(config: Data | None) -> Data | None:
    return {**config, "admin_api_key": _MASK} if config else None
