#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_static_role_info
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Show static roles
description:
  - Returns the static roles, sorted by name, never a key.
options:
  name:
    description: Return only this static role. If it does not exist, the list is empty.
    type: str
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.info
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_static_role
"""

EXAMPLES = r"""
- name: Show all static roles
  ephemeral.openai.openai_static_role_info:
  register: all_static_roles
"""

RETURN = r"""
static_roles:
  description: The static roles.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    service_account_id:
      description: Id of the account that was given.
      type: str
      returned: success
    current_service_account_id:
      description: Id of the account that the current key is of; another one after a rotation with C(new_account).
      type: str
      returned: success
    project:
      description: The registered project, or null.
      type: str
      returned: success
    project_id:
      description: The project's id at OpenAI, or null if a registered project is given.
      type: str
      returned: success
    api_key_name:
      description: What the names of the keys begin with.
      type: str
      returned: success
    rotation_period:
      description: In seconds.
      type: int
      returned: success
    ttl:
      description: In seconds.
      type: int
      returned: success
    rotation_strategy:
      description: V(new_key) or V(new_account).
      type: str
      returned: success
    overlap:
      description: In seconds.
      type: int
      returned: success
    last_rotated:
      description: When the current key was made, RFC 3339 in UTC; null if there was none yet.
      type: str
      returned: success
    next_rotation:
      description: When a rotation is due, RFC 3339 in UTC.
      type: str
      returned: success
    rotation_due:
      description:
        - Whether M(ephemeral.openai.openai_static_creds) would rotate it now.
        - Also true, with a warning, if what is on record of it cannot be read. What is not known of it is null then.
      type: bool
      returned: success
    api_key_id:
      description: Id of the current key at OpenAI; null if it has ended.
      type: str
      returned: success
    expires_at:
      description: When the current key ends unless it is rotated before, RFC 3339 in UTC; null if it has ended.
      type: str
      returned: success
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_static_role_info: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_static_role_info"}'
    )
)
