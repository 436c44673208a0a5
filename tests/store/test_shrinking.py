# SPDX-License-Identifier: GPL-3.0-or-later
"""Large documents are stored compressed."""

from __future__ import annotations

import base64
import gzip
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import shrinking
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Store, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.shrinking import shrink, unshrink


def test_a_large_document_comes_back_as_it_was(open_store: t.Callable[..., Store]) -> None:
    data = {f"role-{nth}": {"description": "ä" * 100, "ttl": 3600} for nth in range(2000)}
    open_store().write(Write("definitions", data))
    found = open_store().read("definitions")
    assert found is not None and found.data == data


def test_small_texts_stay_readable_and_large_ones_become_small() -> None:
    assert shrink('{"a": 1}') == '{"a": 1}'
    large = '{"a": "' + "b" * 100_000 + '"}'
    assert len(shrink(large)) < 1000 and unshrink(shrink(large)) == large


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param("gzip:", id="nothing"),
        pytest.param("gzip:!", id="not base64"),
        pytest.param("gzip:" + base64.b64encode(b"text").decode(), id="not gzip"),
        pytest.param("gzip:" + base64.b64encode(gzip.compress(b"text" * 99)[:-6]).decode(), id="cut short"),
        pytest.param("gzip:" + base64.b64encode(gzip.compress(b"\xff")).decode(), id="not text"),
        pytest.param("gzip:" + base64.b64encode(gzip.compress(b"\0" * 1001)).decode(), id="too large"),
    ],
)
def test_what_was_not_stored_by_it_is_refused(monkeypatch: pytest.MonkeyPatch, stored: str) -> None:
    monkeypatch.setattr(shrinking, "_LARGEST", 1000)
    with pytest.raises(ValueError):
        unshrink(stored)
