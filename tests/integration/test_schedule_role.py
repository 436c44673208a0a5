# SPDX-License-Identifier: GPL-3.0-or-later
"""The role schedule without a container: what it refuses, the files that it writes, and what a second run changes.

The files are below the lab's folder. Only the test's systemctl and crontab are stand-ins.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from lab import Lab, Run

SECRET = "ENVSECRET-41d7"
#: A name that shells, systemd and cron would each read in a way of their own.
ODD = "open ai 'x' 50% $HOME"
NAMESPACE = ("unshare", "--user", "--map-root-user")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="the role needs root, and no user namespace can be had here",
)


def schedule(lab: Lab, *args: str, hosts: dict[str, dict[str, t.Any]] | None = None, **variables: t.Any) -> Run:
    """Run the playbook on a host of its own, or on hosts with variables, as root of a namespace, or as root."""
    folder = lab.path / ODD
    folder.mkdir(exist_ok=True)
    for name in ("units", "cron"):
        (lab.path / name).mkdir(exist_ok=True)
    bin_ = lab.path / "bin"
    bin_.mkdir(exist_ok=True)
    (bin_ / "crontab").unlink(missing_ok=True)
    (bin_ / "crontab").symlink_to("/bin/true")
    usual = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "openai_creds_schedule_directory": str(folder),
        "openai_creds_schedule_manager": "cron",
        "openai_creds_schedule_environment": {"TOKEN": SECRET},
    }
    inventory = lab.path / "inventory.json"
    given = {name: {**usual, **more} for name, more in (hosts or {"host": {}}).items()}
    inventory.write_text(json.dumps({"all": {"hosts": given}}))
    extra = {
        "schedule_folder": str(lab.path / "etc"),
        "schedule_unit_folder": str(lab.path / "units"),
        "schedule_cron_file": str(lab.path / "cron" / "openai-creds"),
        **variables,
    }
    become_root = () if os.geteuid() == 0 else NAMESPACE
    return lab.command(
        *become_root, "ansible-playbook", "ephemeral.openai.schedule", "-i", str(inventory), "-e", json.dumps(extra), *args,
        env={"PATH": f"{bin_}:{lab.env['PATH']}"},
    )  # fmt: skip


def changed(done: Run) -> int:
    assert done.rc == 0, done.out
    recap = re.search(r"^host .*changed=(\d+)", done.out, re.MULTILINE)
    assert recap, done.out
    return int(recap.group(1))


def written(lab: Lab) -> set[str]:
    return {path.name for name in ("etc", "units", "cron") for path in (lab.path / name).glob("*")}


NONSENSE: list[tuple[dict[str, t.Any], str]] = [
    ({"openai_creds_schedule_state": "gone"}, "is neither present nor absent"),
    ({"openai_creds_schedule_manager": "at"}, "is not one of auto, systemd and cron"),
    ({"openai_creds_schedule_user": "a b"}, "is not the name of a user"),
    ({"openai_creds_schedule_user": "nobody-here"}, "is not a user of the host"),
    ({"openai_creds_schedule_directory": "relative"}, "is not the absolute path of the folder with ansible.cfg"),
    ({"openai_creds_schedule_directory": "/missing"}, "is not a folder on the host"),
    ({"openai_creds_schedule_ansible_playbook": "/missing"}, "no executable /missing on the host"),
    ({"openai_creds_schedule_vault_password_file": "/missing"}, "is not a file on the host"),
    ({"openai_creds_schedule_cleanup_every": "soon"}, "is not a duration"),
    ({"openai_creds_schedule_cleanup_every": "7m"}, "cron cannot run every '7m'"),
    ({"openai_creds_schedule_rotate_every": "90s"}, "cron cannot run every '90s'"),
    ({"openai_creds_schedule_environment": {"A-B": SECRET}}, "write a dictionary of names"),
    ({"openai_creds_schedule_environment": {"A": f"{SECRET}\nB=c"}}, "write a dictionary of names"),
    ({"openai_creds_mount": "../x"}, "is not the name of a mount"),
    (
        {"openai_creds_schedule_metrics_textfile": "", "openai_creds_schedule_metrics_every": "10m"},
        "is not the absolute path of a file",
    ),
]


def test_bad_input_is_refused_before_anything_happens(lab: Lab) -> None:
    """Each on a host of its own."""
    bad = {f"host{number:02}": variables for number, (variables, _message) in enumerate(NONSENSE)}
    done = schedule(lab, hosts=bad)
    assert done.rc != 0
    for host, (variables, message) in zip(bad, NONSENSE):
        (said,) = re.findall(rf"^(?:fatal|failed): \[{host}\].*$", done.out, re.MULTILINE)[:1]
        assert next(iter(variables)) in said and message in said, said
    assert not written(lab)


def test_a_host_without_cron_is_refused_before_anything_happens(lab: Lab) -> None:
    tools = lab.path / "tools"
    tools.mkdir()
    for tool in ("sh", "id", "getent", "cut", "sed"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    look = Path(__file__).parents[2] / "roles" / "schedule" / "files" / "look.sh"
    command = (tools / "sh", look, "", "/bin/true", "", lab.path, "")
    seen = json.loads(subprocess.run(command, env={"PATH": str(tools)}, stdout=subprocess.PIPE, check=True).stdout)
    assert (seen["crontab"], seen["directory"]) == ("no", "yes")
    done = schedule(lab, schedule_host={**seen, "uid": "0", "manager": "cron"})
    assert done.rc != 0 and "openai_creds_schedule_manager: there is no cron on the host" in done.out, done.out
    assert not written(lab)


@pytest.mark.slow
@pytest.mark.long
def test_cron_runs_the_jobs_and_a_second_run_changes_nothing(lab: Lab) -> None:
    wanted = {"openai_creds_mount": "a.b", "openai_creds_schedule_rotate_every": "6h"}
    assert changed(schedule(lab, "--check", **wanted)) > 0
    assert not written(lab)
    assert changed(schedule(lab, "--diff", **wanted)) > 0
    lines = (lab.path / "cron" / "openai-creds").read_text().splitlines()
    assert "#Ansible: openai-creds-a.b-cleanup" in lines
    assert [line.split(" root ")[0] for line in lines if line.endswith(".sh")] == ["*/10 * * * *", "0 */6 * * *"]
    assert changed(schedule(lab, **wanted)) == 0
    assert changed(schedule(lab, openai_creds_schedule_rotate_every="0", openai_creds_mount="a.b")) > 0
    assert "rotate" not in (lab.path / "cron" / "openai-creds").read_text()
    assert changed(schedule(lab, openai_creds_schedule_state="absent", openai_creds_mount="a.b")) > 0
    assert not written(lab)
    assert not (lab.path / "etc").exists()
    assert changed(schedule(lab, openai_creds_schedule_state="absent", openai_creds_mount="a.b")) == 0


def test_the_environment_is_not_shown_and_reaches_the_run_as_it_is(lab: Lab) -> None:
    value = f"{SECRET} 'b' \"c\" $HOME `id` 5% \\x #y"
    fake = lab.path / "ansible-playbook"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$TOKEN" "$OPENAI_CREDS_STORE_PATH" "$@"\nexit 3\n')
    fake.chmod(0o755)
    done = schedule(
        lab, "--diff", "-vvv",
        openai_creds_schedule_ansible_playbook=str(fake),
        openai_creds_schedule_environment={"TOKEN": value},
        openai_creds_store_path="/srv/a $b 'c'",
    )  # fmt: skip
    assert changed(done) > 0
    assert SECRET not in done.out
    environment = lab.path / "etc" / "openai-creds-openai.env"
    assert environment.stat().st_mode & 0o777 == 0o600
    job = subprocess.run(
        ["/bin/sh", lab.path / "etc" / "openai-creds-openai-cleanup.sh"], capture_output=True, text=True, check=False
    )
    assert job.returncode == 3
    assert job.stdout.splitlines() == [
        str(lab.path / ODD), value, "/srv/a $b 'c'", "ephemeral.openai.cleanup",
    ]  # fmt: skip


@pytest.mark.once
def test_the_metrics_job_writes_what_node_exporter_reads(lab: Lab) -> None:
    lab.configure()
    path = lab.path / "a 'b'.prom"
    done = schedule(
        lab,
        openai_creds_schedule_environment={},
        openai_creds_schedule_metrics_every="10m",
        openai_creds_schedule_metrics_textfile=str(path),
    )
    assert changed(done) > 0
    job = lab.command("/bin/sh", str(lab.path / "etc" / "openai-creds-openai-metrics.sh"))
    assert job.rc == 0 and job.out == "", job.out
    assert 'openai_creds_issued_total{mount="openai",role="my-role"} 0.0' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_units_are_what_systemd_accepts(lab: Lab, tmp_path: Path) -> None:
    """Rendered as the role does, since a host without systemd is refused the manager."""
    done = lab.play(
        [
            {
                "ansible.builtin.template": {
                    "src": f"{Path(__file__).parents[2]}/roles/schedule/templates/{kind}.j2",
                    "dest": f"{tmp_path}/openai-creds-openai-cleanup.{kind}",
                },
                "vars": {
                    "item": "cleanup", "schedule_mount": "openai", "schedule_name": "openai-creds-openai",
                    "schedule_user": "root", "schedule_directory": f"/tmp/{ODD}", "schedule_folder": "/etc/openai-creds",
                    "schedule_vault_password_file": f"/tmp/{ODD}", "schedule_writable": [f"/tmp/{ODD}"],
                    "schedule_seconds": '{"cleanup": 600}', "schedule_periods": {"cleanup": "10m"},
                },
            }
            for kind in ("service", "timer")
        ]
    )  # fmt: skip
    assert done.rc == 0, done.out
    verified = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.glob("openai-creds-*")], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    assert (
        f"WorkingDirectory=/tmp/{ODD.replace('%', '%%')}"
        in (tmp_path / "openai-creds-openai-cleanup.service").read_text()
    )
    # None of them is a time of day, so a clock that jumps delays no run.
    timer = (tmp_path / "openai-creds-openai-cleanup.timer").read_text()
    assert set(re.findall(r"^On\w+", timer, re.MULTILINE)) == {"OnActiveSec", "OnUnitActiveSec"}
