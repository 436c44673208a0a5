# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the double, say where it listens, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from typing import Any

from aiohttp import web

from .control import application
from .objects import new_id, new_value
from .server import Server
from .state import Start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="double", description="A test double of the OpenAI Admin API on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--admin-key", help="the organization's first admin key; made up if left out")
    parser.add_argument("--organization", default="org-double", help="its id")
    parser.add_argument(
        "--project", nargs="+", action="extend", default=[], metavar="ID", help="projects to begin with (proj_default)"
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="what an answer under /v1 takes")
    parser.add_argument("--secret-marker", default="", metavar="TEXT", help="goes into every key that is made up")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the parent process has ended")
    return parser.parse_args()


async def _orphaned(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(0.2)


async def _serve(options: argparse.Namespace, parent: int) -> None:
    start = Start(
        organization=options.organization,
        admin_key=options.admin_key or new_value("sk-admin", options.secret_marker),
        admin_key_id=new_id("key"),
        projects=tuple(options.project) or ("proj_default",),
        secret_marker=options.secret_marker,
        latency=options.latency,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(Server(start)), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(json.dumps({"url": f"{address}/v1", "control": f"{address}/_double"}), flush=True)
    waiting: list[asyncio.Task[Any]] = [loop.create_task(stop.wait())]
    if options.exit_with_parent:
        waiting.append(loop.create_task(_orphaned(parent)))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(_options(), os.getppid()))
