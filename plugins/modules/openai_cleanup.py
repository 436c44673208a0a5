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
version_added: 1.0.0
short_description: End what is due and finish what was interrupted
description:
  - Revokes every lease that is past its end, tries failed leases again, and finishes or takes back the work of runs that were
    killed. You can run it at any time, as often as you like, and on several controllers at once.
  - Also revokes the leases that a lookup took, if their run was on this machine and is over. This happens where the callback
    P(ephemeral.openai.openai_leases#callback) is not enabled or the run was killed.
  - Also finishes an interrupted rotation of the admin key. Deletes admin keys whose overlap is over, and keys that such a
    rotation has made and nobody can use.
  - If something could not be ended, it does all else first and then fails. It also fails if the mount is not configured, since
    you most likely meant another mount or store. In check mode this is a warning.
  - Every five seconds a line on stderr says how many leases have ended, and about how long the rest takes.
options:
  orphans:
    description:
      - What to do with service accounts at OpenAI that an interrupted run of this mount has made and whose key nobody has. They
        are recognised by the exact name that the run recorded before, and never by how a name looks.
      - V(report) lists them and leaves them until their lease would have ended. V(delete) deletes them now. V(ignore) does not
        look for them until then.
    type: str
    choices: [report, delete, ignore]
    default: report
  max_concurrency:
    description: How many calls to OpenAI to make at the same time.
    type: int
    default: 16
  limit:
    description: How many leases to act on at most. Unlimited if omitted.
    type: int
  grace:
    description:
      - Unfinished work of a process that cannot be seen from here, such as one on another machine, is left alone until it is
        this old. Work of a process on this machine is left alone exactly as long as the process runs.
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
  description: Ids of the leases that were revoked.
  returned: always
  type: list
  elements: str
checked_in:
  description: Ids of the library leases that were checked in.
  returned: always
  type: list
  elements: str
recovered:
  description:
    - Ids of the leases whose interrupted work was finished or taken back.
    - An account of a library set whose making or deletion was finished is named like C(openai/library/my-set/my-account).
  returned: always
  type: list
  elements: str
rotated:
  description: Whether an interrupted rotation was finished, so that the mount has another admin key.
  returned: always
  type: bool
admin_api_keys:
  description: Ids of the admin keys that were deleted because a rotation had replaced them, or because nobody can use them.
  returned: always
  type: list
  elements: str
orphans:
  description: Service accounts that interrupted runs have made, whether or not they were deleted.
  returned: always
  type: list
  elements: dict
  sample:
    - name: vault-my-role-ab12cd34
      id: svc_acct_123
      project_id: proj_abc123
failures:
  description:
    - What could not be ended, and why. It is not called C(failed), since Ansible uses that name for whether the task failed.
    - For an admin key, C(lease_id) is null and C(admin_api_key_id) is its id.
    - For an account that a library set has dropped, C(lease_id) is null and C(service_account_id) is its id.
    - For what cannot be read in the store, C(lease_id) is null and C(error) names the place.
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
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_cleanup: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_cleanup"}'
    )
)
