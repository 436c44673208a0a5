#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_role_info
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Show roles
description:
  - Returns the roles, sorted by name.
options:
  name:
    description: Return only this role. If it does not exist, the list is empty.
    type: str
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.info
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_role
"""

EXAMPLES = r"""
- name: Show all roles
  ephemeral.openai.openai_role_info:
  register: all_roles
"""

RETURN = r"""
roles:
  description: The roles, as M(ephemeral.openai.openai_role) returns them.
  returned: success
  type: list
  elements: dict
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_role_info: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_role_info"}'
    )
)
