#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_static_role
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Define a service account whose key is rotated
description:
  - A static role takes over a service account that is there already. It holds one key of the account, which is replaced on a period.
  - Writing a new static role issues its first key at once, since nobody can read the value of a key that is there already. So does
    giving it another account.
  - The key is a lease, C(<mount>/static/<name>/<unique>). M(ephemeral.openai.openai_static_creds) and the lookup
    P(ephemeral.openai.openai_static_creds#lookup) hand it out.
  - An update changes only what the task gives. The defaults apply to a new static role.
  - Deleting a static role ends the keys that were made for it, and only those. The account stays, unless O(rotation_strategy=new_account)
    has made it.
options:
  name:
    description: The static role's name.
    type: str
    required: true
  service_account_id:
    description: The id of the service account at OpenAI. A new static role needs it.
    type: str
  project:
    description:
      - A project registered with M(ephemeral.openai.openai_project). A new static role needs this or O(project_id).
      - It replaces a stored O(project_id), and O(project_id) replaces it.
    type: str
  project_id:
    description: A project's id at OpenAI. A new static role needs this or O(project).
    type: str
  api_key_name:
    description: What the names of the keys begin with. A random suffix makes each unique.
    type: str
    default: vault-static-key
  rotation_period:
    description: How old a key becomes before it is rotated, in seconds or as C(90s), C(30m), C(1h30m), C(7d).
    type: str
    default: 24h
  ttl:
    description:
      - When OpenAI itself ends a key, counted from when it was made, so that a forgotten static role ends by itself.
      - It must not be shorter than O(rotation_period) and O(overlap) together. Give it some time more, so that a rotation that comes
        late does not find the key ended. Where it leaves less than two hours, or less than a tenth of O(rotation_period), the
        rotation is due that much earlier.
    type: str
    default: 24h
  rotation_strategy:
    description:
      - V(new_key) gives the same account a new key and ends the old one. Where OpenAI does not delete keys of service accounts, the end
        of the key is moved to now. Where it refuses that too, the old key stays on record as failed.
      - V(new_account) makes a new account with a key and deletes the old account, with B(all) its keys, also those that others have made.
        The first rotation deletes the account that was taken over.
    type: str
    choices: [new_key, new_account]
    default: new_key
  overlap:
    description: How long the old key stays valid after a rotation. With V(0), it ends at once.
    type: str
    default: "0"
  state:
    description: Whether the static role is to exist.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.diff
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_static_creds
  - module: ephemeral.openai.openai_static_role_info
  - plugin: ephemeral.openai.openai_static_creds
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Rotate the key of a service account every day, with an hour for its readers to take the new one
  ephemeral.openai.openai_static_role:
    name: data-science
    service_account_id: svc_acct_abc123
    project: my-project
    rotation_period: 24h
    overlap: 1h
    ttl: 48h
"""

RETURN = r"""
static_role:
  description: The static role as it is then, as M(ephemeral.openai.openai_static_role_info) returns it; null if there is none.
  returned: success
  type: dict
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_static_role: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_static_role"}'
    )
)
