# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The current credential of a static role."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openai_static_creds
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: The current OpenAI credential of a static role
description:
  - Returns the current credential of a static role. It never rotates and calls nothing at OpenAI; see
    M(ephemeral.openai.openai_static_creds) for that.
  - In check mode it does the same, since it changes nothing. If the static role has no key yet, as an earlier task of the play would
    have made it, it returns a placeholder and warns.
  - The keyword C(environment) has no effect on lookups. Use options or variables.
options:
  _terms:
    description: Names of static roles. With several, the credentials are returned in order.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.store.plugins
  - ephemeral.openai.vault_kv
  - ephemeral.openai.vault_kv.plugins
seealso:
  - module: ephemeral.openai.openai_static_creds
  - module: ephemeral.openai.openai_static_role
"""

EXAMPLES = r"""
- name: Call OpenAI with the key of a static role
  vars:
    creds: "{{ lookup('ephemeral.openai.openai_static_creds', 'data-science') }}"
  ansible.builtin.uri:
    url: https://api.openai.com/v1/models
    headers:
      Authorization: "Bearer {{ creds.api_key }}"
  no_log: true
"""

RETURN = r"""
_list:
  description:
    - The credentials, one for each term.
    - Each is a dictionary of C(lease_id), C(lease_duration), C(lease_renewable), C(expires_at), C(api_key), C(api_key_id),
      C(service_account), C(service_account_id) and C(project_id).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible import lookup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import check_name
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.static_role import (
    current_credential,
    present_credential,
)


class LookupModule(LookupBase):
    """Names in, one credential for each out."""

    def run(self, terms: t.Sequence[t.Any], variables: t.Any = None, **kwargs: t.Any) -> list[t.Any]:
        with lookup.plain_errors():
            mount, _options = lookup.prepare(self, variables or {}, kwargs, ())
            names = [check_name(term, "name") for term in terms]
            if not names:
                raise AnsibleError(
                    "name the static role, as in lookup('ephemeral.openai.openai_static_creds', 'data-science')"
                )
            if lookup.is_check_mode(variables):
                return [self._present(mount, name) for name in names]
            return [current_credential(mount, name) for name in names]

    def _present(self, mount: Mount, name: str) -> t.Any:
        creds, warnings = present_credential(mount, name)
        for warning in warnings:
            self._display.warning(warning)
        return creds
