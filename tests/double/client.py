# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the double from a test and talk to its control API. Needs the standard library alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

Json = dict[str, Any]

# Straight to loopback, whatever proxy the environment of the tests names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Double:
    """A running double. `python` has to have aiohttp; the process ends with the one that made this object."""

    def __init__(
        self,
        python: str = sys.executable,
        *,
        port: int = 0,
        admin_key: str | None = None,
        organization: str | None = None,
        projects: Sequence[str] = (),
        latency: float = 0.0,
        secret_marker: str | None = None,
    ) -> None:
        command = [python, "-m", "double", "--port", str(port), "--latency", str(latency), "--exit-with-parent"]
        if admin_key:
            command += ["--admin-key", admin_key]
        if organization:
            command += ["--organization", organization]
        if projects:
            command += ["--project", *projects]
        if secret_marker:
            command += ["--secret-marker", secret_marker]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the double did not start: exit code {self.process.wait()}")
        where = json.loads(line)
        self.url: str = where["url"]
        self.control: str = where["control"]
        state = self.state()
        self.organization: str = state["organization"]
        self.admin_key: str = state["admin_keys"][0]["value"]
        self.admin_key_id: str = state["admin_keys"][0]["id"]

    def __enter__(self) -> Double:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call to the control API; a refusal is a ValueError with the double's reason, no answer a RuntimeError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.control + path, data, headers, method=method)
        try:
            with _OPENER.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            raise ValueError(f"{method} {path}: {error.code} {reason}") from None
        except OSError as error:
            ended = self.process.poll()
            raise RuntimeError(f"{method} {path}: {error}; the double's exit code: {ended}") from error

    def state(self) -> Json:
        return cast(Json, self.call("GET", "/state"))

    def requests(self, since: int = 0) -> list[Json]:
        """The requests under /v1 with an index of at least `since`, in the order of their arrival."""
        return cast(list[Json], self.call("GET", f"/requests?since={since}")["requests"])

    def mark(self) -> int:
        """The index that the next request will have: for `requests(since=…)`."""
        return cast(int, self.call("GET", f"/requests?since={2**60}")["next"])

    def clear_requests(self) -> None:
        self.call("DELETE", "/requests")

    def fault(self, **rule: Any) -> None:
        """Add one rule; see `faults.Rule` for its members."""
        self.call("POST", "/faults", rule)

    def faults(self) -> list[Json]:
        """The rules, each with how often it was `seen` and `applied`."""
        return cast(list[Json], self.call("GET", "/faults")["faults"])

    def clear_faults(self) -> None:
        self.call("DELETE", "/faults")

    def seed(self, seed: int) -> None:
        """Make rules with a probability repeatable."""
        self.call("POST", "/seed", {"seed": seed})

    def clock(self, offset: float, frozen_at: float | None = None) -> None:
        """Set the double's clock to the true time, or to one at which it stands still, plus `offset` seconds."""
        self.call("POST", "/clock", {"offset": offset, "frozen_at": frozen_at})

    def settings(self, **settings: Any) -> None:
        self.call("POST", "/settings", settings)

    def costs(self, costs: Sequence[Json]) -> None:
        """Replace what was spent; see `state.Cost` for the members."""
        self.call("POST", "/costs", {"costs": list(costs)})

    def add_project(self, name: str, project_id: str | None = None, status: str = "active") -> Json:
        return cast(Json, self.call("POST", "/projects", {"id": project_id, "name": name, "status": status}))

    def add_service_account(self, project_id: str, name: str, **more: Any) -> Json:
        """Someone else's account; `key=False` leaves it without a key."""
        return cast(Json, self.call("POST", "/service_accounts", {"project_id": project_id, "name": name, **more}))

    def add_user_key(self, project_id: str, name: str = "mine", **more: Any) -> Json:
        return cast(Json, self.call("POST", "/user_keys", {"project_id": project_id, "name": name, **more}))

    def add_admin_key(self, name: str = "foreign", **more: Any) -> Json:
        return cast(Json, self.call("POST", "/admin_keys", {"name": name, **more}))

    def add_organization(self, organization: str, projects: Sequence[str] = ()) -> Json:
        """Another organization behind the same endpoint; returns its state, the admin key with it."""
        given = {"organization": organization, "projects": list(projects)}
        return cast(Json, self.call("POST", "/organizations", given))

    def reset(self) -> None:
        """Back to the start state, with the same admin key."""
        self.call("POST", "/reset")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
