# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to HashiCorp Vault or OpenBao: repeated, logged, at a pace that the server allows, never over a weaker connection."""

from __future__ import annotations

import email.utils
import random
import time
import typing as t
from urllib.parse import urljoin, urlsplit

from ..errors import StoreError
from .vault_failures import Proxy, is_certificate, is_http, proxy_status
from .vault_traffic import Traffic

if t.TYPE_CHECKING:
    import ssl

try:
    import hvac.adapters
    import hvac.exceptions
    import hvac.utils
    import requests
    import requests.adapters
except ImportError:  # vault_client says so
    pass

#: How many requests may be under way at a time.
CONCURRENCY = 16
#: For how long requests are repeated that fail for reasons that pass, such as the election of another leader.
RETRY_SECONDS = 20.0
#: The same for a server that says it is sealed: in a cluster another one may answer.
SEALED_SECONDS = 3.0
#: The same for a rate limit that says when to come back.
RATE_SECONDS = 300.0
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
#: Seconds to wait for a connection, and for an answer, while the run takes the server to be down.
_DOWN_TIMEOUT = (3, 5)
#: Redirects after which a request has another method, and those after which it is the same.
_CHANGING = frozenset((301, 302, 303))
_KEEPING = frozenset((307, 308))
_REDIRECTS = 3
_PASSING = frozenset((412, 429, 472, 473, 500, 502, 503, 504))
#: Of these, the ones that say that nobody is there to answer.
_DOWN = frozenset((502, 503, 504))


def adapter_class(log: t.Callable[[str], None], warn: t.Callable[[str], None] = lambda _text: None) -> type:
    """Return an adapter for hvac that repeats, logs, and reads what has been written.

    A standby server may answer from before a write. Servers that can say how far a write goes (X-Vault-Index) are asked
    for no less, or to pass the request on.
    """

    class Adapter(hvac.adapters.JSONAdapter):
        #: The settings of these names: how often a request is repeated at the most, if that is given.
        retries: int | None = None
        retry_action = "ignore"
        #: The proxy that requests go through, if there is one.
        proxy: Proxy | None = None
        #: Gives another token when Vault has refused one, or None.
        new_token: t.Callable[[str], str | None] = staticmethod(lambda _refused: None)
        #: How far the server must be to answer by itself, and whether that is for good.
        index: str | None = None
        index_is_final = False
        #: Hears of each new index.
        keep_index: t.Callable[[str], None] = staticmethod(lambda _index: None)

        def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
            super().__init__(*args, **kwargs)
            self.traffic = Traffic(self.base_uri)
            mount_transport(self.session, None)

        def request(
            self,
            method: str,
            url: str,
            headers: t.Mapping[str, str] | None = None,
            raise_exception: bool = True,
            is_hint: bool = False,
            **kwargs: t.Any,
        ) -> t.Any:
            """Make a request. is_hint says that it may as well fail: it is made once, and says nothing of the server."""
            attempt, spent, began = 0, 0.0, time.monotonic()
            renewed = False
            once = is_hint or self.traffic.is_down()
            if once:
                given = t.cast(t.Any, self)._kwargs.get("timeout") or _DOWN_TIMEOUT[1]
                kwargs["timeout"] = tuple(min(given, seconds) for seconds in _DOWN_TIMEOUT)
            while True:
                attempt += 1
                self.traffic.await_turn()
                used = self.token
                sent = dict(headers or {})
                if self.index:
                    sent.update({"X-Vault-Index": self.index, "X-Vault-Inconsistent": "forward-active-node"})
                started = time.monotonic()
                result: t.Any
                status: int | str
                try:
                    result = self._send(method, url, sent, kwargs)
                    answer, status = _json(result), result.status_code
                except requests.RequestException as error:
                    result, answer, status = error, None, type(error).__name__
                request_id = answer.get("request_id") if isinstance(answer, dict) else None
                took = time.monotonic() - started
                log(
                    f"Vault: {method.upper()} {url} {status} request {request_id or '-'} {round(took * 1000)} ms "
                    f"attempt {attempt}"
                )
                if status == 400 and self.index and "X-Vault-Index" in str(answer):
                    # Another version writes it in another way, or it is another cluster; then it has to do without.
                    self.index, self.index_is_final = None, False
                    continue
                if status == 403 and used and not renewed and (token := self.new_token(used)):
                    self.token, renewed = token, True
                    continue
                patience, told = _patience(result, answer), _retry_after(result)
                if not patience and not isinstance(result, Exception):
                    self.traffic.speed_up()
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                if told is not None:
                    wait = max(wait, told)
                    patience = RATE_SECONDS if status == 429 else patience
                spent += took + wait
                if status == 429:
                    # All requests of the run are held back, this one among them, and not each for itself.
                    self.traffic.slow_down(started, wait)
                over = spent >= patience or time.monotonic() - began >= RATE_SECONDS
                if over or once or (self.retries is not None and attempt > self.retries):
                    if patience and not once and _says_down(result, status):
                        self.traffic.mark_down()
                    break
                if self.retry_action == "warn":
                    warn(f"Vault at {self.base_uri} does not answer as it should ({status}); trying again")
                if status != 429:
                    time.sleep(wait)
            if isinstance(result, Exception):
                raise result
            response = result
            index = response.headers.get("X-Vault-Index")
            if index and not self.index_is_final:
                self.index = index
                self.keep_index(index)
            if raise_exception and not response.ok:
                errors = answer.get("errors") if isinstance(answer, dict) else None
                try:
                    hvac.utils.raise_for_error(method, url, response.status_code, None, errors=errors, json=answer)
                except hvac.exceptions.VaultError as error:
                    t.cast(t.Any, error).status = response.status_code
                    raise
            return answer if response.status_code == 200 and answer is not None else response

        def _send(self, method: str, url: str, headers: dict[str, str], kwargs: dict[str, t.Any]) -> requests.Response:
            """Send a request, and again to where a standby server says that the active one is."""
            headers["X-Vault-Request"] = "true"
            if self.token:
                headers["X-Vault-Token"] = self.token
            if self.namespace:
                headers["X-Vault-Namespace"] = self.namespace
            target, options = self.urljoin(self.base_uri, url), {**t.cast(t.Any, self)._kwargs, **kwargs}
            for _redirect in range(_REDIRECTS):
                response = self.session.request(method, target, headers=headers, allow_redirects=False, **options)
                if response.status_code not in _CHANGING | _KEEPING:
                    return response
                target = self._redirected(response, target)
                # It is part of the address from here on.
                options.pop("params", None)
            raise StoreError(f"url: {self.base_uri} redirects to another address; give that one")

        def _redirected(self, response: requests.Response, target: str) -> str:
            """Return where to make a request again; refuse what would show it to others than Vault.

            A standby server sends a request to the active one with its path and method. Anything else is a front that leads
            elsewhere.
            """
            there = urljoin(target, response.headers.get("Location") or "")
            before, after = urlsplit(target), urlsplit(there)
            if before.scheme == "https" and after.scheme != "https":
                raise StoreError(
                    f"url: {self.base_uri} redirects to an address without TLS, where tokens and secrets would be sent "
                    "unencrypted; give an address that answers by itself"
                )
            # A gateway may have taken the beginning off the path.
            is_the_same = after.path.startswith("/v1/") and before.path.endswith(after.path)
            if response.status_code in _CHANGING or not is_the_same:
                raise StoreError(f"url: {self.base_uri} redirects to another address; give that one")
            return there

    return Adapter


def mount_transport(session: requests.Session, context: ssl.SSLContext | None) -> None:
    """Let a session have as many connections as requests, which trust what a context does, if one is given."""

    trust: dict[str, t.Any] = {"ssl_context": context} if context else {}

    class Transport(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: t.Any, **kwargs: t.Any) -> None:
            super().init_poolmanager(*args, **{**kwargs, **trust})

        def proxy_manager_for(self, proxy: str, **kwargs: t.Any) -> t.Any:
            return super().proxy_manager_for(proxy, **{**kwargs, **trust})

    for scheme in ("http://", "https://"):
        session.mount(scheme, Transport(pool_maxsize=CONCURRENCY, pool_block=True))


def _json(response: requests.Response) -> t.Any:
    try:
        return response.json()
    except ValueError:
        return None


def _patience(result: requests.Response | requests.RequestException, answer: t.Any) -> float:
    """Return for how many seconds a request that went like this is repeated."""
    if isinstance(result, requests.RequestException):
        # What is wrong with a certificate, a proxy or a setting stays wrong; a handshake may only have been cut off.
        lasting = isinstance(result, requests.exceptions.ProxyError) or is_certificate(result) or is_http(result)
        cut_off = requests.exceptions.ChunkedEncodingError
        passing = isinstance(result, (requests.ConnectionError, requests.Timeout, cut_off))
        return RETRY_SECONDS if passing and not lasting and not proxy_status(result) else 0.0
    if result.status_code not in _PASSING or "too large" in str(answer):
        return 0.0
    return SEALED_SECONDS if "sealed" in str(answer).lower() else RETRY_SECONDS


def _retry_after(result: requests.Response | requests.RequestException) -> float | None:
    """Return how many seconds a server says to wait, if it says so."""
    text = result.headers.get("Retry-After") if isinstance(result, requests.Response) else None
    if not text:
        return None
    if text.strip().isdecimal():
        # Vault leaves out the fraction of a second.
        return float(text) + 1.0
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) + 1.0
    except ValueError:
        return None


def _says_down(result: requests.Response | requests.RequestException, status: int | str) -> bool:
    return isinstance(result, requests.RequestException) or status in _DOWN
