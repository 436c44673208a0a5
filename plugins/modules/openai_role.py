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
version_added: 1.0.0
short_description: Define how to make a dynamic OpenAI credential
description:
  - A role defines in which project service accounts are made, what they are called, and how long they live.
  - An update changes only what the task gives. The defaults apply to a new role.
  - Changing or deleting a role does not affect its leases, since a lease holds everything that is needed to end it.
options:
  name:
    description: The role's name.
    type: str
    required: true
  project:
    description:
      - A project registered with M(ephemeral.openai.openai_project). A new role needs this or O(project_id).
      - It replaces a stored O(project_id), and O(project_id) replaces it.
    type: str
  project_id:
    description: A project's id at OpenAI. A new role needs this or O(project).
    type: str
  service_account_id:
    description:
      - The id of a service account of the project that is there already. Credentials of the role are then keys of this account,
        so that they may do what the account may do, and issuing one takes one call, also with O(scopes).
      - The account itself is never changed or deleted. A lease ends when its key is deleted; where OpenAI does not delete keys
        of service accounts, when the end of its key is moved to now.
      - To go back to an account for each lease, delete the role with O(state=absent) and define it again.
    type: str
  service_account_name_template:
    description:
      - With O(service_account_id), the template for the names of keys.
      - Template for the names of service accounts. C({{.RoleName}}), C({{.RandomSuffix}}) (8 characters) and C({{.ProjectName}})
        are replaced. Since Jinja2 would evaluate these braces, mark such a template with C(!unsafe), or write C({role_name}),
        C({random_suffix}) and C({project_name}) instead.
      - A template is refused if it has no random suffix, or gives a name that is not valid.
      - With O(project_id), the project's name is its id.
    type: str
    default: "vault-{{.RoleName}}-{{.RandomSuffix}}"
  service_account_description:
    description: What the service accounts are for. It is stored with the role only, since OpenAI has no field for it.
    type: str
    default: Service account created by ephemeral.openai
  ttl:
    description: How long a credential lives unless the request gives a ttl, in seconds or as C(90s), C(30m), C(1h30m), C(7d).
    type: str
    default: 1h
  max_ttl:
    description: How long a credential may live at most, renewals included.
    type: str
    default: 24h
  renewable:
    description: Whether leases can be renewed.
    type: bool
    default: true
  scopes:
    description:
      - What the keys may be used for, such as V(api.model.read). Keys of a role without scopes may do all that the project
        allows.
      - An empty list is refused, since at OpenAI it would mean all permissions. To remove the scopes of a role, delete it with
        O(state=absent) and define it again without them. This does not affect its leases.
    type: list
    elements: str
  native_expiry:
    description: Let OpenAI itself end the key at the lease's end, whether or not cleanup runs.
    type: bool
    default: true
  state:
    description: Whether the role is to exist.
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
- name: Define a role in a registered project
  ephemeral.openai.openai_role:
    name: my-role
    project: my-project
    ttl: 30m
    max_ttl: 8h

- name: Define a role that may only read models, with its own template for names
  ephemeral.openai.openai_role:
    name: model-reader
    project_id: proj_abc123
    service_account_name_template: "ci-{role_name}-{random_suffix}"
    scopes: [api.model.read]

- name: Define a role that issues keys of an account that is there already, and may do no more than that
  ephemeral.openai.openai_role:
    name: workload
    project_id: proj_abc123
    service_account_id: svc_acct_abc123
    ttl: 15m

- name: Change one option; all others stay
  ephemeral.openai.openai_role:
    name: model-reader
    max_ttl: 8h

- name: Delete a role; its leases end as planned
  ephemeral.openai.openai_role:
    name: model-reader
    state: absent
"""

RETURN = r"""
role:
  description:
    - The role; null when it is absent. Durations are in seconds.
    - You can give it back to this module, since a null counts as not given.
  returned: success
  type: dict
  sample:
    name: my-role
    project: my-project
    project_id: null
    service_account_id: null
    service_account_name_template: "vault-{{.RoleName}}-{{.RandomSuffix}}"
    service_account_description: Service account created by ephemeral.openai
    ttl: 1800
    max_ttl: 28800
    renewable: true
    scopes: null
    native_expiry: true
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_role: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_role"}'
    )
)
