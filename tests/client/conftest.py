# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients whose waits and log lines can be looked at."""

from __future__ import annotations

import typing as t

import pytest
from client.hostile import Hostile, Script
from double.client import Double

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI


class Seen:
    """What a client did beside its calls."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.lines: list[str] = []


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def openai(double: Double, seen: Seen) -> OpenAI:
    """A client of the double that does not truly wait."""
    return OpenAI(double.url, double.admin_key, double.organization, log=seen.lines.append, sleep=seen.waits.append)


@pytest.fixture
def hostile(seen: Seen) -> t.Iterator[t.Callable[..., tuple[Hostile, OpenAI]]]:
    """Return how to start a server that answers by a script, with a client of it."""
    servers: list[Hostile] = []

    def start(script: Script, key: str = "sk-admin-the-key-of-the-tests-0123456789") -> tuple[Hostile, OpenAI]:
        server = Hostile(script)
        servers.append(server)
        return server, OpenAI(server.url, key, "org-x", log=seen.lines.append, sleep=seen.waits.append)

    yield start
    for server in servers:
        server.__exit__()
