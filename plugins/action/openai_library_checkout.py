# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_library_checkout import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.issued import note_issued
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.library_sets import warn_undefined
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_out import (
    check_out,
    placeholder,
    plan_check_out,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        ttl = parse_duration(args["ttl"], "ttl")
        result: Data = {"changed": True, "_ansible_no_log": True}
        if self.check_mode:
            return {**result, **self._foretell(mount, args, ttl)}
        leases: list[Lease] = []
        creds = check_out(mount, args["name"], ttl, args["service_account"], leases.append)
        warnings = note_issued(leases, self.settings, self._task.register)
        return {**result, "creds": creds, **({"warnings": warnings} if warnings else {})}

    def _foretell(self, mount: Mount, args: Data, ttl: int) -> Data:
        if warnings := warn_undefined(mount, args["name"]):
            return {"creds": placeholder(mount, ttl), "warnings": warnings}
        return {"creds": plan_check_out(mount, args["name"], ttl, args["service_account"])}
