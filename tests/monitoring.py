# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' own programs, for tests: from PATH, or where make prometheus puts them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

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


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(prometheus: str, query: str, **times: t.Any) -> list[dict[str, t.Any]]:
    """Return what a Prometheus answers to a query: for now, or with start, end and step for each of these times."""
    kind = "query_range" if times else "query"
    answer = get(f"{prometheus}/api/v1/{kind}?{urlencode({'query': query, **times})}")
    return t.cast("list[dict[str, t.Any]]", json.loads(answer)["data"]["result"]) if answer else []


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
