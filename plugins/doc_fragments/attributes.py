# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible may expect of the modules of this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes that all modules share."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - httpx, where OpenAI is called
attributes:
  check_mode:
    description: Can run in C(check_mode) and report what it would change, without changing anything.
    support: full
  diff_mode:
    description: Returns what has changed, or would change, in C(diff_mode), with secrets masked.
    support: none
  action:
    description: Runs on the controller, whatever the host of the task is. No secret travels to a managed host.
    support: full
    details: C(become) has no effect. The module runs as the user who runs Ansible.
  async:
    description: Can be run in the background with C(async).
    support: none
    details: With C(async) the task is refused.
  platform:
    description: Target OS or family that can be operated against.
    support: full
    platforms: posix
  environment:
    description: Honours the keyword C(environment) of a play, block or task.
    support: partial
    details: Only for the variables that this collection reads. C(HOME) and C(ANSIBLE_HOME) have no effect, so that the state stays where it is.
"""

    # A fragment does not override what one before it says: list these before the one above.
    DIFF = r"""
options: {}
attributes:
  diff_mode:
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This action does not change state.
"""
