# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event source: what is due among OpenAI credentials."""

from __future__ import annotations

import os
import typing as t

DOCUMENTATION = r"""
---
short_description: Events of OpenAI credentials that end, are to be rotated, or could not be cleaned up
description:
  - An event source for ansible-rulebook. It tells when leases of a mount are about to end and have ended, when rotations are due,
    and when a cleanup has failed. So a rulebook can end a lease within seconds of its end.
  - It reads the store and never calls OpenAI. It changes nothing.
  - 'An event is C({"openai_creds": {"type": ..., "mount": ..., ...}}).'
  - C(lease_expiring) comes once before the end of a lease, and again if the lease was renewed and its new end comes near.
  - C(lease_expired) comes when a lease has ended. It comes again every minute as long as the lease is on record and OpenAI has not refused
    to end it.
  - Both have C(lease_id), C(role) and C(expires_at), and C(library_set) or C(static_role) if the lease was issued for one of these.
  - C(rotation_due) comes once for each time at which a rotation is due, and again every ten minutes as long as nobody has rotated.
    C(what) is C(admin_key), C(static_role), or C(previous_admin_key) for a key whose overlap is over; C(due_at) says since when.
    C(static_role) is the name of the static role, C(admin_api_key_id) the id of the previous key.
  - C(cleanup_failed) comes for each lease that OpenAI has refused to end, at the time of the next try, with C(error), C(attempts) and the
    attributes of the lease. It comes again for each further refusal, and every minute as long as the try has not been made.
  - C(cleanup_failed) also comes, without a lease, every minute as long as leases are on record two minutes after their end. Then no cleanup
    runs, or it does not get far. C(overdue) says how many leases these are, C(last_cleanup) when a cleanup last did all that there was to do.
  - A lease that is renewed, revoked or ended before its time comes gets no further event. The source keeps in memory what it has told. After
    a restart it tells again what still holds.
  - If the store cannot be read, the source logs why and tries again after a growing wait of at most a minute.
options:
  vault_password_file:
    description:
      - File with the vault password, or script that prints it, for O(store=vaulted_file).
      - The default is what Ansible's own settings say, such as E(ANSIBLE_VAULT_PASSWORD_FILE).
    type: path
  interval:
    description:
      - How often to look for new events. The end of a lease that is known already is told at once, whatever the interval is.
      - In a mount with very many leases the whole store is looked at less often, at least every 30 seconds, so that it takes a
        twentieth of the time at most; in between, only leases that end soon.
    type: str
    default: 1s
  ahead:
    description:
      - How long before a lease ends C(lease_expiring) comes. V(0) means never.
    type: str
    default: 5m
notes:
  - 'The other options are those of the store, as every module has them: C(mount), C(store), C(store_path), C(kv_path), C(url),
    C(auth_method) and others, with the same environment variables and keys in C(ansible.cfg). Variables of Ansible do not exist in a
    rulebook; write C(mount: "{{ openai_creds_mount }}") to take a value from C(--vars).'
"""

EXAMPLES = r"""
- name: Watch the mount openai in files
  hosts: localhost
  sources:
    - ephemeral.openai.openai_events:
        vault_password_file: /etc/openai-creds/vault-password
        ahead: 10m
  rules:
    - name: Say which lease ends soon
      condition: event.openai_creds.type == "lease_expiring"
      action:
        debug:
          msg: "{{ event.openai_creds.lease_id }} ends at {{ event.openai_creds.expires_at }}"

- name: Watch a mount in Vault
  hosts: localhost
  sources:
    - ephemeral.openai.openai_events:
        mount: research
        store: vault_kv
        url: https://vault.example.com:8200
        auth_method: approle
        role_id: "{{ role_id }}"
        secret_id: "{{ secret_id }}"
  rules:
    - name: End leases
      condition: event.openai_creds.type == "lease_expired"
      throttle:
        once_after: 1 second
        group_by_attributes: [event.openai_creds.mount]
      action:
        run_playbook:
          name: ephemeral.openai.cleanup
          extra_vars:
            openai_creds_mount: research
"""

_HERE = ("ansible_collections", "ephemeral", "openai", "extensions", "eda", "plugins", "event_source")


async def main(queue: t.Any, args: dict[str, t.Any]) -> None:
    """Put events into the queue until it is cancelled."""
    _find_collection()
    from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.event_source import send_events

    await send_events(queue, args or {})


def _find_collection() -> None:
    """Let Python find collections as Ansible does, first of all the one that this file is in. ansible-rulebook does not."""
    try:
        import ansible_collections.ephemeral.openai.plugins  # noqa: F401
    except ImportError:
        from ansible.plugins.loader import init_plugin_loader
        from ansible.utils.collection_loader import AnsibleCollectionConfig

        folder = os.path.dirname(os.path.abspath(__file__)).split(os.sep)
        is_inside = tuple(folder[-len(_HERE) :]) == _HERE
        if AnsibleCollectionConfig.collection_finder is None:
            init_plugin_loader([os.sep.join(folder[: -len(_HERE)])] if is_inside else [])
