# SPDX-License-Identifier: GPL-3.0-or-later
"""However a run ends, its leases do, and its claims: with the run, or with the next cleanup."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import ansible_runner
import pytest
from double.client import Double
from lab import Lab
from on_record import kinds

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.intents import CLAIMS
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.processes import is_running
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

LOOKUP = {"ansible.builtin.debug": {"msg": "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"}}
EACH = {
    "ansible.builtin.debug": {
        "msg": "{{ query('ephemeral.openai.openai_creds', 'my-role', 'my-role', reuse='none') | length }}"
    }
}
WAIT = {"ansible.builtin.command": {"argv": ["sleep", "300"]}}
#: Time enough for a busy machine; nothing waits for it unless it fails.
PATIENCE = 120
#: What a cleanup may still have to look for: an account that a request under way somewhere may yet make.
WATCHES = {"watch"}


@pytest.fixture
def node(lab: Lab) -> Lab:
    lab.configure()
    lab.env["ANSIBLE_CALLBACKS_ENABLED"] = "ephemeral.openai.openai_leases"
    return lab


def until(condition: t.Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def left(lab: Lab, mount: str = "openai") -> set[str]:
    return set(kinds(lab.store(mount)))


def clean(lab: Lab, mount: str = "openai") -> dict[str, t.Any]:
    return cleanup(lab.mount(mount), orphans="delete", max_concurrency=4, limit=None, grace=600, dry_run=False)


def is_sleeping(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a run has come to the task that waits."""
    with contextlib.suppress(OSError):
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if command == b"sleep\x00300\x00" and f"ENDS={process.args[-1]}".encode() in _environment(pid):  # type: ignore[index]
                    return True
    return False


def _environment(pid: str) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def start(lab: Lab, tasks: t.Any, name: str, **options: t.Any) -> subprocess.Popen[bytes]:
    """Start a playbook; its last task waits."""
    path = lab.playbook([*tasks, WAIT], f"{name}.yml")
    return subprocess.Popen(
        ("ansible-playbook", path),
        cwd=lab.path,
        env={**lab.env, "ENDS": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def test_signals(node: Lab) -> None:
    """Each run has a lease, and gets another signal; to the process alone, as from a service manager."""
    numbers = {name: getattr(signal, name) for name in ("SIGHUP", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGXCPU")}
    processes = {name: start(node, [LOOKUP], name) for name in numbers}
    for name, process in processes.items():
        until(lambda process=process: is_sleeping(process), f"{name} waits")
    assert len(node.accounts()) == len(processes)
    for name, number in numbers.items():
        processes[name].send_signal(number)
    for name, process in processes.items():
        out = process.communicate(timeout=PATIENCE)[0].decode()
        assert process.returncode == 99, (name, out)
        assert "openai_leases: revoked 1 lease(s)" in out, (name, out)
        assert "Traceback" not in out, name
    assert node.accounts() == set() and left(node) == set()


def test_what_nohup_ignores_stays_ignored_and_timeout_ends_a_run(node: Lab) -> None:
    ignored = start(node, [LOOKUP], "nohup", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    until(lambda: is_sleeping(ignored), "it waits")
    ignored.send_signal(signal.SIGHUP)
    run = node.command("timeout", "--signal=HUP", "2", "cat", "/dev/zero")
    assert run.rc == 124 and ignored.poll() is None and len(node.accounts()) == 1
    # As timeout(1) and service managers do.
    ignored.terminate()
    assert "revoked 1 lease(s)" in ignored.communicate(timeout=PATIENCE)[0].decode()
    assert node.accounts() == set()


def test_a_second_interrupt_says_what_is_left_and_cleanup_ends_it(node: Lab) -> None:
    process = start(node, [LOOKUP, EACH, EACH], "twice")
    until(lambda: is_sleeping(process), "it waits")
    ids = {record.lease.lease_id for record in _records(node)}
    assert len(ids) == 5
    node.double.settings(latency=20.0)
    node.double.clear_requests()
    process.send_signal(signal.SIGINT)
    # The double knows of a request when it has answered it, and that is what takes so long.
    until(lambda: any(record.status == "pending" for record in _records(node)), "it revokes")
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 128 + signal.SIGINT, out
    assert "left until the next openai_cleanup or their own end: " in out
    assert all(lease_id in out for lease_id in ids), out
    assert "being issued" not in out
    assert "Traceback" not in out and "Exception" not in out
    node.double.settings(latency=0.0)
    assert set(clean(node)["revoked"]) == ids
    assert node.accounts() == set() and left(node) == set()


def test_a_second_interrupt_says_that_an_issue_may_have_left_something(node: Lab) -> None:
    node.double.settings(latency=20.0)
    process = start(node, [LOOKUP], "issuing")
    until(lambda: left(node) == {"claim"}, "a claim is there")
    (claim,) = node.store().scan(CLAIMS)
    until(node.accounts, "the account is there, the answer is not")
    process.send_signal(signal.SIGINT)
    until(lambda: [one.data for one in node.store().scan(CLAIMS)] != [claim.data], "the callback takes the issue back")
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 128 + signal.SIGINT, out
    assert "or their own end: perhaps one that was being issued" in out and "Traceback" not in out, out
    node.double.settings(latency=0.0)
    clean(node)
    assert node.accounts() == set() and left(node) <= WATCHES


def _records(lab: Lab) -> list[t.Any]:
    from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.find import records

    return list(records(lab.mount()))


@pytest.mark.parametrize("callback", [True, False])
def test_a_run_that_is_killed_or_cancelled(node: Lab, callback: bool) -> None:
    """By SIGKILL, and by ansible-runner, which kills as well; the leases of tasks live on."""
    if not callback:
        del node.env["ANSIBLE_CALLBACKS_ENABLED"]
    task = {"ephemeral.openai.openai_creds": {"name": "my-role"}}
    process = start(node, [LOOKUP, EACH], "killed")
    path = node.playbook([task, LOOKUP, EACH, WAIT], "cancelled.yml")
    if callback:
        cancelled = _run_by_ansible_runner(node, path)
        assert cancelled == "canceled"
    until(lambda: is_sleeping(process), "it waits")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    leases = {record.lease.lease_id for record in _records(node)}
    assert len(leases) == (7 if callback else 3)
    # Its workers may take a moment.
    until(lambda: not _is_somebody_there(node), "all have ended")
    assert len(clean(node)["revoked"]) == (6 if callback else 3)
    assert len(node.accounts()) == int(callback) and left(node) == set()


def _run_by_ansible_runner(lab: Lab, path: str) -> str:
    ended = threading.Event()
    waiting = subprocess.Popen(("true", path))
    waiting.wait()
    data = lab.path / "runner"
    data.mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(data),
        playbook=path,
        envvars={**lab.env, "ENDS": path},
        inventory="localhost ansible_connection=local",
        cancel_callback=lambda: ended.is_set() or is_sleeping(waiting),
        quiet=True,
    )
    return str(runner.status)


def _is_somebody_there(lab: Lab) -> bool:
    claims = [claim.data for claim in lab.store().scan(CLAIMS)]
    processes = [one["claim"]["run"] for one in claims] + [one["owner"]["process"] for one in claims if one["owner"]]
    return any(map(is_running, processes))


def test_a_worker_that_is_killed_while_it_issues(node: Lab) -> None:
    """As by the kernel when memory runs out: nothing is noted, and nothing is left."""
    node.double.settings(latency=4.0)
    process = start(node, [LOOKUP], "oom")
    until(lambda: left(node) == {"claim"}, "a claim is there")
    (claim,) = node.store().scan(CLAIMS)
    until(node.accounts, "the account is there, the answer is not")
    os.kill(int(claim.data["owner"]["process"]["pid"]), signal.SIGKILL)
    node.double.settings(latency=0.0)
    out = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode != 0 and "Traceback" not in out, out
    assert node.accounts() == set(), out
    assert left(node) <= WATCHES


def test_a_closed_pipe_and_a_closed_terminal(node: Lab, double: Double) -> None:
    """Nobody reads what is said, and there are two mounts to end leases of."""
    _second_mount(node)
    other = "{{ lookup('ephemeral.openai.openai_creds', 'my-role', mount='second').lease_id }}"
    tasks = [{"ansible.builtin.debug": {"msg": LOOKUP["ansible.builtin.debug"]["msg"] + other}}]
    path = node.playbook(tasks, "broken.yml")
    # Ansible itself may give up before it takes a lease where it cannot say anything at all.
    for redirect, taken in (("2>&1 | head -n 4", (2,)), (">/dev/full 2>/dev/full", (0, 1, 2))):
        node.double.clear_requests()
        node.command("bash", "-c", f"ansible-playbook {path} {redirect}")
        # What is new may not be found at once; then the call is made again.
        methods = [call["method"] for call in node.double.requests() if call["status"] == 200]
        assert methods.count("DELETE") == methods.count("POST"), redirect
        assert methods.count("POST") in taken, redirect
    assert node.accounts() == set() and left(node) == left(node, "second") == set()

    close_terminal(node, node.playbook([*tasks, WAIT], "terminal.yml"), taken=2)
    assert node.accounts() == set() and left(node) == left(node, "second") == set()


def test_a_closed_terminal_that_would_show_each_call(node: Lab) -> None:
    """With -vvv every call that ends a lease has a line, and none of these can be written."""
    close_terminal(node, node.playbook([LOOKUP, EACH, WAIT], "verbose.yml"), "-vvv", taken=3)
    assert node.accounts() == set() and left(node) == set()


def close_terminal(lab: Lab, path: str, *options: str, taken: int) -> None:
    """Run a playbook, and close its terminal when it waits with so many leases."""
    import pty

    master, slave = pty.openpty()
    os.set_blocking(master, False)
    # Its controlling terminal, so that the kernel tells it when that is gone.
    process = subprocess.Popen(
        ("setsid", "--ctty", "ansible-playbook", *options, path),
        cwd=lab.path,
        env={**lab.env, "ENDS": path},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)

    def waits() -> bool:
        # A terminal holds little that nobody has read.
        with contextlib.suppress(BlockingIOError):
            while os.read(master, 2**16):
                pass
        return is_sleeping(process)  # type: ignore[arg-type]

    until(waits, "it waits")
    assert len(lab.accounts()) == taken
    os.close(master)
    process.wait(timeout=PATIENCE)


def _second_mount(lab: Lab) -> None:
    source = lab.mount().store.read("definitions")
    assert source
    lab.mount("second").define(lambda data: bool(data.update(source.data)) or True)


JSON_CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "one_json"
    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps({"ok": True}))
"""


def test_standard_output_belongs_to_the_stdout_callback(node: Lab) -> None:
    folder = node.path / "callback_plugins"
    folder.mkdir()
    (folder / "one_json.py").write_text(JSON_CALLBACK)
    node.double.fault(kind="refuse", status=403, method="DELETE", times=1)
    env = {**node.env, "ANSIBLE_CALLBACK_PLUGINS": str(folder), "ANSIBLE_STDOUT_CALLBACK": "one_json"}
    done = subprocess.run(
        ("ansible-playbook", node.playbook([EACH])), cwd=node.path, env=env, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"ok": True}
    said = " ".join(done.stderr.decode().split())
    assert "openai_leases: revoked 1 lease(s)" in said and "was not revoked: OpenAI answered 403" in said


@pytest.mark.parametrize("from_file", [True, False])
def test_options_are_checked_at_the_start(node: Lab, from_file: bool) -> None:
    if from_file:
        with (node.path / "ansible.cfg").open("a") as config:
            config.write("[openai_creds]\nrevoke = never\ninclude_tasks = perhaps\n")
    else:
        node.env |= {"OPENAI_CREDS_REVOKE": "never", "OPENAI_CREDS_INCLUDE_TASKS": "perhaps"}
    run = node.play([{"ephemeral.openai.openai_creds": {"name": "my-role"}}, LOOKUP])
    said = " ".join(run.out.split())
    assert run.rc == 0 and "Traceback" not in said
    assert (
        "revoke: 'never' is not one of always, on_success, on_failure; the callback openai_leases uses always" in said
    )
    assert "include_tasks: 'perhaps' is neither true nor false; the callback openai_leases uses false" in said
    assert said.index("uses always") < said.index("PLAY [localhost]")
    assert "openai_leases: revoked 1 lease(s)" in said
    assert len(node.accounts()) == 1, "that of the task"


def test_a_run_of_several_playbooks_ends_once(node: Lab) -> None:
    """Ansible has statistics after each. What is left on purpose lives until it ends, also when a cleanup comes."""
    paths = [node.playbook([LOOKUP], "first.yml"), node.playbook([LOOKUP, EACH], "second.yml")]
    run = node.command("ansible-playbook", *paths)
    assert run.rc == 0 and "openai_leases: revoked 3 lease(s)" in run.out, run.out
    assert run.out.count("openai_leases:") == 1
    assert node.accounts() == set() and left(node) == set()
    run = node.command("ansible-playbook", *paths, env={"OPENAI_CREDS_REVOKE": "on_failure"})
    assert run.rc == 0
    assert left(node) == set() and clean(node)["revoked"] == []
    assert len(node.accounts()) == 3


POOL = """
import concurrent.futures, multiprocessing, sys
def run(path):
    from ansible import context
    context.CLIARGS = context.CLIARGS.__class__({})
    from ansible.cli.playbook import PlaybookCLI
    return PlaybookCLI(["ansible-playbook", path]).run()
if __name__ == "__main__":
    methods, paths = sys.argv[1], sys.argv[2:]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(methods)) as pool:
        print(list(map(repr, pool.map(run, paths))))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_runs_in_a_pool_of_processes_do_not_share(node: Lab, method: str) -> None:
    """The first to end leaves the other's lease alone."""
    program = node.path / "pool.py"
    program.write_text(POOL)
    paths = []
    for name in ("short", "long"):
        wait = {"ansible.builtin.wait_for": {"path": str(node.path / name), "timeout": PATIENCE, "sleep": 1}}
        paths.append(node.playbook([LOOKUP, wait, LOOKUP], f"{name}.yml"))
    process = subprocess.Popen(
        (sys.executable, str(program), method, *paths),
        cwd=node.path,
        env=node.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until(lambda: len(node.accounts()) == 2, "each has a lease of its own")
        (node.path / "short").touch()
        until(lambda: len(_records(node)) == 1, "the short one has ended its lease")
        assert len(node.accounts()) == 1
        (node.path / "long").touch()
        out = process.communicate(timeout=PATIENCE)[0].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0 and out.count("SUCCESS: 0") == 2, out
    assert out.count("openai_leases: revoked 1 lease(s)") == 2, out
    assert len([call for call in node.double.requests() if call["method"] == "POST"]) == 2
    assert node.accounts() == set() and left(node) == set()
