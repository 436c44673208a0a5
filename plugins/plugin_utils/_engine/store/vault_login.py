# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logging in to HashiCorp Vault or OpenBao. Tokens are in memory only, which the workers of a run share."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import typing as t
from urllib.parse import quote

from ..errors import StoreError, quoted
from ..run.shared_memory import LOGIN, REFUSALS, SERVERS

if t.TYPE_CHECKING:
    import hvac

    from .vault_client import Sources

#: Options of vault_kv that no one but Vault may see. Documentation cannot say which they are.
SECRETS = frozenset({"jwt", "password", "secret_id", "token"})
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
_REASON = 300
# What says where in Vault the state is, but not who asks.
_NOT_LOGIN = frozenset({"mount", "store", "store_path", "kv_path", "engine_mount_point", "retries", "retry_action"})

#: A token that is younger than this has not ended: what Vault refuses it, its policies do not allow.
_YOUNG_SECONDS = 10
#: For so long a login that was refused is not tried again. Both servers lock a user whose logins were refused five times,
#: and count from the beginning when the last one was over 15 minutes ago.
_REFUSED_SECONDS = 1200
#: A token with less left than this is used to its end without a further attempt to replace it before.
_LEAST_SECONDS = 5


class Refused(StoreError):
    """Vault does not accept who we say that we are."""


def connect(settings: t.Mapping[str, t.Any], adapter: type, sources: Sources) -> hvac.Client:
    """Return a client that is logged in, whose requests go through the adapter.

    sources says where an option may be given, for a sentence on one that is missing.
    """
    login = _Login(settings, adapter, sources)
    client = login.new_client()
    if settings["auth_method"] == "token":
        client.token = login.given_token()
        if settings["token_validate"]:
            login.validate(client)
    elif settings["auth_method"] != "none":
        with LOGIN:
            client.token = login.token(client)
    return client


class _Login:
    """One way to log in. What it gives is the run's: one token, and one answer if it is refused."""

    def __init__(self, settings: t.Mapping[str, t.Any], adapter: type, sources: Sources) -> None:
        self._settings = settings
        self._adapter = adapter
        self._sources = sources
        kept = {name: value for name, value in settings.items() if name not in _NOT_LOGIN}
        self._name = json.dumps(kept, sort_keys=True)

    def new_client(self) -> hvac.Client:
        # Whoever uses the other store need not have what it takes.
        from .vault_client import new_client

        return new_client(self._settings, self._adapter, self._sources, self._new_token)

    def given_token(self) -> str:
        """Return the token of the settings."""
        settings = self._settings
        token = settings["token"]
        if not token:
            path = os.path.join(os.path.expanduser(settings["token_path"] or "~"), settings["token_file"])
            token = _read(path, "token_path") if os.path.exists(path) else None
            if not token:
                raise StoreError(
                    f"token: auth_method token needs it; give {self._sources('token')}, or log in with a program that "
                    f"leaves it in {path}"
                )
        if not _TOKEN.fullmatch(token):
            raise StoreError("token: this is not a token; it has spaces, control or non-ASCII characters in it")
        return str(token)

    def validate(self, client: hvac.Client) -> None:
        """Let Vault look the token up."""
        _request(
            client,
            lambda: client.adapter.get("/v1/auth/token/lookup-self"),
            "token: Vault at {url} does not let the token look itself up: {reason}; get a new one, or use "
            "token_validate: false",
            self._settings,
        )

    def token(self, client: hvac.Client) -> str:
        """Return a token that is good now; LOGIN is held meanwhile."""
        token, _made, replace_at, ends_at = SERVERS.recall(self._name) or ("", 0, 0, 0)
        now = time.monotonic()
        if token and (replace_at is None or now < replace_at):
            return str(token)
        if not token or now >= ends_at:
            return self._log_in(client)
        try:
            return self._log_in(client)
        except StoreError:
            # A login may be possible once only. The token that is there is good to its end.
            left = ends_at - now
            replace_at = now + left / 2 if left > _LEAST_SECONDS else ends_at
            SERVERS.update(self._name, lambda known: [*known[:2], replace_at, known[3]])
            return str(token)

    def _log_in(self, client: hvac.Client) -> str:
        """Return a new token, which is the run's from now on; raise what was said if that was refused a while ago."""
        name = self._refusal_name()
        sentence, until = REFUSALS.recall(name) or ("", 0)
        if time.monotonic() < until:
            raise Refused(sentence)
        try:
            auth, now = self._ask(client), time.monotonic()
        except Refused as error:
            REFUSALS.remember(name, [str(error), time.monotonic() + _REFUSED_SECONDS])
            raise
        token, seconds = auth["client_token"], auth.get("lease_duration")
        if not auth.get("num_uses"):
            # Replaced when half of its life is over, so that what begins just before has the other half.
            ends = [now + seconds / 2, now + seconds] if seconds else [None, None]
            SERVERS.remember(self._name, [token, now, *ends])
        return str(token)

    def _refusal_name(self) -> str:
        # Others of the run may find it in a file, from which nobody should be able to guess a password.
        name = hashlib.scrypt(self._name.encode(), salt=b"refusal", n=2**14, r=8, p=1)
        return f"refused {name.hex()}"

    def _new_token(self, refused: str) -> str | None:
        """Return another token than one that Vault has refused, or None if there is none or that would change nothing."""
        if self._settings["auth_method"] in ("token", "none"):
            # A program such as Vault Agent may have renewed the file.
            token = self.given_token() if self._settings["auth_method"] == "token" else refused
            return token if token != refused else None
        with LOGIN:
            token, made, *_ends = SERVERS.recall(self._name) or ("", -_YOUNG_SECONDS)
            if token and token != refused:
                return str(token)
            if time.monotonic() < made + _YOUNG_SECONDS:
                return None
            # Whether it has ended or its policy lacks something is not known, so a login that is refused is not the answer.
            with contextlib.suppress(StoreError):
                return self._log_in(self.new_client())
        return None

    def _ask(self, client: hvac.Client) -> dict[str, t.Any]:
        """Log in; returns what Vault says of the new token."""
        settings = self._settings
        method = settings["auth_method"]
        for name in _NEEDED[method]:
            if not settings[name]:
                raise StoreError(f"{name}: auth_method {method} needs it; give {self._sources(name)}")
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


def _read(path: str, option: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise StoreError(f"{option}: {path} cannot be read: {why}") from None


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


def _request(client: t.Any, call: t.Callable[[], t.Any], refused: str, settings: t.Mapping[str, t.Any]) -> t.Any:
    """Make a request that says who we are; refused is the sentence if that is not accepted."""
    import hvac.exceptions
    import requests

    from .vault_failures import failure

    try:
        return call()
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        if not isinstance(getattr(error, "errors", None), list) or not isinstance(
            error,
            (
                hvac.exceptions.InvalidRequest,
                hvac.exceptions.Unauthorized,
                hvac.exceptions.Forbidden,
                hvac.exceptions.InvalidPath,
            ),
        ):
            raise StoreError(failure(error, client.url, client.adapter.proxy)) from None
        reason = " ".join(" ".join(map(str, error.errors or ())).split())
        # In case that something in between tells what it was sent.
        for name in SECRETS:
            if settings[name]:
                reason = reason.replace(settings[name], "…")
        reason = reason[:_REASON]
        if isinstance(error, hvac.exceptions.InvalidPath) and "namespace" in reason:
            raise StoreError(
                f"namespace: Vault at {client.url} has no namespace {quoted(settings['namespace'])}"
            ) from None
        raise Refused(refused.format(url=client.url, reason=reason)) from None
