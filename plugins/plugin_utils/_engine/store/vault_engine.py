# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets below one path of a KV engine, version 2: what each answer of Vault's means, and who is asked."""

from __future__ import annotations

import base64
import json
import os
import threading
import typing as t

from ..errors import Conflict, StoreError, UnreadableError
from ..run.shared_memory import SERVERS
from .base import Data
from .vault_failures import STRANGER, failure, is_from_vault, is_too_large, is_unknown_token, reason, unknown_token
from .vault_http import adapter_class

try:
    import hvac
    import hvac.exceptions
    import requests
except ImportError:  # vault_client says so
    pass

#: OpenBao takes as long for a page as for all that it is a page of.
PAGE = 100_000
#: What a policy has to allow for what is done with a secret, and on which of the engine's two trees.
_RIGHTS = {
    "read": ("read", "data"),
    "create": ("create", "data"),
    "update": ("update", "data"),
    "list": ("list", "metadata"),
    "delete": ("delete", "metadata"),
    "limit": ("update", "metadata"),
}

_Answer = dict[str, t.Any]
#: Gives a client that is logged in and whose requests go through an adapter of the given class.
Connect = t.Callable[[type], "hvac.Client"]


class KVEngine:
    """Secrets below the path base. log gets one line per attempt of a request, never with a secret; warn what a person
    should know."""

    def __init__(
        self,
        connect: Connect,
        mount_point: str,
        base: str,
        log: t.Callable[[str], None],
        warn: t.Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._mount_point = mount_point.strip("/")
        self._base = base
        self._log = log
        self._warn = warn
        self._client: tuple[int, hvac.Client] | None = None
        self._connecting = threading.Lock()
        self._warned = False

    def shown(self, path: str) -> str:
        """Return the whole path of a secret, for messages."""
        return f"{self._mount_point}/{self._base}/{path}".rstrip("/")

    def shown_server(self) -> str:
        """Return the address of the server."""
        return str(self._connected().url)

    def read(self, path: str) -> _Answer | None:
        """Return the data of a secret and its metadata, or None."""
        try:
            answer = self._request("read", "get", f"data/{self._base}/{path}", path)
        except hvac.exceptions.InvalidPath as error:
            data = t.cast(Data, error.json).get("data")
            if data:
                raise self._not_readable(path, data) from None
            if error.errors:
                raise StoreError(self._no_engine()) from None
            return None
        try:
            secret = dict(answer["data"])
            ends = secret["metadata"]["deletion_time"]
        except (KeyError, TypeError, ValueError):
            raise StoreError(f"url: what answers there does not read {self.shown(path)} as Vault does") from None
        if ends and not self._warned:
            # It is still there to be ended and to be read, so this is not the time to refuse it.
            self._warned = True
            self._warn(self._vanishing(path, ends))
        return secret

    def changed(self, path: str) -> Conflict:
        """Return the error that says that a secret has another version than expected."""
        return Conflict(f"kv_path: {self.shown(path)} was changed by somebody else at the same time")

    def put(self, path: str, content: Data, version: int) -> None:
        """Write a secret whose version is still the one given, 0 for one that is not there; raises Conflict."""
        body = {"options": {"cas": version}, "data": content}
        what = "update" if version else "create"
        try:
            answer = self._request(what, "post", f"data/{self._base}/{path}", path, json=body)
        except hvac.exceptions.InvalidRequest as error:
            if "did not match" not in str(error.errors):
                raise StoreError(f"kv_path: Vault refuses to {what} {self.shown(path)}: {reason(error)}") from None
            raise self.changed(path) from None
        except hvac.exceptions.InvalidPath:
            raise StoreError(self._no_engine()) from None
        if not isinstance(answer, dict):
            raise StoreError(STRANGER.format(url=self._connected().url), may_have_happened=True)
        ends = (answer.get("data") or {}).get("deletion_time")
        if ends:
            if not version:
                self.destroy(path)
            raise StoreError(self._vanishing(path, ends), may_have_happened=bool(version))

    def put_name(self, path: str) -> bool:
        """Write a secret of which only the name says something; returns whether it was not there yet."""
        try:
            self.put(path, {}, 0)
        except Conflict:
            return False
        return True

    def keep_one_version(self, path: str) -> None:
        """Let Vault remove the older versions of a secret that is there whenever it is written."""
        try:
            self._request("limit", "post", f"metadata/{self._base}/{path}", path, json={"max_versions": 1})
        except hvac.exceptions.InvalidPath:
            raise StoreError(self._no_engine()) from None

    def destroy(self, path: str) -> None:
        """Remove a secret with its metadata and all its versions."""
        try:
            self._request("delete", "delete", f"metadata/{self._base}/{path}", path)
        except hvac.exceptions.InvalidPath:
            raise StoreError(self._no_engine()) from None

    def names(self, prefix: str) -> t.Iterator[str]:
        """Yield the names in a folder, page by page where the server pages: OpenBao does, Vault gives all at once."""
        after = ""
        # Not the verb LIST, which some gateways refuse.
        params = {"list": "true", "limit": str(PAGE)}
        while True:
            try:
                answer = self._request(
                    "list", "get", f"metadata/{self._base}/{prefix}".rstrip("/"), prefix, params=dict(params)
                )
                names = answer["data"]["keys"]
            except hvac.exceptions.InvalidPath as error:
                if error.errors:
                    raise StoreError(self._no_engine()) from None
                return
            except (KeyError, TypeError):
                raise StoreError(f"url: what answers there does not list {self.shown(prefix)} as Vault does") from None
            new = [name for name in names if name > after]
            yield from new
            if len(names) != PAGE or not new:
                return
            after = params["after"] = new[-1]

    def check_rights(self, path: str) -> None:
        """Do once all that a policy has to allow, with a secret that nobody else uses."""
        # First what leaves nothing behind. Vault lets nobody remove what he may not, also if it is not there.
        self.destroy(path)
        list(self.names(path.rpartition("/")[0]))
        self.read(path)
        self.put(path, {}, 0)
        try:
            self.keep_one_version(path)
            self.put(path, {}, 1)
        finally:
            self.destroy(path)

    def _not_readable(self, path: str, data: Data) -> UnreadableError:
        if (data.get("metadata") or {}).get("destroyed"):
            return UnreadableError(
                f"kv_path: somebody has destroyed {self.shown(path)} by hand; restore it from a backup, or delete its "
                "metadata as well"
            )
        return UnreadableError(
            f"kv_path: somebody has deleted {self.shown(path)} by hand; undelete it, or delete its metadata as well"
        )

    def _vanishing(self, path: str, ends: str) -> str:
        return (
            f"kv_path: Vault is going to delete {self.shown(path)} at {ends}; set delete_version_after to 0s for the "
            "engine and for the secret"
        )

    def _no_engine(self) -> str:
        return f"engine_mount_point: there is no secrets engine at {self._mount_point!r}"

    def _request(self, what: str, method: str, url: str, path: str, **options: t.Any) -> t.Any:
        """Make a request; raises StoreError for what went wrong, but for what its caller has to judge."""
        client, is_write = self._connected(), what in ("create", "update")
        try:
            return client.adapter.request(method, f"/v1/{self._mount_point}/{url}", **options)
        except hvac.exceptions.VaultError as error:
            if isinstance(error, hvac.exceptions.Forbidden) and is_from_vault(error):
                raise self._forbidden(error, what, path) from None
            if is_too_large(error):
                size = len(json.dumps(options.get("json")))
                raise StoreError(
                    f"kv_path: {self.shown(path)} would be {size} bytes, which is more than Vault takes: {reason(error)}; "
                    "raise max_request_size and max_entry_size of the server, or remove what is not needed"
                ) from None
            if isinstance(error, hvac.exceptions.InvalidPath) and is_from_vault(error):
                if "namespace" in reason(error):
                    raise StoreError(
                        f"namespace: Vault at {client.url} has no namespace {client.adapter.namespace!r}"
                    ) from None
                raise
            if isinstance(error, hvac.exceptions.InvalidRequest) and is_from_vault(error):
                if not is_write:
                    raise StoreError(f"kv_path: Vault refuses to {what} {self.shown(path)}: {reason(error)}") from None
                raise
            raise StoreError(failure(error, client.url, client.adapter.proxy), may_have_happened=is_write) from None
        except requests.RequestException as error:
            raise StoreError(failure(error, client.url, client.adapter.proxy), may_have_happened=is_write) from None

    def _forbidden(self, error: hvac.exceptions.Forbidden, what: str, path: str) -> StoreError:
        if is_unknown_token(error):
            return unknown_token(self._connected().url)
        capability, tree = _RIGHTS[what]
        # That is the word for both in messages: who reads them wants to know what did not work.
        done = {"create": "write", "update": "write", "limit": "limit the versions of"}.get(what, what)
        return StoreError(
            f"kv_path: Vault does not let this token {done} {self.shown(path)}; its policies have to give {capability!r} on "
            f"{self._mount_point}/{tree}/{self._base}/*"
        )

    def _connected(self) -> t.Any:
        with self._connecting:
            # A child must not talk on its parent's connection.
            if self._client is None or self._client[0] != os.getpid():
                client = self._connect(adapter_class(self._log, self._warn))
                self._get_to_know(client)
                self._client = (os.getpid(), client)
            return self._client[1]

    def _get_to_know(self, client: t.Any) -> None:
        """Look once per run at what will not change while it goes on."""
        adapter = client.adapter
        place = json.dumps([client.url, adapter.namespace, self._mount_point])
        known = SERVERS.recall(place)
        if known is None:
            is_openbao = self._check_engine(client).endswith("builtin.bao")
            known = {"index": self._index_of_the_active_node(adapter) if is_openbao else None}
            SERVERS.remember(place, known)
        if known["index"]:
            adapter.index, adapter.index_is_final = known["index"], True
        else:
            # What the run has written, also in other processes, is to be seen by this one.
            adapter.index = adapter.index or SERVERS.recall(f"index {place}")
            adapter.keep_index = lambda index: SERVERS.remember(f"index {place}", index)

    def _check_engine(self, client: t.Any) -> str:
        """Refuse an engine that would take writes without checking their version, before anything is written.

        Returns what version the engine itself says that it has, as far as that is known.
        """
        try:
            # A gateway may let nobody ask this, so it must not be needed.
            answer = client.adapter.request("get", f"/v1/sys/internal/ui/mounts/{self._mount_point}", is_hint=True)
            kind, version = answer["data"]["type"], (answer["data"]["options"] or {}).get("version")
            where = answer["data"]["path"].strip("/")
        except (hvac.exceptions.VaultError, requests.RequestException, KeyError, TypeError, AttributeError) as error:
            # Before the next request, which would use a wrapping token up.
            if isinstance(error, hvac.exceptions.Forbidden) and self._is_wrapping(client):
                raise StoreError(
                    "token: this is a wrapping token, which only holds another one; unwrap it (vault unwrap) and give what "
                    "is in it"
                ) from None
            self._probe_engine(client)
            return ""
        if where != self._mount_point:
            raise StoreError(f"{self._no_engine()}; there is one at {where!r}, give the rest of the path with kv_path")
        if kind != "kv":
            raise StoreError(f"engine_mount_point: the secrets engine at {self._mount_point!r} is {kind}, not kv")
        if version != "2":
            raise StoreError(self._version_1())
        return str(answer["data"].get("running_plugin_version") or "")

    def _version_1(self) -> str:
        return (
            f"engine_mount_point: the KV engine at {self._mount_point!r} has version 1, which has no check-and-set; give "
            "one with version 2"
        )

    def _probe_engine(self, client: t.Any) -> None:
        """Find out by what is allowed anyway whether this is a KV engine of version 2: that alone knows versions."""
        url = f"/v1/{self._mount_point}/data/{self._base}/definitions"
        try:
            client.adapter.request("get", url, params={"version": "none"})
        except hvac.exceptions.InvalidRequest as error:
            if is_from_vault(error) and "version" in reason(error):
                return
            raise StoreError(STRANGER.format(url=client.url)) from None
        except hvac.exceptions.Forbidden as error:
            if not is_from_vault(error):
                raise StoreError(failure(error, client.url, client.adapter.proxy)) from None
            if is_unknown_token(error):
                raise unknown_token(client.url) from None
            raise StoreError(
                f"engine_mount_point: the token's policies give no access to {self._mount_point}/data/{self._base}/*, or "
                f"there is no secrets engine at {self._mount_point!r}"
            ) from None
        except hvac.exceptions.InvalidPath as error:
            if not is_from_vault(error):
                raise StoreError(failure(error, client.url, client.adapter.proxy)) from None
            if "namespace" in reason(error):
                raise StoreError(
                    f"namespace: Vault at {client.url} has no namespace {client.adapter.namespace!r}"
                ) from None
            raise StoreError(self._no_engine() if error.errors else self._version_1()) from None
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            raise StoreError(failure(error, client.url, client.adapter.proxy)) from None
        raise StoreError(self._version_1())

    @staticmethod
    def _is_wrapping(client: t.Any) -> bool:
        token = {"token": client.token}
        try:
            answer = client.adapter.request("post", "/v1/sys/wrapping/lookup", json=token, is_hint=True)
        except (hvac.exceptions.VaultError, requests.RequestException):
            return False
        return isinstance(answer, dict) and "creation_ttl" in (answer.get("data") or {})

    @staticmethod
    def _index_of_the_active_node(adapter: t.Any) -> str | None:
        """Return an index that OpenBao's standby servers will never have, so that they pass on all that asks for it.

        Two processes may know of each other only by what they read here, which on a standby can be from before.
        OpenBao takes this from version 2.7; earlier ones need disable_standby_reads.
        """
        # It is the servers' own, not a namespace's.
        namespace, adapter.namespace = adapter.namespace, None
        params = {"standbyok": "true", "perfstandbyok": "true"}
        try:
            health = adapter.request("get", "/v1/sys/health", params=params, is_hint=True)
            index = json.dumps({"cluster": health["cluster_id"], "value": str(2**63 - 1)})
        except (hvac.exceptions.VaultError, requests.RequestException, KeyError, TypeError):
            return None
        finally:
            adapter.namespace = namespace
        return base64.b64encode(index.encode()).decode()
