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
version_added: 0.1.0
short_description: Configure a mount with the admin key of an OpenAI organization
description:
  - Stores the admin key with which all other keys are made and ended, after proving that it works.
  - Once stored, the key is left alone, so that a bootstrap playbook which runs again does not put back a key
    that has been rotated away since.
options:
  admin_api_key:
    description:
      - The organization's admin key. Falls back to E(OPENAI_ADMIN_KEY). Required for a new mount.
    type: str
  admin_api_key_id:
    description:
      - Id of the admin key at OpenAI. If omitted it is looked up there when the key is validated.
    type: str
  organization_id:
    description:
      - Id of the organization. Falls back to E(OPENAI_ORG_ID). If neither is given, what is stored stays.
    type: str
  api_endpoint:
    description:
      - Where OpenAI's API is. Falls back to E(OPENAI_BASE_URL). If neither is given, what is stored stays;
        a new mount gets V(https://api.openai.com/v1).
      - Must be C(https), but on the loopback interface.
    type: str
  update_admin_key:
    description:
      - V(on_create) stores O(admin_api_key) only for a new mount.
      - V(always) also replaces a stored key by it.
    type: str
    choices: [on_create, always]
    default: on_create
  validate:
    description: Prove that the key works before storing it, by listing the organization's admin keys.
    type: bool
    default: true
  force:
    description:
      - With O(state=absent), forget the key even while the mount has leases, unfinished ones included. They then end only
        natively.
      - Also lets a mount that has leases change O(api_endpoint) or O(organization_id). Its leases then count as ended.
    type: bool
    default: false
  state:
    description: Whether it shall be there.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
  - ephemeral.openai.attributes.diff
seealso:
  - module: ephemeral.openai.openai_config_info
"""

EXAMPLES = r"""
- name: Configure the default mount
  ephemeral.openai.openai_config:
    admin_api_key: "{{ vault_openai_admin_key }}"
    organization_id: org-123456

- name: A second organization, side by side
  ephemeral.openai.openai_config:
    mount: research
    admin_api_key: "{{ vault_openai_research_admin_key }}"
    organization_id: org-654321

- name: Forget the second organization
  ephemeral.openai.openai_config:
    mount: research
    state: absent
"""

RETURN = r"""
config:
  description: The config, without the key; null when it is absent.
  returned: success
  type: dict
  sample:
    api_endpoint: https://api.openai.com/v1
    organization_id: org-123456
    admin_api_key_id: key_abc
"""
