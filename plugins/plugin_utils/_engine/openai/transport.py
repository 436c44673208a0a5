# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls over HTTP: the connection, retries, limits and the log.

What can be repeated safely is retried here; a create that may have happened is never repeated, but reported as such, so
that its caller finds it again by name.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import os
import random
import re
import ssl
import time
import typing as t

from ..errors import ApiError, ApiFailure, OpenAICredsError, missing_package
from ..run.threads import in_background
from .answers import Answer, Malformed
from .certificates import trusted_certificates
from .endpoint import host_and_port
from .failures import redact, refusal, unanswered_errors, why_unanswered
from .proxies import Proxy, find_proxy

try:
    # Loaded when a connection is first made otherwise, and so in every worker anew.
    import encodings.idna  # noqa: F401 pylint: disable=unused-import

    import httpcore  # noqa: F401 pylint: disable=unused-import
    import httpx
except ImportError:
    HAS_HTTPX = False
else:
    HAS_HTTPX = True
    # Where Ansible keeps a log, they would write a line of their own for every call.
    for _name in ("httpx", "httpcore"):
        logging.getLogger(_name).setLevel(logging.WARNING)
    # Reading the certificates of all authorities takes longer than a call: once per run, not once per worker, and while the
    # rest is imported.
    in_background(trusted_certificates)

_TIMEOUT_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 6
#: A call that has had no answer for so long is not repeated: enough for a second attempt after one that was never answered.
_PATIENCE_SECONDS = _TIMEOUT_SECONDS + 1.0
_BACKOFF_SECONDS = 0.25
_LONGEST_BACKOFF_SECONDS = 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
#: Threads that were told to wait do not go on all at once.
_SPREAD_SECONDS = 0.1
_LARGEST_ANSWER = 8 * 2**20


#: The code of a call that had no answer, or none that could be read.
NO_ANSWER = "none"
#: The folders of the Admin API that an id stands behind.
_COLLECTIONS = {
    "projects": "{project_id}",
    "service_accounts": "{service_account_id}",
    "api_keys": "{api_key_id}",
    "admin_api_keys": "{admin_api_key_id}",
}


class Transport:
    """The way to one endpoint, which has been checked, with one admin key; see OpenAI for the arguments."""

    def __init__(
        self,
        endpoint: str,
        admin_api_key: str,
        organization_id: str | None,
        *,
        log: t.Callable[[str], None],
        warn: t.Callable[[str], None],
        current_key: t.Callable[[], str | None],
        hear_time: t.Callable[[float], None],
        hear_error: t.Callable[[ApiFailure], None],
        sleep: t.Callable[[float], None],
    ) -> None:
        if not HAS_HTTPX:
            raise OpenAICredsError(missing_package("httpx", "ephemeral.openai"))
        self._endpoint = endpoint
        host, port = host_and_port(self._endpoint)
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._key = admin_api_key
        self._current_key = current_key
        self._hear_time = hear_time
        self._hear_error = hear_error
        self._log = log
        self._sleep = sleep
        #: Until when OpenAI wants to be left alone, by time.monotonic: what one thread is told, all heed.
        self._quiet_until = 0.0
        tls = trusted_certificates()
        self._proxy = find_proxy(self._endpoint, warn, os.environ)
        self._http = httpx.Client(
            headers={"OpenAI-Organization": organization_id} if organization_id else {},
            verify=tls,
            # What the environment says of proxies and certificates has been read above.
            trust_env=False,
            proxy=_httpx_proxy(self._proxy, tls),
            follow_redirects=False,
            timeout=httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Answer | None = None,
        query: t.Mapping[str, str | list[str]] | None = None,
        create: bool = False,
    ) -> Answer:
        """Call OpenAI and return its answer, after retries where repeating is safe; raises ApiError."""
        if (quiet := self._quiet_until - time.monotonic()) > 0:
            self._sleep(quiet + random.uniform(0.0, _SPREAD_SECONDS))
        begun = time.monotonic()
        for attempt in range(1, _ATTEMPTS + 1):
            key = self._key
            try:
                return self._attempt(method, path, body, query, create, attempt, key)
            except ApiError as error:
                self._tell_error(path, error)
                if error.status != 401 or attempt == _ATTEMPTS or not self._is_superseded(key):
                    raise
            except _Retry as retry:
                self._tell_error(path, retry.error)
                wait = min(_LONGEST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                if retry.after is not None:
                    wait = retry.after + random.uniform(0.0, _SPREAD_SECONDS)
                unanswered = retry.error.status is None and time.monotonic() - begun >= _PATIENCE_SECONDS
                if attempt == _ATTEMPTS or unanswered or wait > _LONGEST_RETRY_AFTER_SECONDS:
                    raise retry.error from None
                if retry.after is not None:
                    self._quiet_until = max(self._quiet_until, time.monotonic() + retry.after)
                self._sleep(wait)
        raise AssertionError("unreachable")

    def _is_superseded(self, key: str) -> bool:
        """Say whether there is another key than this one, which OpenAI has refused, and go over to it."""
        current = self._current_key()
        if current is None or current == key:
            return False
        self._key = current
        return True

    def _attempt(
        self,
        method: str,
        path: str,
        body: Answer | None,
        query: t.Mapping[str, str | list[str]] | None,
        create: bool,
        attempt: int,
        key: str,
    ) -> Answer:
        """Call once. Raises ApiError where it is final, _Retry where repeating is safe."""
        where = f"{method} {path}"
        started = time.monotonic()
        seen, request_id = "no answer", None
        try:
            headers = {"Authorization": f"Bearer {key}"}
            with self._http.stream(method, self._endpoint + path, json=body, params=query, headers=headers) as response:
                seen, request_id = str(response.status_code), _request_id(response, key)
                self._tell_time(response)
                content = _read(response, started + 2 * _TIMEOUT_SECONDS)
        except unanswered_errors(self._proxy) as error:
            seen = type(error).__name__
            why = why_unanswered(error, self._host, self._proxy, time.monotonic() - started)
            failure = why.error(where)
            raise _Retry(failure) if why.passes and not (create and why.sent) else failure from None
        except (httpx.DecodingError, Malformed) as error:
            problem = str(error) if isinstance(error, Malformed) else "it cannot be decoded"
            failure = ApiError(
                f"OpenAI's answer to {where} cannot be understood: {problem}",
                request_id=request_id,
                may_have_happened=True,
            )
            raise failure if create else _Retry(failure) from None
        finally:
            milliseconds = (time.monotonic() - started) * 1000
            self._log(f"OpenAI {where} {seen} {request_id or '-'} {milliseconds:.0f} ms attempt {attempt}")
        return _judge(where, response, content, create, request_id, key)

    def _tell_error(self, path: str, error: ApiError) -> None:
        code = NO_ANSWER if error.status is None else str(error.status)
        self._hear_error(ApiFailure(_without_ids(path), code))

    def _tell_time(self, response: httpx.Response) -> None:
        with contextlib.suppress(KeyError, ValueError, TypeError, OverflowError):  # no date, or none that can be read
            self._hear_time(email.utils.parsedate_to_datetime(response.headers["date"]).timestamp())


def _without_ids(path: str) -> str:
    parts = path.split("/")
    return "/".join(_COLLECTIONS.get(before, part) for before, part in zip(["", *parts], parts, strict=False))


def _httpx_proxy(proxy: Proxy | None, tls: ssl.SSLContext) -> httpx.Proxy | None:
    if proxy is None:
        return None
    # httpx refuses a context of TLS for a proxy that is spoken to without.
    return httpx.Proxy(proxy.url, auth=proxy.user, ssl_context=tls if proxy.scheme == "https" else None)


class _Retry(Exception):
    """An attempt that may be repeated, after so many seconds if the server said so."""

    def __init__(self, error: ApiError, after: float | None = None) -> None:
        super().__init__()
        self.error = error
        self.after = after


def _judge(
    where: str, response: httpx.Response, content: bytes, create: bool, request_id: str | None, key: str
) -> Answer:
    status = response.status_code
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if 200 <= status < 300:
        if isinstance(answer, dict):
            return answer
        failure = ApiError(
            f"OpenAI's answer to {where} cannot be understood: it is not a JSON object",
            status=status,
            request_id=request_id,
            may_have_happened=True,
        )
        raise failure if create else _Retry(failure)
    failure, passes = refusal(where, status, answer, request_id, key)
    if status == 429 and passes:
        raise _Retry(failure, _retry_after(response.headers.get("retry-after")))
    if status >= 500 or status == 408:
        failure.may_have_happened = True
        raise failure if create else _Retry(failure, _retry_after(response.headers.get("retry-after")))
    raise failure


def _request_id(response: httpx.Response, key: str) -> str | None:
    """Return what OpenAI's support asks for, as one harmless word."""
    return re.sub(r"[^A-Za-z0-9_.*-]", "", redact(response.headers.get("x-request-id", ""), key))[:80] or None


def _read(response: httpx.Response, until: float) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise Malformed(f"it is larger than {_LARGEST_ANSWER // 2**20} MiB")
        if time.monotonic() > until:
            # A timeout of httpx begins anew with every byte that trickles in.
            raise httpx.ReadTimeout("")
    return bytes(content)


def _retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number or a date; None if it has neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
