# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway in front of a real server, which lets requests go wrong, and what tests of it share."""

from __future__ import annotations

import http.client
import http.server
import re
import threading
import typing as t

import pytest

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_kv import VaultKVStore

#: Opens the same store once more, as another process would.
Opened = t.Callable[..., VaultKVStore]
MADE_UP = "index of the test"
#: What becomes of a request: a status instead of an answer, "drop" before, "lose" or "cut" short after it was made.
Fault = int | str


class Proxy:
    """Stands between a store and its server. Requests that a pattern fits go wrong, as often as it says."""

    def __init__(self, upstream: str) -> None:
        self.faults: list[tuple[str, Fault, int]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.answer_headers: dict[str, str] = {}
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((f"{self.command} {self.path}", dict(self.headers)))
                fault = proxy.take(f"{self.command} {self.path}")
                if fault == "drop":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    content = b"<html>no</html>" if fault == 404 else b'{"errors":["this passes"]}'
                    self.answer(fault, "text/html" if fault == 404 else "application/json", content)
                    return
                connection = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=30)
                # What a test has made up, the server would not understand.
                headers = {name: value for name, value in self.headers.items() if value != MADE_UP}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                content = response.read()
                if fault == "lose":
                    self.close_connection = True
                    return
                if fault == "cut":
                    self.close_connection = True
                    self.send_response(response.status)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b'5\r\n{"re\r\n')
                    return
                self.answer(response.status, response.headers.get("Content-Type") or "", content)

            def answer(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(content)),
                    **proxy.answer_headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: t.Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: str) -> Fault | None:
        for number, (pattern, fault, times) in enumerate(self.faults):
            if times and re.search(pattern, request):
                self.faults[number] = (pattern, fault, times - 1)
                return fault
        return None


def base_of(store: VaultKVStore) -> str:
    return store._engine._base


def refused(function: t.Callable[..., t.Any], *args: t.Any) -> str:
    with pytest.raises(StoreError) as error:
        function(*args)
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    return text
