# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to HashiCorp Vault or OpenBao: repeated, logged, and a sentence on each that fails."""

from __future__ import annotations

import random
import time
import typing as t

from ansible.utils.display import Display

from ..errors import StoreError

try:
    import hvac.adapters
    import hvac.exceptions
    import hvac.utils
    import requests
    import requests.adapters
except ImportError:  # settings says so
    pass

#: How many requests may be under way at a time.
CONCURRENCY = 16
#: For how long requests are repeated that fail for reasons that pass, such as the election of another leader.
RETRY_SECONDS = 20.0
#: The same for a server that says it is sealed: in a cluster another one may answer.
SEALED_SECONDS = 3.0
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
#: Redirects after which a request has another method.
_CHANGING = frozenset((301, 302, 303))
_PASSING = frozenset((412, 429, 472, 473, 500, 502, 503, 504))


def failure(error: Exception, url: str) -> str:
    """Return one sentence without secrets on why Vault could not be asked."""
    if isinstance(error, hvac.exceptions.VaultError):
        why = reason(error)
        if "sealed" in why.lower():
            return f"url: Vault at {url} is sealed; unseal it and try again"
        if isinstance(error, hvac.exceptions.RateLimitExceeded):
            return f"url: Vault at {url} refuses so many requests (429); try again later, or raise its rate limit quota"
        return f"url: Vault at {url} cannot answer now: {why}"
    if _is_http(error):
        return f"url: what answers at {url} does not speak TLS; it may want http"
    if _is_certificate(error):
        return f"ca_cert, validate_certs: the certificate of Vault at {url} is not trusted, or it has another name"
    if isinstance(error, requests.exceptions.Timeout):
        return f"timeout: Vault at {url} does not answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"url: Vault at {url} cannot be reached"
    return f"url: Vault at {url} cannot be asked: {type(error).__name__}"


def reason(error: hvac.exceptions.VaultError) -> str:
    """Return on one line what Vault itself says of an error."""
    errors = error.errors if isinstance(error.errors, list) else [error.errors or type(error).__name__]
    return " ".join("; ".join(map(str, errors)).split())


def adapter_class(log: t.Callable[[str], None]) -> type:
    """Return an adapter for hvac that repeats, logs, and reads what has been written.

    A standby server may answer from before a write. Servers that can say how far a write goes (X-Vault-Index) are asked
    for no less, or to pass the request on.
    """

    class Adapter(hvac.adapters.JSONAdapter):
        #: The settings of these names: how often a request is repeated at the most, if that is given.
        retries: int | None = None
        retry_action = "ignore"
        #: Gives another token when Vault has refused one, or None.
        new_token: t.Callable[[str], str | None] = staticmethod(lambda _refused: None)
        #: How far the server must be to answer by itself, and whether that is for good.
        index: str | None = None
        index_is_final = False
        #: Hears of each new index.
        keep_index: t.Callable[[str], None] = staticmethod(lambda _index: None)

        def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
            super().__init__(*args, **kwargs)
            for scheme in ("http://", "https://"):
                self.session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONCURRENCY, pool_block=True))

        def request(
            self,
            method: str,
            url: str,
            headers: t.Mapping[str, str] | None = None,
            raise_exception: bool = True,
            **kwargs: t.Any,
        ) -> t.Any:
            begun = time.monotonic()
            attempt = 0
            renewed = False
            while True:
                attempt += 1
                used = self.token
                sent = dict(headers or {})
                if self.index:
                    sent.update({"X-Vault-Index": self.index, "X-Vault-Inconsistent": "forward-active-node"})
                started = time.monotonic()
                result: t.Any
                status: int | str
                try:
                    result = t.cast(t.Any, hvac.adapters.RawAdapter).request(
                        self, method, url, headers=sent, raise_exception=False, **kwargs
                    )
                    answer, status = _json(result), result.status_code
                except requests.RequestException as error:
                    result, answer, status = error, None, type(error).__name__
                request_id = answer.get("request_id") if isinstance(answer, dict) else None
                took = round((time.monotonic() - started) * 1000)
                log(f"Vault: {method.upper()} {url} {status} request {request_id or '-'} {took} ms attempt {attempt}")
                if status == 400 and self.index and "X-Vault-Index" in str(answer):
                    # Another version writes it in another way, or it is another cluster; then it has to do without.
                    self.index, self.index_is_final = None, False
                    continue
                if status == 403 and used and not renewed and (token := self.new_token(used)):
                    self.token, renewed = token, True
                    continue
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                if time.monotonic() - begun + wait >= _patience(result, answer):
                    break
                if self.retries is not None and attempt > self.retries:
                    break
                if self.retry_action == "warn":
                    Display().warning(f"Vault at {self.base_uri} does not answer as it should ({status}); trying again")
                time.sleep(wait)
            if isinstance(result, Exception):
                raise result
            response = result
            if any(before.status_code in _CHANGING for before in response.history):
                # What was a write has been made a read on the way.
                raise StoreError(f"url: {self.base_uri} redirects to another address; give that one")
            index = response.headers.get("X-Vault-Index")
            if index and not self.index_is_final:
                self.index = index
                self.keep_index(index)
            if raise_exception and not response.ok:
                errors = answer.get("errors") if isinstance(answer, dict) else None
                hvac.utils.raise_for_error(method, url, response.status_code, None, errors=errors, json=answer)
            return answer if response.status_code == 200 and answer is not None else response

    return Adapter


def _is_certificate(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.SSLError) and "certificate" in str(error).lower()


def _is_http(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.SSLError) and "wrong version number" in str(error).lower()


def _json(response: requests.Response) -> t.Any:
    try:
        return response.json()
    except ValueError:
        return None


def _patience(result: requests.Response | requests.RequestException, answer: t.Any) -> float:
    """Return for how many seconds a request that went like this is repeated."""
    if isinstance(result, requests.RequestException):
        # What is wrong with a certificate or a setting stays wrong; a handshake may only have been cut off.
        lasting = isinstance(result, requests.exceptions.ProxyError) or _is_certificate(result) or _is_http(result)
        cut_off = requests.exceptions.ChunkedEncodingError
        passing = isinstance(result, (requests.ConnectionError, requests.Timeout, cut_off))
        return RETRY_SECONDS if passing and not lasting else 0.0
    if result.status_code not in _PASSING:
        return 0.0
    return SEALED_SECONDS if "sealed" in str(answer).lower() else RETRY_SECONDS
