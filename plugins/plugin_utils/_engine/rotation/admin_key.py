# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotation of the admin key, so that it cannot be lost: begin, carry on, adopt, and end the keys that were replaced."""

from __future__ import annotations

import dataclasses
import typing as t

from ..clocks import FAR_SECONDS
from ..durations import rfc3339
from ..errors import ApiError, Conflict, OpenAICredsError, StoreError
from ..journal.ending import refused_again
from ..journal.making import Unanswered, make
from ..journal.making import recover as recover_making
from ..journal.owners import GRACE_SECONDS, is_left
from ..journal.things import ADMIN_KEY, Thing, check_pins, ids_by_name, was_made_here
from ..journal.watches import Watch, find_watches, stop_watching
from ..mount import Mount
from ..mount_config import MountConfig, read_config
from ..names import check_openai_id, random_text
from ..openai.answers import NewKey
from ..openai.client import AdminKey, OpenAI, check_key
from ..store.base import Data, Stored
from .making import AdminKeyMaking, prove_new_key, put_key
from .organization import prove_same_organization
from .schedule import next_rotation
from .state import (
    KeyEnding,
    KeyIntent,
    Rotation,
    change_rotation,
    key_at,
    read_rotation,
    refuse_ending,
    rotation_of,
)

#: OpenAI takes no longer native expiry, in seconds.
LONGEST_EXPIRY = 365 * 86400
_LONGEST_MOUNT_IN_NAME = 40


@dataclasses.dataclass
class Report:
    """What was done: replaced is the id of the key that gave way, ended the ids of the keys that were deleted.

    busy says that somebody else is rotating, unfinished why an interrupted rotation could not be carried on, failed
    why keys, by their ids, would not go.
    """

    rotated: bool = False
    replaced: str | None = None
    changed: bool = False
    busy: bool = False
    unfinished: str | None = None
    ended: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


def rotate(mount: Mount, *, always: bool, overlap: int, expires_in: int | None, dry_run: bool) -> Report:
    """Replace the admin key if it is due, or always; first of all finish what was interrupted.

    overlap is how many seconds the old key stays valid, expires_in after how many OpenAI ends the new one. A rotation
    that is carried on counts: there is no second one. Raises OpenAICredsError if a rotation was not finished.
    """
    report = recover(mount, GRACE_SECONDS, dry_run=dry_run)
    config = _configured(mount)
    if report.unfinished:
        raise OpenAICredsError(report.unfinished)
    if report.rotated or report.busy or not (always or _is_due(mount, config)):
        report.busy = report.busy and (always or _is_due(mount, config))
        return report
    if dry_run:
        report.rotated, report.changed, report.replaced = True, True, config.admin_api_key_id
        return report
    keys = mount.openai().list_admin_keys()
    if mount.check_configured().admin_api_key != config.admin_api_key:
        report.busy = True
        return report
    replaces = _id_of(config, keys)
    name = f"ephemeral-openai-{mount.name[:_LONGEST_MOUNT_IN_NAME]}-{random_text(16)}"
    intent = KeyIntent(key_at(config, name=name), replaces, overlap, expires_in, None)
    making = AdminKeyMaking(mount, config, intent, lambda now: always or _is_due(mount, now))
    try:
        make(making)
    except Conflict:
        report.busy = True
        return report
    except Unanswered as error:
        failure = OpenAICredsError(f"{making.failed}: {error}")
    except OpenAICredsError as error:
        failure = error
    else:
        report.rotated, report.changed, report.replaced = True, True, replaces
        _end_due(mount, report)
        return report
    # What a later run would do about it can as well be done now.
    again = recover(mount, GRACE_SECONDS, dry_run=False)
    if again.rotated:
        return again
    raise failure


def adopt(mount: Mount, value: str, key_id: str, *, overlap: int, dry_run: bool) -> Report:
    """Replace the admin key by one that was made elsewhere, after proving that it works and bears this id."""
    check_key(value, "new_admin_api_key")
    check_openai_id(key_id, "new_admin_api_key_id")
    while True:
        if report := _adopt(mount, value, key_id, overlap, dry_run):
            return report


def _adopt(mount: Mount, value: str, key_id: str, overlap: int, dry_run: bool) -> Report | None:
    """Try to replace the admin key; returns None if somebody else has replaced it meanwhile."""
    report = recover(mount, GRACE_SECONDS, dry_run=dry_run)
    config = _configured(mount)
    if report.busy or value == config.admin_api_key:
        return report
    refuse_ending(rotation_of(mount), value, key_id, "new_admin_api_key")
    try:
        replaces = _prove_adoption(mount, config, value, key_id)
    except OpenAICredsError:
        if mount.check_configured().admin_api_key != config.admin_api_key:
            return None  # what OpenAI says of a key that has gone meanwhile shows nothing
        raise
    overtaken = False

    def switch(data: Data) -> bool:
        nonlocal overtaken
        rotation, now = read_rotation(data), read_config(data)
        overtaken = now is None or now.admin_api_key != config.admin_api_key
        # A rotation that could not be carried on is given up when its old key is not the mount's any more.
        report.busy = rotation.intent is not None and not report.unfinished
        if now is None or overtaken or report.busy:
            return False
        refuse_ending(rotation, value, key_id, "new_admin_api_key")
        key = NewKey(key_id, value, None)
        old = key_at(config, key_id=replaces) if replaces else None
        put_key(mount, data, now, rotation, key, None, replaces=old, overlap=overlap)
        return True

    if not dry_run:
        mount.define(switch)
    if overtaken:
        return None
    if not report.busy:
        report.rotated, report.changed, report.replaced = True, True, replaces
    if not dry_run:
        _end_due(mount, report)
    return report


def _prove_adoption(mount: Mount, config: MountConfig, value: str, key_id: str) -> str | None:
    """Raise unless a key may take the place of a config's; returns the id of the key that it replaces, if that is there."""
    try:
        keys = prove_new_key(_client(mount, config, value))
    except ApiError as error:
        raise OpenAICredsError(f"new_admin_api_key: it does not work: {error}") from None
    right = any(key.id == key_id and key.fits(value) is not False for key in keys)
    if not right or key_id == config.admin_api_key_id:
        raise OpenAICredsError(f"new_admin_api_key_id: {key_id} is not the id of the key in new_admin_api_key")
    after = dataclasses.replace(config, admin_api_key=value, admin_api_key_id=key_id)
    prove_same_organization(mount, config, after, "new_admin_api_key", keys)
    # With an admin key that is gone already, there is nothing to end.
    gone = config.admin_api_key_id and config.admin_api_key_id not in (key.id for key in keys)
    return None if gone else _id_of(config, keys)


def recover(mount: Mount, grace: int, *, dry_run: bool) -> Report:
    """Carry on an interrupted rotation, find keys whose value nobody has, and end what is to end by now.

    What cannot be done is said in the report. An intent whose owner cannot be seen from here is left alone until it is
    grace seconds old. A dry run only looks.
    """
    report = Report()
    # One that cannot be read must not keep the others, or a cleanup, from what they are to do; cleanup tells of it.
    found = find_watches(mount, lambda _error: None)
    watches = [watch for watch in found if watch.value.thing.kind == ADMIN_KEY]
    if not watches and not rotation_of(mount):
        return report
    try:
        _resume(mount, report, grace, dry_run)
        _search(mount, report, watches, dry_run)
    except ApiError as error:
        report.unfinished = f"the admin key that an interrupted rotation may have made was not looked for: {error}"
    except StoreError:
        raise
    except OpenAICredsError as error:
        report.unfinished = str(error)
    _end_due(mount, report, dry_run=dry_run)
    return report


def public_rotation(mount: Mount, config: MountConfig) -> Data:
    """Return what users see of the rotation of a config's key: times in RFC 3339, never a key."""
    due = next_rotation(config, mount.now())
    endings = rotation_of(mount).endings
    previous = [ending.id for ending in endings if ending.digest]
    return {
        "last_rotated": rfc3339(config.last_rotated) if config.last_rotated else None,
        "next_rotation": rfc3339(due) if due is not None else None,
        "previous_admin_api_key_id": previous[-1] if previous else None,
        "previous_admin_api_keys": [
            {
                "admin_api_key_id": ending.id,
                "ends_at": rfc3339(ending.ends_at),
                "attempts": ending.refusal.attempts if ending.refusal else 0,
                "error": ending.refusal.error if ending.refusal else None,
            }
            for ending in endings
        ],
    }


def refuse_unfinished(mount: Mount, rotation: Rotation, why: str) -> None:
    """Raise if a rotation has left anything that still needs the mount's key."""
    if rotation or _watched_names(mount):
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} still has a rotation of its admin key to finish; run openai_cleanup, after "
            "the overlap if there is one, or use force: true".strip()
        )


def left_at_openai(mount: Mount, rotation: Rotation) -> tuple[list[str], list[str]]:
    """Return the ids of keys that rotations leave at OpenAI, and the names of others that may be there."""
    ids, names = [ending.id for ending in rotation.endings], _watched_names(mount)
    if rotation.intent and rotation.intent.key:
        ids.append(rotation.intent.key.id)
    elif rotation.intent:
        names.append(rotation.intent.name)
    return ids, names


def replace_by_hand(mount: Mount, data: Data, before: MountConfig) -> None:
    """Let a key that was made by a rotation end, when a person puts another one in its place."""
    if before.admin_api_key_name and before.admin_api_key_id:
        key = key_at(before, key_id=before.admin_api_key_id)
        read_rotation(data).let_end(key, mount.now(), before.admin_api_key).store(data)


def _configured(mount: Mount) -> MountConfig:
    mount.openai()  # raises if it is not
    return mount.check_configured()


def _is_due(mount: Mount, config: MountConfig) -> bool:
    due = next_rotation(config, mount.now())
    return due is not None and due <= mount.now()


def _client(mount: Mount, config: MountConfig, value: str) -> OpenAI:
    return mount.client_for(dataclasses.replace(config, admin_api_key=value), warn=mount.warn)


def _id_of(config: MountConfig, keys: t.Sequence[AdminKey]) -> str:
    """Return the id of the mount's key among those that OpenAI lists; raises unless it is certain."""
    value, known = config.admin_api_key, config.admin_api_key_id
    if known is None:
        known = own_id(keys, value)
        if known is None:
            raise OpenAICredsError(
                "admin_api_key_id: it is not known, and OpenAI's list does not tell; give it to openai_config, so that "
                "the key can be ended when it is rotated"
            )
    elif not any(key.id == known and key.fits(value) is not False for key in keys):
        raise OpenAICredsError(
            f"admin_api_key_id: {known} is not the id of the mount's admin key; give the right one to openai_config"
        )
    return str(known)


def own_id(keys: t.Sequence[AdminKey], value: str) -> str | None:
    """Return the id of the one listed key whose redacted value fits this key."""
    fitting = [key.id for key in keys if key.fits(value)]
    return fitting[0] if len(fitting) == 1 else None


def _resume(mount: Mount, report: Report, grace: int, dry_run: bool) -> None:
    """Carry on an abandoned intent if its key is kept, else have the key looked for.

    If a person has replaced the old key meanwhile, the new one ends.
    """
    intent = rotation_of(mount).intent
    if intent is None:
        return
    if not is_left(intent.owner, mount.now(), grace):
        report.busy = True
        return
    report.changed = True
    config = mount.check_configured()
    goes_on = intent.key is not None and config.admin_api_key_id == intent.replaces
    if not dry_run:
        making = AdminKeyMaking(mount, config, intent)
        try:
            if intent.key and not goes_on:
                making.give_up(intent.key.id)
            else:
                # Elsewhere nothing is found, which proves nothing. Its name is watched, until the config is set back.
                here = was_made_here(mount.openai(config), intent.thing)
                recover_making(making, None if here else [])
        except Conflict:
            report.busy = True
            return
    if goes_on:
        report.rotated, report.replaced = True, intent.replaces


def _search(mount: Mount, report: Report, watches: t.Sequence[Stored[Watch]], dry_run: bool) -> None:
    """Look for the keys that unanswered creates have made, by their exact names, and let them end."""
    if not watches:
        return
    client = mount.openai()
    found = ids_by_name(client, watches[0].value.thing)
    for watch in watches:
        if not was_made_here(client, watch.value.thing):
            # Elsewhere nothing is found, which proves nothing. It is looked for again when the config is set back.
            continue
        ids = found.get(watch.value.thing.name, [])
        if dry_run:
            report.ended += ids
            continue
        _let_end(mount, [dataclasses.replace(watch.value.thing, id=key_id) for key_id in ids])
        stop_watching(mount, watch, found=bool(ids))


def _let_end(mount: Mount, keys: t.Iterable[Thing]) -> None:
    def let_end(rotation: Rotation) -> Rotation:
        for key in keys:
            rotation = rotation.let_end(key, mount.now())
        return rotation

    change_rotation(mount, let_end)


def _watched_names(mount: Mount) -> list[str]:
    watches = (watch.value.thing for watch in find_watches(mount, lambda _error: None))
    return [str(thing.name) for thing in watches if thing.kind == ADMIN_KEY]


def _end_due(mount: Mount, report: Report, *, dry_run: bool = False) -> None:
    """Delete the keys whose time has come, with the mount's key; one that will not go stays on record."""
    config = mount.config()
    current = config.admin_api_key_id if config else None
    for ending in rotation_of(mount).endings:
        if ending.ends_at - mount.now() > ending.overlap + FAR_SECONDS:
            # Either the clock that wrote this was wrong, or this machine's is.
            mount.learn_time()
        now = mount.now()
        error = ending.refusal.error if ending.refusal else None
        if ending.has_ended(now) and (not ending.refusal or ending.refusal.is_due(now)) and ending.id != current:
            try:
                client = mount.openai()
                check_pins(client, ending.thing, f"admin key {ending.id}")
                if not dry_run:
                    client.delete_admin_key(ending.id)
                error = None
            except OpenAICredsError as refusal:
                error = str(refusal)
            if not dry_run:
                _record_end(mount, ending.id, error)
            if error is None:
                report.changed = True
                report.ended.append(ending.id)
        if error:
            report.failed[ending.id] = error


def _record_end(mount: Mount, key_id: str, error: str | None) -> None:
    def still_there(ending: KeyEnding) -> KeyEnding | None:
        if ending.id != key_id:
            return ending
        return dataclasses.replace(ending, refusal=refused_again(ending.refusal, error, mount.now())) if error else None

    change_rotation(
        mount,
        lambda rotation: dataclasses.replace(rotation, endings=tuple(filter(None, map(still_there, rotation.endings)))),
    )
