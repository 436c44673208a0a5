# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenAI's own client does with the double everything that this collection relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from conformance_names import MARKER, PROJECT
from double.client import Double
from openai import OpenAI
from openai._base_client import BasePage
from pydantic import BaseModel

pytestmark = pytest.mark.once

Sdk = Callable[..., OpenAI]


def only_declared(answer: Any) -> Any:
    """The answer, if the SDK knows all that is in it: nobody may come to lean on the double's inventions."""
    if isinstance(answer, BaseModel):
        # The SDK's pages do without two members that the description has.
        known = {"object", "first_id", "last_id"} if isinstance(answer, BasePage) else set()
        extra = set(answer.model_extra or ()) - known
        assert not extra, f"{type(answer).__name__} has {extra}"
        for name in type(answer).model_fields:
            only_declared(getattr(answer, name))
    elif isinstance(answer, list):
        for item in answer:
            only_declared(item)
    return answer


def ids(members: Iterable[Any]) -> list[str]:
    return [member.id for member in members]


def models_with(sdk: Sdk, value: str) -> list[str]:
    return ids(sdk(api_key=value).models.list())


def test_admin_keys(sdk: Sdk, double: Double) -> None:
    keys = sdk().admin.organization.admin_api_keys
    made = only_declared(keys.create(name="second", expires_in_seconds=3600))
    assert made.value.startswith("sk-admin-") and len(made.value) >= 100 and MARKER in made.value
    assert made.expires_at == made.created_at + 3600
    assert made.redacted_value.startswith("sk-admin...") and made.redacted_value.endswith(made.value[-3:])
    shown = only_declared(keys.retrieve(made.id))
    assert shown.name == "second" and shown.last_used_at is None and not hasattr(shown, "value")
    assert ids(sdk(admin_api_key=made.value).admin.organization.admin_api_keys.list()) == [double.admin_key_id, made.id]
    assert keys.retrieve(made.id).last_used_at is not None
    gone = only_declared(keys.delete(made.id))
    assert gone.deleted and gone.id == made.id
    with pytest.raises(openai.AuthenticationError) as refused:
        sdk(admin_api_key=made.value).admin.organization.admin_api_keys.list()
    assert refused.value.code == "invalid_api_key" and MARKER not in str(refused.value)
    with pytest.raises(openai.NotFoundError):
        keys.retrieve(made.id)


def test_admin_keys_in_order_and_pages(sdk: Sdk, double: Double) -> None:
    keys = sdk().admin.organization.admin_api_keys
    made = [double.admin_key_id, *(keys.create(name=f"key-{number}").id for number in range(25))]
    assert ids(keys.list()) == made
    assert ids(keys.list(order="desc", limit=7)) == made[::-1]
    first = only_declared(keys.list())
    assert len(first.data) == 20 and first.has_more
    for key in made[10:15]:
        keys.delete(key)
    assert ids(keys.list(order="desc", limit=4)) == (made[:10] + made[15:])[::-1]
    assert ids(keys.list(after=made[12], limit=4)) == made[15:], "a cursor may have been deleted meanwhile"


def test_an_admin_key_expires(sdk: Sdk, double: Double) -> None:
    value = sdk().admin.organization.admin_api_keys.create(name="short", expires_in_seconds=60).value
    short = sdk(admin_api_key=value).admin.organization.projects
    double.clock(50)
    assert ids(short.list()) == [PROJECT]
    double.clock(61)
    with pytest.raises(openai.AuthenticationError):
        short.list()
    assert ids(sdk().admin.organization.projects.list()) == [PROJECT], "the first key does not expire"


def test_projects(sdk: Sdk) -> None:
    projects = sdk().admin.organization.projects
    made = only_declared(projects.create(name="billing", residency="EU_STORAGE_PROCESSING", external_key_id="ext_1"))
    assert (made.status, made.archived_at, made.residency) == ("active", None, "EU_STORAGE_PROCESSING")
    assert only_declared(projects.update(made.id, name="billing-2")).name == "billing-2"
    assert projects.retrieve(made.id).name == "billing-2"
    assert ids(projects.list(limit=1)) == [PROJECT, made.id]
    archived = only_declared(projects.archive(made.id))
    assert archived.status == "archived" and archived.archived_at is not None
    assert ids(projects.list()) == [PROJECT]
    assert ids(projects.list(include_archived=True, limit=1)) == [PROJECT, made.id]
    with pytest.raises(openai.BadRequestError):
        projects.update(made.id, name="billing-3")
    with pytest.raises(openai.NotFoundError):
        projects.retrieve("proj_unknown")


def test_service_accounts(sdk: Sdk, double: Double) -> None:
    accounts = sdk().admin.organization.projects.service_accounts
    made = only_declared(accounts.create(PROJECT, name="ci"))
    assert made.role == "member" and made.api_key.expires_at is None
    assert made.api_key.value.startswith("sk-svcacct-") and MARKER in made.api_key.value
    twin = accounts.create(PROJECT, name="ci")
    assert twin.id != made.id, "names need not be unique"
    assert only_declared(accounts.retrieve(made.id, project_id=PROJECT)).name == "ci"
    renamed = only_declared(accounts.update(made.id, project_id=PROJECT, name="cd", role="owner"))
    assert (renamed.name, renamed.role) == ("cd", "owner")
    assert "gpt-6-astra" in models_with(sdk, made.api_key.value)
    gone = only_declared(accounts.delete(made.id, project_id=PROJECT))
    assert gone.deleted and gone.id == made.id
    with pytest.raises(openai.AuthenticationError) as refused:
        models_with(sdk, made.api_key.value)
    assert refused.value.code == "invalid_api_key"
    assert [key["id"] for key in double.state()["api_keys"]] == [twin.api_key.id]
    with pytest.raises(openai.NotFoundError):
        accounts.delete(made.id, project_id=PROJECT)


def test_service_accounts_in_pages(sdk: Sdk) -> None:
    accounts = sdk().admin.organization.projects.service_accounts
    made = [accounts.create(PROJECT, name=f"ci-{number}").id for number in range(23)]
    assert ids(accounts.list(PROJECT)) == made
    assert ids(accounts.list(PROJECT, limit=5)) == made
    page = only_declared(accounts.list(PROJECT, limit=3))
    assert (page.last_id, page.has_more) == (made[2], True)
    assert accounts.list(PROJECT, after=made[-2]).has_more is False
    for limit in (0, 101):
        with pytest.raises(openai.BadRequestError) as refused:
            accounts.list(PROJECT, limit=limit)
        assert refused.value.param == "limit"
    with pytest.raises(openai.BadRequestError):
        accounts.list(PROJECT, after="svc_acct_unknown")


def test_an_account_alone(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    made = only_declared(projects.service_accounts.create(PROJECT, name="bare", create_service_account_only=True))
    assert made.api_key is None and made.role == "none"
    with pytest.raises(openai.BadRequestError):
        projects.service_accounts.create(PROJECT, name="x", create_service_account_only=True, expires_in_seconds=60)
    assert [account["name"] for account in double.state()["service_accounts"]] == ["bare"]
    key = projects.service_accounts.api_keys.create(made.id, project_id=PROJECT)
    assert ids(projects.api_keys.list(PROJECT)) == []
    assert ids(projects.api_keys.list(PROJECT, owner_project_access="inactive")) == [key.id]
    with pytest.raises(openai.PermissionDeniedError):
        models_with(sdk, key.value)
    projects.service_accounts.update(made.id, project_id=PROJECT, role="member")
    assert models_with(sdk, key.value)


def test_an_initial_key_expires(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    made = only_declared(projects.service_accounts.create(PROJECT, name="short", expires_in_seconds=60))
    assert made.api_key.expires_at == made.api_key.created_at + 60
    double.clock(50)
    assert models_with(sdk, made.api_key.value)
    double.clock(61)
    with pytest.raises(openai.AuthenticationError):
        models_with(sdk, made.api_key.value)
    with pytest.raises(openai.BadRequestError):
        projects.api_keys.update(made.api_key.id, project_id=PROJECT, expires_in_seconds=60)
    assert ids(projects.service_accounts.list(PROJECT)) == [made.id], "the account stays"


def test_further_keys(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    account = projects.service_accounts.create(PROJECT, name="static")
    further = only_declared(
        projects.service_accounts.api_keys.create(
            account.id, project_id=PROJECT, name="vault", scopes=["api.model.read"], expires_in_seconds=60
        )
    )
    assert further.name == "vault" and further.expires_at == further.created_at + 60
    shown = only_declared(projects.api_keys.retrieve(further.id, project_id=PROJECT))
    assert shown.owner.service_account.id == account.id and shown.last_used_at is None
    assert models_with(sdk, further.value)
    assert projects.api_keys.retrieve(further.id, project_id=PROJECT).last_used_at is not None
    changed = only_declared(projects.api_keys.update(further.id, project_id=PROJECT, scopes=["api.files.read"]))
    assert changed.expires_at == further.expires_at, "what is not given stays"
    with pytest.raises(openai.PermissionDeniedError) as refused:
        models_with(sdk, further.value)
    assert refused.value.code == "insufficient_permissions"
    projects.api_keys.update(further.id, project_id=PROJECT, scopes=[], expires_in_seconds=120)
    double.clock(90)
    assert models_with(sdk, further.value)
    assert only_declared(projects.api_keys.delete(further.id, project_id=PROJECT)).deleted
    with pytest.raises(openai.AuthenticationError):
        models_with(sdk, further.value)
    assert models_with(sdk, account.api_key.value), "the account and its other keys stay"


@pytest.mark.parametrize("scopes", [["api.all"], ["api.all.read"], ["api.files.read", "api.model.read"]])
def test_scopes_that_open_models(sdk: Sdk, scopes: list[str]) -> None:
    projects = sdk().admin.organization.projects
    account = projects.service_accounts.create(PROJECT, name="scoped", create_service_account_only=False)
    projects.api_keys.update(account.api_key.id, project_id=PROJECT, scopes=scopes)
    assert models_with(sdk, account.api_key.value)


def test_an_update_without_a_change(sdk: Sdk) -> None:
    projects = sdk().admin.organization.projects
    key = projects.service_accounts.create(PROJECT, name="x").api_key
    with pytest.raises(openai.BadRequestError):
        projects.api_keys.update(key.id, project_id=PROJECT)
    for name in ("scopes", "expires_in_seconds"):
        with pytest.raises(openai.BadRequestError) as refused:
            projects.api_keys.update(key.id, project_id=PROJECT, extra_body={name: None})
        assert (refused.value.code, refused.value.param) == ("invalid_type", name)


def test_project_keys_in_pages(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    made = [projects.service_accounts.create(PROJECT, name=f"ci-{number}").api_key.id for number in range(21)]
    person = double.add_user_key(PROJECT)
    for options in ({}, {"owner_project_access": "any", "limit": 4}, {"owner_project_access": "active", "limit": 100}):
        assert ids(projects.api_keys.list(PROJECT, **options)) == [*made, person["id"]]
    assert ids(projects.api_keys.list(PROJECT, owner_project_access="inactive")) == []
    shown = only_declared(projects.api_keys.list(PROJECT)).data
    assert shown[0].owner.type == "service_account" and shown[0].redacted_value.startswith("sk-svcacct...")
    assert only_declared(projects.api_keys.retrieve(person["id"], project_id=PROJECT)).owner.type == "user"
    with pytest.raises(openai.BadRequestError):
        projects.api_keys.list(PROJECT, owner_project_access="all")  # type: ignore[arg-type]


def test_the_older_refusal_to_delete_a_key(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    key = projects.service_accounts.create(PROJECT, name="x").api_key
    person = double.add_user_key(PROJECT)
    double.settings(refuse_service_account_key_delete=True)
    with pytest.raises(openai.BadRequestError):
        projects.api_keys.delete(key.id, project_id=PROJECT)
    assert models_with(sdk, key.value)
    assert projects.api_keys.delete(person["id"], project_id=PROJECT).deleted


def test_an_archived_project(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    project = projects.create(name="old").id
    account = projects.service_accounts.create(project, name="x")
    projects.archive(project)
    accounts = projects.service_accounts
    for refused in (
        lambda: accounts.list(project),
        lambda: accounts.create(project, name="y"),
        lambda: accounts.retrieve(account.id, project_id=project),
        lambda: accounts.update(account.id, project_id=project, name="y"),
        lambda: accounts.delete(account.id, project_id=project),
        lambda: accounts.api_keys.create(account.id, project_id=project),
    ):
        with pytest.raises(openai.BadRequestError):
            refused()
    with pytest.raises(openai.AuthenticationError):
        models_with(sdk, account.api_key.value)
    assert double.state()["service_accounts"] == []


def test_costs(sdk: Sdk, double: Double) -> None:
    day = 86_400
    start = 20_000 * day
    double.clock(0)
    double.costs(
        [
            {"value": 1.5, "start_time": start + 10, "project_id": PROJECT, "line_item": "gpt-6-astra, input"},
            {"value": 2.0, "start_time": start + 20, "project_id": "proj_other", "line_item": "gpt-6-astra, input"},
            {"value": 4.0, "start_time": start + day, "project_id": PROJECT, "api_key_id": "key_1"},
        ]
    )
    costs = sdk().admin.organization.usage.costs
    span: dict[str, Any] = {"start_time": start, "end_time": start + 3 * day}
    whole = only_declared(costs(**span))
    assert [[result.amount.value for result in bucket.results] for bucket in whole.data] == [[3.5], [4.0], []]
    assert whole.data[0].results[0].project_id is None and not whole.has_more
    by_project = only_declared(costs(**span, group_by=["project_id"], bucket_width="1d", limit=1))
    assert [(r.project_id, r.amount.value) for r in by_project.data[0].results] == [(PROJECT, 1.5), ("proj_other", 2.0)]
    assert by_project.has_more and by_project.next_page
    second = costs(**span, group_by=["project_id", "api_key_id"], limit=2, page=by_project.next_page)
    assert [(r.project_id, r.api_key_id) for r in second.data[0].results] == [(PROJECT, "key_1")]
    assert len(second.data) == 2 and second.next_page is None
    chosen = costs(**span, project_ids=["proj_other"], group_by=["line_item"])
    assert [len(bucket.results) for bucket in chosen.data] == [1, 0, 0]
    for wrong in ({"limit": 181}, {"group_by": ["nothing"]}, {"bucket_width": "1h"}, {"page": "page_x"}):
        with pytest.raises(openai.BadRequestError):
            costs(**span, **wrong)  # type: ignore[arg-type]


def test_who_is_let_in(sdk: Sdk, double: Double) -> None:
    issued = sdk().admin.organization.projects.service_accounts.create(PROJECT, name="x").api_key.value
    assert ids(sdk(organization="org-conformance").admin.organization.projects.list()) == [PROJECT]
    with pytest.raises(openai.AuthenticationError) as refused:
        sdk(organization="org-other").admin.organization.projects.list()
    assert refused.value.code == "mismatched_organization"
    for stranger in ("sk-admin-unknown", issued):
        with pytest.raises(openai.AuthenticationError) as refused:
            sdk(admin_api_key=stranger).admin.organization.projects.list()
        assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError):
        models_with(sdk, double.admin_key)
    with pytest.raises(openai.AuthenticationError) as refused:
        ids(sdk(api_key=issued, project="proj_other").models.list())
    assert refused.value.code == "mismatched_project"
    assert ids(sdk(api_key=issued, project=PROJECT, organization="org-conformance").models.list())


def test_what_is_refused_as_bad(sdk: Sdk, double: Double) -> None:
    admin = sdk().admin.organization
    accounts = admin.projects.service_accounts
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"extra_body": {"color": "red"}}, "unknown_parameter", "color"),
        ({"extra_query": {"color": "red"}}, "unknown_parameter", "color"),
        ({"extra_body": {"name": 7}}, "invalid_type", "name"),
        ({"extra_body": {"name": None}}, "invalid_type", "name"),
        ({"expires_in_seconds": 0}, "integer_below_min_value", "expires_in_seconds"),
        ({"expires_in_seconds": 31_536_001}, "integer_above_max_value", "expires_in_seconds"),
        ({"extra_body": {"expires_in_seconds": True}}, "invalid_type", "expires_in_seconds"),
        ({"extra_body": {"create_service_account_only": "yes"}}, "invalid_type", "create_service_account_only"),
    ]
    for options, code, param in cases:
        with pytest.raises(openai.BadRequestError) as refused:
            accounts.create(PROJECT, name="x", **options)
        assert (refused.value.code, refused.value.param) == (code, param)
        assert refused.value.request_id and refused.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError) as refused:
        admin.admin_api_keys.create(name="x", extra_body={"expires_in_seconds": None})
    assert refused.value.code == "invalid_type"
    assert double.state()["service_accounts"] == [] and len(double.state()["admin_keys"]) == 1


def test_errors_are_typed_and_retried(sdk: Sdk, double: Double) -> None:
    projects = sdk().admin.organization.projects
    double.fault(kind="rate_limit", retry_after=0.01, times=1)
    with pytest.raises(openai.RateLimitError) as limited:
        projects.list()
    assert limited.value.response.headers["retry-after"] == "0.01" and limited.value.code == "rate_limit_exceeded"
    double.fault(kind="refuse", times=1)
    with pytest.raises(openai.InternalServerError):
        projects.list()
    double.fault(kind="drop_before", times=1)
    with pytest.raises(openai.APIConnectionError):
        projects.list()
    before = double.mark()
    double.fault(kind="rate_limit", retry_after=0.01, times=2)
    assert ids(sdk(max_retries=2).admin.organization.projects.list()) == [PROJECT]
    assert [request["status"] for request in double.requests(before)] == [429, 429, 200]
