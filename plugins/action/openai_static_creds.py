# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_static_creds import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    planned_credential,
    rotate_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        name, always = args["name"], args["rotate"] == "always"
        if self.check_mode:
            rotated, creds, warnings = planned_credential(mount, name, always=always)
        else:
            report = rotate_static_role(mount, name, always=always)
            rotated, creds, warnings = report.rotated, current_credential(mount, name), list(report.warnings)
        result: Data = {"changed": rotated, "rotated": rotated, "creds": creds, "_ansible_no_log": True}
        return {**result, "warnings": warnings} if warnings else result
