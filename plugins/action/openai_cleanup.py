# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_cleanup import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.schedule import expiry_warning
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        for option in ("max_concurrency", "limit"):
            if args[option] is not None and args[option] < 1:
                raise OpenAICredsError(f"{option}: {args[option]} must be at least 1")
        result = cleanup(
            mount,
            orphans=args["orphans"],
            max_concurrency=args["max_concurrency"],
            limit=args["limit"],
            grace=parse_duration(args["grace"], "grace", least=0),
            dry_run=self.check_mode,
        )
        unconfigured = result.pop("unconfigured", None)
        result["changed"] = any(
            result[name] for name in ("revoked", "checked_in", "recovered", "rotated", "admin_api_keys")
        )
        if unconfigured and self.check_mode:
            result["warnings"] = self.unconfigured(mount)
        try:
            warning = expiry_warning(mount.config(), mount.now())
        except OpenAICredsError as error:
            # A plan that cannot be read, as without cronsim, takes back nothing that was done.
            warning = str(error)
        if warning:
            result["warnings"] = [warning]
        # Ansible keeps the name failed for its own boolean.
        failures = result["failures"] = result.pop("failed")
        if unconfigured:
            left = sum(one["lease_id"] is not None for one in failures) + result["active"]
            msg = f"{unconfigured}; {left} lease(s) of the mount are left" if left else unconfigured
            result.update(failed=not self.check_mode, msg=msg)
        elif failures:
            first = failures[0]["lease_id"] or "what cannot be read"
            if "admin_api_key_id" in failures[0]:
                first = f"admin key {failures[0]['admin_api_key_id'] or 'of a rotation'}"
            elif "service_account_id" in failures[0]:
                first = f"service account {failures[0]['service_account_id']}"
            what = f"lease(s) or admin key(s) would not go; the first, {first}"
            if all(one.keys() == {"lease_id", "error"} and one["lease_id"] is None for one in failures):
                what = "part(s) of the store could not be read or written; the first"
            result.update(failed=True, msg=f"{len(failures)} {what}: {failures[0]['error']}")
        return result
