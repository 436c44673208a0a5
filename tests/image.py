# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the execution environment of execution-environment.yml, and run the demo in it as AWX would, with ansible-runner.

Two things are not as users have them: .ci/image made the base image, and the collection comes from a tarball, in the way that
docs/execution-environments.md describes.
"""

from __future__ import annotations

import ast
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import ansible_runner
import yaml
from control_node import CHECKOUT
from double.client import Double

BUILD = CHECKOUT / ".build" / "image"
BASE = "localhost/openai-creds-base"
IMAGE = "localhost/openai-creds"
_PROJECT = "proj_demo"


def _pip_settings() -> tuple[str, set[Path]]:
    """Return what pip is told on this machine, as the text of a pip.conf, and the files and folders that it names."""
    command = (sys.executable, "-m", "pip", "config", "list")
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    settings: dict[str, dict[str, str]] = {}
    paths = set()
    for line in listed.splitlines():
        name, _equals, quoted = line.partition("=")
        section, _dot, option = name.rpartition(".")
        value: str = ast.literal_eval(quoted)
        # The environment is listed first, and takes precedence over the files.
        settings.setdefault("global" if section == ":env:" else section, {}).setdefault(option, " ".join(value.split()))
        for word in value.split():
            # The links in an index lead to files beside it.
            path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
            paths |= {path} if path.is_absolute() and path.exists() else set()
    sections = ("\n".join([f"[{name}]", *map(" = ".join, options.items()), ""]) for name, options in settings.items())
    return "".join(sections), paths


def _definition(tarball: Path) -> Path:
    """Write the definition, with the tarball in place of the collection on Galaxy."""
    page = (CHECKOUT / "docs" / "execution-environments.md").read_text()
    (from_tarball,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if ".tar.gz" in block)
    changed: dict[str, t.Any] = yaml.safe_load(from_tarball)
    definition: dict[str, t.Any] = yaml.safe_load((CHECKOUT / "execution-environment.yml").read_text())
    definition["dependencies"] |= changed.pop("dependencies")
    shutil.copy(tarball, BUILD / changed["additional_build_files"][0]["src"])
    path = BUILD / "execution-environment.yml"
    path.write_text(yaml.safe_dump({**definition, **changed}))
    return path


def _build(tarball: Path) -> None:
    # Nothing of this stays in the image.
    text, paths = _pip_settings()
    (BUILD / "pip.conf").write_text(text)
    volumes = [f"{BUILD / 'pip.conf'}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(paths))]
    log = BUILD / "build.log"
    with log.open("w") as output:
        built = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("ansible-builder")), "build"),
                *("--file", str(_definition(tarball)), "--context", str(BUILD / "context"), "--tag", IMAGE),
                *("--build-arg", f"EE_BASE_IMAGE={BASE}", "--build-arg", "PKGMGR=/usr/bin/apt-get"),
                *(
                    "--extra-build-cli-args",
                    " ".join(["--network=host", *(f"--volume={volume}" for volume in volumes)]),
                ),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if built.returncode:
        print(log.read_text())
        sys.exit("ansible-builder could not build the image.")


def _demo() -> None:
    with tempfile.TemporaryDirectory(prefix="ephemeral-openai-") as path, Double(projects=[_PROJECT]) as double:
        node = Path(path)
        (node / "project").mkdir()
        (node / "project" / "demo.yml").write_text("- ansible.builtin.import_playbook: ephemeral.openai.demo\n")
        (node / "vault-password").write_text(secrets.token_urlsafe(32))
        run = ansible_runner.run(
            private_data_dir=path,
            playbook="demo.yml",
            extravars={"openai_creds_demo_project_id": _PROJECT},
            # ansible-runner mounts its folder there.
            envvars={
                "ANSIBLE_VAULT_PASSWORD_FILE": "/runner/vault-password",
                "OPENAI_ADMIN_KEY": double.admin_key,
                "OPENAI_ORG_ID": double.organization,
                "OPENAI_BASE_URL": double.url,
            },
            process_isolation=True,
            process_isolation_executable="podman",
            container_image=IMAGE,
            # The folder belongs to root. Where podman has no root, ansible-runner does the same.
            container_options=["--network=host", "--user=root"],
        )
        made = [call for call in double.requests() if call["method"] == "POST"]
        left = double.state()["service_accounts"]
    if run.rc or not made or left:
        sys.exit(f"The demo FAILED: exit code {run.rc}, {len(made)} calls that make something, left at OpenAI: {left}")
    print("The demo went well in the execution environment.")


if __name__ == "__main__":
    _build(Path(sys.argv[1]))
    _demo()
