# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP side of the double: the API under /v1 with its faults and its log, the control API under /_double."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import secrets
import signal
import time
from typing import Any

from aiohttp import web

from .endpoints import Answer, Call, perform
from .errors import ApiError
from .faults import Faults, Rule
from .log import RequestLog
from .state import Start, State

WRONG_SHAPE: dict[str, Any] = {
    "object": 7,
    "id": None,
    "name": ["not", "a", "name"],
    "api_key": "not an object",
    "value": {"not": "a string"},
    "data": "not a list",
    "has_more": "perhaps",
    "created_at": "yesterday",
    "redacted_value": 3.5,
}


class Server:
    """One organization and those who talk to it."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.log = RequestLog()
        self.later: set[asyncio.Task[None]] = set()
        self.state = State(start)
        self.faults = Faults()

    def reset(self) -> None:
        """Back to the start. What `late` faults had put off does not happen any more."""
        for task in self.later:
            task.cancel()
        self.later.clear()
        self.state = State(self.start)
        self.faults = Faults()
        self.log.entries.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        call = await _call(request)
        # Kept for as long as the request lasts: what is still under way at a reset must not show in the new state.
        state = self.state
        entry = self.log.open(call, request.rel_url.raw_query_string, state.seen_with(call.bearer))
        rule = self.faults.pick(call.method, call.raw_path)
        if rule is not None:
            entry["fault"] = rule.kind
        if rule is not None and rule.kind == "late":
            self._put_off(state, call, entry, rule.delay)
            return self._drop(request, entry)
        # Half on the way there, half on the way back: a client that dies while it waits may die before or after the
        # effect.
        latency = state.settings.latency / 2
        if rule is not None and rule.kind == "slow":
            await asyncio.sleep(rule.delay)
        await _pause(latency)
        if rule is not None and rule.kind in ("drop_before", "kill_before"):
            _kill(rule, entry)
            return self._drop(request, entry)
        refused = rule is not None and rule.kind in ("refuse", "rate_limit")
        answer = _refusal(rule, call) if rule is not None and refused else _perform(state, call, entry)
        if rule is not None and rule.kind in ("drop_after", "kill_after"):
            _kill(rule, entry)
            return self._drop(request, entry)
        if rule is not None and rule.kind == "slow_after":
            await asyncio.sleep(rule.delay)
        await _pause(latency)
        response = await self._respond(request, call, answer, rule, began, state.seen_with(call.bearer))
        entry["status"] = response.status
        entry["finished"] = time.time()
        return response

    def _put_off(self, state: State, call: Call, entry: dict[str, Any], delay: float) -> None:
        async def later() -> None:
            await asyncio.sleep(delay)
            _perform(state, call, entry)

        task = asyncio.get_running_loop().create_task(later())
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    def _drop(self, request: web.Request, entry: dict[str, Any]) -> web.StreamResponse:
        """Reset the connection. What is returned finds no one to go to."""
        entry["finished"] = time.time()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _respond(
        self, request: web.Request, call: Call, answer: Answer, rule: Rule | None, began: float, state: State
    ) -> web.StreamResponse:
        headers = {
            "Date": email.utils.formatdate(state.now(), usegmt=True),
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-processing-ms": str(int((time.monotonic() - began) * 1000)),
            "openai-version": "2020-10-01",
            "openai-organization": state.start.organization,
            "Content-Type": "application/json",
        }
        status, body = answer.status, answer.body
        if rule is not None:
            if rule.kind == "fail_after":
                refusal = _refusal(rule, call)
                status, body = refusal.status, refusal.body
            elif rule.kind == "wrong_shape":
                status, body = rule.status or 200, WRONG_SHAPE if rule.body is None else rule.body
            if rule.kind in ("refuse", "rate_limit", "fail_after") and rule.retry_after is not None:
                headers["Retry-After"] = str(rule.retry_after)
        content = json.dumps(body).encode()
        if rule is not None and rule.kind == "malformed":
            status = rule.status or 200
            content = f"<html><body>Bad gateway{_echo(rule, call)}</body></html>".encode()
        elif rule is not None and rule.kind == "truncate":
            return await _truncated(request, status, headers, content)
        elif rule is not None and rule.kind == "huge":
            return await _huge(request, status, headers, content, rule.size)
        return web.Response(status=status, headers=headers, body=content)


def _perform(state: State, call: Call, entry: dict[str, Any]) -> Answer:
    answer = perform(state, call)
    entry["effect"] = answer.effect
    return answer


async def _call(request: web.Request) -> Call:
    scheme, _blank, bearer = request.headers.get("Authorization", "").partition(" ")
    return Call(
        method=request.method,
        raw_path=request.rel_url.raw_path,
        query=list(request.rel_url.query.items()),
        body=await request.read(),
        content_type=request.content_type,
        bearer=bearer.strip() if scheme.lower() == "bearer" else None,
        organization=request.headers.get("OpenAI-Organization"),
        project=request.headers.get("OpenAI-Project"),
    )


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _kill(rule: Rule, entry: dict[str, Any]) -> None:
    if rule.pgid is None:
        return
    try:
        os.killpg(rule.pgid, signal.SIGKILL)
    except OSError as error:
        # A test that meant to kill someone has to be able to see that it did not.
        entry["fault_error"] = str(error)


def _echo(rule: Rule, call: Call) -> str:
    return f" (Authorization: Bearer {call.bearer})" if rule.echo_authorization else ""


def _refusal(rule: Rule, call: Call) -> Answer:
    if rule.kind == "rate_limit":
        status, kind, code, message = 429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."
    else:
        status, kind, code, message = (
            500,
            "server_error",
            None,
            "The server had an error while processing your request.",
        )
    error = ApiError(
        rule.status or status,
        (rule.message or message) + _echo(rule, call),
        rule.code or code,
        None,
        rule.type or kind,
    )
    return Answer(error.status, error.body())


async def _truncated(request: web.Request, status: int, headers: dict[str, str], content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(content)
    response.force_close()
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _huge(
    request: web.Request, status: int, headers: dict[str, str], content: bytes, size: int
) -> web.StreamResponse:
    """The true answer with a member of padding more: valid JSON for whoever reads it to its end."""
    head, tail = content[:-1] + b', "padding": "', b'"}'
    padding = max(size - len(head) - len(tail), 0)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(head) + padding + len(tail)
    block = b"x" * 65_536
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write(head)
        while padding > 0:
            await response.write(block[:padding])
            padding -= len(block)
        await response.write(tail)
        await response.write_eof()
    return response
