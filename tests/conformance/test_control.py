# SPDX-License-Identifier: GPL-3.0-or-later
"""The process, its command line and the parts of its control API that the other tests do not use."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conformance_names import MARKER, PROJECT
from double.client import Double

pytestmark = pytest.mark.once

TESTS = str(Path(__file__).resolve().parent.parent)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_command_line() -> None:
    options = {"organization": "org-x", "projects": ["proj_a", "proj_b"], "admin_key": "sk-admin-mine", "latency": 0.05}
    with Double(**options) as double:
        state = double.state()
        assert double.admin_key == "sk-admin-mine" and state["organization"] == "org-x"
        assert [project["id"] for project in state["projects"]] == ["proj_a", "proj_b"]
        assert state["settings"]["latency"] == 0.05 and double.url.endswith("/v1")
    assert double.process.returncode == 0


def test_it_ends_with_its_parent() -> None:
    script = "from double.client import Double; import os; d = Double(); print(d.process.pid, flush=True); os._exit(0)"
    environment = {**os.environ, "PYTHONPATH": TESTS}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    pid, deadline = int(result.stdout), time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.02)


def test_a_double_that_has_ended_says_so() -> None:
    with Double() as double:
        double.process.kill()
        double.process.wait()
        with pytest.raises(RuntimeError, match="exit code: -9"):
            double.state()


def test_it_ends_with_requests_under_way() -> None:
    with Double() as double:
        double.settings(latency=30)
        connection = http.client.HTTPConnection(urlsplit(double.url).netloc)
        connection.request("GET", "/v1/models")
        began = time.monotonic()
        double.process.send_signal(signal.SIGTERM)
        assert double.process.wait(20) == 0 and time.monotonic() - began < 25
        connection.close()


def test_reset(double: Double) -> None:
    double.add_project("x")
    double.add_service_account(PROJECT, "foreign")
    double.add_admin_key()
    double.clock(99)
    double.settings(refuse_service_account_key_delete=True)
    double.reset()
    state = double.state()
    assert [project["id"] for project in state["projects"]] == [PROJECT] and state["service_accounts"] == []
    assert [(key["id"], key["value"]) for key in state["admin_keys"]] == [(double.admin_key_id, double.admin_key)]
    assert state["clock_offset"] == 0 and not state["settings"]["refuse_service_account_key_delete"]


def test_seeds_show_in_the_state(double: Double) -> None:
    double.add_project("old", "proj_old", "archived")
    account = double.add_service_account(PROJECT, "foreign", role="owner", id="svc_acct_mine")
    bare = double.add_service_account(PROJECT, "foreign", key=False)
    admin = double.add_admin_key("theirs", expires_in_seconds=60)
    person = double.add_user_key(PROJECT, scopes=["api.all"])
    state = double.state()
    assert [project["status"] for project in state["projects"]] == ["active", "archived"]
    assert [(one["id"], one["role"]) for one in state["service_accounts"]] == [
        ("svc_acct_mine", "owner"),
        (bare["id"], "member"),
    ]
    assert [(key["service_account_id"], key["scopes"]) for key in state["api_keys"]] == [
        ("svc_acct_mine", []),
        (None, ["api.all"]),
    ]
    assert state["admin_keys"][1]["value"] == admin["value"]
    assert all(MARKER in key["value"] for key in (admin, person, account["api_key"]))
    assert all(MARKER not in key["redacted_value"] for key in (admin, person, account["api_key"]))
    many = double.call("POST", "/service_accounts", [{"project_id": PROJECT, "name": f"n{i}"} for i in range(1000)])
    assert len({one["id"] for one in many}) == 1000


def test_a_deleted_cursor_may_be_refused(double: Double) -> None:
    keys = [double.add_admin_key()["id"] for _unused in range(3)]
    connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)

    def ask(method: str, path: str) -> int:
        connection.request(method, f"/v1/organization/admin_api_keys{path}", headers=_as(double.admin_key))
        response = connection.getresponse()
        response.read()
        return response.status

    assert ask("DELETE", f"/{keys[1]}") == 200
    assert ask("GET", f"?after={keys[1]}") == 200
    double.settings(refuse_deleted_cursor=True)
    assert ask("GET", f"?after={keys[1]}") == 400 and ask("GET", f"?after={keys[0]}") == 200


def test_keys_of_owners_without_access_may_be_let_in(double: Double) -> None:
    account = double.add_service_account(PROJECT, "bare", role="none")
    connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)
    answers = []
    for needed in (True, False):
        double.settings(keys_need_owner_access=needed)
        connection.request("GET", "/v1/models", headers=_as(account["api_key"]["value"]))
        response = connection.getresponse()
        response.read()
        answers.append(response.status)
    assert answers == [403, 200]


def test_the_log_since_a_mark(double: Double) -> None:
    connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)

    def ask(path: str) -> None:
        connection.request("GET", path, headers=_as(double.admin_key))
        connection.getresponse().read()

    ask("/v1/models?x=1")
    mark = double.mark()
    ask("/v1/organization/projects")
    assert [entry["path"] for entry in double.requests(mark)] == ["/v1/organization/projects"]
    assert double.requests()[0]["query"] == "x=1"
    double.clear_requests()
    ask("/v1/organization/costs")
    assert [(entry["index"], entry["path"]) for entry in double.requests(mark)] == [
        (mark + 1, "/v1/organization/costs")
    ]


def test_what_is_new_is_listed_but_not_found(double: Double) -> None:
    account = double.add_service_account(PROJECT, "young")
    double.add_project("young", "proj_young")
    path = f"/v1/organization/projects/{PROJECT}"
    own = [
        f"{path}/service_accounts/{account['id']}",
        f"{path}/api_keys/{account['api_key']['id']}",
        f"/v1/organization/admin_api_keys/{double.add_admin_key()['id']}",
        "/v1/organization/projects/proj_young",
    ]

    def status(path: str) -> int:
        connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)
        connection.request("GET", path, headers=_as(double.admin_key))
        return connection.getresponse().status

    double.settings(young_not_found=60)
    assert {status(path) for path in own} == {404}
    listed = (path.rpartition("/")[0] for path in own)
    assert {status(path) for path in (*listed, path, f"/v1/organization/admin_api_keys/{double.admin_key_id}")} == {200}
    double.settings(young_not_found=0)
    assert {status(path) for path in own} == {200}


@pytest.mark.parametrize("settings", [{"latncy": 1}, {"latency": "1"}, {"refuse_service_account_key_delete": 1}])
def test_a_setting_that_makes_no_sense(double: Double, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        double.settings(**settings)


def test_many_clients_at_once(double: Double) -> None:
    def work(worker: int) -> int:
        connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)
        headers = {**_as(double.admin_key), "Content-Type": "application/json"}
        good = 0
        for number in range(20):
            path = f"/v1/organization/projects/{PROJECT}/service_accounts"
            connection.request("POST", path, json.dumps({"name": f"{worker}-{number}"}), headers)
            response = connection.getresponse()
            account = json.loads(response.read())
            if number % 2:
                connection.request("DELETE", f"{path}/{account['id']}", headers=headers)
                connection.getresponse().read()
            good += response.status == 200
        connection.close()
        return good

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) == 320
    state = double.state()
    assert len(state["service_accounts"]) == len(state["api_keys"]) == 160
    requests = double.requests()
    assert [entry["index"] - requests[0]["index"] for entry in requests] == list(range(480))


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
