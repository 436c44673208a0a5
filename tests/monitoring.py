# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' own programs, for tests: from PATH, or where make prometheus puts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parent.parent / ".build" / "prometheus" / "usr" / "bin"
_SECONDS = 30


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/bin:{_FOLDER}")
    if found is None:
        pytest.skip(f"{name} is not installed; make prometheus gets it on Debian")
    return found


def get(url: str) -> str | None:
    """Return what is at an address, or None if there is no answer yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def until(what: t.Callable[[], t.Any]) -> t.Any:
    """Return what is true at last."""
    end = time.monotonic() + _SECONDS
    while not (found := what()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)
    return found


def start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
