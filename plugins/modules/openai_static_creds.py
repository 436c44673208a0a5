#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_static_creds
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Return, and rotate, the key of a static role
description:
  - Returns the current credential of a static role, after rotating it if that is due.
  - The result is censored in Ansible's output, as if the task had C(no_log). The registered variable is complete.
  - Two rotations of the same static role exclude each other, also on different controllers. With O(rotate=if_due), the one that
    comes second returns the key that is the current one then.
options:
  name:
    description: The static role.
    type: str
    required: true
  rotate:
    description:
      - V(if_due) rotates when the C(rotation_period) has passed, or the account was changed.
      - V(always) rotates now. If an interrupted rotation is finished, that counts.
    type: str
    choices: [if_due, always]
    default: if_due
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_static_role
  - plugin: ephemeral.openai.openai_static_creds
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Take the current key
  ephemeral.openai.openai_static_creds:
    name: data-science
  register: current

- name: Rotate it now
  ephemeral.openai.openai_static_creds:
    name: data-science
    rotate: always
  register: current
"""

RETURN = r"""
rotated:
  description: Whether there is a new key.
  returned: success
  type: bool
creds:
  description: The credential, as M(ephemeral.openai.openai_creds) returns one. In check mode, a placeholder if it would be rotated.
  returned: success
  type: dict
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_static_creds: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_static_creds"}'
    )
)
