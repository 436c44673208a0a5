# SPDX-License-Identifier: GPL-3.0-or-later
"""The double inside the process of a test, for tests that make very many calls: the same state, endpoints and faults.

httpx asks it instead of a connection (see answering), so all that the client does stays as it is.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import types
import typing as t
from urllib.parse import parse_qsl

import httpx

from .client import Double, Json
from .control import ACTIONS
from .endpoints import Call, perform
from .errors import ApiError
from .faults import Rule
from .objects import new_id, new_value
from .server import WRONG_SHAPE, Server
from .state import Start

#: Nothing listens there.
_ADDRESS = "http://127.0.0.1:9"
_REFUSING = ("refuse", "rate_limit", "fail_after")


class InsideDouble(Double):
    """A double without a process of its own. Of the faults it has those that need no time and no process group."""

    def __init__(self, *, organization: str, projects: t.Sequence[str], secret_marker: str) -> None:
        self.admin_key, self.admin_key_id = new_value("sk-admin", secret_marker), new_id("key")
        self.organization = organization
        start = Start(organization, self.admin_key, self.admin_key_id, tuple(projects), secret_marker)
        self.server = Server(start)
        self.url, self.control = f"{_ADDRESS}/v1", _ADDRESS

    def call(self, method: str, path: str, body: t.Any = None) -> t.Any:
        path, _mark, query = path.partition("?")
        request = types.SimpleNamespace(query=dict(parse_qsl(query)))
        return ACTIONS[method, path](self.server, t.cast(t.Any, request), {} if body is None else body)

    def stop(self) -> None:
        """There is nothing to stop."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or raise what httpx raises without an answer."""
        call = Call(
            method=request.method,
            raw_path=request.url.raw_path.decode().partition("?")[0],
            query=list(request.url.params.multi_items()),
            body=request.read(),
            content_type=request.headers.get("content-type", ""),
            bearer=request.headers.get("authorization", "").removeprefix("Bearer ") or None,
            organization=request.headers.get("openai-organization"),
        )
        state = self.server.state
        entry = self.server.log.open(call, request.url.query.decode(), state)
        rule = self.server.faults.pick(call.method, call.raw_path)
        kind = rule.kind if rule else ""
        if kind == "drop_before":
            raise httpx.ReadError("")
        status, body = 0, None
        if kind not in ("refuse", "rate_limit"):
            answer = perform(state, call)
            status, body = answer.status, answer.body
            entry["effect"] = answer.effect
        if kind == "drop_after":
            raise httpx.ReadError("")
        headers = {
            "Date": email.utils.formatdate(state.seen_with(call.bearer).now(), usegmt=True),
            "Content-Type": "application/json",
            "x-request-id": new_id("req"),
        }
        if rule and kind in _REFUSING:
            status, body = _refusal(rule)
            if rule.retry_after is not None:
                headers["Retry-After"] = str(rule.retry_after)
        elif kind == "wrong_shape":
            status, body = 200, WRONG_SHAPE
        content = json.dumps(body).encode()
        if kind == "malformed":
            status, content = 200, b"<html><body>Bad gateway</body></html>"
        if kind == "truncate":
            return httpx.Response(status, headers=headers, stream=_Truncated(content), request=request)
        return httpx.Response(status, headers=headers, content=content, request=request)


@contextlib.contextmanager
def answering(double: InsideDouble) -> t.Iterator[None]:
    """Let every request of httpx go to a double."""
    true = httpx.HTTPTransport.handle_request
    httpx.HTTPTransport.handle_request = lambda _self, request: double.answer(request)  # type: ignore[method-assign]
    try:
        yield
    finally:
        httpx.HTTPTransport.handle_request = true  # type: ignore[method-assign]


class _Truncated(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> t.Iterator[bytes]:
        yield self._content[: len(self._content) // 2]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _refusal(rule: Rule) -> tuple[int, Json]:
    limited = rule.kind == "rate_limit"
    status = rule.status or (429 if limited else 500)
    code = rule.code or ("rate_limit_exceeded" if limited else None)
    error = ApiError(status, rule.message or "No, says the test.", code, None, rule.type or "server_error")
    return status, error.body()
