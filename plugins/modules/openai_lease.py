#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_lease
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Renew or revoke leases
description:
  - Revoking deletes the service account, and so its key, at OpenAI. An account that is already gone counts as revoked.
  - A lease that is being issued is revoked as well. The process that issues it takes the credential back and fails.
  - Keys end first. If the store cannot be written, they end at OpenAI all the same. The task then fails, since the records stay.
  - Renewing sets a new end of the lease, counted from now, also at OpenAI. It can be later or earlier than the old end, but not
    past the role's C(max_ttl) at the time of the issue.
  - While it revokes many, a line on stderr says every five seconds how many have ended.
options:
  lease_id:
    description:
      - One lease. Give this or O(prefix).
      - In check mode it may be null, as M(ephemeral.openai.openai_creds) returns it in check mode.
    type: str
  prefix:
    description:
      - All leases whose id begins with this prefix, part by part, as in V(openai/creds/my-role/). Must begin with the mount.
    type: str
  state:
    description:
      - What to do with the leases. Revoking a lease that does not exist changes nothing. If no lease begins with O(prefix),
        there is a warning.
      - If something in the store cannot be read, the other leases are revoked or renewed. Then the task fails, and its message
        names the place.
      - Renewing stops at the first lease that cannot be renewed.
    type: str
    choices: [revoked, renewed]
    default: revoked
  increment:
    description: With O(state=renewed), how long the lease lives from now. Defaults to the ttl that it was issued with.
    type: str
  force:
    description:
      - With O(state=revoked), drop the record even if OpenAI refuses to delete the account.
      - The record of a lease that cannot be counted for the metrics, since the store cannot read its counts, is dropped as well.
    type: bool
    default: false
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_lease_info
  - module: ephemeral.openai.openai_cleanup
"""

EXAMPLES = r"""
- name: Issue a credential
  ephemeral.openai.openai_creds:
    name: my-role
  register: issued

- name: Renew its lease
  ephemeral.openai.openai_lease:
    lease_id: "{{ issued.creds.lease_id }}"
    state: renewed
    increment: 2h

- name: Break glass, revoke everything that a role has issued
  ephemeral.openai.openai_lease:
    prefix: openai/creds/my-role/
    state: revoked
"""

RETURN = r"""
msg:
  description: Says that no lease was found.
  returned: when none was
  type: str
leases:
  description: The leases that were renewed, as they are afterwards, or that were revoked, as they were before.
  returned: always
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
        '{"failed": true, "msg": "openai_lease: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_lease"}'
    )
)
