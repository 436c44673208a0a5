# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which proxy leads to the endpoint, as the environment says.

It is worked out here and not left to httpx, which reads every variable, also those that do not apply, and fails on the
first that it does not understand.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import ipaddress
import re
import typing as t
from urllib.parse import unquote

from ..errors import OpenAICredsError, missing_package, quoted
from .endpoint import host_and_port

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PROXY = re.compile(
    r"((?P<scheme>[a-z][a-z0-9+.-]*)://)?((?P<user>[^/?#]*)@)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy and the variable that names it. address is its host and port; url has no password in it."""

    variable: str
    scheme: str
    address: str
    user: tuple[str, str] | None = dataclasses.field(repr=False)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"


def find_proxy(endpoint: str, warn: t.Callable[[str], None], environ: t.Mapping[str, str]) -> Proxy | None:
    """Return the proxy that applies to a checked endpoint, or None; raises OpenAICredsError if it cannot be used.

    Plain http stays on this machine, so no proxy applies to it.
    """
    if endpoint.startswith("http:"):
        return None
    exempt = _is_exempt(endpoint, warn, environ)
    for name in ("https_proxy", "all_proxy"):
        variable, value = _read(name, environ)
        if value:
            return None if exempt else _parse(variable, value)
    return None


def _read(name: str, environ: t.Mapping[str, str]) -> tuple[str, str]:
    """Return the variable and its value; in lower case it wins, as everywhere."""
    variable = name if name in environ else name.upper()
    return variable, environ.get(variable, "").strip()


def _parse(variable: str, value: str) -> Proxy:
    # The value is not shown: there may be a password in it.
    match = _PROXY.fullmatch(value)
    scheme = (match["scheme"] or "http").lower() if match else ""
    port = int(match["port"] or _DEFAULT_PORTS.get(scheme, 0)) if match else 0
    if match is None or scheme not in _DEFAULT_PORTS or not 0 < port < 65536:
        raise OpenAICredsError(
            f"{variable}: this is not the URL of a proxy that can be used for OpenAI; give one such as "
            "http://proxy.example.com:3128, or socks5:// or https:// instead of http://"
        )
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise OpenAICredsError(missing_package("httpx[socks]", f"{variable}: a SOCKS proxy"))
    user, _colon, password = (match["user"] or "").partition(":")
    login = (unquote(user), unquote(password)) if match["user"] else None
    return Proxy(variable, scheme, f"{match['host']}:{port}", login)


def _is_exempt(endpoint: str, warn: t.Callable[[str], None], environ: t.Mapping[str, str]) -> bool:
    """Say whether NO_PROXY names the endpoint; what cannot be understood in there is left out with a warning."""
    variable, value = _read("no_proxy", environ)
    host, port = host_and_port(endpoint)
    exempt = False
    for entry in filter(None, re.split(r"[,\s]+", value)):
        covered = _covers(entry.lower(), host.lower().rstrip("."), port)
        if covered is None:
            warn(f"{variable}: {quoted(entry)} is not a host, domain, address or network, and is left out")
        exempt = exempt or bool(covered)
    return exempt


def _covers(entry: str, host: str, port: int) -> bool | None:
    """Say whether an entry of NO_PROXY names a host and port; None if it cannot be understood.

    An entry is *, a name, which stands for all names below it as well, an address, or a network. All but the first may
    have a port. Names are not resolved: a network covers endpoints that are given as an address.
    """
    if entry == "*":
        return True
    scheme, divided, rest = entry.partition("://")
    if divided:
        if scheme not in ("https", "all"):
            return False
        entry = rest.rstrip("/")
    bracketed = re.fullmatch(r"\[([^\]]+)\](/[0-9]+)?(?::([0-9]+))?", entry)
    named = re.fullmatch(r"([^:]+):([0-9]+)", entry)
    only_port = None
    if bracketed:
        entry, only_port = bracketed[1] + (bracketed[2] or ""), bracketed[3]
    elif named:
        entry, only_port = named[1], named[2]
    covered: bool | None
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = entry.removeprefix("*").removeprefix(".").removesuffix(".")
        covered = f".{host}".endswith(f".{name}") if _NAME.fullmatch(name) and not bracketed else None
    else:
        try:
            covered = ipaddress.ip_address(host) in network
        except ValueError:
            covered = False
    return covered and only_port in (None, str(port))
