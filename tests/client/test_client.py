# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of OpenAI's Admin API, against the double and against servers that mean ill."""

from __future__ import annotations

import email.utils
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import typing as t

import pytest
from client.hostile import Hostile, Request, answer
from double.client import Double
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lab import COLLECTIONS, PROJECT

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import ApiError, OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI, check_endpoint

if t.TYPE_CHECKING:
    from client.conftest import Seen

MARKER = "LEAKMARKER4f1c"  # in every key that the double makes
KEY = "sk-admin-the-key-of-the-tests-0123456789"
Call = t.Callable[[OpenAI], t.Any]
StartHostile = t.Callable[..., tuple[Hostile, OpenAI]]


def create(openai: OpenAI) -> t.Any:
    return openai.create_service_account(PROJECT, "mine", 600)


def accounts(openai: OpenAI) -> t.Any:
    return openai.list_service_accounts(PROJECT)


def admin_keys(openai: OpenAI) -> t.Any:
    return openai.list_admin_keys()


def delete(openai: OpenAI) -> t.Any:
    return openai.delete_service_account(PROJECT, "svc_there")


def update(openai: OpenAI) -> t.Any:
    return openai.update_key(PROJECT, "key_there", expires_in=600, scopes=["api.model.read"])


SAFE: dict[str, tuple[Call, str, str]] = {
    "accounts": (accounts, "GET", "/service_accounts$"),
    "admin_keys": (admin_keys, "GET", "/admin_api_keys$"),
    "delete": (delete, "DELETE", "/service_accounts/"),
    "update": (update, "POST", "/api_keys/"),
}
CREATE = {"method": "POST", "path": "/service_accounts$"}


@pytest.fixture
def there(double: Double) -> dict[str, t.Any]:
    """An account with the ids that the calls above name."""
    account = double.add_service_account(PROJECT, "there", id="svc_there")
    double.clear_requests()
    return account


def prepared(double: Double, call: Call) -> Call:
    """Return a call that works: for update, on a key that there is."""
    double.add_service_account(PROJECT, "there", id="svc_there")
    key_id = next(key["id"] for key in double.state()["api_keys"])
    if call is update:
        return lambda openai: openai.update_key(PROJECT, key_id, expires_in=600, scopes=["api.model.read"])
    return call


def failure(call: Call, openai: OpenAI) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(openai)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and len(text) < 1000, text
    return caught.value


# What is sent, and what comes back.


def test_headers_and_bodies(double: Double, openai: OpenAI) -> None:
    account_id, key = openai.create_service_account(PROJECT, "name", 600)
    openai.update_key(PROJECT, key.id, expires_in=60)
    openai.update_key(PROJECT, key.id, scopes=["api.model.read"])
    openai.update_key(PROJECT, key.id, scopes=[])
    openai.create_service_account(PROJECT, "other", None)
    openai.delete_service_account(PROJECT, account_id)
    requests = double.requests()
    assert [request["body"] for request in requests] == [
        {"name": "name", "expires_in_seconds": 600},
        {"expires_in_seconds": 60},
        {"scopes": ["api.model.read"]},
        {"scopes": []},
        {"name": "other"},
        None,
    ]
    assert {request["organization"] for request in requests} == {double.organization}
    assert {request["key_id"] for request in requests} == {double.admin_key_id}


def test_headers_on_the_wire(hostile: StartHostile) -> None:
    server, openai = hostile(lambda request: answer('{"data": [], "has_more": false}'))
    accounts(openai)
    headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}" and headers["openai-organization"] == "org-x"
    other = OpenAI(server.url, KEY, None, log=print)
    accounts(other)
    assert "openai-organization" not in server.requests[1].headers
    assert all("cookie" not in request.headers for request in server.requests)


def test_a_created_key_opens_and_is_not_shown(double: Double, openai: OpenAI) -> None:
    account_id, key = openai.create_service_account(PROJECT, "name", 600)
    (made,) = double.state()["service_accounts"]
    assert (made["id"], made["name"]) == (account_id, "name")
    assert key.value in {one["value"] for one in double.state()["api_keys"]}
    assert key.expires_at and abs(key.expires_at - time.time() - 600) < 60
    assert key.value not in repr(key) and key.value not in str(key) and key.value not in repr([key])


def test_lists_are_read_to_their_end(double: Double, openai: OpenAI) -> None:
    made = double.call(
        "POST", "/service_accounts", [{"project_id": PROJECT, "name": f"a{number}"} for number in range(250)]
    )
    found = openai.list_service_accounts(PROJECT)
    assert [account.id for account in found] == [account["id"] for account in made]
    assert [account.name for account in found] == [f"a{number}" for number in range(250)]
    assert len(double.requests()) == 3
    double.call("POST", "/admin_keys", [{"name": f"k{number}"} for number in range(130)])
    keys = openai.list_admin_keys()
    assert len(keys) == len({key.id for key in keys}) == 131


def test_a_page_that_fails_does_not_shorten_a_list(double: Double, openai: OpenAI) -> None:
    double.call("POST", "/service_accounts", [{"project_id": PROJECT, "name": f"a{number}"} for number in range(250)])
    double.fault(kind="drop_before", method="GET", skip=1, times=1)
    double.fault(kind="refuse", method="GET", skip=2, times=1)
    assert len(openai.list_service_accounts(PROJECT)) == 250
    double.clear_faults()
    double.fault(kind="refuse", status=403, method="GET", skip=2)
    failure(accounts, openai)


def test_pages_that_go_round_in_circles_end(hostile: StartHostile) -> None:
    for length in (1, 2, 3):
        turns = iter(range(60))

        def circle(request: Request, length: int = length, turns: t.Iterator[int] = turns) -> bytes:
            turn = next(turns, None)
            row = {"id": f"x{(turn or 0) % length}", "name": "n", "created_at": 1}
            # After 60 pages it ends, so that the test does.
            return answer(json.dumps({"data": [row], "has_more": turn is not None}))

        _server, openai = hostile(circle)
        failure(accounts, openai)


@pytest.mark.parametrize("project", ["../../models", "a/b", "a?b", "a#b", "a b", "%2e%2e", "é"])
def test_ids_do_not_lead_elsewhere(hostile: StartHostile, project: str) -> None:
    server, openai = hostile(lambda request: answer('{"deleted": true, "data": []}'))
    openai.delete_service_account(project, project)
    target = server.requests[0].target
    assert re.fullmatch(r"/v1/organization/projects/[^/?#]+/service_accounts/[^/?#]+", target), target


# Repeating.


@pytest.mark.parametrize("name", sorted(SAFE))
@pytest.mark.parametrize(
    "kind",
    [
        "refuse",
        "rate_limit",
        "drop_before",
        "drop_after",
        "fail_after",
        "truncate",
        "malformed",
        "huge",
        "slow",
        "slow_after",
    ],
)
def test_safe_calls_are_repeated(double: Double, openai: OpenAI, seen: Seen, name: str, kind: str) -> None:
    call, method, path = SAFE[name]
    call = prepared(double, call)
    double.fault(kind=kind, method=method, path=path, times=1, delay=0.05, size=9 * 2**20)
    call(openai)
    repeated = int(not kind.startswith("slow"))
    assert len([request for request in double.requests() if request["method"] == method]) == 1 + repeated
    assert len(seen.waits) == repeated
    if name == "delete":
        assert not double.state()["service_accounts"]


@pytest.mark.parametrize("name", sorted(SAFE))
@pytest.mark.parametrize("kind", ["refuse", "rate_limit", "drop_before", "truncate", "malformed", "fail_after"])
def test_repeating_is_bounded(double: Double, openai: OpenAI, seen: Seen, name: str, kind: str) -> None:
    call, method, path = SAFE[name]
    call = prepared(double, call)
    double.fault(kind=kind, method=method, path=path)
    failure(call, openai)
    requests = len(double.requests())
    assert 3 <= requests <= 10 and len(seen.waits) == requests - 1
    assert sum(seen.waits) < 60 and all(wait >= 0 for wait in seen.waits)
    assert seen.waits[0] < 1 and seen.waits[-1] > seen.waits[0]


def test_waits_differ_from_one_client_to_the_next(double: Double, openai: OpenAI, seen: Seen) -> None:
    """Many that were refused at one instant must not come back at one instant."""
    double.fault(kind="refuse", status=503, method="GET")
    for _unused in range(4):
        failure(accounts, openai)
    rounds = len(seen.waits) // 4
    assert len({round(wait, 4) for wait in seen.waits[::rounds]}) > 1


@pytest.mark.parametrize("status", [400, 401, 403, 405, 409, 413, 422, 301, 302, 307, 308, 304])
@pytest.mark.parametrize("name", ["create", *sorted(SAFE)])
def test_refusals_are_final(double: Double, openai: OpenAI, seen: Seen, name: str, status: int) -> None:
    call, method, path = (create, CREATE["method"], CREATE["path"]) if name == "create" else SAFE[name]
    double.fault(kind="refuse", status=status, method=method, path=path)
    error = failure(call, openai)
    assert error.status == status and not error.may_have_happened
    assert len([request for request in double.requests() if re.search(path, request["path"])]) == 1
    assert not seen.waits


@pytest.mark.parametrize(
    "kind", ["drop_before", "drop_after", "fail_after", "truncate", "malformed", "wrong_shape", "huge", "refuse"]
)
def test_a_create_that_may_have_happened_is_sent_once(double: Double, openai: OpenAI, seen: Seen, kind: str) -> None:
    double.fault(kind=kind, size=9 * 2**20, **CREATE)
    error = failure(create, openai)
    assert error.may_have_happened
    assert len(double.requests()) == 1 and not seen.waits


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408])
def test_a_create_that_a_gateway_gave_up_on_is_sent_once(double: Double, openai: OpenAI, status: int) -> None:
    double.fault(kind="fail_after", status=status, retry_after=1, **CREATE)
    error = failure(create, openai)
    assert error.may_have_happened and error.status == status
    assert len(double.requests()) == 1 and len(double.state()["service_accounts"]) == 1


def test_a_create_that_was_not_let_in_is_sent_again(double: Double, openai: OpenAI, seen: Seen) -> None:
    double.fault(kind="rate_limit", times=2, **CREATE)
    create(openai)
    assert len(double.requests()) == 3 and len(seen.waits) == 2
    assert len(double.state()["service_accounts"]) == 1


def test_a_create_that_reached_nobody_is_sent_again(seen: Seen) -> None:
    openai = OpenAI("http://127.0.0.1:1/v1", KEY, None, log=seen.lines.append, sleep=seen.waits.append)
    error = failure(create, openai)
    assert not error.may_have_happened and error.status is None
    assert len(seen.lines) == len(seen.waits) + 1 > 3


@pytest.mark.parametrize("header", ["1", "0", "7", "2.5", "59"])
def test_retry_after_is_obeyed(double: Double, openai: OpenAI, seen: Seen, header: str) -> None:
    double.fault(kind="rate_limit", retry_after=header, times=1)
    double.fault(kind="refuse", status=503, retry_after=header, times=1)
    accounts(openai)
    assert len(seen.waits) == 2
    assert all(float(header) <= wait <= float(header) + 1 for wait in seen.waits)


def test_what_one_thread_is_told_all_heed(double: Double) -> None:
    """Calls that begin while another one waits do not ask before the time that OpenAI has named."""
    told = threading.Event()
    openai = OpenAI(double.url, double.admin_key, None, log=lambda line: " 429 " in line and told.set())
    double.fault(kind="rate_limit", retry_after=1, times=1)
    first = threading.Thread(target=accounts, args=(openai,))
    first.start()
    assert told.wait(10)
    # The line is written before the answer is judged.
    time.sleep(0.1)
    accounts(openai)
    first.join()
    at = [request["time"] for request in double.requests()]
    assert len(at) == 3 and min(at[1:]) - at[0] >= 1


def test_retry_after_as_a_date(double: Double, openai: OpenAI, seen: Seen) -> None:
    double.fault(kind="rate_limit", retry_after=email.utils.formatdate(time.time() + 20, usegmt=True), times=1)
    accounts(openai)
    assert 18 <= seen.waits[0] <= 21


@pytest.mark.parametrize(
    "header", ["3600", "1e9", "inf", "Wed, 21 Oct 2099 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "9" * 400]
)
def test_nobody_waits_for_an_hour(double: Double, openai: OpenAI, seen: Seen, header: str) -> None:
    double.fault(kind="rate_limit", retry_after=header)
    assert failure(accounts, openai).status == 429
    assert not seen.waits and len(double.requests()) == 1


@pytest.mark.parametrize(
    "header",
    [
        "soon",
        "-5",
        "nan",
        "-inf",
        "",
        "Wed, 21 Oct 1999 07:28:00 GMT",
        "Wed, 99 Oct 2099",
        "0x10",
        "1;2",
        "٣",
        "Mon, 01 Jan 2001 00:00:00 +99999999999",
        "Mon, 01 Jan 0001 00:00:00 -0000",
    ],
)
def test_a_retry_after_that_makes_no_sense(hostile: StartHostile, seen: Seen, header: str) -> None:
    left = iter(range(2))

    def script(request: Request) -> bytes:
        if next(left, None) is None:
            return answer('{"data": []}')
        return answer("{}", "429 Too Many Requests", **{"Retry-After": header.encode().decode("latin-1")})

    _server, openai = hostile(script)
    assert accounts(openai) == []
    assert len(seen.waits) == 2 and all(0 <= wait < 60 for wait in seen.waits)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.floats().map(str), st.integers().map(str), st.text("0123456789 :,+-abcdeMonTuJanGMT", max_size=40)))
@example("Mon, 01 Jan 2001 00:00:00 +9999")
def test_any_retry_after_is_bounded(header: str) -> None:
    from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.transport import _retry_after

    seconds = _retry_after(header)
    assert seconds is None or seconds >= 0


# Errors.


def test_errors_keep_what_openai_said(double: Double, openai: OpenAI) -> None:
    double.fault(kind="refuse", status=418, message="I am a teapot.", code="teapot", type="tea_error")
    error = failure(accounts, openai)
    assert (error.status, error.code, error.error_type) == (418, "teapot", "tea_error")
    assert error.request_id and error.request_id.startswith("req_") and error.request_id in str(error)
    assert "I am a teapot" in str(error) and "418" in str(error) and "teapot" in str(error)


def test_a_wrong_key_is_an_error_without_the_key(double: Double, seen: Seen) -> None:
    openai = OpenAI(double.url, "sk-admin-wrong-key-0123456789abcdef", None, log=seen.lines.append)
    error = failure(accounts, openai)
    assert error.status == 401 and error.code == "invalid_api_key"
    # OpenAI itself repeats the beginning and the end of the key that it refuses.
    assert "cdef" not in str(error) and "sk-admin" not in str(error)


BODIES = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"{",
    b"\xff\xfe{}",
    b"\0",
    b"{}",
    b'{"data": null}',
    b'{"data": {}}',
    b'{"data": "rows"}',
    b'{"data": [1]}',
    b'{"data": [null]}',
    b'{"data": [[]]}',
    b'{"data": [{}]}',
    b'{"data": [{"id": 1, "name": "n", "created_at": 1}]}',
    b'{"data": [{"id": "", "name": "n", "created_at": 1}]}',
    b'{"data": [{"id": "x", "name": null, "created_at": 1}]}',
    b'{"data": [{"id": "x", "name": "n", "created_at": "1"}]}',
    b'{"data": [{"id": "x", "name": "n", "created_at": true}]}',
    b'{"data": [{"id": "x", "name": "n", "created_at": NaN}]}',
    b'{"deleted": "yes"}',
    b'{"deleted": 1}',
    b'{"id": "x", "api_key": null}',
    b'{"id": "x", "api_key": {}}',
    b'{"id": "x", "api_key": {"id": "k", "value": ""}}',
    b'{"id": "x", "api_key": {"id": "k", "value": ["v"]}}',
    b'{"id": 5, "api_key": {"id": "k", "value": "v"}}',
    b'{"id": "x", "api_key": {"id": "k", "value": "v", "expires_at": "tomorrow"}}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"data": [], "x": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("name", ["create", "accounts", "admin_keys", "delete"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: ascii(body[:40]))
def test_answers_of_the_wrong_shape_are_errors(hostile: StartHostile, name: str, body: bytes) -> None:
    _server, openai = hostile(lambda request: answer(body))
    call = create if name == "create" else SAFE[name][0]
    error = failure(call, openai)
    assert "cannot be understood" in str(error) or "does not say" in str(error)
    assert error.may_have_happened or name != "create"


def test_a_shape_that_a_list_may_have(hostile: StartHostile) -> None:
    rows = [{"id": "x", "name": "n", "created_at": 1, "more": {}}, {"id": "y", "name": "n\n\0", "created_at": -1}]
    _server, openai = hostile(lambda request: answer(json.dumps({"data": rows, "further": [1]})))
    assert [account.id for account in accounts(openai)] == ["x", "y"]


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n{}",
        answer(b"not gzip", Content_Encoding="gzip"),
        answer(b"not deflate", Content_Encoding="deflate"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    ],
    ids=range(15),
)
@pytest.mark.parametrize("name", ["create", "accounts", "delete", "update"])
def test_answers_that_are_not_even_http(hostile: StartHostile, seen: Seen, name: str, bytes_: bytes) -> None:
    server, openai = hostile(lambda request: bytes_)
    call = create if name == "create" else SAFE[name][0]
    error = failure(call, openai)
    if name == "create":
        assert len(server.requests) == 1
        assert error.may_have_happened or b" 101 " in bytes_
    assert len(seen.waits) < 10


def test_a_bomb_of_gzip_does_not_fill_the_memory(hostile: StartHostile) -> None:
    import gzip
    import resource

    bomb = gzip.compress(b"{" + b" " * (200 * 2**20), 6)
    _server, openai = hostile(lambda request: answer(bomb, Content_Encoding="gzip"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure(create, openai)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_an_endless_answer_is_given_up(double: Double, openai: OpenAI) -> None:
    double.fault(kind="huge", **CREATE)
    assert "larger than" in str(failure(create, openai))


# Secrets.


def shown(error: BaseException) -> str:
    """Return all that might be printed of an error."""
    whole = "".join(traceback.format_exception(error))
    return "\n".join([whole, str(error), repr(error), repr(error.args), repr(vars(error))])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("name", ["create", *sorted(SAFE)])
def test_an_echoed_key_is_in_nothing_that_is_shown(
    double: Double, openai: OpenAI, seen: Seen, name: str, status: int
) -> None:
    double.fault(
        kind="refuse",
        status=status,
        echo_authorization=True,
        message=f"you sent {double.admin_key}",
        code=f"bad_{double.admin_key}",
        type=f"type_{double.admin_key}",
        method=None if name == "create" else SAFE[name][1],
    )
    call = create if name == "create" else SAFE[name][0]
    try:
        call(openai)
    except ApiError as error:
        assert MARKER not in shown(error)
    else:
        assert status == 404 and name in ("accounts", "delete")
    assert MARKER not in "\n".join(seen.lines) and seen.lines


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Oops"])
@pytest.mark.parametrize(
    "where", ["x-request-id", "message", "code", "type", "body", "location", "content-type", "reason"]
)
@pytest.mark.parametrize("key", [KEY, "a-key-that-does-not-begin-like-one-98765"])
def test_a_server_that_echoes_the_key_anywhere(
    hostile: StartHostile, seen: Seen, where: str, status: str, key: str
) -> None:
    def script(request: Request) -> bytes:
        echoed = request.headers["authorization"]
        text = echoed.removeprefix("Bearer ")
        error = {"message": "m", "type": "t", "code": "c"}
        if where in error:
            error[where] = f"<{text}>"
        body = json.dumps({"error": error}) if where != "body" else echoed
        headers = {where: text} if "-" in where or where == "location" else {}
        return answer(body, f"{status[:3]} {text}" if where == "reason" else status, **headers)

    _server, openai = hostile(script, key)
    for call in (create, accounts, delete):
        error = failure(call, openai)
        assert key not in shown(error)
    assert key not in "\n".join(seen.lines)


def test_a_new_key_in_a_refusal_is_not_shown(hostile: StartHostile, seen: Seen) -> None:
    """A broken answer to a create may hold the key that it made."""
    new = "sk-svcacct-the-new-key_0123456789"
    bodies = [
        json.dumps({"error": {"message": f"could not store {new}", "code": new, "type": new}}),
        json.dumps({"id": 5, "api_key": {"id": "k", "value": new}}),
        json.dumps({"id": "x", "api_key": {"id": 7, "value": new}}),
        f"<html>{new}</html>",
    ]
    for status in ("200 OK", "400 Bad Request", "500 Oops"):
        for body in bodies:
            _server, openai = hostile(lambda request, body=body, status=status: answer(body, status, x_request_id=new))
            assert new not in shown(failure(create, openai))
    assert new not in "\n".join(seen.lines)


def test_a_client_does_not_show_its_key(double: Double, openai: OpenAI) -> None:
    assert double.admin_key not in repr(openai) and double.admin_key not in str(openai)


# Where a key may be sent.


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.openai.com/v1/",
        "https://gateway.example:8443/openai/v1",
        "http://127.0.0.1:8080/v1",
        "http://127.8.9.1/v1",
        "http://localhost:1234",
        "http://LOCALHOST/v1",
        "http://[::1]:8080/v1",
        "https://[2001:db8::1]/v1",
    ],
)
def test_good_endpoints(url: str) -> None:
    assert check_endpoint(url, "api_endpoint") == url.rstrip("/")
    OpenAI(url, KEY, None, log=print)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",
        "http://127.0.0.1.evil.com/v1",
        "http://localhost.evil.com",
        "http://evil.com/127.0.0.1",
        "http://localhost@evil.com/v1",
        "http://127.0.0.1:80@evil.com",
        "http://user:password@127.0.0.1/v1",
        "https://user:password@api.openai.com/v1",
        "https://user@api.openai.com",
        "http://127.0.0.1\\@evil.com",
        "http://127.0.0.1\\.evil.com",
        "http://127.0.0.1#@evil.com",
        "http://127.0.0.1?@evil.com",
        "http://evil.com#127.0.0.1",
        "http://[::1].evil.com/",
        "http://[::1]evil.com/",
        "http://[::2]/v1",
        "http://[::ffff:8.8.8.8]/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1%2eevil.com/",
        "http://localhost%00.evil.com/",
        "http://ⓛocalhost/",
        "http://１27.0.0.1/",  # noqa: RUF001
        "http:///x",
        "http://",
        "http:127.0.0.1",
        "https:/api.openai.com",
        "https:///v1",
        "https://:443/v1",
        "//api.openai.com/v1",
        "api.openai.com/v1",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "httpx://127.0.0.1",
        " https://api.openai.com/v1",
        "https://api.openai.com/v1 ",
        "https://api.openai.com /v1",
        "https://api.openai.com/v1\n",
        "https://api.open\nai.com/v1",
        "https://api.openai.com/v1\r\nX-Evil: 1",
        "\thttps://api.openai.com/v1",
        "https://api.openai.com\0/v1",
        "https://api.openai.com\u2028/v1",
        "https://api.openai.com:99999/v1",
        "https://api.openai.com:-1/v1",
        "https://api.openai.com:0/v1",
        "https://api.openai.com:x/v1",
        "https://[::1",
        "https://[nonsense]/v1",
        "https://api.openai.com/v1?x=1",
        "https://api.openai.com/v1#x",
        "https://api.openai.com/v1?",
        "https://api.openai.com/v1#",
        "",
        " ",
        None,
        7,
        b"https://api.openai.com/v1",
        ["https://api.openai.com/v1"],
    ],
    ids=ascii,
)
def test_bad_endpoints(url: t.Any) -> None:
    for check in (lambda: check_endpoint(url, "api_endpoint"), lambda: OpenAI(url, KEY, None, log=print)):
        with pytest.raises(OpenAICredsError) as caught:
            check()
        text = str(caught.value)
        assert text.startswith("api_endpoint:") and len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://a..b/v1",
        "https://.example/v1",
        f"https://{'a' * 64}.invalid/v1",
        f"https://{'a.' * 150}invalid/v1",
        "https://☃.invalid/v1",
        "https://ex_ample.invalid/v1",
        "https://-.invalid/v1",
        "https://xn--a.invalid/v1",
        "https://xn--/v1",
        "https://a%zz.invalid/v1",
        "https://a b.invalid/v1",
        "https://a\\b.invalid/v1",
        "https://a^b.invalid/v1",
        "https://a<b>.invalid/v1",
        "https://[::1%25eth9]:1/v1",
        "https://a.invalid:65535/v1",
        f"https://a.invalid/{'x' * 70_000}",
        "https://a.invalid/\ud800",
    ],
    ids=lambda url: ascii(url)[:40],
)
def test_an_endpoint_that_cannot_be_reached_is_a_sentence(seen: Seen, url: str) -> None:
    """Whatever gets past the check of its form."""
    with pytest.raises(OpenAICredsError) as caught:
        accounts(OpenAI(url, KEY, None, log=seen.lines.append, sleep=seen.waits.append))
    assert len(str(caught.value).splitlines()) == 1
    assert KEY not in "\n".join([shown(caught.value), *seen.lines])


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("name", ["create", *sorted(SAFE)])
def test_redirects_are_not_followed(hostile: StartHostile, status: str, name: str) -> None:
    other, _unused = hostile(lambda request: answer('{"data": [], "deleted": true}'))
    server, openai = hostile(lambda request: answer("{}", status, Location=f"{other.url}/stolen"))
    error = failure(create if name == "create" else SAFE[name][0], openai)
    assert error.status == int(status[:3])
    assert len(server.requests) == 1 and other.requests == []


def test_proxies_are_not_used_for_loopback(
    double: Double, hostile: StartHostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over http the proxy would read the key."""
    proxy, _unused = hostile(lambda request: answer("{}"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for url in (double.url, double.url.replace("127.0.0.1", "localhost")):
        openai = OpenAI(url, double.admin_key, None, log=print, sleep=lambda seconds: None)
        assert accounts(openai) == []
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "nonsense"),
        ("ALL_PROXY", "ftp://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://127.0.0.1:notaport"),
    ],
)
def test_a_proxy_that_is_none_is_a_sentence(monkeypatch: pytest.MonkeyPatch, seen: Seen, name: str, value: str) -> None:
    for other in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(OpenAICredsError) as caught:
        accounts(OpenAI("https://openai.invalid/v1", KEY, None, log=seen.lines.append, sleep=seen.waits.append))
    assert len(str(caught.value).splitlines()) == 1


# The log.

LINE = re.compile(
    r"OpenAI (GET|POST|DELETE) /organization/\S+ (\d{3}|[A-Z]\w+|no answer) (-|[\w.-]{1,80}) \d+ ms attempt \d+"
)


def test_a_line_for_each_attempt(double: Double, openai: OpenAI, seen: Seen) -> None:
    double.fault(kind="refuse", method="GET", times=1)
    double.fault(kind="drop_before", method="GET", times=1)
    double.fault(kind="huge", method="GET", times=1, size=9 * 2**20)
    accounts(openai)
    create(openai)
    assert len(seen.lines) == 5 == len(double.requests())
    assert all(LINE.fullmatch(line) for line in seen.lines), seen.lines
    assert [line.rpartition(" ")[2] for line in seen.lines] == ["1", "2", "3", "4", "1"]
    assert [" 500 " in line for line in seen.lines] == [True, False, False, False, False]
    assert "req_" in seen.lines[3]
    assert MARKER not in "\n".join(seen.lines)


def test_a_request_id_cannot_break_the_log(hostile: StartHostile, seen: Seen) -> None:
    _server, openai = hostile(lambda request: answer("{}", "400 No", x_request_id="a b\x1b[31m\tevil" + "x" * 500))
    error = failure(accounts, openai)
    assert all(LINE.fullmatch(line) for line in seen.lines), seen.lines
    assert "\x1b" not in str(error)


# Deleting.


@pytest.mark.parametrize("project", [PROJECT, "proj_archived"])
def test_what_has_gone_is_deleted(double: Double, openai: OpenAI, project: str) -> None:
    double.add_project("old", "proj_archived", status="archived")
    double.clear_requests()
    openai.delete_service_account(project, "svc_gone")
    assert openai.list_service_accounts(project) == []


def test_a_404_of_the_project_proves_nothing(double: Double, openai: OpenAI) -> None:
    """The admin key may belong to another organization by now."""
    for call in (
        lambda openai: openai.delete_service_account("proj_nowhere", "svc_gone"),
        lambda openai: openai.list_service_accounts("proj_nowhere"),
    ):
        assert failure(call, openai).status == 404


def test_deleting_twice(double: Double, openai: OpenAI, there: dict[str, t.Any]) -> None:
    for _unused in range(2):
        openai.delete_service_account(PROJECT, there["id"])
    assert double.state()["service_accounts"] == []


def test_a_400_of_a_project_that_is_alive_is_an_error(double: Double, openai: OpenAI, there: dict[str, t.Any]) -> None:
    double.fault(kind="refuse", status=400, path="/service_accounts")
    assert failure(delete, openai).status == 400
    assert failure(accounts, openai).status == 400


def test_a_400_whose_project_cannot_be_looked_at_is_an_error(
    double: Double, openai: OpenAI, there: dict[str, t.Any]
) -> None:
    double.fault(kind="refuse", status=400, path="/service_accounts")
    double.fault(kind="refuse", status=403, method="GET", path="/projects/[^/]+$")
    assert failure(delete, openai).status == 400


@pytest.mark.parametrize(
    "body", ['{"deleted": false}', '{"deleted": null}', "{}", '{"deleted": "true"}', '{"id": "x"}']
)
def test_what_was_not_deleted_is_an_error(hostile: StartHostile, body: str) -> None:
    _server, openai = hostile(lambda request: answer(body))
    failure(delete, openai)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>404 page not found</html>",
        "{}",
        '{"error": {"message": "Invalid URL (DELETE /organization/…)", "code": null}}',
    ],
)
@pytest.mark.parametrize("call", [delete, accounts])
def test_a_404_that_is_not_about_the_account_is_an_error(hostile: StartHostile, call: Call, body: str) -> None:
    """A gateway or a wrong endpoint knows no path of ours. What it says does not prove that a key has ended."""
    _server, openai = hostile(lambda request: answer(body, "404 Not Found"))
    assert failure(call, openai).status == 404


def test_an_endpoint_without_its_version_deletes_nothing(double: Double, there: dict[str, t.Any]) -> None:
    openai = OpenAI(double.url.removesuffix("/v1"), double.admin_key, None, log=print, sleep=lambda seconds: None)
    assert failure(delete, openai).status == 404
    assert len(double.state()["service_accounts"]) == 1


# Without httpx.

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("httpx", "httpcore"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import client
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.config import config
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import issue as leases
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep import cleanup
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases import share as reuse
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine import errors
from ansible_collections.ephemeral.openai.plugins.action import openai_creds, openai_config, openai_role

try:
    client.OpenAI("https://api.openai.com/v1", "sk-admin-key", None, log=print)
except errors.OpenAICredsError as error:
    print(error)
"""


def test_without_httpx_there_is_a_line_that_names_it() -> None:
    done = subprocess.run(
        (sys.executable, "-c", WITHOUT),
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, done.stdout
    assert "httpx" in done.stdout and "ephemeral.openai" in done.stdout and "pip install httpx" in done.stdout


def test_a_client_can_be_used_by_many_threads(double: Double, openai: OpenAI) -> None:
    import threading

    made: list[str] = []
    threads = [
        threading.Thread(
            target=lambda number=number: made.append(openai.create_service_account(PROJECT, f"n{number}", 60)[0])
        )
        for number in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 24 == len(double.state()["service_accounts"])
