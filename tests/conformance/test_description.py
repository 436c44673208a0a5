# SPDX-License-Identifier: GPL-3.0-or-later
"""What the double answers is what OpenAI's published description says."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from conformance_names import PROJECT
from double.client import Double
from jsonschema import Draft202012Validator, ValidationError

pytestmark = pytest.mark.once

DESCRIPTION: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("openai-admin-api.yaml").read_text("utf-8"))

# In the description, but nothing that this collection calls.
NOT_NEEDED = {"/organization/audit_logs", "/organization/usage/completions"}
# Newer than the description; the SDK has it, with the same answer as the one to GET.
NEWER = {("POST", "/organization/projects/{project_id}/api_keys/{api_key_id}")}
DESCRIBED = {
    (method.upper(), path)
    for path, methods in DESCRIPTION["paths"].items()
    if path not in NOT_NEEDED
    for method in methods
    if method in ("get", "post", "delete")
}
PROJECT_PATH = "/organization/projects/{project_id}"
ACCOUNT_PATH = f"{PROJECT_PATH}/service_accounts/{{service_account_id}}"
KEY_PATH = f"{PROJECT_PATH}/api_keys/{{api_key_id}}"


def schema_of(method: str, path: str, status: int) -> dict[str, Any]:
    if (method, path) in NEWER:
        method = "GET"
    responses = DESCRIPTION["paths"][path][method.lower()]["responses"]
    response = responses.get(str(status))
    if status != 200 and response is None:
        return {"$ref": "#/components/schemas/ErrorResponse"}
    if "$ref" in response:
        response = DESCRIPTION["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    return schema


def check(method: str, path: str, status: int, body: Any) -> None:
    schema = {**schema_of(method, path, status), "components": DESCRIPTION["components"]}
    Draft202012Validator(schema).validate(body)


class Walker:
    """Sends requests and holds every answer against the description."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self.connection = http.client.HTTPConnection(urlsplit(double.url).netloc, timeout=10)
        self.walked: set[tuple[str, str, int]] = set()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        expected: int = 200,
        key: str | None = None,
        **ids: str,
    ) -> Any:
        headers = {"Authorization": f"Bearer {key or self.double.admin_key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        sent = body if body is None or isinstance(body, str) else json.dumps(body)
        url = "/v1" + path.format(project_id=ids.pop("project_id", PROJECT), **ids) + query
        self.connection.request(method, url, sent, headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == expected, f"{method} {url}: {response.status} {answer}"
        assert (
            response.headers["x-request-id"].startswith("req_") and response.headers["openai-processing-ms"].isdecimal()
        )
        assert response.headers.get_content_type() == "application/json"
        check(method, path, response.status, answer)
        self.walked.add((method, path, response.status))
        return answer


@pytest.fixture
def walk(double: Double) -> Walker:
    return Walker(double)


def test_the_whole_walk(double: Double, walk: Walker) -> None:
    keys = "/organization/admin_api_keys"
    second = walk("POST", keys, {"name": "second", "expires_in_seconds": 60})
    walk("GET", keys, query="?limit=1&order=desc")
    walk("GET", keys, query=f"?after={double.admin_key_id}")
    walk("GET", f"{keys}/{{key_id}}", key_id=second["id"], key=second["value"])
    walk("GET", f"{keys}/{{key_id}}", key_id=second["id"])
    walk("DELETE", f"{keys}/{{key_id}}", key_id=second["id"])

    projects = "/organization/projects"
    other = walk("POST", projects, {"name": "other"})
    walk("POST", projects, {"name": "european", "residency": "EU_STORAGE_PROCESSING", "external_key_id": None})
    walk("GET", projects, query="?include_archived=true&limit=2")
    walk("GET", PROJECT_PATH)
    walk("POST", PROJECT_PATH, {"name": "renamed"})

    account = walk("POST", f"{PROJECT_PATH}/service_accounts", {"name": "ci", "expires_in_seconds": 60})
    bare = walk("POST", f"{PROJECT_PATH}/service_accounts", {"name": "bare", "create_service_account_only": True})
    walk("GET", f"{PROJECT_PATH}/service_accounts")
    walk("GET", f"{PROJECT_PATH}/service_accounts", query=f"?after={bare['id']}")
    walk("GET", ACCOUNT_PATH, service_account_id=bare["id"])
    walk("POST", ACCOUNT_PATH, {"role": "member"}, service_account_id=bare["id"])
    further = walk("POST", f"{ACCOUNT_PATH}/api_keys", {"scopes": ["api.all"]}, service_account_id=bare["id"])
    walk("POST", f"{ACCOUNT_PATH}/api_keys", service_account_id=bare["id"])
    walk("GET", "/models", key=further["value"])
    double.add_user_key(PROJECT)
    walk("GET", f"{PROJECT_PATH}/api_keys", query="?owner_project_access=any")
    walk("GET", KEY_PATH, api_key_id=further["id"])
    walk("POST", KEY_PATH, {"expires_in_seconds": 60}, api_key_id=further["id"])
    walk("DELETE", KEY_PATH, api_key_id=further["id"])
    walk("DELETE", ACCOUNT_PATH, service_account_id=account["id"])

    double.costs([{"value": 1.25, "project_id": PROJECT, "line_item": "a", "quantity": 3, "quantity_unit": "tokens"}])
    now = double.requests()[0]["time"]
    costs = walk("GET", "/organization/costs", query=f"?start_time={int(now)}&group_by[]=project_id&group_by=line_item")
    assert costs["data"][0]["results"][0]["project_id"] == PROJECT
    walk("GET", "/organization/costs", query="?start_time=0&limit=3")

    walk("POST", f"{PROJECT_PATH}/archive", project_id=other["id"])
    assert {(method, path) for method, path, _rest in walk.walked} == DESCRIBED | NEWER


def test_the_refusals(double: Double, walk: Walker) -> None:
    keys, projects, accounts = (
        "/organization/admin_api_keys",
        "/organization/projects",
        f"{PROJECT_PATH}/service_accounts",
    )
    old = double.add_project("old", "proj_old", "archived")
    account = double.add_service_account(PROJECT, "ci", expires_in_seconds=1)
    double.settings(refuse_service_account_key_delete=True)
    walk("DELETE", KEY_PATH, api_key_id=account["api_key"]["id"], expected=400)
    double.clock(5)
    walk("POST", KEY_PATH, {"scopes": []}, api_key_id=account["api_key"]["id"], expected=400)
    walk("POST", KEY_PATH, {}, api_key_id=account["api_key"]["id"], expected=400)
    walk("GET", "/models", key=account["api_key"]["value"], expected=401)
    walk("GET", "/models", expected=403)
    for method, path in ((m, p) for m, p in DESCRIBED | NEWER if p != "/models"):
        ids = {"key_id": "key_x", "service_account_id": "svc_acct_x", "api_key_id": "key_x"}
        walk(method, path, key="sk-admin-wrong", expected=401, **ids)
        if path.endswith("_id}") or "service_account_id" in path or path.endswith("archive"):
            walk(method, path, project_id="proj_x", expected=404, **ids)
            if path != PROJECT_PATH and not path.endswith("archive"):
                walk(method, path, expected=404, **ids)
    for method, path in ((m, p) for m, p in DESCRIBED if "/service_accounts" in p):
        walk(method, path, project_id=old["id"], service_account_id=account["id"], expected=400)
    for body in ("{", "[]", '"x"', '{"name": 5}', '{"name": ""}', "{}", '{"name": "x", "more": 1}'):
        for path in (keys, projects, accounts):
            walk("POST", path, body, expected=400)
    for path in (keys, projects, accounts, f"{PROJECT_PATH}/api_keys"):
        for query in ("?limit=0", "?limit=101", "?limit=x", "?after=nobody", "?after=", "?unknown=1"):
            walk("GET", path, query=query, expected=400)
    for query in ("", "?start_time=x", "?start_time=0&limit=181", "?start_time=0&group_by=x", "?start_time=0&page=x"):
        walk("GET", "/organization/costs", query=query, expected=400)
    double.fault(kind="rate_limit", retry_after=3)
    for method, path in DESCRIBED | NEWER:
        walk(method, path, expected=429, key_id="x", service_account_id="x", api_key_id="x")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/organization", 404),
        ("GET", "/v1/organization/projects/", 404),
        ("GET", "/organization/projects", 404),
        ("GET", "/v1/organization/projects/a%2Fb", 404),
        ("PUT", "/v1/organization/projects", 405),
        ("DELETE", "/v1/organization/projects/proj_conformance", 405),
    ],
)
def test_no_such_url_or_method(double: Double, walk: Walker, method: str, path: str, status: int) -> None:
    walk.connection.request(method, path, headers={"Authorization": f"Bearer {double.admin_key}"})
    response = walk.connection.getresponse()
    assert response.status == status
    check("GET", "/models", status, json.loads(response.read()))


def test_a_body_of_another_type_is_refused(double: Double, walk: Walker) -> None:
    headers = {"Authorization": f"Bearer {double.admin_key}", "Content-Type": "text/plain"}
    walk.connection.request("POST", "/v1/organization/projects", '{"name": "x"}', headers)
    response = walk.connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (400, "unsupported_content_type")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.pop("id"),
        lambda body: body.update(created_at="yesterday"),
        lambda body: body.update(role="king"),
        lambda body: body["api_key"].pop("value"),
    ],
)
def test_the_check_notices(double: Double, walk: Walker, spoil: Callable[[dict[str, Any]], Any]) -> None:
    path = f"{PROJECT_PATH}/service_accounts"
    body = walk("POST", path, {"name": "ci"})
    spoil(body)
    with pytest.raises(ValidationError):
        check("POST", path, 200, body)
