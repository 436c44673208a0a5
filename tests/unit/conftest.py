# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share."""

from __future__ import annotations

import time
import typing as t

import pytest
from double.client import Double
from hypothesis import settings
from lab import Lab
from library_sets import write

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI

# Vault keys take time to derive: an example is not slow for that.
settings.register_profile("engine", deadline=None, print_blob=True)
settings.load_profile("engine")


class Crash(BaseException):
    """A process that ends at this very instant, as far as the engine can tell."""


class Clock:
    """The time in a test, which stands still until it is moved, here and at OpenAI.

    set_wrong makes this one differ from OpenAI's.
    """

    def __init__(self, double: Double) -> None:
        self.time = float(int(time.time()))
        self._double = double
        self._ahead = 0.0
        self.move(0)

    def __call__(self) -> float:
        return self.time + self._ahead

    def move(self, seconds: float) -> None:
        self.time += seconds
        self._double.clock(0, frozen_at=self.time)

    def set_wrong(self, ahead: float) -> None:
        self._ahead = ahead


@pytest.fixture
def clock(double: Double) -> Clock:
    return Clock(double)


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


@pytest.fixture(params=["deletes keys", "refuses to"])
def pool(request: pytest.FixtureRequest, double: Double, lab: Lab, mount: Mount, clock: Clock) -> Mount:
    """A mount with a set of two accounts."""
    double.settings(refuse_service_account_key_delete=request.param == "refuses to")
    mount.issued_by = {"user": "alice", "controller": "control"}
    # Time passes while a key's end is waited for.
    mount.openai()._sleep = clock.move
    write(mount, "one", "two")
    return mount
