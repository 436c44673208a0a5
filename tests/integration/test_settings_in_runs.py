# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings in real runs: with nothing set, with what is set to nothing, and with the keyword environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from lab import PROJECT, Lab

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
ROLE = {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": PROJECT}}
LOOKUP = "lookup('ephemeral.openai.openai_creds', 'my-role'"


@pytest.fixture
def nothing_set(lab: Lab) -> Lab:
    """A control node on which only a vault password is set."""
    for name in [name for name in lab.env if name.startswith("OPENAI_CREDS_")]:
        del lab.env[name]
    return lab


def stores(lab: Lab) -> list[str]:
    """Return where there are mounts below the lab's folder."""
    return sorted(str(path.parent.relative_to(lab.path)) for path in lab.path.rglob("definitions.*"))


def test_with_nothing_set(nothing_set: Lab) -> None:
    """State is in Ansible's home; the callback ends what lookups took, and leaves what tasks took."""
    lab, double = nothing_set, nothing_set.double
    blank = ", ttl='', reuse=none, min_remaining=' ', mount='', store_path=none"
    tasks = [
        {"ephemeral.openai.openai_config": {}},
        ROLE,
        {"ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued"},
        {"ansible.builtin.set_fact": {"taken": "{{ (" + LOOKUP + blank + ")).service_account }}"}},
        {"ansible.builtin.debug": {"msg": "issued {{ issued.creds.service_account }}, taken {{ taken }}"}},
    ]
    run = lab.play(
        tasks,
        env={
            "ANSIBLE_CALLBACKS_ENABLED": "ephemeral.openai.openai_leases",
            "OPENAI_ADMIN_KEY": double.admin_key,
            "OPENAI_BASE_URL": double.url,
        },
    )
    assert run.rc == 0, run.out
    assert stores(lab) == ["home/.ansible/openai_creds/openai"]
    (left,) = lab.accounts()
    assert f"issued {left}, taken" in run.out and left not in run.out.partition(", taken ")[2].splitlines()[0]


def test_the_home_of_ansible(nothing_set: Lab) -> None:
    """By the environment and by ansible.cfg; what is blank leaves it so, from wherever it is."""
    lab = nothing_set
    blank = {f"OPENAI_CREDS_{name}": "" for name in ("MOUNT", "STORE", "STORE_PATH", "KV_PATH", "REVOKE")}
    options = {"mount": "", "store": " ", "store_path": "", "kv_path": None, "url": "", "timeout": ""}
    cfg = lab.path / "ansible.cfg"
    text = cfg.read_text().replace("[defaults]", "[defaults]\nhome = cfg-home")
    cfg.write_text(f"{text}[openai_creds]\nstore_path =\nmount =\n")
    task = {"ephemeral.openai.openai_role": {**ROLE["ephemeral.openai.openai_role"], **options}}
    variables = {"openai_creds_mount": "", "openai_creds_store": None, "openai_creds_store_path": " "}
    play = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": [task]}]
    run = lab.play(play, env=blank)
    assert run.rc == 0, run.out
    assert stores(lab) == ["cfg-home/openai_creds/openai"]
    run = lab.play(play, env={**blank, "ANSIBLE_HOME": str(lab.path / "env-home")})
    assert run.rc == 0, run.out
    assert stores(lab) == ["cfg-home/openai_creds/openai", "env-home/openai_creds/openai"]


def test_the_environment_of_a_play_a_block_and_a_task(lab: Lab) -> None:
    """Modules honour it; lookups, like Ansible's own, do not."""
    role = "ephemeral.openai.openai_role"
    lab.configure()
    unreachable = {
        "OPENAI_CREDS_STORE": "vault_kv",
        "VAULT_ADDR": "http://127.0.0.1:9",
        "OPENAI_CREDS_VAULT_RETRIES": 0,
    }
    no_home = {"HOME": str(lab.path / "elsewhere"), "ANSIBLE_HOME": str(lab.path / "elsewhere")}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "environment": {
            "OPENAI_CREDS_MOUNT": "of-play",
            "OPENAI_ADMIN_KEY": lab.double.admin_key,
            "OPENAI_BASE_URL": "{{ url }}",
            "OPENAI_ORG_ID": lab.double.organization,
        },
        "vars": {"url": lab.double.url, "ansible_hashi_vault_token": "none"},
        "tasks": [
            {"ephemeral.openai.openai_config": {}},
            {role: {"name": "of-play", "project_id": PROJECT}, "environment": no_home},
            {
                "environment": {"OPENAI_CREDS_MOUNT": "of-block"},
                "block": [
                    {role: {"name": "of-block", "project_id": PROJECT}},
                    {
                        role: {"name": "of-task", "project_id": PROJECT},
                        "environment": {"OPENAI_CREDS_MOUNT": "{{ item }}"},
                        "loop": ["of-task-1", "of-task-2"],
                    },
                    {role: {"name": "of-option", "project_id": PROJECT, "mount": "of-option"}},
                ],
            },
            {"ephemeral.openai.openai_config_info": {}, "environment": unreachable, "ignore_errors": True},
            {"ansible.builtin.debug": {"msg": "looked up {{ (" + LOOKUP + ")).lease_id }}"}},
            {role: {"name": "blank", "project_id": PROJECT}, "environment": {"OPENAI_CREDS_MOUNT": ""}},
        ],
    }
    run = lab.play([play])
    assert run.rc == 0, run.out
    assert "url: Vault at http://127.0.0.1:9 cannot be reached" in run.out
    assert "looked up openai/creds/my-role/" in run.out
    assert lab.mount("of-play").definitions("config")["admin_api_key"] == lab.double.admin_key
    assert lab.mount("of-play").definitions("config")["organization_id"] == lab.double.organization
    roles = {
        path.name: set(lab.mount(path.name).definitions("roles")) for path in lab.store_path.iterdir() if path.is_dir()
    }
    assert roles == {
        "openai": {"my-role", "blank"},
        "of-play": {"of-play"},
        "of-block": {"of-block"},
        "of-task-1": {"of-task"},
        "of-task-2": {"of-task"},
        "of-option": {"of-option"},
    }


def test_what_is_undefined_in_a_variable_of_ours_and_relative_paths(lab: Lab) -> None:
    """From a task and from a lookup, in one sentence that names where it is."""
    debug = "ansible.builtin.debug"
    broken = {"openai_creds_mount": "{{ tenant }}"}
    relative = {"openai_creds_store_path": "state"}
    tasks: list[dict[str, t.Any]] = [
        {**ROLE, "vars": broken, "ignore_errors": True},
        {debug: {"msg": "{{ " + LOOKUP + ") }}"}, "vars": broken, "ignore_errors": True},
        {**ROLE, "vars": relative, "ignore_errors": True},
        {debug: {"msg": "{{ " + LOOKUP + ", store_path='~nobody-here/x') }}"}, "ignore_errors": True},
    ]
    run = lab.play(tasks)
    assert run.rc == 0, run.out
    assert run.out.count("openai_creds_mount: 'tenant' is undefined") >= 2, run.out
    assert "store_path: 'state' is not an absolute path" in run.out
    assert "store_path: '~nobody-here/x' needs a home folder" in run.out
    assert "Traceback" not in run.out and "defect" not in run.out
    assert not lab.store_path.exists() and not (lab.path / "state").exists()


def test_a_module_without_its_collection(lab: Lab) -> None:
    """Ansible runs the file itself, which can only say what to do."""
    library = lab.path / "library"
    shutil.copytree(ROOT / "plugins" / "modules", library, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        told = subprocess.run([sys.executable, library / f"{name}.py"], capture_output=True, text=True, check=True)
        assert f"run it by its full name, ephemeral.openai.{name}" in told.stdout
    lab.env["ANSIBLE_COLLECTIONS_PATH"] = str(lab.path / "none")
    run = lab.play([{"openai_role": {"name": "my-role", "project_id": PROJECT}}], env={"ANSIBLE_LIBRARY": str(library)})
    assert run.rc == 2
    assert "run it by its full name, ephemeral.openai.openai_role" in run.out, run.out
    assert "json" not in run.out.lower()


@pytest.mark.long
def test_an_ansible_that_is_too_old(lab: Lab, tmp_path: Path) -> None:
    """A task, a lookup and the callback each say it in one sentence."""
    venv = tmp_path / "old"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "ansible-core==2.18.*", "httpx"], check=True)
    lab.env["PATH"] = f"{venv / 'bin'}:/usr/bin:/bin"
    sentence = "ephemeral.openai does not run on ansible-core 2.18."
    callback = {"ANSIBLE_CALLBACKS_ENABLED": "ephemeral.openai.openai_leases"}
    debug = "ansible.builtin.debug"
    for task, env in (
        (ROLE, {}),
        ({debug: {"msg": "{{ " + LOOKUP + ") }}"}}, {}),
        ({debug: {"msg": "hello"}}, callback),
    ):
        run = lab.play([task], env=env)
        assert run.rc != 0
        assert run.out.count(sentence) == 1, run.out
        assert "Traceback" not in run.out and "bug" not in run.out.replace("debug", ""), run.out
