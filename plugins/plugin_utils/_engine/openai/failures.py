# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong with a call to OpenAI, as a sentence that names the cause and the setting to look at."""

from __future__ import annotations

import re
import socket
import ssl
import typing as t

from ..errors import ApiError, mask_keys
from .certificates import CERTIFICATE_VARIABLES
from .endpoint import ENDPOINT_SETTINGS
from .proxies import Proxy

try:
    import httpx
except ImportError:  # the client says so
    pass

#: What OpenSSL says of a certificate: its time is over or has not come; it is for another name or address.
_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAMES = (62, 64)
#: What OpenSSL says when the other side answers a TLS handshake in plain text.
_PLAIN_TEXT = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG")
_SPEND_LIMIT = re.compile(r"(project|organization)_spend_limit_exceeded")
_LONGEST_REASON = 80
_T = t.TypeVar("_T", bound=BaseException)


class Unanswered(t.NamedTuple):
    """Why there was no answer: the settings to look at, the cause, whether the call was sent, and whether it may pass."""

    settings: str
    cause: str
    sent: bool
    passes: bool

    def error(self, where: str) -> ApiError:
        """Return the error for a call. What was never sent failed for a reason that every other call meets as well."""
        return ApiError(
            f"{self.settings}: no answer from OpenAI to {where}: {self.cause}",
            may_have_happened=self.sent,
            general=not self.sent,
        )


def unanswered_errors(proxy: Proxy | None) -> tuple[type[Exception], ...]:
    """Return the errors that why_unanswered explains."""
    return (httpx.TransportError, httpx.InvalidURL, UnicodeError, *_socks_errors(proxy))


def _socks_errors(proxy: Proxy | None) -> tuple[type[Exception], ...]:
    """Return what httpx lets through if a SOCKS proxy is none: an error of the package that it speaks SOCKS with."""
    if proxy is None or not proxy.scheme.startswith("socks"):
        return ()
    from socksio import ProtocolError

    return (ProtocolError,)


def why_unanswered(error: Exception, host: str, proxy: Proxy | None, seconds: float) -> Unanswered:
    """Return why a call that took so many seconds was not answered. host is the endpoint's, with its port."""
    if isinstance(error, (httpx.InvalidURL, UnicodeError)):
        return Unanswered(ENDPOINT_SETTINGS, f"{host} is not the name of a host", False, False)
    if isinstance(error, httpx.ProxyError):
        return _refused_by_proxy(str(error), host, proxy)
    if proxy and isinstance(error, _socks_errors(proxy)):
        cause = f"the proxy {proxy.address} does not answer as a SOCKS proxy does"
        return Unanswered(proxy.variable, cause, False, True)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return _not_connected(error, host, proxy, seconds)
    way = f" by way of the proxy {proxy.address} ({proxy.variable})" if proxy else ""
    if isinstance(error, httpx.TimeoutException):
        cause = f"{host}{way} did not answer within {seconds:.0f} s"
    elif isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        cause = f"what {host}{way} sent is not HTTP"
    else:
        cause = f"{host}{way} broke off the connection"
    return Unanswered(ENDPOINT_SETTINGS, cause, True, True)


def _not_connected(error: Exception, host: str, proxy: Proxy | None, seconds: float) -> Unanswered:
    """Return why there is no connection: with a proxy, that to the proxy comes first, and TLS is spoken with OpenAI."""
    settings, whom = (proxy.variable, f"the proxy {proxy.address}") if proxy else (ENDPOINT_SETTINGS, host)
    tls = _caused_by(error, ssl.SSLError)
    if tls is not None:
        return _no_tls(tls, host, proxy)
    unknown = _caused_by(error, socket.gaierror)
    if unknown is not None:
        name = whom.rpartition(":")[0]
        return Unanswered(
            settings, f"the name of {name} cannot be resolved (DNS)", False, unknown.errno == socket.EAI_AGAIN
        )
    if isinstance(error, httpx.ConnectTimeout):
        return Unanswered(settings, f"{whom} cannot be reached: no connection within {seconds:.0f} s", False, True)
    system = _caused_by(error, OSError)
    reason = (system.strerror if system else None) or "no connection"
    return Unanswered(settings, f"{whom} cannot be reached: {reason}", False, True)


def _no_tls(error: ssl.SSLError, host: str, proxy: Proxy | None) -> Unanswered:
    # A proxy that is spoken to in TLS has a certificate as well, and OpenSSL does not say whose was refused.
    over_tls = proxy is not None and proxy.scheme == "https"
    whom = f"{host}, or of the proxy {proxy.address} ({proxy.variable})" if proxy and over_tls else host
    reason = _one_line(getattr(error, "verify_message", None) or error.reason or type(error).__name__)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            state = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
            cause = f"the certificate of {whom} {state}, or the clock of this machine is wrong"
        elif error.verify_code in _OTHER_NAMES:
            cause = f"the certificate of {whom} is for another name"
        else:
            return Unanswered(
                ", ".join(CERTIFICATE_VARIABLES),
                f"the certificate of {whom} is not trusted ({reason}); name the file of the CA that has signed it in one "
                "of these variables",
                False,
                False,
            )
        return Unanswered(ENDPOINT_SETTINGS, cause, False, False)
    if error.reason in _PLAIN_TEXT:
        if proxy and over_tls:
            return Unanswered(proxy.variable, f"{whom} does not speak TLS; use http://", False, False)
        return Unanswered(ENDPOINT_SETTINGS, f"what answers at {whom} does not speak TLS", False, False)
    cut_off = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return Unanswered(ENDPOINT_SETTINGS, f"TLS with {whom} cannot be set up ({reason})", False, cut_off)


def _refused_by_proxy(text: str, host: str, proxy: Proxy | None) -> Unanswered:
    """Return what a proxy itself answered: an HTTP status with its reason, or what a SOCKS proxy says."""
    settings, whom = (proxy.variable, f"the proxy {proxy.address}") if proxy else (ENDPOINT_SETTINGS, "a proxy")
    match = re.match(r"(\d{3})\b", text)
    status = int(match[1]) if match else None
    said = _one_line(text)
    if status == 407 or "auth" in text.lower():
        cause = f"{whom} wants another user and password ({said}); give them as http://user:password@host:port"
        return Unanswered(settings, cause, False, False)
    if status is not None and status < 500 and status not in (408, 429):
        cause = f"{whom} refuses to connect to {host} ({said}); have it allowed there, or exempt the host in NO_PROXY"
        return Unanswered(settings, cause, False, False)
    return Unanswered(settings, f"{whom} cannot connect to {host} ({said})", False, True)


def refusal(where: str, status: int, answer: t.Any, request_id: str | None, key: str) -> tuple[ApiError, bool]:
    """Return the error for an answer other than success, and whether a wait can help where it was not let in."""
    detail = answer.get("error") if isinstance(answer, dict) else None
    detail = detail if isinstance(detail, dict) else {}
    message, error_type, code, param = (
        redact(value, key) if isinstance(value := detail.get(name), str) else None
        for name in ("message", "type", "code", "param")
    )
    extra = ", ".join(filter(None, (code, f"request {request_id}" if request_id else None)))
    advice = _advice(status, code or "", message or "", param or "")
    error = ApiError(
        f"{advice}OpenAI answered {status} to {where}: {message or 'no reason given'}{f' ({extra})' if extra else ''}",
        status=status,
        error_type=error_type,
        code=code,
        request_id=request_id,
        # Without its admin key nothing can be done.
        general=status == 401,
    )
    return error, not advice


def _advice(status: int, code: str, message: str, param: str) -> str:
    """Return what to do about a refusal that lasts until a person changes something at OpenAI; empty if it may pass."""
    if limit := _SPEND_LIMIT.fullmatch(code):
        return f"the spend limit of the {limit[1]} is reached; raise it at OpenAI, or wait for the next month: "
    if code == "insufficient_quota":
        return "the organization's credit is used up; look at its billing at OpenAI: "
    if code == "ip_not_authorized":
        return "the organization does not allow this machine's IP address; add it to the allowlist at OpenAI: "
    if status in (400, 403) and "polic" in f"{code} {message}".lower():
        if "expir" in f"{code} {message} {param}".lower() or "life" in f"{code} {message}".lower():
            return (
                "ttl, native_expiry, expires_in: a policy of the organization limits how long keys live; ask for a "
                "shorter life, leave native_expiry on, or change the policy at OpenAI: "
            )
        return "a policy of the organization does not allow this key; change the policy at OpenAI: "
    return ""


def redact(text: str, key: str) -> str:
    """Return somebody else's text on one line and without keys, whoever put them there."""
    text = mask_keys(text.replace(key, "***"))
    return " ".join(text.split())[:500].rstrip(".")


def _one_line(text: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_LONGEST_REASON].rstrip(".")


def _caused_by(error: BaseException, kind: type[_T]) -> _T | None:
    """Return the error of a kind that an error comes from, or None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
