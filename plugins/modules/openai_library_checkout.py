#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_library_checkout
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Check out a service account of a library set
description:
  - Takes an account that nobody has and issues a key of it, which ends with the check-out. Two holders never have the same account.
  - If all are checked out, it fails with C(no available service accounts in library). To wait for one, use C(until) and
    C(retries).
  - The check-out is a lease. It outlives the run, unless the callback P(ephemeral.openai.openai_leases#callback) has
    C(include_tasks). M(ephemeral.openai.openai_library_checkin) ends it early, M(ephemeral.openai.openai_lease) can renew it.
  - An account that somebody has deleted at OpenAI is made again.
  - The result is censored in Ansible's output, as if the task had C(no_log). The registered variable is complete.
options:
  name:
    description: The library set.
    type: str
    required: true
  ttl:
    description: How long the account is checked out. More than the set's C(max_ttl) is an error.
    type: str
    default: 1h
  service_account:
    description: The name of the account to check out. By default any that is free, chosen at random.
    type: str
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_library_checkin
  - module: ephemeral.openai.openai_library_set
"""

EXAMPLES = r"""
- name: Check out an account, and wait for one if all are taken
  ephemeral.openai.openai_library_checkout:
    name: shared-pool
    ttl: 4h
  register: lent
  until: lent is succeeded
  retries: 10
  delay: 5

- name: Use it
  ansible.builtin.uri:
    url: https://api.openai.com/v1/models
    headers:
      Authorization: "Bearer {{ lent.creds.api_key }}"
  no_log: true

- name: Check it in
  ephemeral.openai.openai_library_checkin:
    name: shared-pool
    service_account_id: "{{ lent.creds.service_account_id }}"
"""

RETURN = r"""
creds:
  description: The credential.
  returned: success
  type: dict
  contains:
    lease_id:
      description: Id of the lease; null in check mode.
      type: str
      returned: success
    lease_duration:
      description: How long the account was checked out for, in seconds.
      type: int
      returned: success
    lease_renewable:
      description: Whether the lease can be renewed, which it can up to the set's C(max_ttl).
      type: bool
      returned: success
    checkout_time:
      description: When the account was checked out, RFC 3339 in UTC.
      type: str
      returned: success
    expires_at:
      description: When the check-out ends, RFC 3339 in UTC.
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
      description: Name of the account in the set.
      type: str
      returned: success
    service_account_id:
      description: Id of the account at OpenAI.
      type: str
      returned: success
    project_id:
      description: Id of the project at OpenAI.
      type: str
      returned: success
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_library_checkout: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_library_checkout"}'
    )
)
