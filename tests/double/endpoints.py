# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints: each takes the state and a call, makes its change at once, and gives the body of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

from . import errors, fields
from .collection import Collection, Member
from .costs import report
from .objects import AdminKey, Project, ProjectKey, ServiceAccount
from .state import State

M = TypeVar("M", bound=Member)
Json = dict[str, Any]

MODEL_SCOPES = frozenset({"api.all", "api.all.read", "api.model.read"})
RESIDENCIES = (
    "GLOBAL",
    "US_STORAGE_PROCESSING",
    "EU_STORAGE_PROCESSING",
    "JP_STORAGE",
    "JP_STORAGE_PROCESSING",
    "KR_STORAGE",
    "CA_STORAGE",
    "SG_STORAGE",
    "IN_STORAGE",
    "IN_STORAGE_PROCESSING",
    "AU_STORAGE",
    "AU_STORAGE_PROCESSING",
    "GB_STORAGE",
    "AE_STORAGE",
    "AE_STORAGE_PROCESSING",
)


@dataclass
class Call:
    """One request, as far as the endpoints look at it. `ids` are the variable parts of its path."""

    method: str
    raw_path: str
    query: list[tuple[str, str]]
    body: bytes = b""
    content_type: str = ""
    bearer: str | None = None
    organization: str | None = None
    project: str | None = None
    ids: list[str] = field(default_factory=list)

    def fields(self, checks: dict[str, fields.Check], *required: str) -> Json:
        fields.query(self.query, {})
        return fields.body(self.body, self.content_type, checks, required)


Handler = Callable[[State, Call], Json]


# What several endpoints share.


def _listing(
    state: State,
    call: Call,
    members: Collection[M],
    show: Callable[[M], Json],
    more: dict[str, fields.Check] | None = None,
    wanted: Callable[[M, Json], bool] = lambda member, asked: True,
) -> Json:
    asked = fields.query(call.query, {"limit": fields.number(1, 100), "after": fields.text, **(more or {})})
    after = asked.get("after")
    if after is not None:
        gone = state.settings.refuse_deleted_cursor and members.get(after) is None
        if gone or not members.known(after):
            raise errors.ApiError(400, f"Invalid 'after': no such object: {after}", "invalid_value", "after")
    page, has_more = members.page(
        after, asked.get("limit", 20), asked.get("order") == "desc", lambda member: wanted(member, asked)
    )
    return {
        "object": "list",
        "data": [show(member) for member in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": has_more,
    }


def _deleted(kind: str, identifier: str) -> Json:
    return {"object": f"{kind}.deleted", "id": identifier, "deleted": True}


def _no_query(call: Call) -> None:
    fields.query(call.query, {})


def _project(state: State, call: Call) -> Project:
    project = state.projects.get(call.ids[0])
    if project is None:
        raise errors.not_found("project", call.ids[0])
    return project


def _active_project(state: State, call: Call) -> Project:
    project = _project(state, call)
    if project.archived_at is not None:
        raise errors.archived(project.name)
    return project


def _account(state: State, call: Call) -> tuple[Project, ServiceAccount]:
    project = _active_project(state, call)
    account = project.accounts.get(call.ids[1])
    if account is None:
        raise errors.not_found("service account", call.ids[1])
    return project, account


def _project_key(state: State, call: Call) -> tuple[Project, ProjectKey]:
    project = _project(state, call)
    key = project.keys.get(call.ids[1])
    if key is None:
        raise errors.not_found("API key", call.ids[1])
    return project, key


def _admin_key(state: State, call: Call) -> AdminKey:
    key = state.admin_keys.get(call.ids[0])
    if key is None:
        raise errors.not_found("admin API key", call.ids[0])
    return key


# Models: what an issued key is good for.


def list_models(state: State, call: Call) -> Json:
    _no_query(call)
    names = ("gpt-6-astra", "gpt-6-astra-mini", "text-embedding-4")
    models = [{"id": name, "object": "model", "created": 1780000000, "owned_by": "openai"} for name in names]
    return {"object": "list", "data": models}


# Admin keys.


def list_admin_keys(state: State, call: Call) -> Json:
    order = {"order": fields.one_of("asc", "desc")}
    return _listing(state, call, state.admin_keys, lambda key: key.as_json(state.owner), order)


def create_admin_key(state: State, call: Call) -> Json:
    given = call.fields({"name": fields.text, "expires_in_seconds": fields.expiry}, "name")
    key = state.add_admin_key(given["name"], given.get("expires_in_seconds"))
    return {**key.as_json(state.owner), "value": key.value}


def get_admin_key(state: State, call: Call) -> Json:
    _no_query(call)
    return _admin_key(state, call).as_json(state.owner)


def delete_admin_key(state: State, call: Call) -> Json:
    _no_query(call)
    key = _admin_key(state, call)
    state.delete_admin_key(key)
    return _deleted("organization.admin_api_key", key.id)


# Projects.


def list_projects(state: State, call: Call) -> Json:
    return _listing(
        state,
        call,
        state.projects,
        Project.as_json,
        {"include_archived": fields.switch},
        lambda project, asked: project.archived_at is None or asked.get("include_archived", False),
    )


def create_project(state: State, call: Call) -> Json:
    optional = fields.or_null(fields.text)
    residency = fields.or_null(fields.one_of(*RESIDENCIES))
    checks = {"name": fields.text, "external_key_id": optional, "geography": optional, "residency": residency}
    given = call.fields(checks, "name")
    return state.add_project(
        given["name"], external_key_id=given.get("external_key_id"), residency=given.get("residency")
    ).as_json()


def get_project(state: State, call: Call) -> Json:
    _no_query(call)
    return _project(state, call).as_json()


def update_project(state: State, call: Call) -> Json:
    project = _active_project(state, call)
    optional = fields.or_null(fields.text)
    given = call.fields({"name": optional, "external_key_id": optional, "geography": optional})
    given.pop("geography", None)
    if given.get("name") is None:
        given.pop("name", None)
    state.update_project(project, given)
    return project.as_json()


def archive_project(state: State, call: Call) -> Json:
    project = _project(state, call)
    call.fields({})
    state.archive_project(project)
    return project.as_json()


# Service accounts and the keys made for them.


def list_service_accounts(state: State, call: Call) -> Json:
    return _listing(state, call, _active_project(state, call).accounts, ServiceAccount.as_json)


def create_service_account(state: State, call: Call) -> Json:
    project = _active_project(state, call)
    checks = {
        "name": fields.text,
        "create_service_account_only": fields.or_null(fields.flag),
        "expires_in_seconds": fields.or_null(fields.expiry),
    }
    given = call.fields(checks, "name")
    bare = bool(given.get("create_service_account_only"))
    expires_in = given.get("expires_in_seconds")
    if bare and expires_in is not None:
        message = "'expires_in_seconds' cannot be used when 'create_service_account_only' is true."
        raise errors.ApiError(400, message, "invalid_value", "expires_in_seconds")
    account = state.add_service_account(project, given["name"], "none" if bare else "member")
    key = None if bare else state.add_project_key(project, account, "Secret Key", expires_in)
    return {**account.as_json(), "api_key": key.as_created() if key else None}


def get_service_account(state: State, call: Call) -> Json:
    _no_query(call)
    return _account(state, call)[1].as_json()


def update_service_account(state: State, call: Call) -> Json:
    _project, account = _account(state, call)
    given = call.fields({"name": fields.text, "role": fields.one_of("member", "owner")})
    state.update_service_account(account, given)
    return account.as_json()


def delete_service_account(state: State, call: Call) -> Json:
    _no_query(call)
    project, account = _account(state, call)
    state.delete_service_account(project, account)
    return _deleted("organization.project.service_account", account.id)


def create_account_key(state: State, call: Call) -> Json:
    project, account = _account(state, call)
    checks = {"name": fields.text, "scopes": fields.texts, "expires_in_seconds": fields.or_null(fields.expiry)}
    given = call.fields(checks)
    key = state.add_project_key(
        project, account, given.get("name", "Secret Key"), given.get("expires_in_seconds"), given.get("scopes")
    )
    return key.as_created()


# The keys of a project.


def list_project_keys(state: State, call: Call) -> Json:
    def wanted(key: ProjectKey, asked: Json) -> bool:
        # Left out, the endpoint "may exclude some enabled keys"; the double makes use of that, so that a client which
        # needs all keys finds out that it has to ask for `any`.
        access = asked.get("owner_project_access", "active")
        return bool(access == "any" or key.owner_has_access() == (access == "active"))

    access = {"owner_project_access": fields.one_of("active", "inactive", "any")}
    return _listing(state, call, _project(state, call).keys, ProjectKey.as_json, access, wanted)


def get_project_key(state: State, call: Call) -> Json:
    _no_query(call)
    return _project_key(state, call)[1].as_json()


def update_project_key(state: State, call: Call) -> Json:
    _project, key = _project_key(state, call)
    given = call.fields({"scopes": fields.texts, "expires_in_seconds": fields.expiry})
    if not given:
        message = "Provide at least one of 'scopes' or 'expires_in_seconds'."
        raise errors.ApiError(400, message, "missing_required_parameter")
    if key.expired(state.now()):
        raise errors.ApiError(400, "Expired API keys cannot be updated.", "api_key_expired")
    state.update_project_key(key, given)
    return key.as_json()


def delete_project_key(state: State, call: Call) -> Json:
    _no_query(call)
    project, key = _project_key(state, call)
    if key.account is not None and state.settings.refuse_service_account_key_delete:
        message = "API keys cannot be deleted for service accounts, please delete the service account"
        raise errors.ApiError(400, message)
    state.delete_project_key(project, key)
    return _deleted("organization.project.api_key", key.id)


def get_costs(state: State, call: Call) -> Json:
    return report(state.costs, state.now(), call.query)


# {} stands for an id.
ROUTES: dict[str, dict[str, Handler]] = {
    "/models": {"GET": list_models},
    "/organization/admin_api_keys": {"GET": list_admin_keys, "POST": create_admin_key},
    "/organization/admin_api_keys/{}": {"GET": get_admin_key, "DELETE": delete_admin_key},
    "/organization/costs": {"GET": get_costs},
    "/organization/projects": {"GET": list_projects, "POST": create_project},
    "/organization/projects/{}": {"GET": get_project, "POST": update_project},
    "/organization/projects/{}/archive": {"POST": archive_project},
    "/organization/projects/{}/service_accounts": {"GET": list_service_accounts, "POST": create_service_account},
    "/organization/projects/{}/service_accounts/{}": {
        "GET": get_service_account,
        "POST": update_service_account,
        "DELETE": delete_service_account,
    },
    "/organization/projects/{}/service_accounts/{}/api_keys": {"POST": create_account_key},
    "/organization/projects/{}/api_keys": {"GET": list_project_keys},
    "/organization/projects/{}/api_keys/{}": {
        "GET": get_project_key,
        "POST": update_project_key,
        "DELETE": delete_project_key,
    },
}
_SPLIT = [(template[1:].split("/"), methods) for template, methods in ROUTES.items()]


def _fits(template: list[str], parts: list[str]) -> bool:
    """Whether each part is what the template says, or an id where it says {}."""
    pairs = zip(template, parts, strict=False)
    return len(template) == len(parts) and all(part and wanted in (part, "{}") for wanted, part in pairs)


def _route(call: Call) -> Handler:
    version, *parts = call.raw_path.removeprefix("/").split("/")
    found = [entry for entry in _SPLIT if version == "v1" and _fits(entry[0], parts)]
    if not found:
        raise errors.ApiError(404, f"Invalid URL ({call.method} {call.raw_path})")
    template, methods = found[0]
    if call.method not in methods:
        message = f"Invalid method for URL ({call.method} {call.raw_path})"
        raise errors.ApiError(405, message, "method_not_supported")
    call.ids = [unquote(p) for t, p in zip(template, parts, strict=True) if t == "{}"]
    return methods[call.method]


def _authorize(state: State, call: Call, handler: Handler) -> None:
    """Models open to project keys, everything else to admin keys; only a key that was let in counts as used."""
    if not call.bearer:
        raise errors.no_key()
    admin, project = state.live_admin_key(call.bearer), state.live_project_key(call.bearer)
    if admin is None and project is None:
        raise errors.invalid_key(call.bearer)
    if call.organization not in (None, "", state.start.organization):
        raise errors.mismatched("OpenAI-Organization")
    if handler is not list_models:
        if admin is None:
            raise errors.invalid_key(call.bearer)
        admin.last_used_at = state.now()
        return
    if project is None:
        raise errors.missing_scopes("api.model.read")
    if call.project not in (None, "", project.project_id):
        raise errors.mismatched("OpenAI-Project")
    restricted = bool(project.scopes) and MODEL_SCOPES.isdisjoint(project.scopes)
    if restricted or (state.settings.keys_need_owner_access and not project.owner_has_access()):
        raise errors.missing_scopes("api.model.read")
    project.last_used_at = state.now()


@dataclass
class Answer:
    status: int
    body: Json
    effect: bool = False


def perform(state: State, call: Call) -> Answer:
    """Do what the call asks. Nothing waits in here, so no other request can come in between."""
    state = state.seen_with(call.bearer)
    before = state.version
    try:
        handler = _route(call)
        _authorize(state, call, handler)
        return Answer(200, handler(state, call), state.version != before)
    except errors.ApiError as error:
        return Answer(error.status, error.body(), state.version != before)
