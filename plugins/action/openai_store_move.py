# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_store_move import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.move import move


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        if args["from"] == args["to"]:
            raise OpenAICredsError(f"to: {args['to']} is where the mount is to be moved from; name the other store")
        moved = move(
            self.open_mount({**args, "store": args["from"]}),
            self.open_mount({**args, "store": args["to"]}),
            to=args["to"],
            grace=parse_duration(args["grace"], "grace", least=0),
            dry_run=self.check_mode,
        )
        return {"changed": moved is not None, "moved": moved or 0}
