#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_creds
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Issue OpenAI credentials that end by themselves
description:
  - Creates a service account with its own key and records it as a lease.
  - Every task issues a new credential. To use one credential throughout a run, see the lookup
    P(ephemeral.openai.openai_creds#lookup).
  - The lease outlives the run, unless the callback P(ephemeral.openai.openai_leases#callback) has C(include_tasks).
  - The result is censored in Ansible's output, as if the task had C(no_log). The registered variable is complete. Without
    C(register), and so with the C(ansible) command, nobody can read the key. Then a warning names the lease.
  - With a large O(count), a line on stderr says every five seconds how many leases are issued.
options:
  name:
    description: The role.
    type: str
    required: true
  ttl:
    description: How long the credential lives. More than the role's C(max_ttl) is an error. Defaults to the role's ttl.
    type: str
  count:
    description:
      - How many credentials to issue, 8 at a time. If one fails, those already issued are revoked.
    type: int
    default: 1
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - plugin: ephemeral.openai.openai_creds
    plugin_type: lookup
  - module: ephemeral.openai.openai_lease
"""

EXAMPLES = r"""
- name: Issue a credential
  ephemeral.openai.openai_creds:
    name: my-role
    ttl: 15m
  register: issued

- name: Use it
  ansible.builtin.uri:
    url: https://api.openai.com/v1/models
    headers:
      Authorization: "Bearer {{ issued.creds.api_key }}"
  no_log: true

- name: Give it back early
  ephemeral.openai.openai_lease:
    lease_id: "{{ issued.creds.lease_id }}"
    state: revoked
"""

RETURN = r"""
creds:
  description: The credential.
  returned: success, with O(count=1)
  type: dict
  contains:
    lease_id:
      description: Id of the lease; null in check mode.
      type: str
      returned: success
    lease_duration:
      description: How long the credential was issued for, in seconds.
      type: int
      returned: success
    lease_renewable:
      description: Whether the lease can be renewed.
      type: bool
      returned: success
    expires_at:
      description: When it ends, RFC 3339 in UTC.
      type: str
      returned: success
    api_key:
      description: The key. In check mode, a placeholder that says so.
      type: str
      returned: success
    api_key_id:
      description: Id of the key at OpenAI.
      type: str
      returned: success
    service_account:
      description: Name of the service account.
      type: str
      returned: success
    service_account_id:
      description: Id of the service account at OpenAI.
      type: str
      returned: success
    project_id:
      description: Id of the project at OpenAI.
      type: str
      returned: success
creds_list:
  description: The credentials, each like RV(creds).
  returned: success, with O(count) greater than 1
  type: list
  elements: dict
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_creds: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_creds"}'
    )
)
