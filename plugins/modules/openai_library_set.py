#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_library_set
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Define a pool of service accounts that are lent to one holder at a time
description:
  - Makes the service accounts that the set names, without a key, and deletes those whose names it no longer has.
  - M(ephemeral.openai.openai_library_checkout) lends an account that nobody has, with a fresh key that ends with the check-out.
  - An account with the same name that somebody else has made is never touched.
  - An account that is checked out cannot be dropped, and a set with one cannot be deleted.
  - An update changes only what the task gives. The defaults apply to a new set.
  - While it makes many accounts, a line on stderr says every five seconds how many are made.
options:
  name:
    description: The set's name.
    type: str
    required: true
  project:
    description: A project registered with M(ephemeral.openai.openai_project). A new set needs this or O(project_id).
    type: str
  project_id:
    description:
      - A project's id at OpenAI. A new set needs this or O(project).
      - The project of a set that has accounts cannot be changed.
    type: str
  service_account_names:
    description:
      - The names of the accounts. A new set needs them.
      - The list replaces the stored one. A name that is new to the set gets an account; a name that is missing loses its account.
    type: list
    elements: str
  max_ttl:
    description: How long an account may be checked out at most, renewals included.
    type: str
    default: 24h
  description:
    description: What the set is for.
    type: str
    default: ""
  state:
    description: Whether the set is to exist. With V(absent) its accounts are deleted.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.diff
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_library_checkout
  - module: ephemeral.openai.openai_library_checkin
"""

EXAMPLES = r"""
- name: Define a set of three accounts
  ephemeral.openai.openai_library_set:
    name: shared-pool
    project: my-project
    service_account_names: [account-1, account-2, account-3]
    max_ttl: 72h

- name: Drop one account and make another
  ephemeral.openai.openai_library_set:
    name: shared-pool
    service_account_names: [account-1, account-2, account-4]

- name: Delete the set and its accounts
  ephemeral.openai.openai_library_set:
    name: shared-pool
    state: absent
"""

RETURN = r"""
library_set:
  description:
    - The set; null when it is absent. C(max_ttl) is in seconds.
    - You can give it back to this module, since a null counts as not given.
  returned: success
  type: dict
  sample:
    name: shared-pool
    project: my-project
    project_id: null
    service_account_names: [account-1, account-2, account-3]
    max_ttl: 259200
    description: ""
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_library_set: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_library_set"}'
    )
)
