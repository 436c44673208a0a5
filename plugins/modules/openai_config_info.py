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
version_added: 0.1.0
short_description: Show a mount's config
description:
  - Returns how a mount is configured, without its admin key.
options: {}
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
  - ephemeral.openai.attributes.info
seealso:
  - module: ephemeral.openai.openai_config
"""

EXAMPLES = r"""
- name: Look at the default mount
  ephemeral.openai.openai_config_info:
  register: mount

- name: Say which organization it is
  ansible.builtin.debug:
    var: mount.config.organization_id
"""

RETURN = r"""
config:
  description: The config, without the key; null if the mount has none.
  returned: success
  type: dict
  sample:
    api_endpoint: https://api.openai.com/v1
    organization_id: org-123456
    admin_api_key_id: key_abc
"""
