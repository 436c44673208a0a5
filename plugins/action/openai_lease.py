# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_lease import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    OpenAICredsError,
    UnreadableError,
    quoted,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import Record, find_record, matching
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.renew import renew
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.withdraw import revoke_found
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client  # noqa: F401 pylint: disable=unused-import
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

#: How many places that cannot be read a message names.
_NAMED = 10


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION
    MUTUALLY_EXCLUSIVE = (("lease_id", "prefix"),)

    def act(self, mount: Mount, args: Data) -> Data:
        if args["lease_id"] is None and args["prefix"] is None:
            return self._foretell_unissued()
        mount.store.prepare(writes=1)
        unreadable: list[UnreadableError] = []
        found = self._find(mount, args, unreadable)
        if self.check_mode and (warnings := self.unconfigured(mount)):
            return {"leases": [], "warnings": warnings}
        if not found and not unreadable:
            return self._report_nothing(mount, args)
        renewed = args["state"] == "renewed"
        result = self._renew(mount, args, found) if renewed else self._revoke(mount, args, found, unreadable)
        if unreadable:
            # What can be read has been dealt with. It would be wrong to say that this was all.
            option = "prefix" if args["lease_id"] is None else "lease_id"
            places = "; ".join(list(dict.fromkeys(map(str, unreadable)))[:_NAMED])
            msg = f"{option}: leases may be left in what cannot be read in the store: {places}"
            result.update(failed=True, msg=f"{result['msg']}; {msg}" if "msg" in result else msg)
        return result

    def _find(self, mount: Mount, args: Data, unreadable: list[UnreadableError]) -> list[Record]:
        if args["lease_id"] is None:
            return matching(mount, args["prefix"], unreadable.append)
        record = find_record(mount, args["lease_id"], unreadable.append)
        if record:
            unreadable.clear()  # It is complete without what cannot be read.
        return [record] if record else []

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

    def _revoke(self, mount: Mount, args: Data, found: list[Record], unreadable: list[UnreadableError]) -> Data:
        if self.check_mode:
            return {"changed": bool(found), "leases": [record.public() for record in found]}
        became = revoke_found(mount, found, lambda: self._find(mount, args, unreadable), force=args["force"])
        left = [one for one in became if one.error and not one.dropped]
        result: Data = {"changed": bool(became), "leases": [one.record.public() for one in became]}
        if dropped := [one for one in became if one.dropped]:
            result["warnings"] = [f"dropped, but not gone: {one.error}" for one in dropped]
        if left:
            ids = ", ".join(one.record.subject for one in left)
            msg = f"{len(left)} of {len(became)} lease(s) could not be revoked: {left[0].error}; left: {ids}"
            result.update(failed=True, msg=msg, changed=len(left) < len(became) or any(one.unrecorded for one in left))
        return result
