#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_lease_info
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Show leases
description:
  - Returns leases, never with a key. Without options, it returns all leases of the mount.
  - If something in the store cannot be read, it returns the other leases, with a warning that names the place.
  - If it finds none and the mount is not configured, a warning names the store in which it has looked.
options:
  lease_id:
    description: Return only this lease.
    type: str
  prefix:
    description: Return only leases whose id begins with this prefix, part by part.
    type: str
  role:
    description: Return only leases of this role.
    type: str
  expiring_within:
    description: Return only leases that end within this time from now, or are past their end.
    type: str
  status:
    description: Return only leases with this status.
    type: str
    choices: [active, expired, pending, failed]
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.info
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_lease
"""

EXAMPLES = r"""
- name: Show what ends within the hour
  ephemeral.openai.openai_lease_info:
    expiring_within: 1h
  register: soon

- name: Show what could not be ended
  ephemeral.openai.openai_lease_info:
    status: failed
  register: stuck
"""

RETURN = r"""
leases:
  description: The leases, sorted by their end.
  returned: success
  type: list
  elements: dict
  contains:
    lease_id:
      description: Id of the lease.
      type: str
      returned: success
    role:
      description: The role that it came from; null if it is of a static role or a library set.
      type: str
      returned: success
    static_role:
      description: The static role whose key it is.
      type: str
      returned: for a lease of a static role
    library_set:
      description: The library set whose account it is.
      type: str
      returned: for a check-out
    status:
      description:
        - V(active), V(expired) (past its end and not cleaned up yet), V(pending) (its issue or revocation has begun and not
          finished) or V(failed) (OpenAI refused to end it).
      type: str
      returned: success
    issued_at:
      description: When it was issued, RFC 3339 in UTC.
      type: str
      returned: success
    expires_at:
      description: When it ends, RFC 3339 in UTC.
      type: str
      returned: success
    renewable:
      description: Whether it can be renewed.
      type: bool
      returned: success
    service_account:
      description: Name of the service account.
      type: str
      returned: success
    service_account_id:
      description: Id of the service account at OpenAI; null while it is being created.
      type: str
      returned: success
    api_key_id:
      description: Id of the key at OpenAI; null while it is being created.
      type: str
      returned: success
    project_id:
      description: Id of the project at OpenAI.
      type: str
      returned: success
    issued_by:
      description: Who issued it. It has C(user) and C(controller), with ansible-playbook also C(playbook), and in AWX also C(job).
      type: dict
      returned: success
    error:
      description: Why it could not be ended.
      type: str
      returned: when RV(leases[].status=failed)
    attempts:
      description: How often ending it was tried.
      type: int
      returned: when RV(leases[].status=failed)
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_lease_info: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_lease_info"}'
    )
)
