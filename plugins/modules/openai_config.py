#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_config
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Configure a mount with the admin key of an OpenAI organization
description:
  - Proves that the admin key works and stores it. All other keys are made and ended with it.
  - A stored key is left alone, so that a bootstrap playbook that runs again does not put back a key that has been rotated
    away since.
  - A mount takes another key only if it belongs to the same organization. If it has no leases, projects or roles, it may change
    O(organization_id) or O(api_endpoint) together with the key.
  - An update changes only what the task gives, or the environment where an option falls back to it.
options:
  admin_api_key:
    description:
      - The organization's admin key. Falls back to E(OPENAI_ADMIN_KEY). Required for a new mount.
    type: str
  admin_api_key_id:
    description:
      - Id of the admin key at OpenAI. If omitted, it is looked up when the key is validated.
    type: str
  organization_id:
    description:
      - Id of the organization. Falls back to E(OPENAI_ORG_ID). If neither is given, the stored value stays.
    type: str
  api_endpoint:
    description:
      - URL of OpenAI's API. Falls back to E(OPENAI_BASE_URL). If neither is given, the stored value stays;
        a new mount gets V(https://api.openai.com/v1).
      - Must be C(https), except on the loopback interface.
    type: str
  rotation_period:
    description:
      - Rotate the admin key when it is this old, as in V(30d). Replaces a stored O(rotation_schedule). V(0) removes the period.
      - M(ephemeral.openai.openai_admin_key) makes the rotation. Run it, or the playbook C(ephemeral.openai.rotate), by a timer.
    type: str
  rotation_schedule:
    description:
      - Rotate the admin key at the times of this cron expression, in UTC, as in V(0 3 * * 0). Replaces a stored
        O(rotation_period). An empty text removes the schedule.
      - Needs the Python package cronsim.
    type: str
  rotation_window:
    description:
      - How long after a time of O(rotation_schedule) the rotation may still begin. If it is missed, it waits for the next
        time. Unlimited by default; V(0) makes it unlimited again.
    type: str
  disable_automated_rotation:
    description:
      - Do not rotate by period or schedule. M(ephemeral.openai.openai_admin_key) with C(rotate=always) still rotates. If
        omitted, the stored value stays; a new mount gets V(false).
    type: bool
  update_admin_key:
    description:
      - V(on_create) stores O(admin_api_key) only for a new mount.
      - V(always) also replaces a stored key. If a rotation made the stored key, the next cleanup or rotation deletes it at
        OpenAI. A key that a rotation has replaced is refused.
    type: str
    choices: [on_create, always]
    default: on_create
  validate:
    description:
      - Prove that the key works before storing it, by listing the organization's admin keys.
      - If nothing changes, check that OpenAI still accepts the stored key.
    type: bool
    default: true
  force:
    description:
      - With O(state=absent), remove the key even if the mount has leases, including unfinished ones, static roles or accounts of
        library sets, or if a rotation has admin keys to end. The leases then end natively, or by
        M(ephemeral.openai.openai_cleanup) when the mount has been configured again. The admin keys are not ended. A warning names what is left.
      - With O(state=present), let a mount with leases change O(api_endpoint) or O(organization_id), or take a key of another
        organization. Its leases then stay on record as failed, since they can only be ended where they were issued. The same holds
        for admin keys that a rotation has replaced or made, which a warning names.
    type: bool
    default: false
  state:
    description: Whether the mount is to have a config.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.diff
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_config_info
  - module: ephemeral.openai.openai_admin_key
"""

EXAMPLES = r"""
- name: Configure the default mount
  ephemeral.openai.openai_config:
    admin_api_key: "{{ vault_openai_admin_key }}"
    organization_id: org-123456

- name: Let its admin key be rotated in the night to Sunday, or not at all that week
  ephemeral.openai.openai_config:
    admin_api_key: "{{ vault_openai_admin_key }}"
    organization_id: org-123456
    rotation_schedule: 0 3 * * 0
    rotation_window: 4h

- name: Configure a second organization on a mount of its own
  ephemeral.openai.openai_config:
    mount: research
    admin_api_key: "{{ vault_openai_research_admin_key }}"
    organization_id: org-654321

- name: Remove the second organization
  ephemeral.openai.openai_config:
    mount: research
    state: absent
"""

RETURN = r"""
config:
  description: The config, without the key; null when it is absent.
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
        '{"failed": true, "msg": "openai_config: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_config"}'
    )
)
