# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of HashiCorp Vault or OpenBao as the settings describe it, which has not logged in yet."""

from __future__ import annotations

import functools
import os
import re
import ssl
import typing as t
from importlib.util import find_spec
from urllib.parse import urlsplit

from ..errors import StoreError, how_to_install, missing_package, quoted
from ..run.shared_memory import SERVERS
from .vault_failures import Proxy
from .vault_http import mount_transport

if t.TYPE_CHECKING:
    import hvac

#: Where an option may be given, for a sentence on one that is missing.
Sources = t.Callable[[str], str]

_URL = re.compile(r"https?://[!-\"$->A-~]+", re.ASCII)
#: What people copy along with the address: where the API begins, or a page in the browser.
_COPIED = re.compile(r"/+(v1|ui(/.*)?)?/*$")
_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


def new_client(
    settings: t.Mapping[str, t.Any], adapter: type, sources: Sources, new_token: t.Callable[[str], str | None]
) -> hvac.Client:
    """Return a client whose requests go through the adapter. Settings alone decide: hvac looks nothing up.

    The adapter finds the settings retries and retry_action as attributes of its class, and new_token, which returns
    another token when one has been refused.
    """
    # Whoever uses the other store need not have it.
    import hvac
    import requests

    if not hasattr(hvac.exceptions.VaultError, "from_status"):
        raise StoreError(
            "store: vault_kv needs the Python package hvac 1.1 or newer; the Python that runs Ansible has an older one, "
            f"{how_to_install('--upgrade hvac')}"
        )
    url = _url(settings, sources)
    options = {"timeout": settings["timeout"]} if settings["timeout"] else {}
    attributes: dict[str, t.Any] = {name: settings[name] for name in ("retries", "retry_action")}
    attributes["new_token"] = staticmethod(new_token)
    proxies = {**requests.utils.get_environ_proxies(url), **(settings["proxies"] or {})}
    attributes["proxy"] = _proxy(settings, url, requests.utils.select_proxy(url, proxies))
    trusted = _trusted(settings["ca_cert"]) if settings["validate_certs"] and url.startswith("https") else None
    client = hvac.Client(
        url=url,
        # Not None: hvac would look for one.
        token="",
        cert=_certificate(settings["cert_auth_public_key"], settings["cert_auth_private_key"]),
        verify=settings["validate_certs"] and (trusted is None or trusted),
        proxies=proxies,
        namespace=settings["namespace"],
        adapter=type(adapter.__name__, (adapter,), attributes),
        **options,
    )
    # All that it would look up in the environment and the user's netrc, for each request anew, is known.
    client.session.trust_env = False
    if isinstance(trusted, str) and os.path.isdir(trusted):
        mount_transport(client.session, _trusting(trusted))
    return client


def _url(settings: t.Mapping[str, t.Any], sources: Sources) -> str:
    url = settings["url"]
    if not url:
        raise StoreError(f"url: the address of Vault or OpenBao is missing; give {sources('url')}")
    if url.startswith(("unix:", "/")):
        raise StoreError(
            "url: Vault cannot be reached through a Unix socket; let the agent or proxy listen on TCP as well, and give "
            "that address, such as http://127.0.0.1:8100"
        )
    try:
        fits = bool(_URL.fullmatch(url) and urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        fits = False
    if not fits:
        # Not quoted, since there may be a password in it.
        raise StoreError(
            "url: give the address of Vault or OpenBao without user, password, query and fragment, such as "
            "https://vault.example.com:8200"
        )
    parts = urlsplit(str(url))
    path = _COPIED.sub("", parts.path)
    if "/v1/" in path:
        raise StoreError("url: give the address of Vault or OpenBao without the path of a secret")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _proxy(settings: t.Mapping[str, t.Any], url: str, address: str | None) -> Proxy | None:
    """Return the proxy that requests to a URL go through, once it is known to be of use."""
    if not address:
        return None
    scheme = urlsplit(url).scheme
    names = [name for kind in (scheme, "all") for name in (f"{kind}_proxy", f"{kind}_proxy".upper())]
    source = next((name for name in names if os.environ.get(name) == address), "proxies")
    if settings["proxies"] and address in settings["proxies"].values():
        source = "proxies"
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname or "")
    except ValueError:
        host = ""
    if not host or parts.scheme not in _PROXY_SCHEMES:
        # Not quoted, since there may be a password in it.
        raise StoreError(f"{source}: this is not a proxy; give a URL such as http://proxy.example.com:3128")
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise StoreError(missing_package("PySocks", f"{source}: the SOCKS proxy {host}"))
    return Proxy(source, host)


def _trusted(ca_cert: str | None) -> str | bool:
    """Return what to verify certificates with, once it is known to be of use."""
    # As the requests library does, but with a sentence on what is wrong.
    path = ca_cert or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not path:
        return True
    return _usable(os.path.expanduser(path))


@functools.cache
def _usable(path: str) -> str:
    if os.path.isdir(path):
        _trusting(path)
        return path
    try:
        status = os.stat(path)
        seen, name = [status.st_ino, status.st_mtime_ns, status.st_size], f"trusted {path}"
        if SERVERS.recall(name) != seen:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
            SERVERS.remember(name, seen)
    except OSError as error:
        raise StoreError(f"ca_cert: {quoted(path)} cannot be used: {why(error)}") from None
    return path


def _trusting(folder: str) -> ssl.SSLContext:
    """Return a context that trusts all certificates in a folder, as Vault's own program does.

    OpenSSL by itself would only find those whose file is named after a hash.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    context: ssl.SSLContext = create_urllib3_context()
    try:
        paths = sorted(entry.path for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise StoreError(f"ca_cert: {quoted(folder)} cannot be used: {why(error)}") from None
    for path in paths:
        try:
            context.load_verify_locations(cafile=path)
        except OSError:
            continue  # a folder may hold keys and notes as well
    if not context.cert_store_stats()["x509"]:
        raise StoreError(f"ca_cert: {quoted(folder)} cannot be used: there is no certificate in it")
    return context


@functools.cache
def _certificate(public: str | None, private: str | None) -> tuple[str, str] | None:
    """Return the certificate to show to the server, once it is known to be of use."""
    if not public:
        return None
    private = private or public
    try:
        # The password: OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(public, private, password="")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cert_auth_public_key, cert_auth_private_key: {quoted(public)} and {quoted(private)} cannot be used: {why(error)}"
        ) from None
    return public, private


def why(error: Exception) -> str:
    """Return what is wrong with a file, without what is in it."""
    if isinstance(error, ssl.SSLError):
        return "this is not PEM without a password, or not what belongs together"
    return getattr(error, "strerror", None) or type(error).__name__
