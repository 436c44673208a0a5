# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the admin key is to be rotated: by period, or by a cron expression in UTC with a window."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from ..durations import parse_duration, rfc3339
from ..errors import OpenAICredsError, missing_package, quoted
from ..mount_config import MountConfig

_CRON_FIELDS = 5
_LONGEST_CRON = 200


def set_schedule(
    config: MountConfig,
    now: int,
    *,
    rotation_period: str | None,
    rotation_schedule: str | None,
    rotation_window: str | None,
    disable_automated_rotation: bool | None,
) -> MountConfig:
    """Return a config with options as users give them. None leaves what is there; 0 and '' take it away.

    A period given takes the place of a schedule and its window, and the other way round.
    """
    period = None if rotation_period is None else parse_duration(rotation_period, "rotation_period", least=0)
    window = None if rotation_window is None else parse_duration(rotation_window, "rotation_window", least=0)
    schedule = None if rotation_schedule is None else " ".join(rotation_schedule.split())
    if period and schedule:
        raise OpenAICredsError("rotation_period, rotation_schedule: give only one of them")
    if schedule:
        _scheduled(schedule, now)
        if schedule != config.rotation_schedule:
            # A time that passed before anybody asked for it is not one that was missed.
            config = dataclasses.replace(config, scheduled_at=now)
    if period:
        schedule = ""
    elif schedule:
        period = 0
    if period is not None:
        config = dataclasses.replace(config, rotation_period=period or None)
    if schedule is not None:
        config = dataclasses.replace(config, rotation_schedule=schedule or None)
    if window is not None:
        config = dataclasses.replace(config, rotation_window=window or None)
    if disable_automated_rotation is not None:
        config = dataclasses.replace(config, disable_automated_rotation=disable_automated_rotation)
    if config.rotation_schedule is None:
        if window:
            raise OpenAICredsError("rotation_window: a window needs a rotation_schedule that it follows")
        config = dataclasses.replace(config, rotation_window=None, scheduled_at=None)
    return config


def next_rotation(config: MountConfig, now: int) -> int | None:
    """Return the Unix time at which the key is to be rotated next: not later than now if it is due; None if never."""
    period, schedule = config.rotation_period, config.rotation_schedule
    if config.disable_automated_rotation or not (period or schedule):
        return None

    def after(time: int) -> int:
        return _scheduled(schedule, time) if schedule else time + (period or 0)

    due = after(max(config.created_at, config.scheduled_at or 0))
    # A key that was stored further ahead than the next time was stored by a clock that was wrong.
    if due > after(after(now)):
        due = now
    if due > now or not config.rotation_window or not schedule:
        return due
    last = _scheduled(schedule, now + 1, back=True)
    return last if now <= last + config.rotation_window else after(now)


def expiry_warning(config: MountConfig | None, now: int) -> str | None:
    """Return a warning if the key ends at OpenAI before it is going to be rotated, as things stand.

    If nobody rotates it by schedule, or whoever is to is late, it comes when a quarter of the key's life is left.
    """
    end = config.admin_api_key_expires_at if config else None
    if config is None or end is None:
        return None
    planned = next_rotation(config, now)
    late = planned is None or planned <= now
    if (planned is not None and planned >= end) or (late and now >= end - (end - config.created_at) // 4):
        when = f"is to be rotated at {rfc3339(planned)} only" if planned is not None and not late else "was not rotated"
        return f"the admin key ends at OpenAI at {rfc3339(end)} and {when}; rotate it before: openai_admin_key"
    return None


def _scheduled(schedule: str, time: int, *, back: bool = False) -> int:
    """Return the first Unix time of a cron expression after a time, or the last one before it."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise OpenAICredsError(missing_package("cronsim", "rotation_schedule: ephemeral.openai")) from None
    try:
        if len(schedule.split()) != _CRON_FIELDS or len(schedule) > _LONGEST_CRON:
            raise CronSimError
        return int(next(CronSim(schedule, datetime.fromtimestamp(time, UTC), reverse=back)).timestamp())
    except (CronSimError, StopIteration):
        raise OpenAICredsError(
            f"rotation_schedule: {quoted(schedule)} is not a cron expression that comes to pass, such as '0 3 * * 0': "
            "minute, hour, day of month, month, day of week"
        ) from None
