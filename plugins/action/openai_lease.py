# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_lease import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, quoted
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Record
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.revoke import revoke
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("lease_id", "prefix"),)

    def act(self, mount: Mount, args: Data) -> Data:
        if args["lease_id"] is None and args["prefix"] is None:
            return self._foretell_unissued()
        mount.store.prepare(writes=1)
        if args["lease_id"] is not None:
            record = find_record(mount, args["lease_id"])
            found = [record] if record else []
        else:
            found = matching(mount, args["prefix"])
        if self.check_mode and (warnings := self.unconfigured(mount)):
            return {"leases": [], "warnings": warnings}
        if not found:
            return self._report_nothing(mount, args)
        return self._renew(mount, args, found) if args["state"] == "renewed" else self._revoke(mount, args, found)

    def _foretell_unissued(self) -> Data:
        """Return a result for a lease id that is null, as in check mode a credential has it that was not issued."""
        if not self.check_mode or "lease_id" not in self._nulls:
            raise OpenAICredsError("lease_id, prefix: give one of them, to say which leases are meant")
        return {"changed": True, "leases": [], "warnings": ["lease_id: it is null, since check mode issues no lease"]}

    def _report_nothing(self, mount: Mount, args: Data) -> Data:
        """Return a result where no lease was found; a mount that is not there has none either, but was not meant."""
        mount.check_configured()
        if args["lease_id"] is not None:
            if args["state"] == "renewed":
                raise OpenAICredsError(f"lease_id: lease not found: {args['lease_id']}")
            return {"leases": [], "msg": f"there is no lease {args['lease_id']}; nothing was changed"}
        msg = f"prefix: no lease begins with {quoted(args['prefix'])}; nothing was changed"
        return {"leases": [], "msg": msg, "warnings": [msg]}

    def _renew(self, mount: Mount, args: Data, found: list[Record]) -> Data:
        increment = None if args["increment"] is None else parse_duration(args["increment"], "increment")
        leases: list[Data] = []
        try:
            for record in found:
                leases.append(renew(mount, record, increment, dry_run=self.check_mode).public())
        except OpenAICredsError as error:
            return {"failed": True, "msg": str(error), "changed": bool(leases), "leases": leases}
        return {"changed": bool(leases), "leases": leases}

    def _revoke(self, mount: Mount, args: Data, found: list[Record]) -> Data:
        revocable = [record for record in found if record.lease["service_account_id"]]
        result: Data = {"changed": bool(revocable), "leases": [record.public() for record in revocable]}
        if len(revocable) < len(found):
            result["warnings"] = ["leases that are still being issued were left; openai_cleanup ends what is abandoned"]
        if not self.check_mode:
            errors = [one.error for one in revoke(mount, revocable, force=args["force"]) if one.error]
            if errors and args["force"]:
                result.setdefault("warnings", []).extend(f"dropped, but not gone: {error}" for error in errors)
            elif errors:
                msg = f"{len(errors)} of {len(revocable)} lease(s) could not be revoked: {errors[0]}"
                result.update(failed=True, msg=msg, changed=len(errors) < len(revocable))
        return result
