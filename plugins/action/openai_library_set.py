# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_library_set import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.accounts import (
    delete_library_set,
    write_library_set,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

_WITH_DEFAULT = ("max_ttl", "description")


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("project", "project_id"),)
    ONLY_RETURNED = frozenset({"account_status", "available_accounts", "checked_out_accounts"})

    def act(self, mount: Mount, args: Data) -> Data:
        if args["state"] == "absent":
            outcome = delete_library_set(mount, args["name"], dry_run=self.check_mode)
            return {**self.outcome(outcome), "library_set": outcome.after}
        given = self.given(args, "project", "project_id", "service_account_names", *_WITH_DEFAULT)
        defaults = self.defaults(*_WITH_DEFAULT)
        outcome = write_library_set(mount, args["name"], **given, defaults=defaults, dry_run=self.check_mode)
        result: Data = {**self.outcome(outcome), "library_set": outcome.after}
        if self.check_mode and (warnings := self.unconfigured(mount)):
            result["warnings"] = [*result.get("warnings", ()), *warnings]
        return result
