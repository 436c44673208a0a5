# SPDX-License-Identifier: GPL-3.0-or-later
"""When the admin key is due, with a clock that is moved by hand."""

from __future__ import annotations

import sys
import time
import typing as t
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import rfc3339
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount_config import MountConfig
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.schedule import (
    expiry_warning,
    next_rotation,
    set_schedule,
)

HOUR, DAY = 3600, 86400


def at(text: str) -> int:
    """Return the Unix time of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def config(now: int, **options: t.Any) -> MountConfig:
    """Return a config whose key was stored at a time."""
    return set_options(MountConfig(api_endpoint="https://api.openai.com/v1", created_at=now), now, **options)


def set_options(data: MountConfig, now: int, **options: t.Any) -> MountConfig:
    names = ("rotation_period", "rotation_schedule", "rotation_window", "disable_automated_rotation")
    return set_schedule(data, now, **{**dict.fromkeys(names), **options})


def refused(*args: t.Any, **options: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as caught:
        config(*args, **options)
    return sentence(caught.value)


def due(data: MountConfig, now: int) -> bool:
    planned = next_rotation(data, now)
    return planned is not None and planned <= now


# Period.


def test_a_period() -> None:
    start = at("2026-01-01T00:00")
    data = config(start, rotation_period="30d")
    assert next_rotation(data, start) == start + 30 * DAY
    assert not due(data, start + 30 * DAY - 1)
    assert due(data, start + 30 * DAY)
    assert due(data, start + 300 * DAY), "it does not matter how late"


def test_without_a_period_or_schedule_nothing_is_ever_due() -> None:
    assert next_rotation(config(0), 10**9) is None


def test_disabled() -> None:
    data = config(0, rotation_period="1h", disable_automated_rotation=True)
    assert next_rotation(data, DAY) is None
    data = set_options(data, DAY, disable_automated_rotation=False)
    assert due(data, DAY)


@pytest.mark.parametrize("back", [1, HOUR, DAY])
def test_a_clock_set_back_by_less_than_a_period(back: int) -> None:
    start = at("2026-01-01T00:00")
    data = config(start, rotation_period="1d")
    assert next_rotation(data, start - back) == start + DAY
    assert not due(data, start - back)


@pytest.mark.parametrize("options", [{"rotation_period": "1h"}, {"rotation_schedule": "0 * * * *"}])
def test_a_clock_set_back_by_years_does_not_stop_rotation(options: dict[str, str]) -> None:
    """Whatever was rotated in a far future is rotated once more, and from then on as planned."""
    future, now = at("2036-01-01T00:30"), at("2026-01-01T00:30")
    data = config(future, **options)
    data = replace(data, scheduled_at=0)
    assert due(data, now)
    data = replace(data, created_at=now)
    assert not due(data, now)


# Schedule.


def test_a_schedule() -> None:
    data = config(at("2026-01-05T12:00"), rotation_schedule="0 3 * * 0")
    assert next_rotation(data, at("2026-01-05T12:00")) == at("2026-01-11T03:00")
    assert not due(data, at("2026-01-11T02:59:59"))
    assert due(data, at("2026-01-11T03:00"))
    assert due(data, at("2026-01-13T00:00")), "without a window it is caught up with"
    data = replace(data, created_at=at("2026-01-13T00:00"))
    assert next_rotation(data, at("2026-01-13T00:00")) == at("2026-01-18T03:00")


def test_a_window() -> None:
    data = config(at("2026-01-05T12:00"), rotation_schedule="0 3 * * 0", rotation_window="2h")
    assert not due(data, at("2026-01-11T02:59"))
    assert due(data, at("2026-01-11T03:00"))
    assert due(data, at("2026-01-11T05:00"))
    past = at("2026-01-11T05:00:01")
    assert not due(data, past)
    assert next_rotation(data, past) == at("2026-01-18T03:00")
    assert due(data, at("2026-01-18T04:00"))


def test_a_window_that_was_used_is_over() -> None:
    data = config(at("2026-01-05T12:00"), rotation_schedule="0 3 * * 0", rotation_window="2h")
    data = replace(data, created_at=at("2026-01-11T03:10"))
    assert not due(data, at("2026-01-11T03:11"))
    assert next_rotation(data, at("2026-01-11T03:11")) == at("2026-01-18T03:00")


def test_a_time_before_the_schedule_was_set_was_not_missed() -> None:
    data = config(at("2026-01-01T00:00"))
    data = set_options(data, at("2026-03-04T12:00"), rotation_schedule="0 3 * * *")
    assert next_rotation(data, at("2026-03-04T12:00")) == at("2026-03-05T03:00")
    data = set_options(data, at("2026-03-05T12:00"), rotation_schedule="0 3 * * *")
    assert due(data, at("2026-03-05T12:00")), "to say it again changes nothing"


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_daylight_saving_is_nothing_to_it(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """02:30 does not exist on some days and exists twice on others, but in UTC."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for day in ("2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05", "2026-10-04"):
            before = at(f"{day}T00:00") - 1
            data = config(before, rotation_schedule="30 2 * * *")
            assert next_rotation(data, before) == at(f"{day}T02:30")
            data = replace(data, created_at=at(f"{day}T02:30"))
            assert next_rotation(data, data.created_at) == at(f"{day}T02:30") + DAY
            assert rfc3339(at(f"{day}T02:30")) == f"{day}T02:30:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    stored=st.integers(0, 60 * DAY),
    passed=st.integers(0, 60 * DAY),
    window=st.sampled_from([None, "10m", "6h", "2d"]),
)
def test_a_daily_schedule_agrees_with_arithmetic(
    minute: int, hour: int, stored: int, passed: int, window: str | None
) -> None:
    start = at("2026-01-01T00:00")
    data = config(start + stored, rotation_schedule=f"{minute} {hour} * * *", rotation_window=window)
    now = start + stored + passed
    moment = timedelta(hours=hour, minutes=minute).total_seconds()
    last = start + (now - start - moment) // DAY * DAY + moment
    length = {None: 10**9, "10m": 600, "6h": 6 * HOUR, "2d": 2 * DAY}[window]
    assert due(data, now) is (last > start + stored and now <= last + length)
    if not due(data, now):
        assert next_rotation(data, now) == last + DAY


# Options.


def test_period_and_schedule_take_each_others_place() -> None:
    data = config(0, rotation_schedule=" 0  3 * * 0 ", rotation_window="1h")
    assert (data.rotation_schedule, data.rotation_window) == ("0 3 * * 0", 3600)
    data = set_options(data, 0, rotation_period="1d")
    assert data == config(0, rotation_period="1d")
    data = set_options(data, 0, rotation_schedule="0 3 * * 0")
    assert data == config(0, rotation_schedule="0 3 * * 0")


def test_what_is_not_given_stays_and_nothing_takes_away() -> None:
    data = config(0, rotation_schedule="0 3 * * 0", rotation_window="1h", disable_automated_rotation=True)
    before = data
    data = set_options(data, 5)
    assert data == before
    data = set_options(data, 5, rotation_window="0")
    assert data.rotation_window is None and data.rotation_schedule
    data = set_options(data, 5, rotation_schedule="")
    assert next_rotation(replace(data, disable_automated_rotation=False), 10**9) is None
    data = set_options(data, 5, rotation_period="1h")
    data = set_options(data, 5, rotation_period="0", disable_automated_rotation=False)
    assert data == config(0)


def test_options_that_do_not_go_together() -> None:
    assert refused(0, rotation_period="1d", rotation_schedule="0 3 * * 0").startswith(
        "rotation_period, rotation_schedule: give only one"
    )
    assert refused(0, rotation_window="1h").startswith("rotation_window: a window needs")
    assert refused(0, rotation_window="1h", rotation_period="1d").startswith("rotation_window: a window needs")
    assert refused(0, rotation_period="soon").startswith("rotation_period:")
    assert refused(0, rotation_window="soon", rotation_schedule="0 3 * * 0").startswith("rotation_window:")


@pytest.mark.parametrize(
    "schedule",
    [
        "soon",
        "@daily",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 30 2 *",
        "0 0 31 4 *",
        "0 0 * 13 *",
        "*/0 * * * *",
        "0 3 * * MONDAY",
        "²  * * * *",
        "0 3 * * " + "1," * 200 + "1",
        "\0 * * * *",
        "0 3 - - 0",
    ],
)
def test_what_is_no_schedule(schedule: str) -> None:
    assert refused(0, rotation_schedule=schedule).startswith("rotation_schedule:")


@given(st.text("0123456789*/,-LW# SUNMOJAE", min_size=9, max_size=20))
def test_any_text_is_a_schedule_or_refused_with_a_sentence(schedule: str) -> None:
    try:
        data = config(at("2026-01-01T00:00"), rotation_schedule=schedule)
    except OpenAICredsError as error:
        assert sentence(error).startswith("rotation_schedule:")
    else:
        planned = next_rotation(data, at("2026-01-01T00:00"))
        assert planned is None or planned > at("2026-01-01T00:00")


def test_without_cronsim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert "cronsim is missing" in refused(0, rotation_schedule="0 3 * * 0")
    assert next_rotation(config(0, rotation_period="1h"), 0) == HOUR


# Native expiry.


def warning(now: int, *, life: int, **options: t.Any) -> str:
    return expiry_warning(replace(config(0, **options), admin_api_key_expires_at=life), now) or ""


def test_a_key_that_ends_before_it_is_rotated() -> None:
    assert "only" in warning(0, life=10 * DAY, rotation_period="30d")
    assert "only" in warning(0, life=30 * DAY, rotation_period="30d")
    assert warning(0, life=31 * DAY, rotation_period="30d") == ""
    assert warning(29 * DAY, life=31 * DAY, rotation_period="30d") == ""


def test_a_rotation_that_is_late() -> None:
    assert warning(31 * DAY, life=100 * DAY, rotation_period="30d") == "", "there is time yet"
    assert "was not rotated" in warning(75 * DAY, life=100 * DAY, rotation_period="30d")
    assert "was not rotated" in warning(101 * DAY, life=100 * DAY, rotation_period="30d")


def test_a_key_that_nobody_rotates() -> None:
    assert warning(74 * DAY, life=100 * DAY) == ""
    assert "was not rotated" in warning(75 * DAY, life=100 * DAY)
    assert "was not rotated" in warning(75 * DAY, life=100 * DAY, rotation_period="1d", disable_automated_rotation=True)


def test_a_missed_window_that_leaves_no_time() -> None:
    start = at("2026-01-05T00:00")
    data = config(start, rotation_schedule="0 3 * * 0", rotation_window="1h")
    data = replace(data, admin_api_key_expires_at=start + 8 * DAY)
    assert expiry_warning(data, start) is None
    assert "only" in (expiry_warning(data, at("2026-01-11T05:00")) or "")


def test_a_key_without_an_end() -> None:
    assert expiry_warning(None, 0) is None
    assert expiry_warning(config(0, rotation_period="1d"), 10**9) is None
