# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_static_role_info import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import read_static_roles
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        unreadable: list[UnreadableError] = []
        static_roles = read_static_roles(mount, args["name"], unreadable.append)
        return {"static_roles": static_roles, **({"warnings": list(map(str, unreadable))} if unreadable else {})}
