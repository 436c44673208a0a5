# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder makes of the collection."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from lab import Lab

pytestmark = pytest.mark.once
ROOT = Path(__file__).resolve().parents[2]
BUILDER = str(Path(sys.executable).with_name("ansible-builder"))


def test_it_is_told_all_packages_that_some_feature_needs(lab: Lab) -> None:
    built = lab.command("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(lab.path))
    assert built.rc == 0, built.out
    (tarball,) = lab.path.glob("ephemeral-openai-*.tar.gz")
    installed = lab.command(
        "ansible-galaxy", "collection", "install", "--offline", "--force", "-p", "installed", str(tarball)
    )
    assert installed.rc == 0, installed.out
    found = lab.command(BUILDER, "introspect", "installed")
    assert found.rc == 0, found.out
    told = yaml.safe_load(found.out)
    assert told["system"] == []
    named = {re.split(r"[<>=\s]", requirement)[0] for requirement in told["python"]}
    sources = [path.read_text() for path in (ROOT / "plugins").rglob("*.py")]
    needed = {match for source in sources for match in re.findall(r'missing_package\("([^"]+)"', source)}
    # The one with the extra is the other one as well.
    assert named == needed - {"httpx"} and "httpx[socks]" in named


def test_the_guide_has_the_same_definition() -> None:
    page = (ROOT / "docs" / "execution-environments.md").read_text()
    (block, _from_tarball) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert yaml.safe_load(block) == yaml.safe_load((ROOT / "execution-environment.yml").read_text())


def test_it_accepts_the_definition(lab: Lab) -> None:
    created = lab.command(BUILDER, "create", "--file", str(ROOT / "execution-environment.yml"), "--context", "context")
    assert created.rc == 0, created.out
    definition = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    recipe = (lab.path / "context" / "Containerfile").read_text()
    assert f'ARG EE_BASE_IMAGE="{definition["images"]["base_image"]["name"]}"' in recipe
    assert "ephemeral.openai" in (lab.path / "context" / "_build" / "requirements.yml").read_text()
