# SPDX-License-Identifier: GPL-3.0-or-later
"""The control API: how a test looks into the double, sets the scene and makes it misbehave."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .faults import Rule
from .objects import Project, new_id, new_value
from .server import Server
from .state import Cost, Start

Json = Any
Action = Callable[[Server, web.Request, Json], Json]


def _state(server: Server, request: web.Request, given: Json) -> Json:
    return server.state.facts()


def _requests(server: Server, request: web.Request, given: Json) -> Json:
    since = int(request.query.get("since", "0"))
    return {"requests": server.log.since(since), "next": server.log.next}


def _clear_requests(server: Server, request: web.Request, given: Json) -> Json:
    server.log.entries.clear()
    return {"next": server.log.next}


def _show_faults(server: Server, request: web.Request, given: Json) -> Json:
    return {"faults": [rule.as_json() for rule in server.faults.rules]}


def _add_faults(server: Server, request: web.Request, given: Json) -> Json:
    rules = given if isinstance(given, list) else [given]
    server.faults.rules.extend([Rule.from_json(rule) for rule in rules])
    return _show_faults(server, request, given)


def _clear_faults(server: Server, request: web.Request, given: Json) -> Json:
    server.faults.rules.clear()
    return _show_faults(server, request, given)


def _seed(server: Server, request: web.Request, given: Json) -> Json:
    server.faults.random = random.Random(given["seed"])
    return {"seed": given["seed"]}


def _clock(server: Server, request: web.Request, given: Json) -> Json:
    """`frozen_at` makes the clock stand still at a Unix time, plus the offset; without it, it goes."""
    frozen_at = given.get("frozen_at")
    server.state.clock_offset = float(given["offset"])
    server.state.frozen_at = None if frozen_at is None else float(frozen_at)
    return {"offset": server.state.clock_offset, "now": server.state.now()}


def _settings(server: Server, request: web.Request, given: Json) -> Json:
    settings = server.state.settings
    for name, value in given.items():
        if not hasattr(settings, name):
            raise ValueError(f"unknown setting: {name}")
        wanted = (int, float) if name == "latency" else (bool,)
        if not isinstance(value, wanted) or (name == "latency" and isinstance(value, bool)):
            raise ValueError(f"ill-typed setting: {name}")
    for name, value in given.items():
        setattr(settings, name, value)
    return vars(settings)


def _costs(server: Server, request: web.Request, given: Json) -> Json:
    costs = given["costs"] if isinstance(given, dict) else given
    server.state.costs = [Cost(**{"start_time": server.state.now(), **cost}) for cost in costs]
    return {"costs": [vars(cost) for cost in server.state.costs]}


def _each(make: Callable[[Server, dict[str, Any]], Json]) -> Action:
    """One object gives one object, a list gives a list."""

    def action(server: Server, request: web.Request, given: Json) -> Json:
        return [make(server, item) for item in given] if isinstance(given, list) else make(server, given)

    return action


def _known_project(server: Server, given: dict[str, Any]) -> Project:
    project = server.state.projects.get(given["project_id"])
    if project is None:
        raise ValueError(f"no project {given['project_id']}")
    return project


def _project(server: Server, given: dict[str, Any]) -> Json:
    project = server.state.add_project(given.get("name"), given.get("id"))
    if given.get("status", "active") == "archived":
        server.state.archive_project(project)
    return project.as_json()


def _service_account(server: Server, given: dict[str, Any]) -> Json:
    """Someone else's account. `key`: false leaves it without one."""
    project = _known_project(server, given)
    account = server.state.add_service_account(project, given["name"], given.get("role", "member"), given.get("id"))
    key = None
    if given.get("key", True):
        key = server.state.add_project_key(project, account, "Secret Key", given.get("expires_in_seconds"))
    return {**account.facts(), "api_key": key.facts() if key else None}


def _user_key(server: Server, given: dict[str, Any]) -> Json:
    """A person's key in a project."""
    project = _known_project(server, given)
    key = server.state.add_project_key(
        project, server.state.owner, given.get("name", "mine"), given.get("expires_in_seconds"), given.get("scopes")
    )
    return key.facts()


def _admin_key(server: Server, given: dict[str, Any]) -> Json:
    return server.state.add_admin_key(given.get("name", "foreign"), given.get("expires_in_seconds")).facts()


def _organization(server: Server, given: dict[str, Any]) -> Json:
    """Another organization, with an admin key of its own."""
    start = Start(
        given["organization"],
        new_value("sk-admin", server.start.secret_marker),
        new_id("key"),
        tuple(given.get("projects", ())),
        server.start.secret_marker,
    )
    return server.state.add_organization(start).facts()


def _reset(server: Server, request: web.Request, given: Json) -> Json:
    server.reset()
    return {}


ACTIONS: dict[tuple[str, str], Action] = {
    ("GET", "/state"): _state,
    ("GET", "/requests"): _requests,
    ("DELETE", "/requests"): _clear_requests,
    ("GET", "/faults"): _show_faults,
    ("POST", "/faults"): _add_faults,
    ("DELETE", "/faults"): _clear_faults,
    ("POST", "/seed"): _seed,
    ("POST", "/clock"): _clock,
    ("POST", "/settings"): _settings,
    ("POST", "/costs"): _costs,
    ("POST", "/projects"): _each(_project),
    ("POST", "/service_accounts"): _each(_service_account),
    ("POST", "/user_keys"): _each(_user_key),
    ("POST", "/admin_keys"): _each(_admin_key),
    ("POST", "/organizations"): _each(_organization),
    ("POST", "/reset"): _reset,
}


def _answering(server: Server, action: Action) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        try:
            given = await request.json() if request.can_read_body else {}
            return web.json_response(action(server, request, given))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return handler


def application(server: Server) -> web.Application:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    for (method, path), action in ACTIONS.items():
        app.router.add_route(method, f"/_double{path}", _answering(server, action))
    app.router.add_route("*", "/{path:.*}", server.handle)
    return app
