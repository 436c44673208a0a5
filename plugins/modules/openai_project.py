#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_project
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Register an OpenAI project under a name
description:
  - Gives the id of an OpenAI project a name that roles can use.
  - A project that a role, a static role or a library set uses cannot be deleted.
  - An update changes only what the task gives.
options:
  name:
    description: Name of the project in this mount.
    type: str
    required: true
  project_id:
    description: The project's id at OpenAI. Required for a new project.
    type: str
  description:
    description: What the project is for. The default applies to a new project; otherwise, if omitted, the stored text stays.
    type: str
    default: ""
  state:
    description: Whether the project is to be registered.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.diff
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_project_info
"""

EXAMPLES = r"""
- name: Register a project
  ephemeral.openai.openai_project:
    name: my-project
    project_id: proj_abc123
    description: Where the website's keys live

- name: Remove it again
  ephemeral.openai.openai_project:
    name: my-project
    state: absent
"""

RETURN = r"""
project:
  description: The project; null when it is absent.
  returned: success
  type: dict
  sample:
    name: my-project
    project_id: proj_abc123
    description: Where the website's keys live
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_project: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_project"}'
    )
)
