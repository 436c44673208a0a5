# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

from ansible_collections.ephemeral.openai.plugins.modules.openai_config import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.sources import first_given
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import (
    delete_config,
    write_config,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    ONLY_RETURNED = frozenset(
        {
            "admin_api_key_expires_at",
            "last_rotated",
            "next_rotation",
            "previous_admin_api_key_id",
            "previous_admin_api_keys",
        }
    )

    def act(self, mount: Mount, args: Data) -> Data:
        if args["state"] == "absent":
            outcome = delete_config(mount, force=args["force"], dry_run=self.check_mode)
        else:
            outcome = write_config(
                mount,
                admin_api_key=first_given(args["admin_api_key"], os.environ.get("OPENAI_ADMIN_KEY")),
                admin_api_key_id=args["admin_api_key_id"],
                organization_id=first_given(args["organization_id"], os.environ.get("OPENAI_ORG_ID")),
                api_endpoint=first_given(args["api_endpoint"], os.environ.get("OPENAI_BASE_URL")),
                rotation_period=args["rotation_period"],
                rotation_schedule=args["rotation_schedule"],
                rotation_window=args["rotation_window"],
                disable_automated_rotation=args["disable_automated_rotation"],
                replace_key=args["update_admin_key"] == "always",
                validate=args["validate"],
                force=args["force"],
                dry_run=self.check_mode,
            )
        # A diff also tells that the key was replaced.
        config = {name: value for name, value in (outcome.after or {}).items() if name != "admin_api_key"}
        return {**self.outcome(outcome), "config": config or None}
