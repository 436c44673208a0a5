# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_admin_key import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import (
    LONGEST_EXPIRY,
    Report,
    adopt,
    public_rotation,
    rotate,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.schedule import expiry_warning
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("new_admin_api_key", "expires_in"),)

    def act(self, mount: Mount, args: Data) -> Data:
        always = args["rotate"] == "always"
        overlap = parse_duration(args["overlap"], "overlap", least=0)
        expires_in = None if args["expires_in"] is None else parse_duration(args["expires_in"], "expires_in")
        if expires_in is not None and expires_in > LONGEST_EXPIRY:
            raise OpenAICredsError(f"expires_in: OpenAI takes at most {LONGEST_EXPIRY // 86400} days")
        value, key_id = args["new_admin_api_key"], args["new_admin_api_key_id"]
        if (value is None) != (key_id is None):
            raise OpenAICredsError("new_admin_api_key, new_admin_api_key_id: give both of them, or neither")
        if self.check_mode and (warnings := self.unconfigured(mount)):
            return {**_nothing(rotated=always or value is not None), "warnings": warnings}
        if value is not None:
            report = adopt(mount, value, key_id, overlap=overlap, dry_run=self.check_mode)
        else:
            report = rotate(mount, always=always, overlap=overlap, expires_in=expires_in, dry_run=self.check_mode)
        return self._result(mount, report)

    def _result(self, mount: Mount, report: Report) -> Data:
        config = mount.check_configured()
        shown = public_rotation(mount, config)
        warnings = [
            f"admin key {key_id} would not go, it is tried again: {error}" for key_id, error in report.failed.items()
        ]
        if report.busy:
            warnings.append("somebody else is rotating the admin key; nothing was done")
        if warning := expiry_warning(config, mount.now()):
            warnings.append(warning)
        return {
            "changed": report.changed,
            "rotated": report.rotated,
            "admin_api_key_id": config.admin_api_key_id,
            **shown,
            "previous_admin_api_key_id": report.replaced or shown["previous_admin_api_key_id"],
            **({"warnings": warnings} if warnings else {}),
        }


def _nothing(*, rotated: bool) -> Data:
    """Return what check mode foretells of a mount that has no admin key yet."""
    unknown = ("admin_api_key_id", "last_rotated", "next_rotation", "previous_admin_api_key_id")
    return {"changed": rotated, "rotated": rotated, **dict.fromkeys(unknown), "previous_admin_api_keys": []}
