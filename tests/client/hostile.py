# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers what a test tells it to, byte by byte, and remembers what it was sent."""

from __future__ import annotations

import dataclasses
import socket
import threading
import typing as t


@dataclasses.dataclass
class Request:
    """What was sent: the first line's parts, and the headers with names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


Script = t.Callable[[Request], bytes]


def answer(body: bytes | str, status: str = "200 OK", **headers: str) -> bytes:
    """Return the bytes of an answer; underscores in names of headers are dashes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


class Hostile:
    """Serves on loopback until it is closed; script makes the answers."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self._answer(connection)
                except Exception:  # noqa: BLE001 - a client that goes away, or a script that fails: no answer
                    pass

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        received = b""
        while b"\r\n\r\n" not in received:
            if not (chunk := connection.recv(65536)):
                return
            received += chunk
        head, _end, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
        missing = int(headers.get("content-length", 0)) - len(body)
        while missing > 0 and (chunk := connection.recv(missing)):
            missing -= len(chunk)
        method, target, _version = first.split(" ")
        request = Request(method, target, headers)
        self.requests.append(request)
        connection.sendall(self.script(request))
