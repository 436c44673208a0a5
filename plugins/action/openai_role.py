# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_role import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import delete_role, write_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

_WITH_DEFAULT = (
    "service_account_name_template",
    "service_account_description",
    "ttl",
    "max_ttl",
    "renewable",
    "native_expiry",
)


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("project", "project_id"),)

    def act(self, mount: Mount, args: Data) -> Data:
        if args["state"] == "absent":
            outcome = delete_role(mount, args["name"], dry_run=self.check_mode)
        else:
            given = self.given(args, "project", "project_id", "service_account_id", "scopes", *_WITH_DEFAULT)
            defaults = self.defaults(*_WITH_DEFAULT)
            outcome = write_role(mount, args["name"], **given, defaults=defaults, dry_run=self.check_mode)
        return {**self.outcome(outcome), "role": outcome.after}
