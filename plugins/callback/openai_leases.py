# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends with a run the leases that it took."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openai_leases
type: aggregate
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Revoke the run's OpenAI leases when the run ends
description:
  - Revokes the leases that the run's lookups took, when the run ends, also by a failure or by a signal such as SIGINT, SIGTERM or
    SIGHUP.
  - Leaves the leases of M(ephemeral.openai.openai_creds) tasks, since their credentials are meant to be delivered and to outlive the
    run.
  - If a run is killed with SIGKILL, the callback cannot revoke anything. The next M(ephemeral.openai.openai_cleanup) on the same machine
    does.
  - Writes to standard error, so that its messages do not mix with the output of a callback such as C(ansible.posix.json).
requirements:
  - enable it with C(callbacks_enabled = ephemeral.openai.openai_leases) in C(ansible.cfg)
options:
  revoke:
    description:
      - When to revoke. A run has failed if a host failed or was unreachable, or if the run was interrupted.
      - Leases that are not revoked live until they end.
      - An unknown value is reported at the start of the run, and V(always) counts.
    type: str
    choices: [always, on_success, on_failure]
    default: always
    env:
      - name: OPENAI_CREDS_REVOKE
    ini:
      - section: openai_creds
        key: revoke
  include_tasks:
    description:
      - Also revoke the leases of M(ephemeral.openai.openai_creds) and M(ephemeral.openai.openai_library_checkout) tasks.
      - A value that is neither true nor false is reported at the start of the run, and V(false) counts.
    type: bool
    default: false
    env:
      - name: OPENAI_CREDS_INCLUDE_TASKS
    ini:
      - section: openai_creds
        key: include_tasks
"""

import atexit
import contextlib
import functools
import json
import os
import signal
import threading
import typing as t
from multiprocessing.util import Finalize

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import lookup_loader

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import unexpected
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.sources import load_yaml
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, quoted
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.run_end import (
    forget_claims,
    revoke_taken,
    take_back_interrupted,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.taken import read_note
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.api_errors import record_api_errors
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.taken_leases import begin_notes, notes

_CONCURRENCY = 16
#: Signals that end a process unless it does something about them. SIGINT is Ansible's own.
_ENDING = ("SIGHUP", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU")
_PLUGIN = ("callback", "ephemeral.openai.openai_leases.raw")


@functools.cache
def _options() -> dict[str, dict[str, t.Any]]:
    """Return the documented options, and let Ansible look them up without judging them: it would fail on a wrong one, or
    take any word for false."""
    options = load_yaml(DOCUMENTATION)["options"]
    raw = {name: {**option, "type": "raw", "choices": None, "default": None} for name, option in options.items()}
    C.config.initialize_plugin_configuration_definitions(*_PLUGIN, raw)
    return t.cast("dict[str, dict[str, t.Any]]", options)


class CallbackModule(CallbackBase):
    """Waits for the end of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ephemeral.openai.openai_leases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._pid = os.getpid()
        self._playbooks_left = _number_of_playbooks()
        #: Whether the run is one at this moment; so it is until there are statistics that say something else.
        self._failed = True
        self._interrupted = False
        #: Ids of the leases of which it is known what has become of them.
        self._ended: set[str] = set()
        self._over = False
        try:
            begin_notes()
        except OSError as error:
            self._display.warning(
                f"openai_leases: the leases of this run cannot be noted ({error.strerror}), so the end of the run does not "
                "revoke them; the next openai_cleanup does"
            )
        # A run that fails early or is interrupted sends no statistics, but it exits: by way of the first, or if it is a
        # child of a pool of processes, of the second.
        atexit.register(self._exit)
        Finalize(None, self._exit, exitpriority=0)
        if threading.current_thread() is threading.main_thread():
            self._catch_signals()

    def set_options(self, task_keys: t.Any = None, var_options: t.Any = None, direct: t.Any = None) -> None:
        # Now, since at the end of the run nobody could correct them any more.
        options = _options()
        found = C.config.get_plugin_options(*_PLUGIN, variables=var_options, direct=direct)
        self._revoke, self._include_tasks = "always", False
        if found["revoke"] not in (None, ""):
            if found["revoke"] in options["revoke"]["choices"]:
                self._revoke = found["revoke"]
            else:
                choices = ", ".join(options["revoke"]["choices"])
                self._display.warning(
                    f"revoke: {quoted(found['revoke'])} is not one of {choices}; the callback openai_leases uses always"
                )
        if found["include_tasks"] not in (None, ""):
            try:
                self._include_tasks = boolean(found["include_tasks"])
            except TypeError:
                self._display.warning(
                    f"include_tasks: {quoted(found['include_tasks'])} is neither true nor false; the callback "
                    "openai_leases uses false"
                )
        self._plugin_options = {"revoke": self._revoke, "include_tasks": self._include_tasks}

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._playbooks_left -= 1
        self._failed = True
        # What is loaded here, each worker need not load for itself.
        lookup_loader.get("ephemeral.openai.openai_creds")

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        hosts = (stats.summarize(host) for host in stats.processed)
        self._failed = any(host["failures"] or host["unreachable"] for host in hosts)
        # There are statistics after each playbook. The run ends after the last one, and after the first that fails.
        if self._failed or self._playbooks_left <= 0:
            self._end(_CONCURRENCY)

    def _catch_signals(self) -> None:
        self._handle_interrupt = signal.getsignal(signal.SIGINT)
        for name in ("SIGINT", *_ENDING):
            number = getattr(signal, name, None)
            if number is not None and _ends_the_process(signal.getsignal(number)):
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: t.Any) -> None:
        if os.getpid() != self._pid:
            # A worker has inherited the handler; it ends as it would without this callback.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._interrupted:
            self._tell_what_is_left()
            # Nothing else here, as it would wait for calls that are under way. Not by the signal, as some dump memory.
            os._exit(128 + number)
        else:
            self._interrupted = self._failed = True
            try:
                if _ends_the_process(self._handle_interrupt) and callable(self._handle_interrupt):
                    # Ansible's own ends the workers.
                    self._handle_interrupt(signal.SIGINT, frame)
                raise KeyboardInterrupt
            finally:
                if number == signal.SIGINT:
                    signal.signal(number, self._signalled)

    def _exit(self) -> None:
        if os.getpid() != self._pid or self._over:
            return
        # From here on a signal is one too many.
        self._interrupted = True
        self._end(1)

    def _end(self, concurrency: int) -> None:
        """End the leases of the run, then tell: output that cannot be written must not stop what is still to be done."""
        if self._over:
            return
        messages: list[_Message] = []
        with _errors_as_warnings(messages):
            by_settings: dict[str, list[dict[str, t.Any]]] = {}
            for entry in notes():
                by, lease = entry.pop("by"), entry.pop("lease")
                if by == "lookup" or self._include_tasks:
                    taken = by_settings.setdefault(json.dumps(entry, sort_keys=True), [])
                    taken += [lease] if lease else []
            for settings, taken in by_settings.items():
                with _errors_as_warnings(messages):
                    mount = open_mount(json.loads(settings))
                    try:
                        self._end_leases(mount, taken, concurrency, messages)
                    finally:
                        record_api_errors(mount)
        self._over = True
        for message in messages:
            # The pipe may be broken, the terminal closed, the disk full. Not on standard output, which belongs to the
            # callback that writes there.
            with contextlib.suppress(Exception):
                if message.warning:
                    self._display.warning(f"openai_leases: {message.text}")
                else:
                    self._display.display(f"openai_leases: {message.text}", stderr=True)

    @property
    def _leases_stay(self) -> bool:
        return self._revoke == ("on_success" if self._failed else "on_failure")

    def _end_leases(
        self, mount: Mount, taken: list[dict[str, t.Any]], concurrency: int, messages: list[_Message]
    ) -> None:
        """End the leases that the run has taken from a mount."""
        if not self._leases_stay:
            with _errors_as_warnings(messages):
                messages += (
                    _Message(f"leases of this run were not revoked: {error}") for error in take_back_interrupted(mount)
                )
            ended = []
            for one in revoke_taken(mount, list(map(read_note, taken)), concurrency=concurrency):
                ended.append(one)
                self._ended.add(one.record.subject)
            messages += [_Message(f"{one.record.subject} was not revoked: {one.error}") for one in ended if one.error]
            messages.append(_Message(f"revoked {sum(not one.error for one in ended)} lease(s)", warning=False))
        forget_claims(mount, leases_stay=self._leases_stay)

    def _tell_what_is_left(self) -> None:
        """Say, in a signal handler, which leases nobody will have revoked."""
        if self._over or self._leases_stay:
            return
        wanted = ("lookup", "task") if self._include_tasks else ("lookup",)
        noted = [entry for entry in notes() if entry["by"] in wanted]
        taken = {entry["lease"]["subject"]: None for entry in noted if entry["lease"]}
        left = [lease_id for lease_id in taken if lease_id not in self._ended]
        # A lookup notes that it begins, and then the lease. If that has failed, there is no lease either.
        by_lookups = [entry["lease"] for entry in noted if entry["by"] == "lookup"]
        begun, issued = by_lookups.count(None), sum(lease is not None for lease in by_lookups)
        if begun > issued:
            left.append("perhaps one that was being issued")
        if left:
            text = f"openai_leases: interrupted; left until the next openai_cleanup or their own end: {', '.join(left)}"
            # Not by way of Ansible's display, which the signal may have interrupted.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{text}\n".encode())


class _Message(t.NamedTuple):
    """Something to tell when the leases have been ended."""

    text: str
    warning: bool = True


@contextlib.contextmanager
def _errors_as_warnings(messages: list[_Message]) -> t.Iterator[None]:
    """Turn an error into a warning: a run must not fail for it, and nothing else may stop for it."""
    try:
        yield
    except (OpenAICredsError, AnsibleError) as error:
        messages.append(_Message(f"leases of this run were not revoked: {error}"))
    except Exception as error:  # noqa: BLE001
        messages.append(_Message(f"leases of this run were not revoked: {unexpected(error)}"))


def _ends_the_process(handler: t.Any) -> bool:
    """Say whether a signal with this handler ends a process at once. What is ignored, as by nohup, or what somebody else
    handles does not; Ansible's own handler does."""
    owner = getattr(handler, "__self__", None)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(owner, TaskQueueManager)


def _number_of_playbooks() -> int:
    playbooks = context.CLIARGS.get("args")
    return len(playbooks) if isinstance(playbooks, (list, tuple)) else 1
