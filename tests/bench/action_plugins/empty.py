# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference: an action that does nothing."""

from __future__ import annotations

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        return {"changed": False}
