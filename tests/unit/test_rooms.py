# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine may import."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

ENGINE = Path(__file__).parents[2] / "plugins" / "plugin_utils" / "_engine"
#: What ansible-vault is: the one part of Ansible that the engine knows, where it encrypts.
CIPHER = "store/vaulted_file_cipher.py"


def imported(path: Path) -> t.Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_the_engine_knows_no_ansible_but_ansible_vault() -> None:
    users = {
        str(path.relative_to(ENGINE))
        for path in ENGINE.rglob("*.py")
        if any(name.partition(".")[0] in ("ansible", "ansible_collections") for name in imported(path))
    }
    assert users == {CIPHER}
