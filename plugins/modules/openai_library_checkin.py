#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_library_checkin
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Check in a service account of a library set
description:
  - Ends the key that was issued with the check-out, so that others can have the account.
  - Only who has checked it out may, which is the same user on the same controller, or anyone with O(force).
  - Checking in an account that is not checked out changes nothing and says so.
options:
  name:
    description: The library set.
    type: str
    required: true
  service_account_id:
    description: The id of the account. Give this or O(service_account).
    type: str
  service_account:
    description: The name of the account. Give this or O(service_account_id).
    type: str
  force:
    description: Check in also what somebody else has checked out.
    type: bool
    default: false
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_library_checkout
"""

EXAMPLES = r"""
- name: Check in an account
  ephemeral.openai.openai_library_checkin:
    name: shared-pool
    service_account: account-1

- name: Check in an account that somebody else has
  ephemeral.openai.openai_library_checkin:
    name: shared-pool
    service_account: account-2
    force: true
"""

RETURN = r"""
checked_in:
  description: The id of the lease that has ended; an empty list if the account was not checked out.
  returned: success
  type: list
  elements: str
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_library_checkin: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_library_checkin"}'
    )
)
