# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases of ansible-core this collection runs on. Nothing but what every release has is imported here."""

from __future__ import annotations

from ansible.errors import AnsibleError

_OLDEST = (2, 19)


def check_version(version: str) -> None:
    """Raise unless this release of ansible-core is supported."""
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise AnsibleError(
            f"ephemeral.openai does not run on ansible-core {version}; it needs {'.'.join(map(str, _OLDEST))} or newer"
        )
