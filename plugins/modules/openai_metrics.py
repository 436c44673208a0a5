#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_metrics
author:
  - The ephemeral.openai contributors (@ephemeral-openai)
version_added: 1.0.0
short_description: Tell Prometheus about a mount
description:
  - Returns the metrics of a mount, writes them to a file for the textfile collector of node_exporter, or pushes them to a
    Pushgateway. They hold no secret.
  - The counters of issued and revoked credentials are kept in the store. They are exact, whichever processes and controllers
    issue and revoke, and whether some of them are killed. It does not matter where, how often, or when metrics are written.
  - The task reads every lease of the mount. With O(costs) it makes one call to OpenAI, else none.
  - It fails if the mount is not configured, since you most likely meant another mount or store. In check mode this is a warning.
options:
  textfile:
    description:
      - The file to write, an absolute path on the controller whose folder exists. It is replaced atomically, and everybody may
        read it.
      - node_exporter reads only files whose names end in C(.prom).
    type: str
  pushgateway:
    description:
      - The address of a Pushgateway, such as V(localhost:9091) or V(https://pushgateway.example.com).
      - Replaces what was pushed before for the same O(job) and mount.
    type: str
  job:
    description: The name of the job at the Pushgateway.
    type: str
    default: openai_creds
  costs:
    description:
      - Whether to ask OpenAI what each project, and the key of each lease on record, has spent. If OpenAI does not
        say, all else is written first, and then the task fails.
    type: bool
    default: false
  costs_window:
    description: Over how long to add up what was spent, in days of UTC, today included. V(1d) is today.
    type: str
    default: 1d
requirements:
  - prometheus-client, for O(textfile) and O(pushgateway)
extends_documentation_fragment:
  - ephemeral.openai.store
  - ephemeral.openai.vault_kv
  - ephemeral.openai.attributes
seealso:
  - module: ephemeral.openai.openai_cleanup
"""

EXAMPLES = r"""
- name: Write a file for node_exporter
  ephemeral.openai.openai_metrics:
    textfile: /var/lib/node_exporter/textfile_collector/openai_creds.prom

- name: Push, with what was spent in the last seven days
  ephemeral.openai.openai_metrics:
    pushgateway: pushgateway.example.com:9091
    costs: true
    costs_window: 7d

- name: Read metrics in a playbook
  ephemeral.openai.openai_metrics:
  register: told

- name: Show how many credentials were issued
  ansible.builtin.debug:
    msg: "{{ told.metrics.openai_creds_issued_total | map(attribute='value') | sum }}"
"""

RETURN = r"""
metrics:
  description:
    - The metrics by name, each a list of its values with their labels. The guide on metrics says what each means.
    - C(openai_creds_issued_total) is missing if a part of the store cannot be read, since a counter must never seem to go back.
  returned: success
  type: dict
  sample:
    openai_creds_issued_total:
      - labels:
          mount: openai
          role: my-role
        value: 12
    openai_creds_leases:
      - labels:
          mount: openai
          role: my-role
          status: active
        value: 2
"""

# Ansible runs this file itself only if it has found it without the collection, for example by ANSIBLE_LIBRARY.
_ANSWER = (
    __name__ == "__main__"
    and not __package__
    and __import__("sys").stdout.write(
        '{"failed": true, "msg": "openai_metrics: Ansible has found this module without its collection, so it can do nothing; '
        'install ephemeral.openai and run it by its full name, ephemeral.openai.openai_metrics"}'
    )
)
