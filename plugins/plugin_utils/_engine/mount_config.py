# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The config of a mount: how it reaches its organization, with which admin key, and when that is rotated."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True, kw_only=True)
class MountConfig:
    """As it is stored. Times are Unix times, durations in seconds."""

    api_endpoint: str
    organization_id: str | None = None
    admin_api_key: str = dataclasses.field(default="", repr=False)
    #: None if it is not known.
    admin_api_key_id: str | None = None
    #: The unique name that a rotation has given it; None for a key that somebody else has made.
    admin_api_key_name: str | None = None
    #: When OpenAI ends it; None for never, or if that is not known.
    admin_api_key_expires_at: int | None = None
    #: Whether a rotation has proved that the id is the key's.
    id_proved: bool = False
    #: When the key became the mount's.
    created_at: int = 0
    #: When a rotation has made it the mount's.
    last_rotated: int | None = None
    rotation_period: int | None = None
    #: A cron expression in UTC, and since when it has been asked for.
    rotation_schedule: str | None = None
    scheduled_at: int | None = None
    #: For how long after a scheduled time a rotation may begin.
    rotation_window: int | None = None
    disable_automated_rotation: bool = False

    def stored(self) -> dict[str, t.Any]:
        """Return it as JSON data."""
        return dataclasses.asdict(self)


def read_config(definitions: t.Mapping[str, t.Any]) -> MountConfig | None:
    """Return the config in the definitions, or None."""
    data = definitions.get("config")
    return MountConfig(**data) if data else None
