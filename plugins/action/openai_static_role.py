# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_static_role import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    delete_static_role,
    read_static_roles,
    write_static_role,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

_WITH_DEFAULT = ("api_key_name", "rotation_period", "ttl", "rotation_strategy", "overlap")


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("project", "project_id"),)
    ONLY_RETURNED = frozenset(
        {"api_key_id", "current_service_account_id", "expires_at", "last_rotated", "next_rotation", "rotation_due"}
    )

    def act(self, mount: Mount, args: Data) -> Data:
        name = args["name"]
        if args["state"] == "absent":
            outcome = delete_static_role(mount, name, dry_run=self.check_mode)
            return {**self.outcome(outcome), "static_role": None}
        given = self.given(args, "project", "project_id", "service_account_id", *_WITH_DEFAULT)
        defaults = self.defaults(*_WITH_DEFAULT)
        outcome = write_static_role(mount, name, **given, defaults=defaults, dry_run=self.check_mode)
        unreadable: list[UnreadableError] = []
        stored = [] if self.check_mode else read_static_roles(mount, name, unreadable.append)
        outcome = outcome._replace(warnings=(*outcome.warnings, *map(str, unreadable)))
        return {**self.outcome(outcome), "static_role": stored[0] if stored else outcome.after}
