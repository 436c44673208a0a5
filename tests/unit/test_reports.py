# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed of a test that has failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import COLLECTIONS, MARKER

pytestmark = pytest.mark.once
FAILING = f"""
def test_a_key() -> None:
    key = "sk-svcacct-x_{{}}-y".format("{MARKER}")
    print("printed", key)
    assert {{"key": key}} == {{}}, "compared"
"""


def test_no_key_is_in_the_report_of_a_failed_test(tmp_path: Path) -> None:
    path = tmp_path / "test_failing.py"
    path.write_text(FAILING)
    found = os.pathsep.join([str(Path(__file__).parent.parent), str(COLLECTIONS)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-vv", str(path)],
        env={**os.environ, "PYTHONPATH": found, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "1 failed" in done.stdout and "printed (a key)" in done.stdout
    assert "compared" in done.stdout and f"x_{MARKER}" not in done.stdout
