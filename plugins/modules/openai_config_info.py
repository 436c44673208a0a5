#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_config_info
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Show a mount's config
description:
  - Returns the config of a mount without its admin key, and the state of the rotation of this key.
options: {}
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.info
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_config
"""

EXAMPLES = r"""
- name: Show the default mount
  ephemeral.openai.openai_config_info:
  register: mount

- name: Show its organization
  ansible.builtin.debug:
    var: mount.config.organization_id

- name: Show when its admin key is rotated next
  ansible.builtin.debug:
    var: mount.config.next_rotation
"""

RETURN = r"""
config:
  description: The config, without the key; null if the mount has none.
  returned: success
  type: dict
  contains:
    api_endpoint:
      description: URL of OpenAI's API.
      type: str
    organization_id:
      description: Id of the organization; null if none was given.
      type: str
    admin_api_key_id:
      description: Id of the admin key; null if it is not known.
      type: str
    admin_api_key_expires_at:
      description: When OpenAI itself ends the admin key; null if it does not, or if this is not known.
      type: str
    rotation_period:
      description: Age at which the admin key is rotated, in seconds; null if there is no period.
      type: int
    rotation_schedule:
      description: When the admin key is to be rotated, as a cron expression in UTC; null if there is no schedule.
      type: str
    rotation_window:
      description: How long after a scheduled time a rotation may still begin, in seconds; null if this is unlimited.
      type: int
    disable_automated_rotation:
      description: Whether period and schedule have no effect.
      type: bool
    last_rotated:
      description: When the admin key was last rotated; null if never.
      type: str
    next_rotation:
      description: When the next rotation is due; in the past if it is overdue; null if none is planned.
      type: str
    previous_admin_api_key_id:
      description: Id of the previous key, as long as it has not ended; else null.
      type: str
    previous_admin_api_keys:
      description: All admin keys that rotations have yet to end. C(attempts) is how often OpenAI has refused to end the key.
      type: list
      elements: dict
      sample:
        - admin_api_key_id: key_abc
          ends_at: "2026-03-01T04:00:00Z"
          attempts: 0
          error: null
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_config_info: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_config_info"}'
    )
)
