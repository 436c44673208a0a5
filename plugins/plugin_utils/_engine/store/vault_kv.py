# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store for many controllers: a secret per document in a KV version 2 engine of HashiCorp Vault or OpenBao.

    <engine_mount_point>/<kv_path>/<mount>/<path>           {"data": the document in JSON, "due": …, "write": …}
    <engine_mount_point>/<kv_path>/<mount>/<path>.<due>     nothing; it says when the document beside it is due

The version of a document is that of its secret. When a document is due stands in its name (see new_key) or, if it has
another name or is no longer due then, in that of an empty secret beside it. So LISTs tell what is due and how much is
not. What a crash leaves of such names is never later than the truth.

The document is a string for Vault, which would round large numbers in an object and write numbers to its audit log.
A request that may have been made is made again, so each write carries a value of its own: a write refused for its
version is looked at, and is a success if it is found to be there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import sys
import threading
import typing as t

from ..errors import Conflict, StoreError
from ..names import base36, random_text
from ..run.shared_memory import SERVERS
from ..run.threads import concurrently
from .base import Data, Document, Store, Survey, Write
from .vault_http import CONCURRENCY, adapter_class, failure, reason

try:
    import hvac
    import hvac.exceptions
    import requests
except ImportError:  # settings says so
    pass

_STRANGER = "url: what answers at {url} is not Vault or OpenBao, or it wants https"
#: OpenBao takes as long for a page as for all that it is a page of.
_PAGE = 100_000
#: How many documents are read ahead of whoever takes them.
_AHEAD = 64
_DUE_DIGITS = 7
_LISTS = 4
#: What stands before the - makes it a few files, and not one for each, if the mount is moved to vaulted files.
_DATED = re.compile(r"[0-9a-z]-([0-9a-z]{7})[0-9a-z]{11}", re.ASCII)
_DUE_NAME = re.compile(r"([0-9a-z_-]+)\.([0-9a-z]{7})", re.ASCII)

_Answer = dict[str, t.Any]
#: Gives a client that is logged in and whose requests go through an adapter of the given class.
Connect = t.Callable[[type], "hvac.Client"]


class VaultKVStore(Store):
    """Documents below one path of a KV engine. log gets one line per attempt of a request, never with a secret."""

    batch = CONCURRENCY

    def __init__(
        self,
        connect: Connect,
        *,
        engine_mount_point: str,
        kv_path: str,
        mount: str,
        log: t.Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._engine = engine_mount_point.strip("/")
        self._base = f"{kv_path}/{mount}"
        self.place = f"kv_path {kv_path} of engine_mount_point {self._engine}"
        self._log = log
        self._client: tuple[int, hvac.Client] | None = None
        self._connecting = threading.Lock()
        #: Which versions of documents were seen, and when they are due.
        self._seen: dict[str, tuple[int, int]] = {}

    def read(self, path: str) -> Document | None:
        found = self._read_document(path)
        return found[0] if found else None

    def _read_document(self, path: str) -> tuple[Document, int] | None:
        """Return a document and when it is due."""
        secret = self._read(path)
        if secret is None:
            return None
        try:
            content = secret["data"]["data"]
            document = Document(path, dict(json.loads(content["data"])), int(secret["data"]["metadata"]["version"]))
            due = int(content["due"])
        except (KeyError, TypeError, ValueError):
            raise StoreError(f"kv_path: {self._shown(path)} does not hold a document of this store") from None
        self._seen[path] = (document.version, due)
        return document, due

    def read_each(self, paths: t.Sequence[str]) -> t.Iterator[Document]:
        return filter(None, concurrently(self.read, paths, CONCURRENCY))

    def write(self, *writes: Write) -> None:
        for _unused in concurrently(self._write, writes, CONCURRENCY):
            pass

    def delete(self, *paths: str) -> None:
        for _unused in concurrently(self._delete, paths, CONCURRENCY):
            pass

    def scan(self, prefix: str) -> t.Iterator[Document]:
        for document, _due in self._read_ahead([path for path, _due, is_there in self._listed(prefix) if is_there]):
            yield document

    def survey(self, prefix: str, now: int, *, tidy: bool) -> Survey:
        survey = Survey()
        to_read = []
        for path, at, is_there in self._listed(prefix):
            if at is not None and at > now:
                if is_there:
                    survey.add_later(at)
            elif is_there:
                to_read.append(path)
            elif at is not None and tidy:
                self._destroy(_name(path, at))
        survey.due = survey.sort(self._read_ahead(to_read), now)
        return survey

    def _read_ahead(self, paths: list[str]) -> t.Iterator[tuple[Document, int]]:
        """Yield documents and when they are due."""
        for start in range(0, len(paths), _AHEAD):
            yield from filter(None, concurrently(self._read_document, paths[start : start + _AHEAD], CONCURRENCY))

    def new_key(self, folder: str, due: int) -> str:
        return f"{random_text(1)}-{base36(due, _DUE_DIGITS)}{random_text(11)}"

    def _write(self, write: Write) -> None:
        before = self._due(write.path, write.version) if write.version else None
        old = _due_path(write.path, before) if before is not None else None
        new = _due_path(write.path, write.due)
        # At every instant the earliest time that names tell must not be later than the truth. So the name for a write
        # that is refused stays: it may be that of the other one, and goes when the document has gone.
        sooner = before is None or write.due < before
        if sooner and new is not None and new != old:
            self._put_name(new)
        if sooner and new is None and old is not None:
            self._destroy(old)
        self._put_document(write)
        if not sooner and new is not None and new != old:
            self._put_name(new)
        if old is not None and old != new:
            self._destroy(old)
        self._seen[write.path] = (write.version + 1, write.due)

    def _due(self, path: str, version: int | None = None) -> int | None:
        """Return when a document is due, as far as it is there."""
        seen = self._seen.get(path)
        if seen is None or version not in (None, seen[0]):
            self._seen.pop(path, None)
            self.read(path)
            seen = self._seen.get(path)
        return seen[1] if seen else None

    def _put_name(self, path: str) -> None:
        """Write the name of a time, if it is not there yet."""
        with contextlib.suppress(Conflict):
            self._put(path, {}, 0)

    def _put_document(self, write: Write) -> None:
        mark = secrets.token_hex(8)
        try:
            self._put(write.path, {"data": json.dumps(write.data), "due": write.due, "write": mark}, write.version)
        except Conflict:
            secret = self._read(write.path)
            if secret is None or (secret["data"]["data"] or {}).get("write") != mark:
                raise

    def _delete(self, path: str) -> None:
        due = self._due(path)
        self._destroy(path)
        self._seen.pop(path, None)
        name = _due_path(path, due) if due is not None else None
        if name is not None:
            self._destroy(name)

    def _listed(self, prefix: str) -> t.Iterator[tuple[str, int | None, bool]]:
        """Yield the paths below a prefix, when each is due at the earliest (None where no name tells), and whether it is
        there: after a crash there may be the name of a time without its document."""
        folders = [prefix]
        while folders:
            deeper: list[str] = []
            for folder, names in concurrently(lambda at: (at, list(self._names(at))), folders, _LISTS):
                keys: list[str] = []
                dues: dict[str, int] = {}
                for name in names:
                    if name.endswith("/"):
                        deeper.append(f"{folder}{name}")
                    elif match := _DUE_NAME.fullmatch(name):
                        dues[match[1]] = min(int(match[2], 36), dues.get(match[1], sys.maxsize))
                    else:
                        keys.append(name)
                for key in keys:
                    yield f"{folder}{key}", dues.pop(key) if key in dues else _told(key), True
                for key, due in dues.items():
                    yield f"{folder}{key}", due, False
            folders = deeper

    def _names(self, prefix: str) -> t.Iterator[str]:
        """Yield the names in a folder, page by page where the server pages: OpenBao does, Vault gives all at once."""
        url = f"/v1/{self._engine}/metadata/{self._base}/{prefix}".rstrip("/")
        after = ""
        params = {"limit": str(_PAGE)}
        while True:
            try:
                answer = self._request("list", lambda client: client.adapter.list(url, params=dict(params)), prefix)
                names = answer["data"]["keys"]
            except hvac.exceptions.InvalidPath as error:
                if error.errors:
                    raise StoreError(self._no_engine()) from None
                return
            except (KeyError, TypeError):
                raise StoreError(f"url: what answers there does not list {self._shown(prefix)} as Vault does") from None
            new = [name for name in names if name > after]
            yield from new
            if len(names) != _PAGE or not new:
                return
            after = params["after"] = new[-1]

    def _read(self, path: str) -> _Answer | None:
        try:
            return t.cast(
                _Answer,
                self._request(
                    "read",
                    lambda client: client.secrets.kv.v2.read_secret_version(
                        f"{self._base}/{path}", mount_point=self._engine, raise_on_deleted_version=True
                    ),
                    path,
                ),
            )
        except hvac.exceptions.InvalidPath as error:
            if isinstance(error.json, dict) and error.json.get("data"):
                raise StoreError(
                    f"kv_path: somebody has deleted {self._shown(path)} by hand; undelete it, or delete its metadata "
                    "as well"
                ) from None
            if error.errors:
                raise StoreError(self._no_engine()) from None
            return None

    def _put(self, path: str, content: Data, version: int | None) -> None:
        try:
            answer = self._request(
                "write",
                lambda client: client.secrets.kv.v2.create_or_update_secret(
                    f"{self._base}/{path}", content, cas=version, mount_point=self._engine
                ),
                path,
            )
        except hvac.exceptions.InvalidRequest as error:
            if "did not match" not in str(error.errors):
                raise StoreError(f"kv_path: Vault refuses to write {self._shown(path)}: {reason(error)}") from None
            raise Conflict(f"kv_path: {self._shown(path)} was changed by somebody else at the same time") from None
        except hvac.exceptions.InvalidPath:
            raise StoreError(self._no_engine()) from None
        if not isinstance(answer, dict):
            raise StoreError(_STRANGER.format(url=self._connected().url))

    def _destroy(self, path: str) -> None:
        """Remove a secret with its metadata and all its versions."""
        try:
            self._request(
                "delete",
                lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
                    f"{self._base}/{path}", mount_point=self._engine
                ),
                path,
            )
        except hvac.exceptions.InvalidPath:
            raise StoreError(self._no_engine()) from None

    def _no_engine(self) -> str:
        return f"engine_mount_point: there is no secrets engine at {self._engine!r}"

    def _shown(self, path: str) -> str:
        return f"{self._engine}/{self._base}/{path}".rstrip("/")

    def _request(self, what: str, call: t.Callable[[hvac.Client], t.Any], path: str) -> t.Any:
        """Make a request; raises StoreError for what went wrong, but for what its caller has to judge."""
        client = self._connected()
        try:
            return call(client)
        except (hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest) as error:
            if not isinstance(error.json, dict):
                # Whatever that is, it does not know what there is in Vault.
                raise StoreError(_STRANGER.format(url=client.url)) from None
            if isinstance(error, hvac.exceptions.InvalidRequest) and what != "write":
                raise StoreError(f"kv_path: Vault refuses to {what} {self._shown(path)}: {reason(error)}") from None
            raise
        except hvac.exceptions.Forbidden:
            raise StoreError(
                f"kv_path: Vault does not let this token {what} {self._shown(path)}; its policy lacks that, or it has ended"
            ) from None
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            raise StoreError(failure(error, client.url)) from None

    def _connected(self) -> hvac.Client:
        with self._connecting:
            # A child must not talk on its parent's connection.
            if self._client is None or self._client[0] != os.getpid():
                client = self._connect(adapter_class(self._log))
                self._get_to_know(client)
                self._client = (os.getpid(), client)
            return self._client[1]

    def _get_to_know(self, client: hvac.Client) -> None:
        """Look once per run at what will not change while it goes on."""
        adapter = t.cast(t.Any, client.adapter)
        place = json.dumps([client.url, adapter.namespace, self._engine])
        known = SERVERS.recall(place)
        if known is None:
            is_openbao = self._check_engine(client).endswith("builtin.bao")
            known = {"index": self._index_of_the_active_node(adapter) if is_openbao else None}
            if known["index"] or not is_openbao:
                SERVERS.remember(place, known)
        if known["index"]:
            adapter.index, adapter.index_is_final = known["index"], True
        else:
            # What the run has written, also in other processes, is to be seen by this one.
            adapter.index = adapter.index or SERVERS.recall(f"index {place}")
            adapter.keep_index = lambda index: SERVERS.remember(f"index {place}", index)

    def _check_engine(self, client: hvac.Client) -> str:
        """Refuse an engine that would take writes without checking their version, before anything is written.

        Returns what version the engine itself says that it has.
        """
        try:
            answer = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._engine}")
            kind, version = answer["data"]["type"], (answer["data"]["options"] or {}).get("version")
            where = answer["data"]["path"].strip("/")
        except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest) as error:
            if not isinstance(error.json, dict):
                raise StoreError(_STRANGER.format(url=client.url)) from None
            raise StoreError(
                f"engine_mount_point: there is no secrets engine at {self._engine!r}, or the token's policy gives no "
                f"access to {self._engine}/data/{self._base}/* (or it has ended)"
            ) from None
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            raise StoreError(failure(error, client.url)) from None
        except (KeyError, TypeError, AttributeError):
            raise StoreError(_STRANGER.format(url=client.url)) from None
        if where != self._engine:
            raise StoreError(f"{self._no_engine()}; there is one at {where!r}, give the rest of the path with kv_path")
        if kind != "kv":
            raise StoreError(f"engine_mount_point: the secrets engine at {self._engine!r} is {kind}, not kv")
        if version != "2":
            raise StoreError(
                f"engine_mount_point: the KV engine at {self._engine!r} has version 1, which has no check-and-set; give "
                "one with version 2"
            )
        return str(answer["data"].get("running_plugin_version") or "")

    @staticmethod
    def _index_of_the_active_node(adapter: t.Any) -> str | None:
        """Return an index that OpenBao's standby servers will never have, so that they pass on all that asks for it.

        Two processes may know of each other only by what they read here, which on a standby can be from before.
        OpenBao takes this from version 2.7; earlier ones need disable_standby_reads.
        """
        # It is the servers' own, not a namespace's.
        namespace, adapter.namespace = adapter.namespace, None
        try:
            health = adapter.get("/v1/sys/health", params={"standbyok": "true", "perfstandbyok": "true"})
            index = json.dumps({"cluster": health["cluster_id"], "value": str(2**63 - 1)})
        except (hvac.exceptions.VaultError, requests.RequestException, KeyError, TypeError):
            return None
        finally:
            adapter.namespace = namespace
        return base64.b64encode(index.encode()).decode()


def _told(key: str) -> int | None:
    """Return when a document is due according to its own name."""
    match = _DATED.fullmatch(key)
    return int(match[1], 36) if match else None


def _due_path(path: str, due: int) -> str | None:
    """Return the secret whose name tells when a document is due; None if its own does, or it is due at any time."""
    return None if due == (_told(path.rpartition("/")[2]) or 0) else _name(path, due)


def _name(path: str, due: int) -> str:
    return f"{path}.{base36(due, _DUE_DIGITS)}"
