# SPDX-License-Identifier: GPL-3.0-or-later
"""What make release refuses, each reason by itself, and what it makes when nothing is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
VERSION = str(yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"])
FRAGMENTS = Path("changelogs/fragments")
#: As much of the collection as a release looks at.
COPIED = (".gitignore", "LICENSE", "README.md", "galaxy.yml", "requirements.txt", "changelogs", "meta", "plugins")

pytestmark = pytest.mark.once


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout whose commit has passed .ci/run, and that says so in its record."""
    root = tmp_path / "ansible_collections" / "ephemeral" / "openai"
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".plugin-cache.yaml")
            )
        else:
            root.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    git(root, "init")
    commit(root)
    return root


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgSign=false")
    return subprocess.check_output(("git", *identity, *args), cwd=root, text=True, stderr=subprocess.STDOUT).strip()


def commit(root: Path) -> None:
    """Commit all there is, and have the record say that it has passed."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "a commit")
    (root / ".build").mkdir(exist_ok=True)
    (root / ".build" / "checked").write_text(git(root, "rev-parse", "HEAD") + "\n")


def release(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        (sys.executable, str(ROOT / ".ci" / "release.py"), ".build/release"),
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def uncommitted(root: Path) -> None:
    (root / "plugins" / "new.py").write_text("")


def no_fragments(root: Path) -> None:
    shutil.rmtree(root / FRAGMENTS)
    (root / FRAGMENTS).mkdir()
    commit(root)


def wrong_fragment(root: Path) -> None:
    (root / FRAGMENTS / "9999-wrong.yml").write_text("---\nno_such_section:\n  - A change.\n")
    commit(root)


def old_version(root: Path) -> None:
    released = {"ancestor": None, "releases": {VERSION: {"release_date": "2026-01-01"}}}
    (root / "changelogs" / "changelog.yaml").write_text(yaml.safe_dump(released))
    commit(root)


def no_release(root: Path) -> None:
    name = root / "galaxy.yml"
    name.write_text(name.read_text().replace(f"version: {VERSION}", f"version: {VERSION}-dev"))
    commit(root)


def other_readme(root: Path) -> None:
    name = root / "README.md"
    name.write_text(name.read_text().replace(VERSION, "0.0.1"))
    commit(root)


def tagged(root: Path) -> None:
    git(root, "tag", VERSION)


def no_record(root: Path) -> None:
    (root / ".build" / "checked").unlink()


def record_of_another_commit(root: Path) -> None:
    git(root, "commit", "--quiet", "--allow-empty", "--message", "another")


def skipped(root: Path) -> None:
    with (root / ".build" / "checked").open("a") as record:
        record.write("tests with a proxy\n")


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (uncommitted, "The tree has changes that are not committed."),
        (no_fragments, "there is no fragment"),
        (wrong_fragment, "antsibull-changelog lint fails"),
        (old_version, f"the version {VERSION} is not newer than the last release, {VERSION}."),
        (no_release, f"the version {VERSION}-dev is not three numbers."),
        (other_readme, "README.md: what it says to install is not"),
        (tagged, f"There is a tag {VERSION} already."),
        (no_record, "The tests have no record for this commit"),
        (record_of_another_commit, "The tests have no record for this commit"),
        (skipped, "The tests have skipped something: tests with a proxy."),
    ],
)
def test_a_release_is_refused(checkout: Path, happened: t.Callable[[Path], None], said: str) -> None:
    happened(checkout)
    before = git(checkout, "status", "--porcelain")
    code, output = release(checkout)
    assert code == 1
    assert said in output
    # Nothing has been made, not even in part.
    assert git(checkout, "status", "--porcelain") == before
    assert not (checkout / ".build" / "release").exists()


def test_all_that_is_missing_is_said_at_once(checkout: Path) -> None:
    no_record(checkout)
    uncommitted(checkout)
    output = release(checkout)[1]
    assert "not committed" in output and "no record" in output


def test_a_release_is_a_changelog_and_a_tarball_and_is_not_published(checkout: Path) -> None:
    code, output = release(checkout)
    assert code == 0, output
    with tarfile.open(checkout / ".build" / "release" / f"ephemeral-openai-{VERSION}.tar.gz") as built:
        assert {"CHANGELOG.md", "changelogs/changelog.yaml"} <= set(built.getnames())
    assert "v" + VERSION.replace(".", "\\.") in (checkout / "CHANGELOG.md").read_text()
    assert not list((checkout / FRAGMENTS).glob("*.yml"))
    assert git(checkout, "tag") == ""
    assert git(checkout, "rev-list", "--count", "HEAD") == "1"
    # Once more, it is refused: the version has been released.
    commit(checkout)
    assert "is not newer" in release(checkout)[1]
