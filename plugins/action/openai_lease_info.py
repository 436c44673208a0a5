# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_lease_info import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("lease_id", "prefix"),)

    def act(self, mount: Mount, args: Data) -> Data:
        within = None if args["expiring_within"] is None else parse_duration(args["expiring_within"], "expiring_within")
        unreadable: list[UnreadableError] = []
        if args["lease_id"] is not None:
            record = find_record(mount, args["lease_id"], unreadable.append)
            found = [record] if record else []
        else:
            found = matching(mount, args["prefix"], unreadable.append)
        leases = [
            record.public()
            for record in sorted(found, key=lambda record: (record.lease.expires_at, record.lease.lease_id))
            if (args["role"] is None or record.lease.role == args["role"])
            and (args["status"] is None or record.status == args["status"])
            and (within is None or record.lease.expires_at <= mount.now() + within)
        ]
        warnings = [f"this list may be incomplete: {error}" for error in dict.fromkeys(map(str, unreadable))]
        if not found and not mount.definitions("config"):
            warnings.append(str(mount.unconfigured()))
        return {"leases": leases, **({"warnings": warnings} if warnings else {})}
