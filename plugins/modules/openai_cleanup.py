#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_cleanup
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 0.1.0
short_description: End what is due and finish what was interrupted
description:
  - Revokes every lease that is past its end, tries again what would not go before, and finishes or takes back the work of
    runs that were killed. Safe to run at any time, as often as wanted, and on several controllers at once.
  - Also finishes an interrupted rotation of the admin key, and deletes admin keys whose overlap is over, or which such a
    rotation has made and nobody can use.
  - Fails after it has done all it can, if something would not go, and for a mount that is not configured, since most likely
    another mount or store is meant. In check mode that is a warning.
options:
  orphans:
    description:
      - What to do about service accounts at OpenAI that an interrupted run of this mount has made and whose key nobody has.
        They are known by the exact name in the record that the run wrote before; nothing is ever judged by how it looks.
      - V(report) lists them and leaves them until their lease would have ended, V(delete) deletes them now, V(ignore) does
        not look for them until then.
    type: str
    choices: [report, delete, ignore]
    default: report
  max_concurrency:
    description: How many calls to OpenAI may be under way at a time.
    type: int
    default: 16
  limit:
    description: How many leases to act on at the most. Unlimited if omitted.
    type: int
  grace:
    description:
      - Unfinished work of a process on another machine, which cannot be seen from here, is left alone until it is this old.
        Work of a process on this machine is left alone exactly as long as it runs.
    type: str
    default: 10m
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_lease_info
"""

EXAMPLES = r"""
- name: Clean up, as a timer would
  ephemeral.openai.openai_cleanup:
    orphans: delete
  register: round

- name: Tell when the next lease ends
  ansible.builtin.debug:
    var: round.next_expiry
"""

RETURN = r"""
revoked:
  description: Ids of the leases that ended.
  returned: always
  type: list
  elements: str
checked_in:
  description: Ids of the library leases that were checked in.
  returned: always
  type: list
  elements: str
recovered:
  description: Ids of the leases whose interrupted work was finished or taken back.
  returned: always
  type: list
  elements: str
rotated:
  description: Whether an interrupted rotation was finished, so that the mount has another admin key.
  returned: always
  type: bool
admin_api_keys:
  description: Ids of the admin keys that were deleted, because a rotation had replaced them or nobody can use them.
  returned: always
  type: list
  elements: str
orphans:
  description: Service accounts that interrupted runs had made, whether or not they were deleted.
  returned: always
  type: list
  elements: dict
  sample:
    - name: vault-my-role-ab12cd34
      id: svc_acct_123
      project_id: proj_abc123
failures:
  description:
    - What would not go, and why. The name C(failed) is Ansible's own, for whether the task failed.
    - For an admin key, C(lease_id) is null and C(admin_api_key_id) is its id.
  returned: always
  type: list
  elements: dict
  sample:
    - lease_id: openai/creds/my-role/al5k000-0123456789ab
      error: OpenAI answered 403 to DELETE …
active:
  description: How many leases are live.
  returned: always
  type: int
next_expiry:
  description: When the next lease ends, RFC 3339 in UTC; null if there is none.
  returned: always
  type: str
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = __name__ == "__main__" and __import__("sys").stdout.write(
    '{"failed": true, "msg": "openai_cleanup: Ansible has found this module without its collection, so it can do nothing; '
    'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_cleanup"}'
)
