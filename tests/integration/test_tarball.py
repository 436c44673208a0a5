# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-galaxy packs, also in a checkout that is in use: what a user needs and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from lab import Lab

ROOT = Path(__file__).resolve().parent.parent.parent
#: All that may be in the tarball. Each kind of plugin and each folder is here because a user needs it on a control node.
_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
ALLOWED = re.compile(
    rf"""
      MANIFEST\.json | FILES\.json | LICENSE | README\.md | CHANGELOG\.md | requirements\.txt
    | meta/({_NAME}\.yml | ee-{_NAME}\.txt)
    | docs/({_NAME}\.md | prometheus/{_NAME}\.rules\.yml | grafana/{_NAME}\.(json|png))
    | changelogs/({_NAME}\.(md|yaml) | fragments/[0-9]{{4}}-{_NAME}\.yml)
    | extensions/eda/(plugins/event_source/{_NAME}\.py | rulebooks/{_NAME}\.yml)
    | playbooks/{_NAME}\.yml
    | roles/{_NAME}/(README\.md | (defaults|handlers|meta|tasks|vars)/{_NAME}\.yml | (files|templates)/[A-Za-z0-9_.-]+)
    | plugins/(action|callback|doc_fragments|filter|lookup|modules)/{_NAME}\.py
    | plugins/plugin_utils/((_engine|_ansible)/({_NAME}/)*)?_*{_NAME}\.py
    """,
    re.VERBOSE,
)
#: What tools, tests, editors and people leave in a checkout.
LEFT_BEHIND = (
    ".ansible/tmp/x",
    ".cache/x",
    ".coverage",
    ".env",
    ".hypothesis/examples/x",
    ".idea/workspace.xml",
    ".mypy_cache/3.11/x.json",
    ".pytest_cache/v/cache/nodeids",
    ".ruff_cache/0.14/x",
    ".tox/x",
    ".venv/bin/python",
    ".vscode/settings.json",
    ".DS_Store",
    "CONTRIBUTING.md.orig",
    "README.md~",
    "ansible.cfg",
    "ansible.log",
    "build/lib/x.py",
    "core",
    "coverage.xml",
    "dist/x.whl",
    "docs/.DS_Store",
    "docs/store.md.rej",
    "ephemeral-openai-0.0.9.tar.gz",
    "environment",
    "extensions.md",
    "extensions/eda/plugins/event_source/__pycache__/x.cpython-311.pyc",
    "extensions/eda/rulebooks/.vault-password",
    "extensions/molecule/default/.vault-password",
    "htmlcov/index.html",
    "inventory",
    "junit.xml",
    "log.txt",
    "node_modules/x/index.js",
    "openai_creds/openai/definitions.1.1.0",
    "playbooks/.ansible/x",
    "playbooks/cleanup.retry",
    "plugins/__pycache__/x.cpython-311.pyc",
    "plugins/modules/.openai_config.py.swp",
    "plugins/modules/__pycache__/openai_config.cpython-311.pyc",
    "plugins/modules/openai_config.py.bak",
    "private.key",
    "report.html",
    "results/x",
    "secrets.yml",
    "tests/output/junit/x.xml",
    "tests/__pycache__/lab.cpython-311.pyc",
    "vault-password",
    "venv/bin/python",
    "CHANGELOG.html",
    "LICENSE.txt",
    "README.html",
    "changelogs_old/x",
    "docs-build/index.html",
    "docs/_build/index.html",
    "meta.json",
    "metrics/x.prom",
    "playbook.yml",
    "playbooks-private/site.yml",
    "plays.yml",
    "plugins/modules/openai_config.pyo",
    "plugins/modules/openai_config.py.tmp",
    "plugins_old/x.py",
    "requirements-dev.txt",
    "requirements.yml",
    "roles/configure/molecule/default/molecule.yml",
    "roles/configure/tests/test.yml",
    "roles.tar",
)


@pytest.fixture
def used_checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, in which somebody has worked."""
    checkout = tmp_path / "used"
    checkout.mkdir()
    listed = subprocess.check_output(("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            target = checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    for name in LEFT_BEHIND:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("left behind\n")
    return checkout


def test_a_used_checkout_packs_what_a_user_needs_and_nothing_else(lab: Lab, used_checkout: Path) -> None:
    built = lab.command("ansible-galaxy", "collection", "build", str(used_checkout), "--output-path", str(lab.path))
    assert built.rc == 0, built.out
    (tarball,) = lab.path.glob("ephemeral-openai-*.tar.gz")
    with tarfile.open(tarball) as opened:
        packed = {member.name for member in opened if not member.isdir()}
        assert all(member.isfile() or member.isdir() for member in opened)
        listed = json.load(opened.extractfile("FILES.json"))["files"]  # type: ignore[arg-type]
    assert sorted(name for name in packed if not ALLOWED.fullmatch(name)) == []
    # Nothing is missing either: all that git knows of and the rule allows.
    wanted = {
        str(path.relative_to(used_checkout))
        for path in used_checkout.rglob("*")
        if path.is_file() and ALLOWED.fullmatch(str(path.relative_to(used_checkout)))
    }
    assert wanted | {"MANIFEST.json", "FILES.json"} == packed
    # No folder is there for the sake of something that is left out.
    folders = {entry["name"] for entry in listed if entry["ftype"] == "dir"} - {"."}
    assert folders == {str(parent) for name in packed for parent in Path(name).parents} - {"."}
