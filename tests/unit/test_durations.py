# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as users write them."""

from __future__ import annotations

import re
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import LONGEST, parse_duration, rfc3339
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def refused(value: t.Any, **more: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as caught:
        parse_duration(value, "my_option", **more)
    return sentence(caught.value, "my_option")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        (90.0, 90),
        ("90.0", 90),
        (" 3600.00 ", 3600),
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("7d", 604800),
        (" 5m\n", 300),
    ],
)
def test_the_forms_of_the_contract(text: t.Any, seconds: int) -> None:
    assert parse_duration(text, "ttl") == seconds


@given(st.integers(1, LONGEST), st.booleans())
def test_what_is_written_is_what_is_meant(seconds: int, as_number: bool) -> None:
    if as_number:
        assert parse_duration(seconds, "ttl") == parse_duration(str(seconds), "ttl") == seconds
        return
    text, rest = "", seconds
    for unit, size in UNITS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    assert parse_duration(text, "ttl") == seconds


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from("dhms")), min_size=1, max_size=6))
def test_units_come_once_and_from_the_largest(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    seconds = sum(count * UNITS[unit] for count, unit in parts)
    order = ["dhms".index(unit) for _count, unit in parts]
    if order == sorted(set(order)) and 1 <= seconds <= LONGEST and len(text) <= 32:
        assert parse_duration(text, "ttl") == seconds
    else:
        refused(text)


@given(st.one_of(st.text(), st.text("0123456789dhms -+.e_"), st.floats(), st.booleans(), st.none(), st.binary()))
@example("1h 30m")
@example("\uff11h")
@example("\u0967d")
@example("1\u00b2")
@example("0x10")
@example("1e3")
@example("1_000")
@example("+5")
@example("1.5h")
@example("1H")
@example("inf")
@example("s")
@example("-1")
@example(float("inf"))
@example(float("nan"))
def test_everything_else_is_one_sentence(value: t.Any) -> None:
    try:
        seconds = parse_duration(value, "ttl")
    except OpenAICredsError as error:
        assert repr(value) in sentence(error, "ttl")
    else:
        assert isinstance(seconds, int) and not isinstance(seconds, bool)
        text = str(int(value)) if isinstance(value, float) else re.sub(r"^([0-9]+)\.0+$", r"\1", value.strip())
        assert re.fullmatch("([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s?)?", text, re.ASCII)
        assert 1 <= seconds <= LONGEST


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "h",
        "ms",
        "1x",
        "1w",
        "1y",
        "30m1h",
        "1h1h",
        "1,5h",
        "1:30",
        "90 s",
        "--1",
        "1h-5m",
        "0",
        "0s",
        "0d0h",
        0,
        -1,
        True,
        False,
        1.5,
        -1.0,
        float("nan"),
        float("inf"),
        "1.5",
        "1.0h",
        "1.",
        ".0",
        None,
        [],
        ["1h"],
        {},
        {"h": 1},
        b"1h",
        "1h\x00",
        "1\n2",
    ],
)
def test_malformed(value: t.Any) -> None:
    assert repr(value) in refused(value)


@pytest.mark.parametrize(
    "value", [LONGEST + 1, LONGEST + 1.0, 1e300, 0.0, 10**30, f"{LONGEST + 1}s", "3651d", "9" * 33, "9" * 20, -(10**30)]
)
def test_too_long_and_too_short(value: t.Any) -> None:
    refused(value)


def test_a_number_of_thousands_of_digits_is_refused_with_a_sentence() -> None:
    refused(10**4000)
    refused(10**5000)


def test_a_message_does_not_repeat_a_whole_book() -> None:
    refused("9h" * 50_000)


def test_a_number_without_a_unit_is_only_seconds_when_it_stands_alone() -> None:
    """1h30 would be read as one hour and a half by whoever writes it."""
    refused("1h30")


def test_at_least() -> None:
    assert parse_duration(0, "grace", least=0) == 0
    assert "at least" in refused(59, least=60) or "between 60" in refused(59, least=60)


@given(st.integers(0, 4102444800))
def test_times_are_rfc_3339_in_utc(seconds: int) -> None:
    from datetime import datetime

    text = rfc3339(seconds + 0.999)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    assert datetime.fromisoformat(text).timestamp() == seconds
