# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin key is rotated: by playbooks at once, beside other work, and in processes that are killed at random."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import typing as t
from pathlib import Path

import pytest
from lab import MARKER, Lab, Run

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config.config import write_config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import rfc3339
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client, transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.rotation.admin_key import rotate
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

#: How many rotations the test with random kills makes.
ROTATIONS = int(os.environ.get("OPENAI_CREDS_TEST_ROTATIONS", "40"))


def force(lab: Lab) -> None:
    rotate(lab.mount(), always=True, overlap=0, expires_in=None, dry_run=False)


def make_due(lab: Lab) -> None:
    """Configure the mount so that a rotation is due, once."""
    lab.configure()
    names = ("admin_api_key", "admin_api_key_id", "organization_id", "api_endpoint")
    options: t.Any = {**dict.fromkeys(names), "replace_key": False, "validate": False, "dry_run": False}
    write_config(lab.mount(), **options, rotation_period="1h")
    lab.mount().define(lambda data: data["config"].update(created_at=int(time.time()) - 7200) or True)


def agree(lab: Lab) -> None:
    """The stored key is the one admin key."""
    assert lab.admin_key_works()
    assert lab.admin_keys() == {lab.mount().definitions("config")["admin_api_key_id"]}


def playbook(lab: Lab, *args: str, name: str = "ephemeral.openai.rotate", **variables: t.Any) -> Run:
    run = lab.command("ansible-playbook", name, *args, "-e", json.dumps(variables))
    assert run.rc == 0, run.out
    assert MARKER not in run.out
    return run


def results(lab: Lab, *tasks: tuple[str, Data]) -> list[Data]:
    """Run modules with their options in one play and return their results. check_mode among the options is the task's."""
    play: list[Data] = []
    for number, (module, options) in enumerate(tasks):
        check = {"check_mode": True} if options.pop("check_mode", False) else {}
        play.append({f"ephemeral.openai.{module}": options, "register": f"result{number}", **check})
    out = lab.path / "results.json"
    names = ", ".join(f"result{number}" for number in range(len(tasks)))
    play.append({"ansible.builtin.copy": {"content": f"{{{{ [{names}] }}}}", "dest": str(out), "mode": "0600"}})
    run = lab.play(play)
    assert run.rc == 0, run.out
    return t.cast("list[Data]", json.loads(out.read_text()))


# Random kills.


def _in_a_process(work: t.Callable[[], None], lifetime: float | None) -> None:
    """Do some work in a process of its own, which is killed when its lifetime is over."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    if lifetime is not None:
        time.sleep(lifetime)
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.slow
@pytest.mark.long
def test_rotations_with_random_kills_and_faults(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process of its own; half of them are killed, a third of the answers go wrong, 429 among them."""
    monkeypatch.setattr(transport, "_BACKOFF_SECONDS", 0.001)
    lab.configure()
    foreign = lab.double.add_admin_key("ephemeral-openai-openai-0123456789abcdef")["id"]
    first = lab.double.admin_key_id
    lab.double.seed(7)
    for kind in ("rate_limit", "drop_before", "drop_after", "fail_after", "malformed"):
        options = {"retry_after": 0} if kind == "rate_limit" else {}
        lab.double.fault(kind=kind, path="admin_api_keys", probability=0.08, **options)
    chance = random.Random(7)
    for _unused in range(ROTATIONS):
        _in_a_process(lambda: force(lab), chance.uniform(0, 0.12) if chance.random() < 0.5 else None)
        assert lab.admin_key_works()
    assert all(rule["applied"] for rule in lab.double.faults())
    lab.double.clear_faults()
    cleanup(lab.mount(), orphans="report", max_concurrency=4, limit=None, grace=600, dry_run=False)
    assert lab.admin_key_works()
    assert lab.admin_keys() == {foreign, lab.mount().definitions("config")["admin_api_key_id"]}
    assert lab.mount().definitions("rotation") == {}
    assert first not in lab.admin_keys(), "nothing was ever rotated"


# At once, and beside other work.


@pytest.mark.long
def test_20_playbooks_at_once_rotate_once(lab: Lab) -> None:
    make_due(lab)
    lab.double.settings(latency=0.05)
    processes = [lab.start_playbook("ephemeral.openai.rotate") for _unused in range(20)]
    outs = [process.communicate(timeout=240)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 20, outs
    assert sum("not rotated" not in out for out in outs) == 1
    creates = [request for request in lab.double.requests() if request["method"] == "POST"]
    assert len(creates) == 1
    agree(lab)


@pytest.mark.long
def test_200_credentials_while_the_key_is_rotated_10_times(lab: Lab) -> None:
    lab.configure()
    started, rotated = threading.Event(), 0

    def keep_rotating() -> None:
        nonlocal rotated
        for _unused in range(10):
            while len(lab.accounts()) < rotated * 18 + 1 and not started.is_set():
                time.sleep(0.02)
            force(lab)
            rotated += 1

    thread = threading.Thread(target=keep_rotating)
    thread.start()
    issue = {"ephemeral.openai.openai_creds": {"name": "my-role"}, "loop": "{{ range(20) | list }}"}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [issue]}]
    hosts = ",".join(f"host{number}" for number in range(10)) + ","
    run = lab.play(play, "-i", hosts, "-c", "local", "-f", "10", timeout=240)
    started.set()
    thread.join()
    assert run.rc == 0, run.out
    assert rotated == 10
    assert len(lab.accounts()) == 200
    agree(lab)


# The playbook and the modules.


def test_the_playbook_rotates_when_it_is_due(lab: Lab) -> None:
    make_due(lab)
    assert "rotated; 0 previous to end, the next rotation is at" in " ".join(playbook(lab, "--check").out.split())
    assert lab.admin_keys() == {lab.double.admin_key_id}
    assert "not rotated" not in playbook(lab).out
    agree(lab)
    assert lab.admin_keys() != {lab.double.admin_key_id}
    again = playbook(lab, openai_creds_overlap="1h")
    assert "not rotated" in again.out and "changed=0" in again.out
    file = str(Path(__file__).parents[2] / "playbooks" / "rotate.yml")
    forced = playbook(
        lab, name=file, openai_creds_force="true", openai_creds_overlap="1h", openai_creds_expires_in="7d"
    )
    assert "1 previous to end" in forced.out
    assert len(lab.admin_keys()) == 2
    assert lab.mount().definitions("config")["admin_api_key_expires_at"]


def test_the_bootstrap_playbook_leaves_a_rotated_key(lab: Lab) -> None:
    bootstrap = [
        {
            "ephemeral.openai.openai_config": {
                "admin_api_key": lab.double.admin_key,
                "organization_id": lab.double.organization,
                "api_endpoint": lab.double.url,
                "rotation_period": "30d",
            }
        }
    ]
    assert lab.play(bootstrap).rc == 0
    force(lab)
    before = lab.mount().definitions("config")
    run = lab.play(bootstrap)
    assert run.rc == 0 and "changed=0" in run.out, run.out
    assert lab.mount().definitions("config") == before
    agree(lab)


def test_what_the_modules_return(lab: Lab) -> None:
    lab.configure()
    old = lab.double.admin_key_id
    now = {"rotate": "always", "overlap": "1h"}
    settings = {"rotation_schedule": "0 3 * * 0", "rotation_window": "2h", "disable_automated_rotation": True}
    foretold, done, idle, configured, shown, planned = results(
        lab,
        ("openai_admin_key", {**now, "check_mode": True}),
        ("openai_admin_key", now),
        ("openai_admin_key", {}),
        ("openai_config", settings),
        ("openai_config_info", {}),
        ("openai_config", {"disable_automated_rotation": False}),
    )
    assert (foretold["changed"], foretold["rotated"], foretold["previous_admin_api_key_id"]) == (True, True, old)
    config = lab.mount().definitions("config")
    assert (done["changed"], done["rotated"]) == (True, True)
    assert done["admin_api_key_id"] == config["admin_api_key_id"]
    assert done["previous_admin_api_key_id"] == old
    assert lab.admin_keys() == {old, config["admin_api_key_id"]}, "the dry run has made none"
    assert done["last_rotated"] == rfc3339(config["last_rotated"])
    assert done["next_rotation"] is None
    assert (idle["changed"], idle["rotated"], idle["previous_admin_api_key_id"]) == (False, False, old)
    assert (
        shown["config"]
        == configured["config"]
        == {
            "api_endpoint": lab.double.url,
            "organization_id": lab.double.organization,
            "admin_api_key_id": done["admin_api_key_id"],
            "admin_api_key_expires_at": None,
            "rotation_period": None,
            "rotation_schedule": "0 3 * * 0",
            "rotation_window": 7200,
            "disable_automated_rotation": True,
            "last_rotated": done["last_rotated"],
            "next_rotation": None,
            "previous_admin_api_key_id": old,
            "previous_admin_api_keys": done["previous_admin_api_keys"],
        }
    )
    assert planned["config"]["next_rotation"].endswith("T03:00:00Z")


def test_a_key_that_will_not_go_is_in_every_result(lab: Lab) -> None:
    lab.configure()
    lab.double.fault(kind="refuse", status=403, method="DELETE", path="admin_api_keys", message="not this one")
    done, shown = results(lab, ("openai_admin_key", {"rotate": "always"}), ("openai_config_info", {}))
    assert done["rotated"] and "not this one" in done["warnings"][0]
    (left,) = shown["config"]["previous_admin_api_keys"]
    assert left["admin_api_key_id"] == lab.double.admin_key_id and "not this one" in left["error"]
    failed = lab.play([{"ephemeral.openai.openai_cleanup": {}}])
    assert failed.rc == 2
    assert "1 lease(s) or admin key(s) would not go" in failed.out
    lab.double.clear_faults()
    with lab.at(60) as later:
        assert cleanup(later, orphans="report", max_concurrency=1, limit=None, grace=0, dry_run=False)["failed"] == []
    agree(lab)


def test_somebody_else_rotating_is_reported(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.configure()
    begun, go_on = threading.Event(), threading.Event()
    create = client.OpenAI.create_admin_key

    def slow(*args: t.Any) -> t.Any:
        begun.set()
        go_on.wait(120)
        return create(*args)

    monkeypatch.setattr(client.OpenAI, "create_admin_key", slow)
    thread = threading.Thread(target=force, args=(lab,))
    thread.start()
    begun.wait(60)
    (done,) = results(lab, ("openai_admin_key", {"rotate": "always"}))
    go_on.set()
    thread.join()
    assert (done["changed"], done["rotated"]) == (False, False)
    assert done["warnings"] == ["somebody else is rotating the admin key; nothing was done"]
    agree(lab)


def test_a_native_end_that_is_too_early_is_warned_of(lab: Lab) -> None:
    make_due(lab)
    done, *others = results(
        lab, ("openai_admin_key", {"expires_in": "30m"}), ("openai_config_info", {}), ("openai_cleanup", {})
    )
    assert done["rotated"] and "only; rotate it before" in done["warnings"][0]
    assert ["rotate it before" in other["warnings"][0] for other in others] == [True, True]


def test_the_error_of_a_failed_rotation_is_a_sentence(lab: Lab) -> None:
    lab.configure()
    lab.double.fault(kind="refuse", status=403, method="POST", path="admin_api_keys", echo_authorization=True)
    with pytest.raises(OpenAICredsError) as caught:
        force(lab)
    assert str(caught.value).startswith("admin key creation failed: OpenAI answered 403")
    assert MARKER not in str(caught.value)
    agree(lab)
