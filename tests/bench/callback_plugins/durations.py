# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how long each task took to the file that BENCH_DURATIONS names."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "durations"

    def v2_runner_on_start(self, host, task):
        self._started = time.perf_counter()

    def v2_runner_on_ok(self, result):
        with open(os.environ["BENCH_DURATIONS"], "a") as durations:
            durations.write(json.dumps([result._task.name, time.perf_counter() - self._started]) + "\n")
