# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotation of the admin key, so that it cannot be lost.

    intent   the definitions say which key is replaced, and the exact, unique name of the one to come
    create   OpenAI makes it
    store    the very next write puts it into the intent, since nobody will show it again
    prove    it is used for the first time
    switch   in one write it becomes the mount's key, the old one is to end, and the intent goes
    end      the old one is deleted, with the new one; at once or after the overlap
    clear    so does its record

Each can be the last that happened. Until the switch the old key is the mount's and works, from then on the new one.
What is left is in the section rotation of the definitions, where every change is a compare-and-set:

    intent   at most one, so rotations exclude each other: name, replaces (the id of the old key), overlap, expires_in,
             owner, since; and key (id, value, expires_at) with made_at as soon as it is stored
    watches  names of keys that a create without an answer may have made, or may still make: name, until
    ending   keys that are to be deleted: id, digest (of the value, where there was one), ends_at, overlap (how long
             before that it was replaced), attempts, error, retry_at. A key in here never becomes the mount's key again

An intent without a key that was left becomes a watch; one with a key is carried on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import typing as t

from ..clocks import FAR_SECONDS
from ..durations import rfc3339
from ..errors import ApiError, OpenAICredsError, StoreError
from ..leases.intents import WATCH_SECONDS
from ..leases.lease import is_time_to_retry, retry_wait
from ..mount import Mount
from ..names import check_openai_id, random_text
from ..openai.client import AdminKey, NewKey, OpenAI, check_key
from ..run.processes import at_work, is_abandoned, is_at_work, this_process
from ..store.base import Data
from .organization import prove_same_organization
from .schedule import next_rotation

#: An intent whose owner cannot be seen from here is taken over when it is this old.
GRACE_SECONDS = 600
#: OpenAI takes no longer native expiry, in seconds.
LONGEST_EXPIRY = 365 * 86400
#: How long to wait before a new key that OpenAI does not know yet is tried again.
_PROOF_WAITS = (0.5, 1.5)
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
        report.rotated, report.changed, report.replaced = True, True, config["admin_api_key_id"]
        return report
    keys = mount.openai().list_admin_keys()
    if mount.definitions("config").get("admin_api_key") != config["admin_api_key"]:
        report.busy = True
        return report
    replaces = _id_of(config, keys)
    name = f"ephemeral-openai-{mount.name[:_LONGEST_MOUNT_IN_NAME]}-{random_text(16)}"
    with at_work(name):
        intent = _begin(mount, config, name, replaces, always, overlap, expires_in)
        if intent is None:
            report.busy = True
            return report
        try:
            _carry_out(mount, config, intent)
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
    report = recover(mount, GRACE_SECONDS, dry_run=dry_run)
    config = _configured(mount)
    if report.busy or value == config["admin_api_key"]:
        return report
    refuse_ending(mount.definitions("rotation"), value, key_id, "new_admin_api_key")
    try:
        keys = _client(mount, config, value).list_admin_keys()
    except ApiError as error:
        raise OpenAICredsError(f"new_admin_api_key: it does not work: {error}") from None
    right = any(key.id == key_id and key.fits(value) is not False for key in keys)
    if not right or key_id == config["admin_api_key_id"]:
        raise OpenAICredsError(f"new_admin_api_key_id: {key_id} is not the id of the key in new_admin_api_key")
    after = {**config, "admin_api_key": value, "admin_api_key_id": key_id}
    prove_same_organization(mount, config, after, "new_admin_api_key", keys)
    # With an admin key that is gone already, there is nothing to end.
    gone = config["admin_api_key_id"] and config["admin_api_key_id"] not in (key.id for key in keys)
    replaces = None if gone else _id_of(config, keys)

    def switch(data: Data) -> bool:
        rotation = data.get("rotation", {})
        # A rotation that could not be carried on is given up when its old key is not the mount's any more.
        rotating = "intent" in rotation and not report.unfinished
        report.busy = rotating or data["config"]["admin_api_key"] != config["admin_api_key"]
        if report.busy:
            return False
        refuse_ending(rotation, value, key_id, "new_admin_api_key")
        _put(mount, data, NewKey(key_id, value, None), None, replaces, overlap)
        return True

    if not dry_run:
        mount.define(switch)
    if not report.busy:
        report.rotated, report.changed, report.replaced = True, True, replaces
    if not dry_run:
        _end_due(mount, report)
    return report


def recover(mount: Mount, grace: int, *, dry_run: bool) -> Report:
    """Carry on an interrupted rotation, find keys whose value nobody has, and end what is to end by now.

    What cannot be done is said in the report. An intent whose owner cannot be seen from here is left alone until it is
    grace seconds old. A dry run only looks.
    """
    report = Report()
    if not mount.definitions("rotation"):
        return report
    try:
        _resume(mount, report, grace, dry_run)
        _search(mount, report, dry_run)
    except ApiError as error:
        report.unfinished = f"the admin key that an interrupted rotation may have made was not looked for: {error}"
    except StoreError:
        raise
    except OpenAICredsError as error:
        report.unfinished = str(error)
    _end_due(mount, report, dry_run=dry_run)
    return report


def public_rotation(mount: Mount, config: Data) -> Data:
    """Return what users see of the rotation of a config's key: times in RFC 3339, never a key."""
    due = next_rotation(config, mount.now())
    ending = mount.definitions("rotation").get("ending", [])
    previous = [entry["id"] for entry in ending if entry["digest"]]
    return {
        "last_rotated": rfc3339(config["last_rotated"]) if config.get("last_rotated") else None,
        "next_rotation": rfc3339(due) if due is not None else None,
        "previous_admin_api_key_id": previous[-1] if previous else None,
        "previous_admin_api_keys": [
            {
                "admin_api_key_id": entry["id"],
                "ends_at": rfc3339(entry["ends_at"]),
                "attempts": entry["attempts"],
                "error": entry["error"],
            }
            for entry in ending
        ],
    }


def refuse_ending(rotation: Data, value: str, key_id: str | None, option: str) -> None:
    """Raise if a key is on record to be deleted: somebody may be doing so right now."""
    for entry in rotation.get("ending", []):
        if entry["id"] == key_id or entry["digest"] == _digest(value):
            raise OpenAICredsError(
                f"{option}: this key was rotated away and ends at {rfc3339(entry['ends_at'])}; make a new one at OpenAI"
            )


def refuse_unfinished(mount: Mount, rotation: Data, why: str) -> None:
    """Raise if a rotation has left anything that still needs the mount's key."""
    if rotation:
        raise OpenAICredsError(
            f"{why} mount {mount.name!r} still has a rotation of its admin key to finish; run openai_cleanup, after "
            "the overlap if there is one, or use force: true".strip()
        )


def replace_by_hand(mount: Mount, data: Data, before: Data) -> None:
    """Let a key that was made by a rotation end, when a person puts another one in its place."""
    if before.get("admin_api_key_name"):
        _let_end(data, before["admin_api_key_id"], mount.now(), before["admin_api_key"])


def _configured(mount: Mount) -> Data:
    mount.openai()  # raises if it is not
    return mount.definitions("config")


def _is_due(mount: Mount, config: Data) -> bool:
    due = next_rotation(config, mount.now())
    return due is not None and due <= mount.now()


def _client(mount: Mount, config: Data, value: str) -> OpenAI:
    return OpenAI(config["api_endpoint"], value, config["organization_id"], log=mount.log, warn=mount.warn)


def _id_of(config: Data, keys: t.Sequence[AdminKey]) -> str:
    """Return the id of the mount's key among those that OpenAI lists; raises unless it is certain."""
    value, known = config["admin_api_key"], config["admin_api_key_id"]
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


# Intent.


def _begin(
    mount: Mount, config: Data, name: str, replaces: str, always: bool, overlap: int, expires_in: int | None
) -> Data | None:
    """Write the intent; returns None if somebody else rotates, or has done so since the config was read."""
    intent: Data = {
        "name": name,
        "replaces": replaces,
        "overlap": overlap,
        "expires_in": expires_in,
        "owner": this_process(),
        "since": mount.now(),
    }

    def begin(data: Data) -> bool:
        now = data.get("config") or {}
        if "intent" in data.get("rotation", {}) or now.get("admin_api_key") != config["admin_api_key"]:
            return False
        if not always and not _is_due(mount, now):
            return False
        now["admin_api_key_id"] = replaces
        data.setdefault("rotation", {})["intent"] = intent
        return True

    return intent if mount.define(begin) else None


def _change(mount: Mount, intent: Data, change: t.Callable[[Data, Data], None]) -> bool:
    """Change the definitions and the rotation in them if the intent is still this process's; says whether it was."""

    def changing(data: Data) -> bool:
        rotation = data.get("rotation", {})
        stored = rotation.get("intent", {})
        if (stored.get("name"), stored.get("owner")) != (intent["name"], intent["owner"]):
            return False
        change(data, rotation)
        _tidy(data)
        return True

    return mount.define(changing)


def _tidy(data: Data) -> None:
    """Leave nothing behind where there is nothing to say."""
    data["rotation"] = {name: value for name, value in data.get("rotation", {}).items() if value}
    if not data["rotation"]:
        del data["rotation"]


# Create, store, prove, switch.


def _carry_out(mount: Mount, config: Data, intent: Data) -> None:
    """Do what an intent of this process says, from where it stands to the switch."""
    try:
        if "key" not in intent:
            _create(mount, intent)
        client = _client(mount, config, intent["key"]["value"])
        _prove(mount, client, intent)
        _switch(mount, client, intent)
    except OpenAICredsError:
        # So that anybody can carry on at once. If it cannot be said, they wait until this process has ended.
        with contextlib.suppress(OpenAICredsError):
            _change(mount, intent, lambda data, rotation: rotation["intent"].update(owner=None))
        raise


def _create(mount: Mount, intent: Data) -> None:
    client = mount.openai()
    try:
        key = client.create_admin_key(intent["name"], intent["expires_in"])
    except ApiError as error:
        if not error.may_have_happened:
            _change(mount, intent, lambda data, rotation: rotation.pop("intent"))
        raise OpenAICredsError(f"admin key creation failed: {error}") from None
    intent["key"] = {"id": key.id, "value": key.value, "expires_at": key.expires_at}
    intent["made_at"] = mount.now()
    try:
        stored = _change(mount, intent, lambda data, rotation: rotation.update(intent=intent))
    except StoreError as error:
        # Its value may be on record all the same; then the rotation is carried on with it. If it is not, nobody will ever have
        # it, and a key that is still there is found by its name.
        if not error.may_have_happened:
            with contextlib.suppress(ApiError):
                client.delete_admin_key(key.id)
        raise
    if not stored:
        _overtaken(mount, client, key.id)
    expires_in = intent["expires_in"]
    if expires_in and (key.expires_at is None or key.expires_at > mount.now() + expires_in + FAR_SECONDS):
        _change(mount, intent, lambda data, rotation: _let_intent_end(data, mount.now()))
        raise OpenAICredsError(
            "expires_in: OpenAI, or a gateway on the way, does not end the new admin key when asked to; it is deleted again, "
            "the old one stays"
        )


def _prove(mount: Mount, client: OpenAI, intent: Data) -> None:
    """Use the key for the first time. One that OpenAI does not know may be too young: it stays for a while, to be proved
    later."""
    for wait in (*_PROOF_WAITS, None):
        try:
            client.list_admin_keys()
            return
        except ApiError as error:
            unknown = error.status == 401
            if not unknown or wait is None:
                failure = error
                break
        time.sleep(wait)
    refused = failure.status is not None and 400 <= failure.status < 500 and failure.status not in (408, 429)
    young = 0 <= mount.now() - intent["made_at"] < WATCH_SECONDS
    if not refused or (unknown and young):
        raise OpenAICredsError(
            f"the new admin key is stored but not proved to work, the next rotation or cleanup carries on: {failure}"
        )
    _change(mount, intent, lambda data, rotation: _let_intent_end(data, mount.now()))
    raise OpenAICredsError(f"the new admin key does not work and is deleted again, the old one stays: {failure}")


def _switch(mount: Mount, client: OpenAI, intent: Data) -> None:
    key = intent["key"]
    replaced_by_hand = False

    def switch(data: Data, rotation: Data) -> None:
        nonlocal replaced_by_hand
        replaced_by_hand = data["config"]["admin_api_key_id"] != intent["replaces"]
        if replaced_by_hand:
            _let_intent_end(data, mount.now())
        else:
            del rotation["intent"]
            _put(mount, data, NewKey(**key), intent["name"], intent["replaces"], intent["overlap"])

    if not _change(mount, intent, switch):
        _overtaken(mount, client, key["id"])
    if replaced_by_hand:
        raise OpenAICredsError(
            "the admin key was replaced by openai_config while it was rotated; that one stays, and the new one is deleted"
        )


def _put(mount: Mount, data: Data, key: NewKey, name: str | None, replaces: str | None, overlap: int) -> None:
    """Make a key the mount's, and let the one before it end. name is that of a key which a rotation has made."""
    now, config = mount.now(), data["config"]
    if replaces:
        _let_end(data, replaces, now, config["admin_api_key"], overlap)
    config.update(
        admin_api_key=key.value,
        admin_api_key_id=key.id,
        admin_api_key_name=name,
        admin_api_key_expires_at=key.expires_at,
        id_proved=True,
        created_at=now,
        last_rotated=now,
    )


def _overtaken(mount: Mount, client: OpenAI, key_id: str) -> t.NoReturn:
    """End a key of this process's making unless a record accounts for it: the intent is not this process's any more."""
    rotation = mount.definitions("rotation")
    known = {entry["id"] for entry in rotation.get("ending", [])}
    known |= {rotation.get("intent", {}).get("key", {}).get("id"), mount.definitions("config").get("admin_api_key_id")}
    if key_id not in known:
        try:
            client.delete_admin_key(key_id)
        except ApiError:
            mount.define(lambda data: _let_end(data, key_id, mount.now()))
    raise OpenAICredsError("the rotation took so long that somebody else has taken it over")


# What was left.


def _resume(mount: Mount, report: Report, grace: int, dry_run: bool) -> None:
    """Carry on an abandoned intent if its key is stored, else have the key looked for.

    If a person has replaced the old key meanwhile, the new one ends.
    """
    intent = mount.definitions("rotation").get("intent")
    if intent is None:
        return
    name, owner = intent["name"], intent["owner"]
    if not is_abandoned(is_at_work(owner, name), intent["since"], mount.now(), grace):
        report.busy = True
        return
    report.changed = True

    def give_up(data: Data, rotation: Data) -> None:
        if "key" in intent:
            _let_intent_end(data, mount.now())
        else:
            del rotation["intent"]
            rotation.setdefault("watches", []).append({"name": name, "until": mount.now() + WATCH_SECONDS})

    if "key" not in intent or mount.definitions("config")["admin_api_key_id"] != intent["replaces"]:
        if not dry_run:
            _change(mount, intent, give_up)
        return
    if not dry_run:
        with at_work(name):
            mine = {**intent, "owner": this_process(), "since": mount.now()}
            if not _change(mount, intent, lambda data, rotation: rotation.update(intent=mine)):
                report.busy = True
                return
            _carry_out(mount, mount.definitions("config"), mine)
    report.rotated, report.replaced = True, intent["replaces"]


def _search(mount: Mount, report: Report, dry_run: bool) -> None:
    """Look for the keys that unanswered creates have made, by their exact names, and let them end."""
    watches = mount.definitions("rotation").get("watches")
    if not watches:
        return
    found: dict[str | None, list[str]] = {}
    for key in mount.openai().list_admin_keys():
        found.setdefault(key.name, []).append(key.id)

    def settle(data: Data) -> bool:
        rotation = data.get("rotation", {})
        watches = rotation.get("watches", [])
        for watch in watches:
            for key_id in found.get(watch["name"], ()):
                _let_end(data, key_id, mount.now())
        # A watch that is to last longer than any does was written by a clock that was wrong.
        left = [
            watch
            for watch in watches
            if watch["name"] not in found and 0 < watch["until"] - mount.now() <= WATCH_SECONDS
        ]
        rotation["watches"] = left
        _tidy(data)
        return len(left) < len(watches)

    if dry_run:
        report.ended += [key_id for watch in watches for key_id in found.get(watch["name"], ())]
    else:
        mount.define(settle)


# End, clear.


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _let_end(data: Data, key_id: str, now: int, value: str | None = None, overlap: int = 0) -> bool:
    """Put a key on record as one to be deleted when the overlap is over."""
    ending = data.setdefault("rotation", {}).setdefault("ending", [])
    entry = {"id": key_id, "digest": _digest(value) if value else None, "ends_at": now + overlap, "overlap": overlap}
    ending.append({**entry, "attempts": 0, "error": None, "retry_at": 0})
    return True


def _let_intent_end(data: Data, now: int) -> None:
    intent = data["rotation"].pop("intent")
    _let_end(data, intent["key"]["id"], now)


def _end_due(mount: Mount, report: Report, *, dry_run: bool = False) -> None:
    """Delete the keys whose time has come, with the mount's key; one that will not go stays on record."""
    current = mount.definitions("config").get("admin_api_key_id")
    for entry in mount.definitions("rotation").get("ending", []):
        if entry["ends_at"] - mount.now() > entry["overlap"] + FAR_SECONDS:
            # Either the clock that wrote this was wrong, or this machine's is.
            mount.learn_time()
        now, key_id = mount.now(), entry["id"]
        error = entry["error"]
        if _has_ended(entry, now) and is_time_to_retry(entry["retry_at"], now) and key_id != current:
            try:
                if not dry_run:
                    mount.openai().delete_admin_key(key_id)
                error = None
            except OpenAICredsError as refusal:
                error = str(refusal)
            if not dry_run:
                _record_end(mount, key_id, error)
            if error is None:
                report.changed = True
                report.ended.append(key_id)
        if error:
            report.failed[key_id] = error


def _has_ended(entry: Data, now: int) -> bool:
    """Say whether a key's overlap is over. An end further ahead than the overlap was written by a clock that was wrong."""
    return not 0 < entry["ends_at"] - now <= entry["overlap"] + FAR_SECONDS


def _record_end(mount: Mount, key_id: str, error: str | None) -> None:
    def record(data: Data) -> bool:
        rotation = data.get("rotation", {})
        left = []
        for entry in rotation.get("ending", []):
            if entry["id"] != key_id:
                left.append(entry)
            elif error:
                attempts = entry["attempts"] + 1
                retry_at = mount.now() + retry_wait(attempts)
                left.append({**entry, "attempts": attempts, "error": error, "retry_at": retry_at})
        rotation["ending"] = left
        _tidy(data)
        return True

    mount.define(record)
