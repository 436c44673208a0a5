# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user gave, as a message shows it."""

from __future__ import annotations

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import (
    ApiError,
    OpenAICredsError,
    mask_keys,
    quoted,
)

KEY = "sk-svcacct-" + "Ab3_-" * 30


@pytest.mark.parametrize("value", [KEY, f"x\n{KEY}", [KEY], {KEY: 1}, "x" * 155 + " " + KEY, f"openai/creds/{KEY}"])
def test_no_key_is_quoted(value: object) -> None:
    assert "Ab3" not in quoted(value)


def test_no_error_has_a_key_in_it() -> None:
    assert str(OpenAICredsError(f"name: role not found: {KEY!r}")) == "name: role not found: 'sk-***'"
    assert str(ApiError(f"OpenAI answered 404 to GET /organization/projects/{KEY}: no", status=404)).endswith(
        "sk-***: no"
    )


@pytest.mark.parametrize("text", ["task-runner", "role not found: 'disk-cleaner'", "vault-risk-report-a1b2c3d4"])
def test_what_is_no_key_stays(text: str) -> None:
    assert mask_keys(text) == text
