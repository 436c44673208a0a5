# SPDX-License-Identifier: GPL-3.0-or-later
"""Long tasks say how far they have come: every five seconds, on stderr, in a terminal and in AWX, and short ones say nothing."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import typing as t

import ansible_runner
import pytest
from lab import BOTH_STORES_LONG, MARKER, PROJECT, Lab

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue_several

pytestmark = BOTH_STORES_LONG
INTERVAL = 5
#: Prints one JSON document and nothing else, as the callbacks json and jsonl of other collections do.
JSON_CALLBACK = """
DOCUMENTATION = '''
name: one_document
type: stdout
short_description: One JSON document
description: One JSON document.
'''
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'stdout'
    CALLBACK_NAME = 'one_document'

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tasks = []

    def v2_runner_on_ok(self, result):
        self.tasks.append(json.loads(self._dump_results(result._result)))

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.v2_runner_on_ok(result)

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps({'tasks': self.tasks}, indent=4))
"""


class Shown(t.NamedTuple):
    """What a run printed: stdout, and the lines of stderr with when each came, in seconds."""

    rc: int
    out: str
    lines: list[tuple[float, str]]

    def progress(self, of: str) -> list[str]:
        return [line for _when, line in self.lines if re.match(rf"{of}(:| \[)", line)]


def show(lab: Lab, *command: str) -> Shown:
    process = subprocess.Popen(
        command,
        cwd=lab.path,
        env=lab.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[tuple[float, str]] = []

    def read() -> None:
        assert process.stderr
        lines.extend((time.monotonic(), line.rstrip()) for line in process.stderr)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.stdout
    out = process.stdout.read()
    reader.join()
    return Shown(process.wait(), out, lines)


@pytest.fixture
def node(lab: Lab) -> Lab:
    lab.configure()
    callbacks = lab.path / "callback_plugins"
    callbacks.mkdir()
    (callbacks / "one_document.py").write_text(JSON_CALLBACK)
    return lab


def expired(lab: Lab, count: int) -> None:
    with lab.at(-7200) as past:
        issue_several(past, "my-role", 60, count)


def as_json(lab: Lab) -> None:
    lab.env["ANSIBLE_STDOUT_CALLBACK"] = "one_document"


def test_a_long_cleanup_shows_a_line_every_five_seconds(node: Lab) -> None:
    expired(node, 24)
    as_json(node)
    node.double.fault(kind="refuse", status=403, method="DELETE", times=2)
    node.double.settings(latency=1.0)
    shown = show(node, "ansible-playbook", node.playbook([{"ephemeral.openai.openai_cleanup": {"max_concurrency": 2}}]))
    node.double.settings(latency=0.0)
    lines = shown.progress("openai_cleanup")
    assert len(lines) >= 2, shown
    for line in lines:
        assert re.fullmatch(r"openai_cleanup: \d+ of 24 leases ended, 2 refused(, about \d+ s left)?", line), (
            shown.lines
        )
    done = [int(line.split()[1]) for line in lines]
    assert 0 < done[0] < done[1] <= 22
    first, second = [when for when, line in shown.lines if line.startswith("openai_cleanup:")][:2]
    assert 0.9 * INTERVAL < second - first < 2 * INTERVAL, "each comes when it is shown, not at the end"
    # The result is machine-readable, whole, and holds no line of these.
    result = json.loads(shown.out)["tasks"][0]
    assert len(result["revoked"]) == 22 and len(result["failures"]) == 2
    assert "leases ended" not in shown.out


@pytest.mark.once
def test_issue_in_bulk_and_a_large_library_set(node: Lab) -> None:
    as_json(node)
    node.double.settings(latency=1.0)
    names = [f"pool-{number}" for number in range(48)]
    shown = show(
        node,
        "ansible-playbook",
        node.playbook(
            [
                {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 48}, "register": "issued"},
                {
                    "ephemeral.openai.openai_library_set": {
                        "name": "pool",
                        "project_id": PROJECT,
                        "service_account_names": names,
                    }
                },
            ]
        ),
    )
    node.double.settings(latency=0.0)
    assert shown.rc == 0, shown
    assert any(" of 48 leases issued" in line for line in shown.progress("openai_creds")), shown.lines
    assert any(" of 48 accounts made" in line for line in shown.progress("openai_library_set")), shown.lines
    assert len(json.loads(shown.out)["tasks"]) == 2
    assert MARKER not in str(shown.lines)


@pytest.mark.once
def test_break_glass_revocation_shows_how_far_it_is(node: Lab) -> None:
    issue_several(node.mount(), "my-role", None, 64)
    node.double.settings(latency=2.0)
    extra = ("-e", "openai_creds_prefix=openai/creds/my-role/")
    shown = show(node, "ansible-playbook", "ephemeral.openai.revoke", *extra)
    node.double.settings(latency=0.0)
    assert shown.rc == 0, shown
    assert any(" of 64 leases ended" in line for line in shown.progress("openai_lease")), shown.lines
    assert "leases ended" not in shown.out


def test_what_is_soon_over_shows_nothing(node: Lab) -> None:
    expired(node, 20)
    tasks: list[t.Any] = [
        {"ephemeral.openai.openai_cleanup": {}},
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 20}, "register": "issued"},
        {"ephemeral.openai.openai_lease": {"prefix": "openai/creds/my-role/"}},
    ]
    shown = show(node, "ansible-playbook", node.playbook(tasks))
    assert shown.rc == 0, shown
    assert shown.lines == []
    assert node.accounts() == set()


def test_awx_shows_the_lines_with_the_task(node: Lab) -> None:
    expired(node, 16)
    node.double.settings(latency=1.0)
    data = node.path / "runner"
    data.mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(data),
        playbook=node.playbook([{"ephemeral.openai.openai_cleanup": {"max_concurrency": 2}}]),
        envvars=node.env,
        inventory="localhost ansible_connection=local",
        quiet=True,
    )
    node.double.settings(latency=0.0)
    assert runner.status == "successful"
    events = list(runner.events)
    of_progress = [event for event in events if " of 16 leases ended" in event["stdout"]]
    assert of_progress and {event["event"] for event in of_progress} == {"verbose"}
    # It is there while the task goes on, and the task's result is as without it.
    after = events[events.index(of_progress[-1]) :]
    (ok,) = [event for event in after if event["event"] == "runner_on_ok"]
    assert len(ok["event_data"]["res"]["revoked"]) == 16
