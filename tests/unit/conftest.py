# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share."""

from __future__ import annotations

import time
import typing as t

import pytest
from hypothesis import settings
from lab import Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI

# Vault keys take time to derive: an example is not slow for that.
settings.register_profile("engine", deadline=None, print_blob=True)
settings.load_profile("engine")


class Crash(BaseException):
    """A process that ends at this very instant, as far as the engine can tell."""


class Clock:
    """The true time plus what a test has moved it by; frozen when it is first asked."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mount(lab: Lab, clock: Clock) -> Mount:
    """A configured mount with a project and the role my-role, whose clock stands still until it is moved."""
    lab.configure()
    return lab.mount(clock=clock)


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., t.ContextManager[None]]:
    """Return how to let the engine crash before or after one of the client's calls."""
    import contextlib

    @contextlib.contextmanager
    def crashing(method: str, *, after: bool) -> t.Iterator[None]:
        true = getattr(OpenAI, method)

        def crashed(self: OpenAI, *args: t.Any, **kwargs: t.Any) -> None:
            if after:
                true(self, *args, **kwargs)
            raise Crash(method)

        with monkeypatch.context() as patch:
            patch.setattr(OpenAI, method, crashed)
            with pytest.raises(Crash):
                yield

    return crashing


@pytest.fixture
def on_disk(lab: Lab) -> t.Callable[[], dict[str, bytes]]:
    """Return how to see all that the store has on disk."""

    def look() -> dict[str, bytes]:
        files = (path for path in lab.store_path.rglob("*") if path.is_file())
        return {str(path.relative_to(lab.store_path)): path.read_bytes() for path in files}

    return look
