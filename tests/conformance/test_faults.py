# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault does what it says: to the connection, and to the organization."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from conformance_names import MARKER, PROJECT
from double.client import Double

pytestmark = pytest.mark.once

ACCOUNTS = f"/v1/organization/projects/{PROJECT}/service_accounts"


class Got:
    """One answer, read to its end."""

    def __init__(self, double: Double, method: str = "POST", path: str = ACCOUNTS, body: Any = None) -> None:
        connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)
        headers = {"Authorization": f"Bearer {double.admin_key}", "Content-Type": "application/json"}
        if method == "POST" and body is None:
            body = {"name": "ci"}
        began = time.monotonic()
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            self.status, self.headers, self.body = response.status, response.headers, response.read()
        finally:
            self.seconds = time.monotonic() - began
            connection.close()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def names(double: Double) -> list[str]:
    return [account["name"] for account in double.state()["service_accounts"]]


def last(double: Double) -> dict[str, Any]:
    return double.requests()[-1]


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def test_without_a_fault(double: Double) -> None:
    got = Got(double)
    assert got.status == 200 and names(double) == ["ci"]
    entry = last(double)
    assert (entry["method"], entry["path"], entry["query"], entry["status"]) == ("POST", ACCOUNTS, "", 200)
    assert entry["body"] == {"name": "ci"} and entry["effect"] is True and entry["fault"] is None
    assert entry["key_id"] == double.admin_key_id and entry["time"] <= entry["finished"]
    assert MARKER not in json.dumps(double.requests())
    Got(double, "GET")
    assert last(double)["effect"] is False


def test_refuse(double: Double) -> None:
    double.fault(kind="refuse")
    got = Got(double)
    assert got.status == 500 and got.json["error"]["type"] == "server_error" and names(double) == []
    assert (last(double)["fault"], last(double)["effect"], last(double)["status"]) == ("refuse", False, 500)


def test_refuse_as_told(double: Double) -> None:
    double.fault(kind="refuse", status=503, code="overloaded", message="Later.", type="busy", retry_after=2)
    got = Got(double)
    assert (got.status, got.headers["Retry-After"]) == (503, "2")
    assert got.json == {"error": {"message": "Later.", "type": "busy", "param": None, "code": "overloaded"}}


@pytest.mark.parametrize("kind", ["refuse", "fail_after", "rate_limit", "malformed"])
def test_the_key_comes_back(double: Double, kind: str) -> None:
    double.fault(kind=kind, echo_authorization=True)
    assert double.admin_key in Got(double).body.decode()
    double.clear_faults()
    double.fault(kind=kind)
    assert double.admin_key not in Got(double).body.decode()


def test_fail_after(double: Double) -> None:
    double.fault(kind="fail_after", status=502)
    got = Got(double)
    assert got.status == 502 and got.json["error"]["message"] and names(double) == ["ci"]
    assert (last(double)["fault"], last(double)["effect"], last(double)["status"]) == ("fail_after", True, 502)


@pytest.mark.parametrize(("kind", "made"), [("drop_before", []), ("drop_after", ["ci"])])
def test_drop(double: Double, kind: str, made: list[str]) -> None:
    double.fault(kind=kind)
    with pytest.raises(ConnectionError):
        Got(double)
    assert names(double) == made
    assert (last(double)["fault"], last(double)["effect"], last(double)["status"]) == (kind, bool(made), None)


def test_rate_limit(double: Double) -> None:
    double.fault(kind="rate_limit", times=1)
    double.fault(kind="rate_limit", times=1, retry_after=7)
    bare, told = Got(double), Got(double)
    assert bare.status == told.status == 429 and bare.json["error"]["code"] == "rate_limit_exceeded"
    assert "Retry-After" not in bare.headers and told.headers["Retry-After"] == "7"
    assert names(double) == [] and Got(double).status == 200


def test_slow(double: Double) -> None:
    double.fault(kind="slow", delay=0.2)
    connection = socket.create_connection(_address(double))
    connection.sendall(_request(double))
    until(double.requests)
    assert names(double) == [], "nothing has happened yet"
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.close()
    assert names(double) == ["ci"] and last(double)["finished"] - last(double)["time"] >= 0.2


def test_slow_after(double: Double) -> None:
    double.fault(kind="slow_after", delay=0.2)
    connection = socket.create_connection(_address(double))
    connection.sendall(_request(double))
    until(lambda: names(double) == ["ci"])
    assert last(double)["status"] is None, "it has happened, and is not answered yet"
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.close()
    assert last(double)["finished"] - last(double)["time"] >= 0.2


def test_latency(double: Double) -> None:
    double.settings(latency=0.1)
    assert 0.1 <= Got(double).seconds < 1


def test_a_client_that_leaves_does_not_undo(double: Double) -> None:
    double.fault(kind="slow", delay=0.05)
    connection = socket.create_connection(_address(double))
    connection.sendall(_request(double))
    until(double.requests)
    connection.close()
    until(lambda: names(double) == ["ci"])


def test_truncate(double: Double) -> None:
    double.fault(kind="truncate")
    connection = socket.create_connection(_address(double))
    connection.sendall(_request(double))
    received = b""
    while block := connection.recv(65_536):
        received += block
    connection.close()
    head, _blank, body = received.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split(b":")[1]
    )
    assert head.startswith(b"HTTP/1.1 200 ") and len(body) == length // 2 > 0
    with pytest.raises(http.client.IncompleteRead):
        Got(double)
    assert names(double) == ["ci", "ci"] and last(double)["effect"] is True


def test_malformed(double: Double) -> None:
    double.fault(kind="malformed")
    got = Got(double)
    assert got.status == 200 and names(double) == ["ci"]
    with pytest.raises(ValueError):
        got.json  # noqa: B018


def test_wrong_shape(double: Double) -> None:
    double.fault(kind="wrong_shape", times=1)
    got = Got(double)
    assert got.status == 200 and got.json["id"] is None and got.json["api_key"] == "not an object"
    double.fault(kind="wrong_shape", body=[])
    assert Got(double).json == [] and names(double) == ["ci", "ci"]


def test_huge(double: Double) -> None:
    double.fault(kind="huge")
    got = Got(double)
    assert len(got.body) == 64 * 1024 * 1024 == int(got.headers["Content-Length"])
    assert got.json["name"] == "ci" and names(double) == ["ci"]


def test_late(double: Double) -> None:
    double.fault(kind="late", delay=1, times=1)
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        Got(double)
    assert names(double) == [] and last(double)["effect"] is False
    until(lambda: names(double) == ["ci"])
    assert time.monotonic() - began >= 1
    assert (last(double)["status"], last(double)["effect"]) == (None, True)


def test_reset_calls_off_what_is_late(double: Double) -> None:
    double.fault(kind="late", delay=0.05)
    with pytest.raises(ConnectionError):
        Got(double)
    double.reset()
    time.sleep(0.1)
    assert names(double) == [] and double.requests() == [] and double.faults() == []


def test_reset_calls_off_what_is_under_way(double: Double) -> None:
    double.fault(kind="slow", delay=0.05)
    connection = socket.create_connection(_address(double))
    connection.sendall(_request(double))
    until(double.requests)
    double.reset()
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.close()
    assert names(double) == []


VICTIM = """
import http.client, sys
address, path, key = sys.stdin.readline().split()
connection = http.client.HTTPConnection(address, timeout=10)
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
try:
    connection.request("POST", path, '{"name": "ci"}', headers)
    connection.getresponse()
finally:
    print("survived", flush=True)
"""


@pytest.mark.parametrize(("kind", "made"), [("kill_before", []), ("kill_after", ["ci"])])
def test_kill(double: Double, kind: str, made: list[str]) -> None:
    command = [sys.executable, "-c", VICTIM]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as victim:
        double.fault(kind=kind, pgid=victim.pid)
        out, _err = victim.communicate(f"{urlsplit(double.url).netloc} {ACCOUNTS} {double.admin_key}\n", timeout=10)
    assert victim.returncode == -signal.SIGKILL and out == ""
    until(lambda: last(double)["finished"])
    assert names(double) == made and last(double)["effect"] is bool(made) and "fault_error" not in last(double)
    with pytest.raises(ConnectionError):
        Got(double)
    assert last(double)["fault_error"], "there is no one left to kill, and that can be seen"


def test_rules_in_order(double: Double) -> None:
    double.fault(kind="refuse", status=501, skip=1, times=2)
    double.fault(kind="refuse", status=502, times=1)
    assert [Got(double).status for _unused in range(5)] == [502, 501, 501, 200, 200]
    assert [(rule["seen"], rule["applied"]) for rule in double.faults()] == [(5, 2), (3, 1)]


def test_rules_choose(double: Double) -> None:
    double.fault(kind="refuse", method="GET|DELETE", path="/service_accounts$")
    assert Got(double).status == 200
    assert Got(double, "GET").status == 500
    assert Got(double, "GET", f"{ACCOUNTS}/svc_acct_x").status == 404


def test_probability(double: Double) -> None:
    def throw(seed: int) -> list[int]:
        double.clear_faults()
        double.seed(seed)
        double.fault(kind="refuse", probability=0.5)
        return [Got(double, "GET").status for _unused in range(40)]

    first = throw(1)
    assert set(first) == {200, 500} and throw(1) == first != throw(2)
    double.clear_faults()
    double.fault(kind="refuse", probability=0)
    assert Got(double).status == 200


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"kind": "explode"},
        {"kind": "refuse", "tims": 1},
        {"kind": "refuse", "times": "1"},
        {"kind": "refuse", "path": "("},
        {"kind": "kill_before"},
        {"kind": "kill_after", "pgid": 1},
    ],
)
def test_a_rule_that_makes_no_sense(double: Double, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        double.fault(**rule)
    assert double.faults() == []


def _address(double: Double) -> tuple[str, int]:
    where = urlsplit(double.url)
    return str(where.hostname), int(where.port or 0)


def _request(double: Double) -> bytes:
    body = '{"name": "ci"}'
    lines = [
        f"POST {ACCOUNTS} HTTP/1.1",
        "Host: double",
        f"Authorization: Bearer {double.admin_key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
