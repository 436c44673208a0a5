# SPDX-License-Identifier: GPL-3.0-or-later
"""release.py FOLDER: make a release of the checkout that is the working directory, and put its tarball into a folder.

It refuses if something is missing, and says all that is. It writes the changelog and builds. It does not commit, tag or publish.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

#: Where .ci/run writes which commit has passed, and what was skipped.
RECORD = Path(".build/checked")
TOOLS = Path(sys.executable).parent


def read(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.check_output(command, text=True).strip()


def parts(version: str) -> tuple[int, ...] | None:
    """Return a version as numbers to compare, or None if a release may not be called that."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", version) else None


def missing() -> list[str]:
    """Return what stands in the way of a release, a sentence each."""
    version = str(yaml.safe_load(Path("galaxy.yml").read_text())["version"])
    released = yaml.safe_load(Path("changelogs/changelog.yaml").read_text())["releases"]
    last = max((parts(name) or () for name in released), default=())
    found = []
    if read("git", "status", "--porcelain"):
        found.append("The tree has changes that are not committed.")
    if (new := parts(version)) is None:
        found.append(f"galaxy.yml: the version {version} is not three numbers.")
    elif new <= last:
        found.append(
            f"galaxy.yml: the version {version} is not newer than the last release, {'.'.join(map(str, last))}."
        )
    if read("git", "tag", "--list", version):
        found.append(f"There is a tag {version} already.")
    if f"ephemeral-openai-{version}.tar.gz" not in Path("README.md").read_text():
        found.append(f"README.md: what it says to install is not ephemeral-openai-{version}.tar.gz.")
    if not any(Path("changelogs/fragments").glob("*.yml")):
        found.append("changelogs/fragments: there is no fragment, so nothing to release.")
    if subprocess.run((TOOLS / "antsibull-changelog", "lint"), check=False).returncode:
        found.append("changelogs/fragments: antsibull-changelog lint fails, see above.")
    passed, *skipped = (RECORD.read_text() if RECORD.exists() else "").splitlines() or [""]
    if passed != read("git", "rev-parse", "HEAD"):
        found.append("The tests have no record for this commit: run .ci/run.")
    found += [f"The tests have skipped something: {what}." for what in skipped]
    return found


def main(folder: str) -> int:
    if found := missing():
        print("No release:", *found, sep="\n  ", file=sys.stderr)
        return 1
    version = yaml.safe_load(Path("galaxy.yml").read_text())["version"]
    subprocess.run((TOOLS / "antsibull-changelog", "release"), check=True)
    subprocess.run((TOOLS / "ansible-galaxy", "collection", "build", "--force", "--output-path", folder), check=True)
    print(f"""
Read CHANGELOG.md. Then:

  git add --all changelogs CHANGELOG.md && git commit -m 'Release {version}' && git tag -s -m {version} {version}
  git push --follow-tags
  ansible-galaxy collection publish {folder}/ephemeral-openai-{version}.tar.gz""")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
