# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that say where a mount's state is. They are the same for every module, lookup and callback."""

from __future__ import annotations


class ModuleDocFragment:
    """C(DOCUMENTATION) for modules and plugins, C(PLUGINS) adds the other sources of plugin options."""

    DOCUMENTATION = r"""
options:
  mount:
    description:
      - Name of the mount, one OpenAI organization's worth of state. Every lease id begins with it.
      - Also the variable C(openai_creds_mount), E(OPENAI_CREDS_MOUNT), or C(mount) in section
        C([openai_creds]) of C(ansible.cfg). The default is V(openai).
    type: str
  store:
    description:
      - Where state is kept. V(vaulted_file) keeps it in files encrypted with the vault secrets that Ansible was given.
        V(vault_kv) keeps it in HashiCorp Vault or OpenBao, in a KV secrets engine of version 2. O(url) says where the options of Vault come from.
      - Also the variable C(openai_creds_store), E(OPENAI_CREDS_STORE), or C(store) in section C([openai_creds]) of C(ansible.cfg).
        The default is V(vaulted_file).
    type: str
    choices: [vaulted_file, vault_kv]
  store_path:
    description:
      - Folder of the V(vaulted_file) store, on a local file system. It is created with mode C(0700). If others can use it, their access
        is taken away.
      - It must be an absolute path, or begin with C(~) or an environment variable that makes it absolute. Only in C(ansible.cfg) may it
        be relative; it is then relative to the folder of that file.
      - Also the variable C(openai_creds_store_path), E(OPENAI_CREDS_STORE_PATH), or C(store_path) in section C([openai_creds]) of C(ansible.cfg).
        The default is C(openai_creds) in Ansible's home, C(~/.ansible).
    type: path
  kv_path:
    description:
      - Path of the V(vault_kv) store in its secrets engine. A mount is one level below.
      - Also the variable C(openai_creds_kv_path), E(OPENAI_CREDS_KV_PATH), or C(kv_path) in section C([openai_creds]) of C(ansible.cfg).
        The default is V(openai_creds).
    type: str
"""

    PLUGINS = r"""
options:
  mount:
    default: openai
    vars:
      - name: openai_creds_mount
    env:
      - name: OPENAI_CREDS_MOUNT
    ini:
      - section: openai_creds
        key: mount
  store:
    default: vaulted_file
    vars:
      - name: openai_creds_store
    env:
      - name: OPENAI_CREDS_STORE
    ini:
      - section: openai_creds
        key: store
  store_path:
    default: '{{ ANSIBLE_HOME ~ "/openai_creds" }}'
    vars:
      - name: openai_creds_store_path
    env:
      - name: OPENAI_CREDS_STORE_PATH
    ini:
      - section: openai_creds
        key: store_path
  kv_path:
    default: openai_creds
    vars:
      - name: openai_creds_kv_path
    env:
      - name: OPENAI_CREDS_KV_PATH
    ini:
      - section: openai_creds
        key: kv_path
"""
