# SPDX-License-Identifier: GPL-3.0-or-later
"""A Pushgateway for tests, which keeps what is pushed to it, and answers what it is told to."""

from __future__ import annotations

import http.server
import threading


class Pushgateway:
    """address is where it listens, pushed what was put there by path; status is what it answers."""

    def __init__(self) -> None:
        self.pushed: dict[str, str] = {}
        self.status = 200
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if gateway.status < 300:
                    gateway.pushed[self.path] = body
                self.send_response(gateway.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
