# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that all tests share."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from double.client import Double
from lab import MARKER, PROJECT, Lab


@pytest.fixture(scope="session")
def running_double() -> t.Iterator[Double]:
    with Double(organization="org-lab", projects=[PROJECT], secret_marker=MARKER) as double:
        yield double


@pytest.fixture
def double(running_double: Double) -> Double:
    """The OpenAI double, as new."""
    running_double.reset()
    return running_double


@pytest.fixture
def lab(tmp_path: Path, double: Double) -> Lab:
    """A control node that nothing has been done on yet."""
    return Lab(tmp_path / "node", double)
