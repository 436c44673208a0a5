# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logging in to HashiCorp Vault or OpenBao. Tokens are in memory only, which the workers of a run share."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import ssl
import time
import typing as t
from urllib.parse import quote, urlsplit

from ..._ansible.vault_options import sources
from ..errors import StoreError, quoted
from ..run.shared_memory import LOGIN, SERVERS

if t.TYPE_CHECKING:
    import hvac

_NEEDED = {
    "approle": ("role_id",),
    "jwt": ("role_id", "jwt"),
    "kubernetes": ("role_id",),
    "userpass": ("username", "password"),
    "ldap": ("username", "password"),
    "cert": ("cert_auth_public_key", "cert_auth_private_key"),
}
_OPTIONAL = {"approle": ("secret_id",), "kubernetes": ("jwt",), "cert": ("role_id",)}
_POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - where it is
_TOKEN = re.compile(r"[!-~]+", re.ASCII)
_URL = re.compile(r"https?://[!-\"$->A-~]+", re.ASCII)
_REASON = 300
# What says where in Vault the state is, but not who asks.
_NOT_LOGIN = frozenset({"mount", "store", "store_path", "kv_path", "engine_mount_point", "retries", "retry_action"})

#: A token that is younger than this has not ended: what Vault refuses it, its policies do not allow.
_YOUNG_SECONDS = 10


def connect(settings: t.Mapping[str, t.Any], adapter: type) -> hvac.Client:
    """Return a client that is logged in, whose requests go through the adapter. Settings alone decide: hvac looks nothing up.

    The adapter finds the settings retries and retry_action as attributes of its class, and new_token, which returns
    another token when one has been refused.
    """
    client = _client(settings, adapter)
    if settings["auth_method"] == "token":
        client.token = _token(settings)
        if settings["token_validate"]:
            _validate(client, settings)
    elif settings["auth_method"] != "none":
        with LOGIN:
            client.token = _cached_login(client, settings)
    return client


def _client(settings: t.Mapping[str, t.Any], adapter: type) -> hvac.Client:
    # Whoever uses the other store need not have it.
    import hvac
    import requests

    url = _url(settings)
    options = {"timeout": settings["timeout"]} if settings["timeout"] else {}
    attributes: dict[str, t.Any] = {name: settings[name] for name in ("retries", "retry_action")}
    attributes["new_token"] = staticmethod(lambda refused: _new_token(settings, adapter, refused))
    client = hvac.Client(
        url=url,
        # Not None: hvac would look for one.
        token="",
        cert=_certificate(settings["cert_auth_public_key"], settings["cert_auth_private_key"]),
        verify=settings["validate_certs"] and (not url.startswith("https") or _trusted(settings["ca_cert"])),
        proxies={**requests.utils.get_environ_proxies(url), **(settings["proxies"] or {})},
        namespace=settings["namespace"],
        adapter=type(adapter.__name__, (adapter,), attributes),
        **options,
    )
    # All that it would look up in the environment and the user's netrc, for each request anew, is known.
    client.session.trust_env = False
    return client


def _url(settings: t.Mapping[str, t.Any]) -> str:
    url = settings["url"]
    if not url:
        raise StoreError(f"url: the address of Vault or OpenBao is missing; give {sources('url')}")
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
    return str(url)


@functools.cache
def _trusted(ca_cert: str | None) -> str | bool:
    """Return what to verify certificates with, once it is known to be of use."""
    # As the requests library does, but with a sentence on what is wrong.
    path = ca_cert or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not path:
        return True
    path = os.path.expanduser(path)
    folder = os.path.isdir(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
    except OSError as error:
        raise StoreError(f"ca_cert: {quoted(path)} cannot be used: {_why(error)}") from None
    return path


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
            f"cert_auth_public_key, cert_auth_private_key: {quoted(public)} and {quoted(private)} cannot be used: {_why(error)}"
        ) from None
    return public, private


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "this is not PEM without a password, or not what belongs together"
    return getattr(error, "strerror", None) or type(error).__name__


def _token(settings: t.Mapping[str, t.Any]) -> str:
    token = settings["token"]
    if not token:
        path = os.path.join(os.path.expanduser(settings["token_path"] or "~"), settings["token_file"])
        token = _read(path, "token_path") if os.path.exists(path) else None
        if not token:
            raise StoreError(
                f"token: auth_method token needs it; give {sources('token')}, or log in with a program that leaves it "
                f"in {path}"
            )
    if not _TOKEN.fullmatch(token):
        raise StoreError("token: this is not a token; it has spaces, control or non-ASCII characters in it")
    return str(token)


def _read(path: str, option: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{option}: {path} cannot be read: {_why(error)}") from None


def _validate(client: hvac.Client, settings: t.Mapping[str, t.Any]) -> None:
    _request(
        client,
        lambda: client.adapter.get("/v1/auth/token/lookup-self"),
        "token: Vault at {url} does not let the token look itself up: {reason}; get a new one, or use token_validate: false",
        settings,
    )


def _cached_login(client: hvac.Client, settings: t.Mapping[str, t.Any]) -> str:
    """Return a token of these settings that will last a while."""
    token, _made, until = SERVERS.recall(_who(settings)) or ("", 0, 0)
    return str(token) if until is None or time.monotonic() < until else _new_login(client, settings)


def _new_login(client: hvac.Client, settings: t.Mapping[str, t.Any]) -> str:
    auth, now = _login(client, settings), time.monotonic()
    token, seconds = auth["client_token"], auth.get("lease_duration")
    if not auth.get("num_uses"):
        # Half of its life is left for what begins just before.
        SERVERS.remember(_who(settings), [token, now, now + seconds / 2 if seconds else None])
    return str(token)


def _new_token(settings: t.Mapping[str, t.Any], adapter: type, refused: str) -> str | None:
    """Return another token than one that Vault has refused, or None if there is none or that would change nothing."""
    if settings["auth_method"] in ("token", "none"):
        # A program such as Vault Agent may have renewed the file.
        token = _token(settings) if settings["auth_method"] == "token" else refused
        return token if token != refused else None
    with LOGIN:
        token, made, _until = SERVERS.recall(_who(settings)) or ("", -_YOUNG_SECONDS, 0)
        if token and token != refused:
            return str(token)
        if time.monotonic() < made + _YOUNG_SECONDS:
            return None
        # Whether it has ended or its policy lacks something is not known, so a login that is refused is not the answer.
        with contextlib.suppress(StoreError):
            return _new_login(_client(settings, adapter), settings)
    return None


def _who(settings: t.Mapping[str, t.Any]) -> str:
    return json.dumps({name: value for name, value in settings.items() if name not in _NOT_LOGIN}, sort_keys=True)


def _login(client: hvac.Client, settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return what Vault says of a new token."""
    method = settings["auth_method"]
    for name in _NEEDED[method]:
        if not settings[name]:
            raise StoreError(f"{name}: auth_method {method} needs it; give {sources(name)}")
    mount = settings["mount_point"] or method
    path, body = f"/v1/auth/{quote(mount)}/login", _login_body(settings)
    if "username" in _NEEDED[method]:
        path += f"/{quote(settings['username'], safe='')}"
    options = ", ".join((*_NEEDED[method], *_OPTIONAL.get(method, ())))
    answer = _request(
        client,
        lambda: client.adapter.post(path, json=body),
        f"auth_method: Vault at {{url}} refuses the {method} login at auth/{mount}: {{reason}}; look at {options}, "
        "mount_point and namespace",
        {**settings, "jwt": body.get("jwt")},
    )
    auth = answer.get("auth") if isinstance(answer, dict) else None
    if not isinstance(auth, dict) or not _TOKEN.fullmatch(str(auth.get("client_token") or "")):
        raise StoreError(
            f"auth_method: Vault at {client.url} answers the {method} login without a token; a login with a second "
            "factor cannot be used"
        )
    return auth


def _login_body(settings: t.Mapping[str, t.Any]) -> dict[str, str]:
    method = settings["auth_method"]
    if method == "approle":
        body = {"role_id": settings["role_id"], "secret_id": settings["secret_id"]}
    elif method in ("jwt", "kubernetes"):
        body = {"role": settings["role_id"], "jwt": settings["jwt"] or _read(_POD_TOKEN, "jwt")}
    elif method == "cert":
        body = {"name": settings["role_id"]}
    else:
        body = {"password": settings["password"]}
    return {name: value for name, value in body.items() if value}


def _request(client: hvac.Client, call: t.Callable[[], t.Any], refused: str, settings: t.Mapping[str, t.Any]) -> t.Any:
    """Make a request that says who we are; refused is the sentence if that is not accepted."""
    import hvac.exceptions
    import requests

    from ..._ansible.vault_options import SECRETS
    from .vault_http import failure

    try:
        return call()
    except (
        hvac.exceptions.InvalidRequest,
        hvac.exceptions.Unauthorized,
        hvac.exceptions.Forbidden,
        hvac.exceptions.InvalidPath,
    ) as error:
        if not isinstance(error.errors, list):
            raise StoreError(f"url: what answers at {client.url} is not Vault or OpenBao, or it wants https") from None
        reason = " ".join(" ".join(map(str, error.errors)).split())
        # In case that something in between tells what it was sent.
        for name in SECRETS:
            if settings[name]:
                reason = reason.replace(settings[name], "…")
        reason = reason[:_REASON]
        if isinstance(error, hvac.exceptions.InvalidPath) and "namespace" in reason:
            raise StoreError(
                f"namespace: Vault at {client.url} has no namespace {quoted(settings['namespace'])}"
            ) from None
        raise StoreError(refused.format(url=client.url, reason=reason)) from None
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        raise StoreError(failure(error, client.url)) from None
