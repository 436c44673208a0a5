# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_creds import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.issued import note_issued
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue_several, placeholder
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

_MOST = 1000


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        ttl = None if args["ttl"] is None else parse_duration(args["ttl"], "ttl")
        count = args["count"]
        if not 1 <= count <= _MOST:
            raise OpenAICredsError(f"count: {count} must be between 1 and {_MOST}")
        result: Data = {"changed": True, "_ansible_no_log": True}
        if self.check_mode:
            credential, result["warnings"] = placeholder(mount, args["name"], ttl)
            credentials = [credential] * count
        else:
            leases: list[Lease] = []
            credentials = issue_several(mount, args["name"], ttl, count, leases.append)
            if warnings := note_issued(leases, self.settings, self._task.register):
                result["warnings"] = warnings
        return {**result, **({"creds": credentials[0]} if count == 1 else {"creds_list": credentials})}
