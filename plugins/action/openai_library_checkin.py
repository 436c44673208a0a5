# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_library_checkin import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.library_sets import warn_undefined
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.library.check_in import check_in
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("service_account", "service_account_id"),)

    def act(self, mount: Mount, args: Data) -> Data:
        account, account_id = args["service_account"], args["service_account_id"]
        if account is None and account_id is None:
            return self._foretell_unlent()
        if self.check_mode and (warnings := warn_undefined(mount, args["name"])):
            return {"changed": True, "checked_in": [], "warnings": warnings}
        mount.store.prepare(writes=1)
        lease_id = check_in(
            mount, args["name"], account=account, account_id=account_id, force=args["force"], dry_run=self.check_mode
        )
        if lease_id is None:
            msg = f"{account or account_id} of library set {args['name']!r} is not checked out; nothing was changed"
            return {"checked_in": [], "msg": msg}
        return {"changed": True, "checked_in": [lease_id]}

    def _foretell_unlent(self) -> Data:
        """Return a result for an account that is null, as in check mode a credential may have it that was not issued."""
        if not self.check_mode or not {"service_account", "service_account_id"} & self._nulls:
            raise OpenAICredsError(
                "service_account, service_account_id: give one of them, to say which account is meant"
            )
        return {
            "changed": True,
            "checked_in": [],
            "warnings": ["service_account: it is null, since check mode checks nothing out"],
        }
