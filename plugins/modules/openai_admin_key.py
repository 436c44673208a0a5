#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_admin_key
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Rotate the admin key of a mount
description:
  - Makes a new admin key at OpenAI, stores it, proves that it works, replaces the old key by it, and deletes the old key. At
    every instant the store holds an admin key that OpenAI accepts.
  - You can run it every minute, beside anything else, and on several controllers at once. While somebody else is rotating,
    it warns and does nothing.
  - It first finishes an interrupted rotation, as M(ephemeral.openai.openai_cleanup) does. If this rotates the key, it does
    not rotate again.
  - M(ephemeral.openai.openai_config) sets when a rotation is due.
options:
  rotate:
    description:
      - V(if_due) rotates if the period or schedule of the mount says that it is due.
      - V(always) rotates now.
    type: str
    choices: [if_due, always]
    default: if_due
  overlap:
    description:
      - How long the previous key stays valid. The first cleanup or rotation after that deletes it.
      - Playbooks of this collection need no overlap. If OpenAI refuses a key that has been rotated away, they go on with the new
        one.
    type: str
    default: "0"
  expires_in:
    description:
      - Let OpenAI itself end the new key after this time, at most V(365d), whether or not it has been rotated by then.
      - There is a warning if the next rotation is not before that end, or if it is late when a quarter of the time is left.
    type: str
  new_admin_api_key:
    description:
      - Do not make a key, but adopt this one, which was made elsewhere. It is proved to work before it is stored. It replaces
        the stored key whether or not a rotation is due. If it is the stored key, nothing changes.
    type: str
  new_admin_api_key_id:
    description: Id of O(new_admin_api_key) at OpenAI. Required with that option.
    type: str
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_config
  - module: ephemeral.openai.openai_cleanup
"""

EXAMPLES = r"""
- name: Rotate the admin key if it is due, as a timer would
  ephemeral.openai.openai_admin_key:

- name: Rotate it now, and leave the old one valid for an hour
  ephemeral.openai.openai_admin_key:
    rotate: always
    overlap: 1h
  register: rotation

- name: Tell
  ansible.builtin.debug:
    msg: "{{ rotation.admin_api_key_id }} has replaced {{ rotation.previous_admin_api_key_id }}"
"""

RETURN = r"""
rotated:
  description: Whether the mount now has another admin key.
  returned: success
  type: bool
admin_api_key_id:
  description: Id of the mount's admin key. In check mode, the id of the key before the rotation.
  returned: success
  type: str
previous_admin_api_key_id:
  description: Id of the key that was replaced; if none was, of the latest previous key that has not ended yet; else null.
  returned: success
  type: str
previous_admin_api_keys:
  description: All admin keys that rotations have yet to end. C(attempts) is how often OpenAI has refused to end the key.
  returned: success
  type: list
  elements: dict
  sample:
    - admin_api_key_id: key_abc
      ends_at: "2026-03-01T04:00:00Z"
      attempts: 0
      error: null
last_rotated:
  description: When the admin key was last rotated, RFC 3339 in UTC; null if never.
  returned: success
  type: str
next_rotation:
  description: When the next rotation is due, RFC 3339 in UTC; null if none is planned.
  returned: success
  type: str
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_admin_key: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_admin_key"}'
    )
)
