# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which organization a mount belongs to, and the proof that another admin key belongs to the same.

An organization that knows nothing of a lease answers as if the lease had ended. So a key is only changed where one of
these shows that the organization stays: OpenAI lists the old key to the new one, or the new one to the old one, or lets
the new key see a project of the mount's.
"""

from __future__ import annotations

import typing as t

from ..definitions.in_project import defined_projects
from ..definitions.library_sets import projects_with_accounts
from ..errors import ApiError, OpenAICredsError, UnreadableError
from ..journal.watches import find_watches
from ..leases.find import records
from ..mount import Mount
from ..mount_config import MountConfig
from ..openai.client import AdminKey, OpenAI
from .state import rotation_of


def prove_same_organization(
    mount: Mount, before: MountConfig | None, after: MountConfig, option: str, keys: t.Sequence[AdminKey] | None = None
) -> None:
    """Raise unless the key of a new config belongs to the organization of what the mount has.

    before is the config with the old key, None if there is none any more; keys are the admin keys that OpenAI lists to the
    new one, if they are known.
    """
    if before is None:
        _refuse_other_endpoint(mount, after)
    projects = _projects_with_things(mount)
    if before is not None:
        # A mount that never had a key can have definitions; they do not say of which organization they are.
        projects |= defined_projects(mount)
    has_nothing = not projects and not rotation_of(mount) and not find_watches(mount)
    if has_nothing and (before is None or _place(before) != _place(after)):
        return
    client = mount.client_for(after)
    if before is not None:
        keys = _listed(client) if keys is None else keys
        if _has(keys, before.admin_api_key_id, before.admin_api_key):
            return
        others = _listed(mount.client_for(before))
        if _has(others, after.admin_api_key_id, after.admin_api_key):
            return
        if has_nothing and not (keys and others):
            return  # it could not be asked, and there is nothing that would be lost
    known = sorted(one for one in projects if isinstance(one, str))
    try:
        if any(client.has_project(project_id) for project_id in known):
            return
    except ApiError as error:
        raise OpenAICredsError(
            f"{option}: it could not be proved that this key belongs to the organization of mount {mount.name!r}: {error}"
        ) from None
    if unreadable := sorted(str(one) for one in projects if isinstance(one, UnreadableError)):
        raise OpenAICredsError(
            f"{option}: it could not be proved that this key belongs to the organization of mount {mount.name!r}, and what may "
            f"show it cannot be read ({unreadable[0]}); restore that, or use openai_config with force: true"
        )
    raise OpenAICredsError(
        f"{option}: this key belongs to another organization than mount {mount.name!r}: OpenAI shows it neither the mount's "
        "admin key nor any project of the mount's; use another mount for another organization"
    )


def _place(config: MountConfig) -> tuple[str, str | None]:
    return config.api_endpoint, config.organization_id


def _refuse_other_endpoint(mount: Mount, after: MountConfig) -> None:
    # What cannot be read is found again below, where something has to prove the organization.
    elsewhere = {record.lease.api_endpoint for record in records(mount, lambda _error: None)} - {after.api_endpoint}
    if elsewhere:
        raise OpenAICredsError(
            f"api_endpoint: a mount cannot move while it has leases; those that mount {mount.name!r} still has were issued "
            f"at {', '.join(sorted(elsewhere))}"
        )


def _projects_with_things(mount: Mount) -> set[str | UnreadableError]:
    """Return the projects in which the mount has made something, and why of some things that is not known."""
    unreadable: set[UnreadableError] = set()
    found = {record.lease.project_id for record in records(mount, unreadable.add)}
    watched = {watch.value.thing.project_id for watch in find_watches(mount, unreadable.add)}
    return {*found, *projects_with_accounts(mount), *filter(None, watched), *unreadable}


def _listed(client: OpenAI) -> list[AdminKey]:
    """Return the admin keys that OpenAI lists to a client; none where its key may not list them, or is dead."""
    try:
        return client.list_admin_keys()
    except ApiError:
        return []


def _has(keys: t.Sequence[AdminKey], key_id: str | None, value: str) -> bool:
    """Say whether a key is among those listed: by its id, or where that is not known by what is shown of its value."""
    if key_id is None:
        return any(key.fits(value) for key in keys)
    return any(key.id == key_id and key.fits(value) is not False for key in keys)
