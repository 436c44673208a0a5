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
version_added: 0.1.0
short_description: Revoke the run's OpenAI leases when the run ends
description:
  - When the run ends, also by a failure or an interrupt, revokes the leases that its lookups took.
  - Leases from M(ephemeral.openai.openai_creds) tasks are left, since those are made to be delivered and to outlive the run.
  - A run that is killed ends nothing; its leases end natively, and with the next M(ephemeral.openai.openai_cleanup).
requirements:
  - enable it with C(callbacks_enabled = ephemeral.openai.openai_leases) in C(ansible.cfg)
options:
  revoke:
    description: When to revoke. A run is a failure if a host failed or was unreachable, or if it was interrupted.
    type: str
    choices: [always, on_success, on_failure]
    default: always
    env:
      - name: OPENAI_CREDS_REVOKE
    ini:
      - section: openai_creds
        key: revoke
  include_tasks:
    description: Also revoke the leases from M(ephemeral.openai.openai_creds) tasks.
    type: bool
    default: false
    env:
      - name: OPENAI_CREDS_INCLUDE_TASKS
    ini:
      - section: openai_creds
        key: include_tasks
"""

import atexit
import json
import os
import signal
import threading
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import unexpected
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke_taken
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.taken_leases import notes, open_notebook

_CONCURRENCY = 16


class CallbackModule(CallbackBase):
    """Waits for the end of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ephemeral.openai.openai_leases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._pid = os.getpid()
        self._over = False
        open_notebook()
        # An interrupted run sends no statistics, but it exits. To SIGTERM Ansible dies on the spot, so it is made to
        # take it as an interrupt.
        atexit.register(self._interrupted)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._terminated)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        hosts = (stats.summarize(host) for host in stats.processed)
        self._end(failed=any(host["failures"] or host["unreachable"] for host in hosts), concurrency=_CONCURRENCY)

    def _terminated(self, _number: int, _frame: t.Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def _interrupted(self) -> None:
        if os.getpid() == self._pid:
            self._end(failed=True, concurrency=1)

    def _end(self, failed: bool, concurrency: int) -> None:
        if self._over:
            return
        self._over = True
        if self.get_option("revoke") == ("on_success" if failed else "on_failure"):
            return
        wanted = ("lookup", "task") if self.get_option("include_tasks") else ("lookup",)
        by_settings: dict[str, list[dict[str, t.Any]]] = {}
        for entry in notes():
            by, lease = entry.pop("by"), entry.pop("lease")
            if by in wanted:
                by_settings.setdefault(json.dumps(entry, sort_keys=True), []).append(lease)
        for settings, leases in by_settings.items():
            try:
                mount = open_mount(json.loads(settings))
                ended = revoke_taken(mount, leases, concurrency=concurrency)
            except (OpenAICredsError, AnsibleError) as error:
                self._display.warning(f"openai_leases: leases of this run were not revoked: {error}")
            except Exception as error:  # noqa: BLE001 - a run must not fail for this
                self._display.warning(f"openai_leases: leases of this run were not revoked: {unexpected(error)}")
            else:
                for one in ended:
                    if one.error:
                        self._display.warning(f"openai_leases: {one.lease['lease_id']} was not revoked: {one.error}")
                self._display.display(f"openai_leases: revoked {sum(not one.error for one in ended)} lease(s)")
