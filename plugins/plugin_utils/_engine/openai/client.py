# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The OpenAI Admin API: the only place that speaks HTTP to OpenAI.

Source of the facts: OpenAI's API description and the official SDK. What can be repeated safely is retried here; a
create that may have happened is never repeated, but reported as such, so that its caller finds it again by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import ipaddress
import json
import logging
import random
import re
import ssl
import time
import typing as t
from urllib.parse import quote

from ..errors import ApiError, OpenAICredsError, missing_package, quoted

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
    _TLS: ssl.SSLContext | None = None
    # Reading the certificates of all authorities takes longer than a call: once per run, not once per worker.
    with contextlib.suppress(OSError, ValueError):
        _TLS = httpx.create_ssl_context()

_TIMEOUT_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 6
_BACKOFF_SECONDS = 0.25
_LONGEST_BACKOFF_SECONDS = 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_LARGEST_ANSWER = 8 * 2**20
_PAGE = 100
#: A redacted value that shows less of a key's end says nothing.
_TELLING = 3
_ADMIN_KEYS = "/organization/admin_api_keys"
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})"
# No user, query or fragment; nothing that two programs could read differently.
_ENDPOINT = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?(/[!-\"$->@-~]*)?",
    re.ASCII,
)
_SECRET = re.compile(r"sk-[A-Za-z0-9_*.\-]{4,}")

Answer = dict[str, t.Any]
_T = t.TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class ServiceAccount:
    """A service account of a project. created_at is a Unix time."""

    id: str
    name: str
    created_at: int


@dataclasses.dataclass(frozen=True)
class NewKey:
    """A key as OpenAI shows it once. expires_at is a Unix time, or None."""

    id: str
    value: str = dataclasses.field(repr=False)
    expires_at: int | None


@dataclasses.dataclass(frozen=True)
class AdminKey:
    """An admin key as listed: with its value redacted."""

    id: str
    name: str | None
    redacted_value: str

    def fits(self, value: str) -> bool | None:
        """Say whether this may be the key with this value; None if the redacted value shows too little to tell."""
        shown = re.split(r"\*+|\.{3,}|…", self.redacted_value)
        if len(shown) < 2 or len(shown[-1]) < _TELLING:
            return None
        return value.startswith(shown[0]) and value.endswith(shown[-1])


def check_endpoint(url: t.Any, option: str) -> str:
    """Return the URL if a secret may be sent there (https, or http to this very machine), else raise."""
    match = _ENDPOINT.fullmatch(url) if isinstance(url, str) else None
    if not match or not 0 < int(match["port"] or 443) < 65536:
        raise OpenAICredsError(f"{option}: {quoted(url)} is not a URL such as https://api.openai.com/v1")
    if match["scheme"] == "http" and not _is_loopback(match["host"].strip("[]")):
        raise OpenAICredsError(f"{option}: {quoted(url)} would send the admin key unencrypted; use https://")
    return str(url).rstrip("/")


def check_key(key: str, option: str) -> str:
    """Return the admin key if it can be one, else raise."""
    if not re.fullmatch(r"[\x21-\x7e]{8,1024}", key):
        raise OpenAICredsError(f"{option}: this is not a key; it has spaces, control or non-ASCII characters in it")
    return str(key)


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OpenAI:
    """One organization of OpenAI, seen with its admin key.

    log gets one line per attempt, never with a secret. current_key is asked when OpenAI refuses the key: if the admin
    key has been rotated meanwhile, the call is made again with the one that it returns. The object may be used by
    several threads at once.
    """

    def __init__(
        self,
        endpoint: str,
        admin_api_key: str,
        organization_id: str | None,
        *,
        log: t.Callable[[str], None],
        current_key: t.Callable[[], str | None] = lambda: None,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        if not HAS_HTTPX:
            raise OpenAICredsError(missing_package("httpx", "ephemeral.openai"))
        if _TLS is None:
            raise OpenAICredsError("SSL_CERT_FILE, SSL_CERT_DIR: the certificates that they name cannot be read")
        self._endpoint = check_endpoint(endpoint, "api_endpoint")
        self._key = admin_api_key
        self._current_key = current_key
        self._log = log
        self._sleep = sleep
        self._projects_seen: set[str] = set()
        headers = {"OpenAI-Organization": organization_id} if organization_id else {}
        local = self._endpoint.startswith("http:")
        # Plain http stays on this machine, so a proxy from the environment does not apply to it.
        try:
            self._http = httpx.Client(
                headers=headers,
                verify=_TLS,
                trust_env=not local,
                follow_redirects=False,
                timeout=httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            )
        except (ImportError, ValueError, httpx.InvalidURL):
            raise OpenAICredsError("HTTPS_PROXY, ALL_PROXY: this is not a proxy that can be used for OpenAI") from None

    def create_service_account(self, project_id: str, name: str, expires_in: int | None) -> tuple[str, NewKey]:
        """Create an account with its first key; returns the account's id and the key. expires_in is in seconds."""
        body: Answer = {"name": name}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        answer = self._call("POST", f"{_project(project_id)}/service_accounts", body=body, create=True)
        try:
            key = _field(answer, "api_key", dict)
            return _field(answer, "id", str), NewKey(
                _field(key, "id", str), _field(key, "value", str), _optional_time(key, "expires_at")
            )
        except _Malformed as error:
            raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None

    def delete_service_account(self, project_id: str, service_account_id: str) -> None:
        """Delete an account and its keys. One that is not there, or whose project has been archived, is deleted."""
        path = f"{_project(project_id)}/service_accounts/{quote(service_account_id, safe='')}"
        try:
            if self._call("DELETE", path).get("deleted") is not True:
                raise ApiError(f"OpenAI's answer to DELETE {path} does not say that the account was deleted")
        except ApiError as error:
            if not (error.status == 404 and self._is_gone(project_id)) and not (
                error.status == 400 and self._project_is_gone(project_id)
            ):
                raise

    def list_service_accounts(self, project_id: str) -> list[ServiceAccount]:
        """Return all accounts of a project; none if it is not there or has been archived."""
        try:
            return self._list(
                f"{_project(project_id)}/service_accounts",
                lambda row: ServiceAccount(
                    _field(row, "id", str), _field(row, "name", str), _field(row, "created_at", int)
                ),
            )
        except ApiError as error:
            if error.status not in (400, 404) or not self._project_is_gone(project_id):
                raise
            return []

    def update_key(
        self, project_id: str, key_id: str, *, expires_in: int | None = None, scopes: list[str] | None = None
    ) -> None:
        """Change when a key of a project ends, in seconds from now, or what it may be used for."""
        body: Answer = {}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        if scopes is not None:
            body["scopes"] = scopes
        self._call("POST", f"{_project(project_id)}/api_keys/{quote(key_id, safe='')}", body=body)

    def list_admin_keys(self) -> list[AdminKey]:
        """Return all admin keys of the organization."""
        return self._list(
            _ADMIN_KEYS,
            lambda row: AdminKey(_field(row, "id", str), row.get("name"), _field(row, "redacted_value", str)),
        )

    def create_admin_key(self, name: str, expires_in: int | None) -> NewKey:
        """Create an admin key and return it. expires_in is in seconds."""
        body: Answer = {"name": name}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        answer = self._call("POST", _ADMIN_KEYS, body=body, create=True)
        try:
            return NewKey(_field(answer, "id", str), _field(answer, "value", str), _optional_time(answer, "expires_at"))
        except _Malformed as error:
            raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None

    def delete_admin_key(self, key_id: str) -> None:
        """Delete an admin key. One that is not there is deleted."""
        path = f"{_ADMIN_KEYS}/{quote(key_id, safe='')}"
        try:
            if self._call("DELETE", path).get("deleted") is not True:
                raise ApiError(f"OpenAI's answer to DELETE {path} does not say that the key was deleted")
        except ApiError as error:
            # Perhaps it was not the key that was not found, but, say, the path by a gateway.
            if error.status != 404 or any(key.id == key_id for key in self.list_admin_keys()):
                raise

    def _is_gone(self, project_id: str) -> bool:
        """Say whether it was an account that OpenAI did not find, and not, say, a gateway that did not find the path."""
        if project_id not in self._projects_seen:
            try:
                self._page(f"{_project(project_id)}/service_accounts")
            except ApiError as error:
                return error.status in (400, 404) and self._project_is_gone(project_id)
            self._projects_seen.add(project_id)
        return True

    def _project_is_gone(self, project_id: str) -> bool:
        """Say whether OpenAI knows no such project, or has archived it, and with it all accounts."""
        try:
            return self._call("GET", _project(project_id)).get("status") == "archived"
        except ApiError as error:
            if error.status != 404:
                return False
        try:
            self._page("/organization/projects")
        except ApiError:
            return False
        return True

    def _page(self, path: str) -> None:
        """Ask for the least of a list; raises ApiError if that is not what comes."""
        if not isinstance(self._call("GET", path, query={"limit": "1"}).get("data"), list):
            raise ApiError(f"OpenAI's answer to GET {path} is not a list")

    def _list(self, path: str, convert: t.Callable[[Answer], _T]) -> list[_T]:
        """Return all entries of all pages of a list."""
        entries: list[_T] = []
        after: str | None = None
        seen = set()
        while True:
            answer = self._call("GET", path, query={"limit": str(_PAGE), **({"after": after} if after else {})})
            try:
                rows = _field(answer, "data", list)
                if not all(isinstance(row, dict) for row in rows):
                    raise _Malformed("an entry of 'data' is not an object")
                entries.extend(convert(row) for row in rows)
                if not rows or not answer.get("has_more"):
                    return entries
                last = _field(rows[-1], "id", str)
                if last in seen:
                    raise _Malformed("the same page comes again and again")
                seen.add(last)
                after = last
            except _Malformed as error:
                raise ApiError(f"OpenAI's answer to GET {path} cannot be understood: {error}") from None

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Answer | None = None,
        query: dict[str, str] | None = None,
        create: bool = False,
    ) -> Answer:
        """Call OpenAI and return its answer, after retries where repeating is safe; raises ApiError."""
        for attempt in range(1, _ATTEMPTS + 1):
            key = self._key
            try:
                return self._attempt(method, path, body, query, create, attempt, key)
            except ApiError as error:
                if error.status != 401 or attempt == _ATTEMPTS or not self._is_superseded(key):
                    raise
            except _Retry as retry:
                wait = min(_LONGEST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                if retry.after is not None:
                    wait = retry.after + random.uniform(0.0, 0.1)
                if attempt == _ATTEMPTS or wait > _LONGEST_RETRY_AFTER_SECONDS:
                    raise retry.error from None
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
        query: dict[str, str] | None,
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
                content = _read(response)
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            seen = type(error).__name__
            sent = not isinstance(
                error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.InvalidURL, UnicodeError)
            )
            failure = ApiError(f"no answer from OpenAI to {where}: {seen}", may_have_happened=sent)
            raise failure if create and sent else _Retry(failure) from None
        except (httpx.DecodingError, _Malformed) as error:
            problem = str(error) if isinstance(error, _Malformed) else "it cannot be decoded"
            failure = ApiError(
                f"OpenAI's answer to {where} cannot be understood: {problem}",
                request_id=request_id,
                may_have_happened=True,
            )
            raise failure if create else _Retry(failure) from None
        finally:
            milliseconds = (time.monotonic() - started) * 1000
            self._log(f"OpenAI {where} {seen} {request_id or '-'} {milliseconds:.0f} ms attempt {attempt}")
        return self._judge(where, response, content, create, request_id, key)

    def _judge(
        self, where: str, response: httpx.Response, content: bytes, create: bool, request_id: str | None, key: str
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
        failure = _refusal(where, status, answer, request_id, key)
        if status == 429:
            raise _Retry(failure, _retry_after(response.headers.get("retry-after")))
        if status >= 500 or status == 408:
            failure.may_have_happened = True
            raise failure if create else _Retry(failure, _retry_after(response.headers.get("retry-after")))
        raise failure


class _Retry(Exception):
    """An attempt that may be repeated, after so many seconds if the server said so."""

    def __init__(self, error: ApiError, after: float | None = None) -> None:
        super().__init__()
        self.error = error
        self.after = after


class _Malformed(Exception):
    """An answer of another shape than described."""


def _refusal(where: str, status: int, answer: t.Any, request_id: str | None, key: str) -> ApiError:
    detail = answer.get("error") if isinstance(answer, dict) else None
    detail = detail if isinstance(detail, dict) else {}
    message, error_type, code = (
        _redact(value, key) if isinstance(value := detail.get(name), str) else None
        for name in ("message", "type", "code")
    )
    text = f"OpenAI answered {status} to {where}: {message or 'no reason given'}"
    extra = ", ".join(filter(None, (code, f"request {request_id}" if request_id else None)))
    return ApiError(
        text + (f" ({extra})" if extra else ""),
        status=status,
        error_type=error_type,
        code=code,
        request_id=request_id,
    )


def _request_id(response: httpx.Response, key: str) -> str | None:
    """Return what OpenAI's support asks for, as one harmless word."""
    return re.sub(r"[^A-Za-z0-9_.*-]", "", _redact(response.headers.get("x-request-id", ""), key))[:80] or None


def _redact(text: str, key: str) -> str:
    """Return somebody else's text on one line and without keys, whoever put them there."""
    text = _SECRET.sub("sk-***", text.replace(key, "***"))
    return " ".join(text.split())[:500].rstrip(".")


def _project(project_id: str) -> str:
    return f"/organization/projects/{quote(project_id, safe='')}"


def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise _Malformed(f"it is larger than {_LARGEST_ANSWER // 2**20} MiB")
    return bytes(content)


def _field(answer: Answer, name: str, kind: type[_T]) -> _T:
    value = answer.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise _Malformed(f"{name!r} is not {'a text' if kind is str else f'of type {kind.__name__}'}")
    return value


def _optional_time(answer: Answer, name: str) -> int | None:
    return None if answer.get(name) is None else _field(answer, name, int)


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
