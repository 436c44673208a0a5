# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all lookups share: options in, a mount out, and errors as sentences."""

from __future__ import annotations

import contextlib
import typing as t

from ansible import context
from ansible.errors import AnsibleError

from .._engine.errors import OpenAICredsError, mask_keys
from .._engine.mount import Mount
from .action import unexpected
from .open_mount import open_mount
from .options import NAMES, resolve
from .sources import is_blank


def prepare(
    plugin: t.Any, variables: t.Mapping[str, t.Any], given: dict[str, t.Any], own: t.Sequence[str]
) -> tuple[Mount, dict[str, t.Any]]:
    """Return the mount, the lookup's own options, and under settings those of the store."""
    # A null is an option that is not given, as in a task.
    given = {name: value for name, value in given.items() if value is not None}
    unknown = sorted(set(given) - set(own) - NAMES)
    if unknown:
        known = ", ".join(sorted({*own, *NAMES}))
        raise OpenAICredsError(f"{', '.join(unknown)}: there is no such option of this lookup; there are {known}")
    # Not by set_options: what is set for community.hashi_vault need not fit here unless the store is in Vault.
    for name in set(own) & set(given):
        if not is_blank(given[name]):
            plugin.set_option(name, given[name])
    options = {name: plugin.get_option(name) for name in own}
    options["settings"] = resolve(given, variables, plugin._templar.template)
    return open_mount(options["settings"]), options


def is_check_mode(variables: t.Mapping[str, t.Any] | None) -> bool:
    """Say whether nothing is to be changed, from the variables that a lookup is given."""
    return bool((variables or {}).get("ansible_check_mode") or context.CLIARGS.get("check"))


@contextlib.contextmanager
def plain_errors() -> t.Iterator[None]:
    """Turn errors of the engine into errors of Ansible."""
    try:
        yield
    except OpenAICredsError as error:
        raise AnsibleError(str(error)) from None
    except AnsibleError as error:
        if (text := mask_keys(str(error))) == str(error):
            raise
        raise AnsibleError(text) from None
    except Exception as error:  # noqa: BLE001
        raise AnsibleError(unexpected(error)) from None
