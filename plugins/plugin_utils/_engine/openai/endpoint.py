# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the admin key may be sent, and what can be one."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ..errors import OpenAICredsError, quoted

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})"
# No user, query or fragment; nothing that two programs could read differently.
_ENDPOINT = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?(/[!-\"$->@-~]*)?",
    re.ASCII,
)
#: How the endpoint is given: the option, or the variable of the environment.
ENDPOINT_SETTINGS = "api_endpoint, OPENAI_BASE_URL"


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
        raise OpenAICredsError(f"{option}: this is not a key; one has 8 to 1024 ASCII characters, and no spaces")
    return str(key)


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Return the host, an IPv6 address without its brackets, and the port of a checked endpoint."""
    match = t.cast("re.Match[str]", _ENDPOINT.fullmatch(endpoint))
    return match["host"].strip("[]"), int(match["port"] or (443 if match["scheme"] == "https" else 80))


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
