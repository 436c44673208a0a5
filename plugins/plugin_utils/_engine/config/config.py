# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mount's config: which organization, where, and the admin key."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from functools import partial

from ..definitions.change import Outcome
from ..definitions.static_roles import STATIC_ROLES
from ..durations import rfc3339
from ..errors import ApiError, OpenAICredsError, UnreadableError
from ..leases.find import records
from ..library.accounts import count_accounts
from ..mount import Mount
from ..mount_config import MountConfig, read_config
from ..names import check_openai_id
from ..openai.client import AdminKey, check_endpoint, check_key
from ..rotation.admin_key import left_at_openai, own_id, public_rotation, refuse_unfinished, replace_by_hand
from ..rotation.making import prove_new_key
from ..rotation.organization import prove_same_organization
from ..rotation.schedule import expiry_warning, set_schedule
from ..rotation.state import Rotation, read_rotation, refuse_ending, rotation_of
from ..store.base import Data

DEFAULT_ENDPOINT = "https://api.openai.com/v1"
#: What stands in a diff for an admin key that has given way to another.
_MASKS = ("********", "******** (replaced)")
#: How many leases that are left are named.
_NAMED = 20
_PUBLIC = (
    "api_endpoint",
    "organization_id",
    "admin_api_key_id",
    "rotation_period",
    "rotation_schedule",
    "rotation_window",
)


def public_config(mount: Mount, config: MountConfig | None) -> Data | None:
    """Return what users see of a config: never its key. Durations are in seconds, times in RFC 3339."""
    if not config:
        return None
    ends = config.admin_api_key_expires_at
    return {
        **{name: getattr(config, name) for name in _PUBLIC},
        "disable_automated_rotation": config.disable_automated_rotation,
        "admin_api_key_expires_at": rfc3339(ends) if ends else None,
        **public_rotation(mount, config),
    }


def write_config(
    mount: Mount,
    *,
    admin_api_key: str | None,
    admin_api_key_id: str | None,
    organization_id: str | None,
    api_endpoint: str | None,
    rotation_period: str | None = None,
    rotation_schedule: str | None = None,
    rotation_window: str | None = None,
    disable_automated_rotation: bool | None = None,
    replace_key: bool,
    validate: bool,
    force: bool = False,
    dry_run: bool,
) -> Outcome:
    """Configure a mount. What is None stays as it is stored; the stored key stays unless replace_key.

    A mount that has leases, or admin keys of a rotation to end, keeps its endpoint and organization, unless force:
    another one knows nothing of them, so they could not be ended. So a key is only replaced by one of the same organization.
    """
    while True:
        stored = mount.config()
        before = public_config(mount, stored)
        config = stored or MountConfig(api_endpoint=DEFAULT_ENDPOINT)
        if api_endpoint is not None:
            config = replace(config, api_endpoint=check_endpoint(api_endpoint, "api_endpoint"))
        if organization_id is not None:
            config = replace(config, organization_id=check_openai_id(organization_id, "organization_id"))
        moves = False
        for option in ("api_endpoint", "organization_id"):
            had = getattr(stored, option) if stored else None
            if not had or getattr(config, option) == had:
                continue
            moves = True
            if not force:
                _refuse_if_in_use(mount, f"{option}: a mount cannot move while it has leases;")
                refuse_unfinished(mount, rotation_of(mount), f"{option}: a mount cannot move while")
        config = set_schedule(
            config,
            mount.now(),
            rotation_period=rotation_period,
            rotation_schedule=rotation_schedule,
            rotation_window=rotation_window,
            disable_automated_rotation=disable_automated_rotation,
        )
        new = stored is None
        if stored is None or replace_key:
            if not admin_api_key:
                raise OpenAICredsError("admin_api_key: give the organization's admin key, or set OPENAI_ADMIN_KEY")
            new = stored is None or check_key(admin_api_key, "admin_api_key") != stored.admin_api_key
            if new:
                config = replace(
                    config,
                    admin_api_key=check_key(admin_api_key, "admin_api_key"),
                    created_at=mount.now(),
                    # What was known of the key before.
                    admin_api_key_id=None,
                    admin_api_key_name=None,
                    admin_api_key_expires_at=None,
                    id_proved=False,
                )
        # Given without a key to a mount whose key has come by rotation, it is the id of the key that was there first.
        own = admin_api_key == config.admin_api_key or (admin_api_key is None and not config.id_proved)
        if admin_api_key_id is not None and own:
            config = replace(config, admin_api_key_id=check_openai_id(admin_api_key_id, "admin_api_key_id"))
        changed = config != stored
        if changed and not dry_run:
            mount.store.check_rights()
        warnings: tuple[str, ...] = ()
        keys: list[AdminKey] | None = None
        # Where the organization stays named, OpenAI refuses each call with a key of another one.
        named = stored and stored.organization_id and stored.organization_id == config.organization_id
        try:
            if validate and changed:
                keys = _validate(mount, config, new)
            elif validate:
                _validate_stored(mount, config)
            if keys is not None:
                known = config.admin_api_key_id or own_id(keys, config.admin_api_key)
                config = replace(config, admin_api_key_id=known)
                if known is None:
                    warnings = ("admin_api_key_id was not found at OpenAI; give it to be able to rotate the key",)
            if new and not force and (validate or not named):
                prove_same_organization(mount, stored, config, "admin_api_key", keys)
        except OpenAICredsError:
            if mount.config() != stored:
                continue  # what OpenAI says of a key that was replaced meanwhile shows nothing
            raise
        if changed:
            refuse_ending(rotation_of(mount), config.admin_api_key, config.admin_api_key_id, "admin_api_key")
        if changed and not dry_run and not mount.define(partial(_replace, mount, stored, config)):
            continue  # somebody else has changed it meanwhile
        if stored and force and (moves or (new and not named)):
            warnings = (*warnings, *_left_keys(mount, stored, config))
        if warning := expiry_warning(config, mount.now()):
            warnings = (*warnings, warning)
        after = public_config(mount, config)
        if before and after and new:
            # Else nothing might tell the one from the other.
            before, after = ({**one, "admin_api_key": mask} for one, mask in zip((before, after), _MASKS))
        return Outcome(changed, before, after, warnings)


def _left_keys(mount: Mount, stored: MountConfig, config: MountConfig) -> t.Iterator[str]:
    """Yield warnings that name the admin keys that cannot be ended with a config, if it is for another organization."""
    data: Data = {"rotation": mount.definitions("rotation")}
    if config.admin_api_key != stored.admin_api_key:
        replace_by_hand(mount, data, stored)
    yield from _living_keys(*left_at_openai(mount, read_rotation(data)))


def _replace(mount: Mount, stored: MountConfig | None, config: MountConfig, data: Data) -> bool:
    if read_config(data) != stored:
        return False
    if stored and config.admin_api_key != stored.admin_api_key:
        replace_by_hand(mount, data, stored)
    refuse_ending(read_rotation(data), config.admin_api_key, config.admin_api_key_id, "admin_api_key")
    data["config"] = config.stored()
    return True


def delete_config(mount: Mount, *, force: bool, dry_run: bool) -> Outcome:
    """Forget a mount's config, and its key. Refused while something of the mount's still needs it, unless force."""

    def change(data: Data) -> bool:
        if not force:
            if static_roles := sorted(data.get(STATIC_ROLES) or mount.definitions(STATIC_ROLES)):
                raise OpenAICredsError(
                    f"mount {mount.name!r} still has static roles ({', '.join(static_roles[:_NAMED])}); delete them first, or "
                    "use force: true"
                )
            _refuse_if_in_use(mount, "")
            refuse_unfinished(mount, read_rotation(data), "")
        data.pop("rotation", None)
        return data.pop("config", None) is not None

    stored = mount.config()
    before = public_config(mount, stored)
    found: Data = {"config": stored.stored(), "rotation": mount.definitions("rotation")} if stored else {}

    def delete(data: Data) -> bool:
        # What a rotation leaves is what it has got to at the instant of the write.
        nonlocal found
        found = {section: data.get(section) or {} for section in ("config", "rotation")}
        return change(data)

    changed = change(dict(found)) if dry_run else mount.define(delete)
    config = read_config(found)
    left = tuple(_left_behind(mount, config, read_rotation(found))) if changed and config else ()
    return Outcome(changed, before, None, left)


def _left_behind(mount: Mount, config: MountConfig, rotation: Rotation) -> t.Iterator[str]:
    """Yield warnings that name what lives on at OpenAI without the config."""
    own = [str(config.admin_api_key_id)] if config.admin_api_key_name else []
    ids, names = left_at_openai(mount, rotation)
    yield from _living_keys([*own, *ids], names)
    unreadable: list[OpenAICredsError] = []
    leases = [record.subject for record in records(mount, unreadable.append)]
    if unreadable:
        yield f"leases may live on in what cannot be read in the store: {unreadable[0]}"
    if leases:
        named = ", ".join(sorted(leases)[:_NAMED]) + (f" and {len(leases) - _NAMED} more" if leases[_NAMED:] else "")
        yield f"{len(leases)} lease(s) live on, configure the mount again to revoke them or clean them up: {named}"
    try:
        accounts = count_accounts(mount)
    except UnreadableError as error:
        yield f"library accounts may live on in what cannot be read in the store: {error}"
        return
    if accounts:
        yield f"{accounts} library account(s) live on, configure the mount again to delete their library sets"


def _living_keys(ids: t.Sequence[str], names: t.Sequence[str]) -> t.Iterator[str]:
    if ids:
        yield f"admin keys that a rotation has made or replaced live on at OpenAI, delete them there: {', '.join(ids)}"
    if names:
        yield f"a rotation may have made admin keys with these names, look for them at OpenAI: {', '.join(names)}"


def _refuse_if_in_use(mount: Mount, why: str) -> None:
    unreadable: list[OpenAICredsError] = []
    in_use = sum(1 for _record in records(mount, unreadable.append))
    if unreadable:
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} may still have leases in what cannot be read ({unreadable[0]}); restore that and "
            "revoke them first, or use force: true".strip()
        )
    if in_use:
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} still has {in_use} lease(s); revoke them first, or use force: true".strip()
        )
    if accounts := count_accounts(mount):
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} still has {accounts} library account(s); delete its library sets first, or use "
            "force: true".strip()
        )


def _validate(mount: Mount, config: MountConfig, new: bool) -> list[AdminKey]:
    """Prove that the key works, by listing the organization's admin keys. new says that it has just come."""
    client = mount.client_for(config, warn=mount.warn)
    try:
        return prove_new_key(client) if new else client.list_admin_keys()
    except ApiError as error:
        raise OpenAICredsError(f"error validating OpenAI configuration: {error}") from None


def _validate_stored(mount: Mount, config: MountConfig) -> None:
    """Raise if OpenAI refuses the key that stays as it is stored, as after the store was set back to before a rotation."""
    try:
        mount.client_for(config).list_admin_keys()
    except ApiError as error:
        if error.status == 401:
            raise OpenAICredsError(
                "error validating OpenAI configuration: the stored admin key does not work any more; give another with "
                f"update_admin_key: always ({error})"
            ) from None
