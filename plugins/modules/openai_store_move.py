#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_store_move
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Move a mount to another store
description:
  - Moves all state of a mount, the admin key, definitions and leases, from vaulted files to Vault KV or back. Lease ids stay
    the same.
  - Give the options of both stores. Each store uses its own. O(store) itself does not matter.
  - If the move is interrupted, run the task again to finish it. Until then nobody can use the mount in either store. After the
    move, whoever still uses the old store gets a message that names the new one.
  - Refuses to begin while other runs or tasks work on the mount.
options:
  from:
    description: The store that holds the mount.
    type: str
    required: true
    choices: [vaulted_file, vault_kv]
  to:
    description: The store that is to hold it.
    type: str
    required: true
    choices: [vaulted_file, vault_kv]
  grace:
    description:
      - Unfinished work of a process that cannot be seen from here, such as one on another machine, counts as going on until it
        is this old.
    type: str
    default: 10m
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_config_info
"""

EXAMPLES = r"""
- name: Move to Vault, for the other controllers to come
  ephemeral.openai.openai_store_move:
    from: vaulted_file
    to: vault_kv
"""

RETURN = r"""
moved:
  description: How many leases and records of unfinished work this task has moved; in check mode, how many there are.
  returned: success
  type: int
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_store_move: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_store_move"}'
    )
)
