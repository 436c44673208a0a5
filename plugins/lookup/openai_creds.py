# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The credential of a role, one per run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openai_creds
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: A short-lived OpenAI credential for a role
description:
  - Issues a credential from a role and returns it, as M(ephemeral.openai.openai_creds) does.
  - Ansible evaluates a variable again each time it is used, in the worker of each host. By default all evaluations of one run
    get the same credential.
  - The lease ends with the run. The callback P(ephemeral.openai.openai_leases#callback) revokes it when the run ends. Without the
    callback, the next M(ephemeral.openai.openai_cleanup) on the same machine does.
  - In check mode nothing is created. The credential has a placeholder as its key, and no lease id.
  - The keyword C(environment) has no effect on lookups. Use options or variables.
options:
  _terms:
    description: Names of roles. With several, the credentials are issued at the same time and returned in order.
    type: list
    elements: str
    required: true
  ttl:
    description: How long the credential lives. More than the role's C(max_ttl) is an error. Defaults to the role's ttl.
    type: str
  reuse:
    description:
      - V(run) gives a run one credential for the same role, O(ttl) and mount. Leaving O(ttl) out is not the same as giving the
        role's own ttl.
      - V(none) issues a new credential for every evaluation.
    type: str
    choices: [run, none]
    default: run
  min_remaining:
    description:
      - With O(reuse=run), a new credential is issued when less than this is left.
      - If it is not shorter than the ttl of the credential, half of the ttl counts instead.
    type: str
    default: 5m
requirements:
  - httpx
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.store.plugins
  - ephemeral.openai.vault_kv
  - ephemeral.openai.vault_kv.plugins
seealso:
  - module: ephemeral.openai.openai_creds
  - plugin: ephemeral.openai.openai_leases
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Call OpenAI with a short-lived key
  vars:
    creds: "{{ lookup('ephemeral.openai.openai_creds', 'my-role') }}"
  ansible.builtin.uri:
    url: https://api.openai.com/v1/models
    headers:
      Authorization: "Bearer {{ creds.api_key }}"
  no_log: true

- name: Take two credentials at once
  ansible.builtin.set_fact:
    pair: "{{ query('ephemeral.openai.openai_creds', 'my-role', 'model-reader', ttl='10m') }}"
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
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.definitions.roles import find_role
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import placeholder
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.lease import Lease
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.share import several_credentials
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.taken import note_of
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.api_errors import record_api_errors
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.names import check_name
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.taken_leases import LOST, note


class LookupModule(LookupBase):
    """Arguments in, one credential for each term out."""

    def run(self, terms: t.Sequence[t.Any], variables: t.Any = None, **kwargs: t.Any) -> list[t.Any]:
        with lookup.plain_errors():
            mount, options = lookup.prepare(self, variables or {}, kwargs, ("ttl", "reuse", "min_remaining"))
            roles = [check_name(term, "role") for term in terms]
            if not roles:
                raise AnsibleError(
                    "name the role to issue from, as in lookup('ephemeral.openai.openai_creds', 'my-role')"
                )
            ttl = None if options["ttl"] is None else parse_duration(options["ttl"], "ttl")
            min_remaining = parse_duration(options["min_remaining"], "min_remaining", least=0)
            if lookup.is_check_mode(variables):
                return [self._placeholder(mount, role, ttl) for role in roles]

            if len(roles) > 1:
                # Before anything is issued for the others.
                definitions = mount.all_definitions()
                for role in roles:
                    find_role(mount, role, "role", definitions=definitions)

            def noted(lease: Lease | None) -> None:
                # Before the issue too, so that a worker that is killed meanwhile leaves word of where its claim is.
                entry = {"by": "lookup", "lease": lease and note_of(lease), **options["settings"]}
                if not note(entry):
                    self._display.warning(LOST)

            least = min_remaining if options["reuse"] == "run" else None
            try:
                return several_credentials(mount, roles, ttl, least, noted)
            finally:
                record_api_errors(mount)

    def _placeholder(self, mount: Mount, role: str, ttl: int | None) -> t.Any:
        creds, warnings = placeholder(mount, role, ttl)
        for warning in warnings:
            self._display.warning(warning)
        return creds
