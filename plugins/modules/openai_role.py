#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_role
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 0.1.0
short_description: Define how to make a dynamic OpenAI credential
description:
  - A role says in which project service accounts are made, how they are called, and how long they live.
  - An update changes only what the task gives. The defaults are those of a new role.
  - Leases carry all that their end needs. Changing or deleting a role does not touch the leases that came from it.
options:
  name:
    description: The role's name.
    type: str
    required: true
  project:
    description:
      - A project registered with M(ephemeral.openai.openai_project). A new role needs this or O(project_id).
      - It takes the place of a stored O(project_id), and the other way round.
    type: str
  project_id:
    description: A project's id at OpenAI. A new role needs this or O(project).
    type: str
  service_account_name_template:
    description:
      - How service accounts are called. C({{.RoleName}}), C({{.RandomSuffix}}) (8 characters) and C({{.ProjectName}}) are
        replaced; since Jinja2 takes these braces for its own, write such a template as C(!unsafe), or write
        C({role_name}), C({random_suffix}) and C({project_name}) instead.
      - A template without the random suffix, or that gives a name which is not valid, is refused.
      - Without a registered project, the project's name is its id.
    type: str
    default: "vault-{{.RoleName}}-{{.RandomSuffix}}"
  service_account_description:
    description: What the service accounts are for. OpenAI has no place for it; it is kept with the role.
    type: str
    default: Service account created by ephemeral.openai
  ttl:
    description: How long a credential lives if nothing else is asked for, in seconds or as C(90s), C(30m), C(1h30m), C(7d).
    type: str
    default: 1h
  max_ttl:
    description: How long a credential may live at the most, renewals included.
    type: str
    default: 24h
  renewable:
    description: Whether leases can be renewed.
    type: bool
    default: true
  scopes:
    description:
      - What the keys may be used for, such as V(api.model.read). Keys of a new role without scopes may do all that the
        project allows.
      - An empty list is refused, since at OpenAI it would mean all. To lift the scopes of a role, delete it with
        O(state=absent) and define it again without them. Its leases are not touched.
    type: list
    elements: str
  native_expiry:
    description: Let OpenAI itself end the key at the lease's end, whether or not anybody cleans up.
    type: bool
    default: true
  state:
    description: Whether it shall be there.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.diff
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_creds
  - plugin: ephemeral.openai.openai_creds
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: A role in a registered project
  ephemeral.openai.openai_role:
    name: my-role
    project: my-project
    ttl: 30m
    max_ttl: 8h

- name: A role for reading models only, with names of its own
  ephemeral.openai.openai_role:
    name: model-reader
    project_id: proj_abc123
    service_account_name_template: "ci-{role_name}-{random_suffix}"
    scopes: [api.model.read]

- name: Change one thing about it; all else stays
  ephemeral.openai.openai_role:
    name: model-reader
    max_ttl: 8h

- name: Forget a role; its leases end as they would have
  ephemeral.openai.openai_role:
    name: model-reader
    state: absent
"""

RETURN = r"""
role:
  description:
    - The role; null when it is absent. Durations are in seconds.
    - It can be given back to this module, since a null is an option that is not given.
  returned: success
  type: dict
  sample:
    name: my-role
    project: my-project
    project_id: null
    service_account_name_template: "vault-{{.RoleName}}-{{.RandomSuffix}}"
    service_account_description: Service account created by ephemeral.openai
    ttl: 1800
    max_ttl: 28800
    renewable: true
    scopes: null
    native_expiry: true
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = __name__ == "__main__" and __import__("sys").stdout.write(
    '{"failed": true, "msg": "openai_role: Ansible has found this module without its collection, so it can do nothing; '
    'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_role"}'
)
