# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of plugin_utils: each states its rule, imports go down only, and the engine knows no Ansible."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent.parent / "plugins" / "plugin_utils"
#: From top to bottom. A room may import what stands below it, and itself.
ORDER = (
    "_ansible",
    "_engine/upkeep",
    "_engine/metrics",
    "_engine/config",
    "_engine/library",
    "_engine/rotation",
    "_engine/leases",
    "_engine/definitions",
    "_engine/journal",
    "_engine/mount",
    "_engine/mount_config",
    "_engine/sections",
    "_engine/clocks",
    "_engine/store",
    "_engine/openai",
    "_engine/run",
    "_engine/names",
    "_engine/durations",
    "_engine/errors",
)
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    """Return the room that a file, or a path below plugin_utils, is in."""
    parts = path.with_suffix("").parts
    return "/".join(parts[: 1 if parts[0] == "_ansible" else 2])


def imported(path: Path) -> t.Iterator[Path]:
    """Yield what a file imports from plugin_utils, also within functions and for typing alone, as paths below it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = path.relative_to(ROOT).parts[: -node.level]
            parts = (*start, *(node.module.split(".") if node.module else ()))
            yield from (Path(*parts, name.name) if len(parts) < 3 else Path(*parts) for name in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    own = ORDER.index(room(path.relative_to(ROOT)))
    upward = [str(target) for target in imported(path) if ORDER.index(room(target)) < own]
    assert not upward, f"{path.relative_to(ROOT)} imports what stands above it: {upward}"


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in FILES} - {ROOT / "_ansible"}),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_room_states_its_rule_and_exports_nothing(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1, "what is re-exported is imported by whoever imports the room"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_circle(path: Path) -> None:
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        for target in imported(waiting.pop()):
            file = (ROOT / target).with_suffix(".py")
            assert file != path, f"{path.relative_to(ROOT)} imports itself by a circle"
            if file.is_file() and file not in seen:
                seen.add(file)
                waiting.append(file)


#: What ansible-vault is: the one part of Ansible that the engine knows, where it encrypts.
CIPHER = "_engine/store/vaulted_file_cipher.py"


def imported_from_outside(path: Path) -> t.Iterator[str]:
    """Yield the modules outside plugin_utils that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_the_engine_knows_no_ansible_but_ansible_vault() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in FILES
        if path.is_relative_to(ROOT / "_engine")
        and any(name.partition(".")[0] in ("ansible", "ansible_collections") for name in imported_from_outside(path))
    }
    assert users == {CIPHER}
