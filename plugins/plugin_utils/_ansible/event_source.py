# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source of Event-Driven Ansible: its arguments, and the loop that puts events into the queue of a rulebook."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import typing as t
from functools import partial

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import get_file_vault_secret

from .._engine.durations import parse_duration
from .._engine.errors import OpenAICredsError, mask_keys, quoted
from .._engine.store.base import Data
from .._engine.store.vaulted_file_cipher import forget_keys
from .._engine.upkeep.events import EventWatcher
from .action import unexpected
from .open_mount import make_mount
from .options import NAMES, resolve
from .paths import expand_path
from .sources import first_given

#: Under this name ansible-rulebook shows messages of the source.
LOGGER = logging.getLogger("ephemeral.openai.openai_events")
#: ansible-rulebook adds this one if a rulebook asks for feedback.
_NOT_OURS = {"eda_feedback_queue"}
_LONGEST_WAIT_SECONDS = 60.0
_FORGET_AFTER_POLLS = 1000
_Result = t.TypeVar("_Result")


class Queue(t.Protocol):
    """What a rulebook takes events from."""

    async def put(self, event: Data, /) -> object: ...


class Source(t.NamedTuple):
    """What the arguments describe: interval is the longest time between two polls, in seconds."""

    watcher: EventWatcher
    interval: int


async def send_events(queue: Queue, args: t.Mapping[str, t.Any]) -> None:
    """Put the events of a mount into a queue until it is cancelled. Raises OpenAICredsError for arguments that are wrong.

    A store that cannot be read is tried again after a growing wait. Reading blocks, so it is done in a thread: the rulebook goes on
    meanwhile, and a cancelled source ends at once.
    """
    source = await _in_thread(partial(open_source, args))
    failures = 0
    for poll in itertools.count(1):
        if poll % _FORGET_AFTER_POLLS == 0:
            forget_keys()
        try:
            events = await _in_thread(source.watcher.poll)
        except Exception as error:  # noqa: BLE001 - a source that ends takes the rulebook with it
            wait = min(_LONGEST_WAIT_SECONDS, max(source.interval, 2.0**failures))
            failures = min(failures + 1, 10)
            reason = str(error) if isinstance(error, OpenAICredsError) else unexpected(error)
            LOGGER.error("no events can be found; trying again in %d s: %s", wait, mask_keys(reason))
        else:
            if failures:
                LOGGER.warning("events can be found again")
            failures = 0
            for event in events:
                await queue.put({"openai_creds": event})
            wait = source.watcher.pause(source.interval)
        await asyncio.sleep(wait)


def open_source(args: t.Mapping[str, t.Any]) -> Source:
    """Return what the arguments of a source describe, or raise OpenAICredsError. The store is not looked at yet."""
    own = {"vault_password_file", "interval", "ahead"}
    if unknown := sorted(args.keys() - NAMES - own - _NOT_OURS):
        raise OpenAICredsError(
            f"{quoted(unknown[0])} is not an option of openai_events; beside those of the store there are {', '.join(sorted(own))}"
        )
    interval = parse_duration(first_given(args.get("interval"), 1), "interval")
    ahead = parse_duration(first_given(args.get("ahead"), "5m"), "ahead", least=0)
    settings = resolve({name: args[name] for name in NAMES & args.keys()}, {}, lambda value: value)
    secrets = _vault_secrets(args.get("vault_password_file")) if settings["store"] == "vaulted_file" else []
    mount = make_mount(settings, secrets, log=LOGGER.debug, warn=LOGGER.warning)
    return Source(EventWatcher(mount, ahead), interval)


def _vault_secrets(password_file: t.Any) -> list[tuple[str, t.Any]]:
    """Return the vault secrets: of the file that is given, or else those that Ansible's settings name."""
    password_file = first_given(password_file)
    if password_file is not None:
        if not isinstance(password_file, str):
            raise OpenAICredsError("vault_password_file: give the path of a file")
        path = expand_path(password_file, "vault_password_file", None)
        return [_vault_secret("default", path, "vault_password_file")]
    secrets = []
    for given in C.config.get_config_value("DEFAULT_VAULT_IDENTITY_LIST") or []:
        name, at, source = str(given).partition("@")
        name, source = (name, source) if at else ("default", name)
        if source in ("prompt", "prompt_ask_vault_pass"):
            raise OpenAICredsError(
                f"vault_identity_list: {quoted(given)} asks for a password, and nobody answers an event source; name a file"
            )
        secrets.append(_vault_secret(name, source, "vault_identity_list"))
    if path := C.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE"):
        secrets.insert(0, _vault_secret("default", str(path), "vault_password_file"))
    if not secrets:
        raise OpenAICredsError(
            "vault_password_file: store vaulted_file needs a vault secret; give this option, or set ANSIBLE_VAULT_PASSWORD_FILE"
        )
    return secrets


def _vault_secret(name: str, path: str, option: str) -> tuple[str, t.Any]:
    try:
        secret = get_file_vault_secret(filename=path, vault_id=name, loader=DataLoader())
        secret.load()
    except AnsibleError as error:
        raise OpenAICredsError(f"{option}: {' '.join(str(error).split())}") from None
    return name, secret


async def _in_thread(function: t.Callable[[], _Result]) -> _Result:
    """Return what a function returns that a thread calls. A cancelled caller does not wait for it.

    Nor does the interpreter when it ends, but for requests to Vault that are under way in other threads.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def finish(result: _Result | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(t.cast(_Result, result))

    def work() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the rulebook has ended meanwhile
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=work, name="openai_events", daemon=True).start()
    return await done
