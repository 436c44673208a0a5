#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_library_set_info
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Show library sets and who has their accounts
description:
  - Returns the library sets, sorted by name, with the status of their accounts. It never returns a key.
options:
  name:
    description: Return only this set. If it does not exist, the list is empty.
    type: str
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes.info
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_library_set
"""

EXAMPLES = r"""
- name: Show all library sets
  ephemeral.openai.openai_library_set_info:
  register: all_sets

- name: Show who has which account
  ansible.builtin.debug:
    msg: "{{ all_sets.library_sets | map(attribute='account_status') }}"
"""

RETURN = r"""
library_sets:
  description: The sets, as M(ephemeral.openai.openai_library_set) returns them, with the status of their accounts.
  returned: success
  type: list
  elements: dict
  contains:
    available_accounts:
      description: How many accounts can be checked out.
      type: int
      returned: success
    checked_out_accounts:
      description:
        - How many accounts are checked out. This includes those whose check-out has expired and that no cleanup has checked in yet,
          and those whose key OpenAI has refused to end.
      type: int
      returned: success
    account_status:
      description:
        - The accounts by name. C(status) is V(available), V(checked_out), V(missing) for one that could not be made yet, or
          V(unknown) if the store holds something about it that cannot be read.
        - For one that is checked out, C(checked_out_by) has the user and the controller.
      type: dict
      returned: success
  sample:
    - name: shared-pool
      project: my-project
      project_id: null
      service_account_names: [account-1]
      max_ttl: 259200
      description: ""
      available_accounts: 0
      checked_out_accounts: 1
      account_status:
        account-1:
          status: checked_out
          service_account_id: svc_acct_123
          lease_id: openai/library/shared-pool/abc1def2
          checked_out_by:
            user: alice
            controller: control
            playbook: deploy.yml
          checkout_time: "2026-01-01T10:00:00Z"
          expires_at: "2026-01-01T14:00:00Z"
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_library_set_info: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_library_set_info"}'
    )
)
