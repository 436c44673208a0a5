# SPDX-License-Identifier: GPL-3.0-or-later
"""One double for all tests here; each begins with the organization as new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conformance_names import MARKER, PROJECT
from double.client import Double
from openai import OpenAI

# What would make the SDK talk to something else than the double.
ENVIRONMENT = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL")


@pytest.fixture(scope="session")
def running() -> Iterator[Double]:
    with Double(organization="org-conformance", projects=[PROJECT], secret_marker=MARKER) as double:
        yield double


@pytest.fixture
def double(running: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.reset()
    return running


@pytest.fixture
def sdk(double: Double) -> Iterator[Callable[..., OpenAI]]:
    """Makes clients; they check every answer against the SDK's types and do not retry, unless told otherwise."""
    clients: list[OpenAI] = []

    def make(**options: Any) -> OpenAI:
        chosen = {"api_key": "sk-none", "admin_api_key": double.admin_key, "max_retries": 0, **options}
        clients.append(OpenAI(base_url=double.url, _strict_response_validation=True, **chosen))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
