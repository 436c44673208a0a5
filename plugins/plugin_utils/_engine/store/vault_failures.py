# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sentences, without secrets, on requests to HashiCorp Vault or OpenBao that failed."""

from __future__ import annotations

import re
import typing as t

from ..errors import StoreError

try:
    import hvac.exceptions
    import requests
except ImportError:  # vault_client says so
    pass

STRANGER = "url: what answers at {url} is not Vault or OpenBao, or it wants https"
#: What both servers say of a token that they do not know: it alone, or beside "invalid token". What a policy lacks they
#: count as "1 error occurred".
_UNKNOWN_TOKEN = re.compile(r"permission denied|.*\b(invalid|bad) token\b.*", re.IGNORECASE | re.DOTALL)
_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


class Proxy(t.NamedTuple):
    """The proxy between here and Vault: which option or variable names it, and its host without a password."""

    source: str
    host: str


def is_from_vault(error: hvac.exceptions.VaultError) -> bool:
    """Say whether an error was answered by Vault, and not by something in between."""
    return isinstance(error.json, dict) and (isinstance(error.errors, list) or "data" in error.json)


def is_unknown_token(error: hvac.exceptions.VaultError) -> bool:
    """Say whether the server refuses the token itself, and not what its policies allow."""
    return is_from_vault(error) and bool(_UNKNOWN_TOKEN.fullmatch(reason(error)))


def is_too_large(error: hvac.exceptions.VaultError) -> bool:
    """Say whether a document was larger than the server, its storage or a gateway takes."""
    return getattr(error, "status", None) == 413 or "too large" in reason(error)


def reason(error: hvac.exceptions.VaultError) -> str:
    """Return on one line what Vault itself says of an error."""
    errors = error.errors if isinstance(error.errors, list) else [error.errors or type(error).__name__]
    return " ".join("; ".join(map(str, errors)).split())


def unknown_token(url: str) -> StoreError:
    """Return the error for a token that the server does not accept, whatever it is used for."""
    return StoreError(
        f"token: Vault at {url} does not accept the token: it has ended, its uses are spent (token_num_uses), or it may not "
        "be used from this address (token_bound_cidrs); get a new one"
    )


def failure(error: Exception, url: str, proxy: Proxy | None) -> str:
    """Return one sentence on why Vault could not be asked."""
    if isinstance(error, hvac.exceptions.VaultError):
        return _refusal(error, url, proxy)
    status = proxy_status(error)
    if proxy and status:
        return _proxy_refuses(proxy, status)
    if proxy and isinstance(error, requests.exceptions.ProxyError):
        return f"{proxy.source}: the proxy {proxy.host} cannot be reached, or it does not answer as a proxy does"
    if is_http(error):
        return f"url: what answers at {url} does not speak TLS; it may want http"
    if is_certificate(error):
        return f"ca_cert, validate_certs: the certificate of Vault at {url} is not trusted, or it has another name"
    if isinstance(error, requests.exceptions.Timeout):
        return f"timeout: Vault at {url} does not answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"url: Vault at {url} cannot be reached"
    return f"url: Vault at {url} cannot be asked: {type(error).__name__}"


def _refusal(error: hvac.exceptions.VaultError, url: str, proxy: Proxy | None) -> str:
    why, status = reason(error), getattr(error, "status", None)
    # Whatever answers so and not as Vault does, it does not know what there is in Vault.
    knowing = (
        hvac.exceptions.InvalidRequest,
        hvac.exceptions.Unauthorized,
        hvac.exceptions.Forbidden,
        hvac.exceptions.InvalidPath,
    )
    if "sealed" in why.lower():
        return f"url: Vault at {url} is sealed; unseal it and try again"
    if isinstance(error, hvac.exceptions.RateLimitExceeded):
        return f"url: Vault at {url} refuses so many requests (429); try again later, or raise its rate limit quota"
    if proxy and status == 407:
        return _proxy_refuses(proxy, status)
    if status in (405, 501) and "not initialized" not in why:
        return (
            f"url: what answers at {url} refuses {str(error.method).upper()} ({status}); let the gateway before Vault pass "
            "on GET, POST and DELETE, and GET with list=true in place of LIST"
        )
    if not is_from_vault(error) and isinstance(error, knowing):
        return _proxy_refuses(proxy, 403) if proxy and status == 403 else STRANGER.format(url=url)
    return f"url: Vault at {url} cannot answer now: {why}"


def _proxy_refuses(proxy: Proxy, status: int) -> str:
    return (
        f"{proxy.source}: the proxy {proxy.host} refuses the way to Vault ({status}); give it what it asks for, or name "
        "Vault's host in NO_PROXY"
    )


def proxy_status(error: Exception) -> int | None:
    """Return the status with which a proxy refuses to connect, if that is what an error is about."""
    found = _TUNNEL_STATUS.search(str(error)) if isinstance(error, requests.exceptions.ConnectionError) else None
    return int(found[1]) if found else None


def is_certificate(error: Exception) -> bool:
    """Say whether an error is about the server's certificate."""
    return isinstance(error, requests.exceptions.SSLError) and "certificate" in str(error).lower()


def is_http(error: Exception) -> bool:
    """Say whether an error tells that the server does not speak TLS."""
    return isinstance(error, requests.exceptions.SSLError) and "wrong version number" in str(error).lower()
