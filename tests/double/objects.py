# SPDX-License-Identifier: GPL-3.0-or-later
"""What the organization holds, and how OpenAI shows it."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from typing import Any

from .collection import Collection
from .errors import redact

_ALPHABET = string.ascii_letters + string.digits


def random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _unused in range(length))


def new_id(prefix: str) -> str:
    return f"{prefix}_{random_text(24)}"


def new_value(prefix: str, marker: str) -> str:
    """A key's value, as long as OpenAI's; `marker` in its middle lets a test search for leaks."""
    return f"{prefix}-{random_text(60)}{marker}T3BlbkFJ{random_text(60)}"


@dataclass
class Owner:
    """A person of the organization."""

    id: str
    name: str
    email: str
    created_at: int

    def as_project_owner(self) -> dict[str, Any]:
        user = {
            "id": self.id,
            "name": self.name,
            "email": self.email,
            "created_at": self.created_at,
            "role": "owner",
        }
        return {"type": "user", "user": user}

    def as_admin_owner(self) -> dict[str, Any]:
        return {
            "type": "user",
            "object": "organization.user",
            "id": self.id,
            "name": self.name,
            "created_at": self.created_at,
            "role": "owner",
        }


@dataclass
class Key:
    """What admin keys and project keys have in common."""

    id: str
    name: str
    value: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None

    def expired(self, now: int) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def facts(self) -> dict[str, Any]:
        """Everything, the value too: for the control API only."""
        return {
            "id": self.id,
            "name": self.name,
            "value": self.value,
            "redacted_value": redact(self.value),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "last_used_at": self.last_used_at,
        }


@dataclass
class AdminKey(Key):
    def as_json(self, owner: Owner) -> dict[str, Any]:
        return {
            "object": "organization.admin_api_key",
            "id": self.id,
            "name": self.name,
            "redacted_value": redact(self.value),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "last_used_at": self.last_used_at,
            "owner": owner.as_admin_owner(),
        }


@dataclass
class ServiceAccount:
    id: str
    name: str
    project_id: str
    role: str
    created_at: int
    key_ids: dict[str, None] = field(default_factory=dict)

    def has_access(self) -> bool:
        return self.role != "none"

    def facts(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "project_id": self.project_id,
            "role": self.role,
            "created_at": self.created_at,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "object": "organization.project.service_account",
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "created_at": self.created_at,
        }


@dataclass(kw_only=True)
class ProjectKey(Key):
    """A key that opens a project; owned by a service account or by a person."""

    project_id: str
    account: ServiceAccount | None = None
    user: Owner | None = None
    scopes: list[str] = field(default_factory=list)

    def owner_has_access(self) -> bool:
        return self.account is None or self.account.has_access()

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "project_id": self.project_id,
            "service_account_id": self.account.id if self.account else None,
            "scopes": list(self.scopes),
        }

    def as_created(self) -> dict[str, Any]:
        """The one answer that holds the value."""
        return {
            "object": "organization.project.service_account.api_key",
            "id": self.id,
            "value": self.value,
            "name": self.name,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }

    def as_json(self) -> dict[str, Any]:
        owner: dict[str, Any] = {}
        if self.account is not None:
            account = self.account.as_json()
            del account["object"]
            owner = {"type": "service_account", "service_account": account}
        elif self.user is not None:
            owner = self.user.as_project_owner()
        return {
            "object": "organization.project.api_key",
            "id": self.id,
            "redacted_value": redact(self.value),
            "name": self.name,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "last_used_at": self.last_used_at,
            "owner_project_access": "active" if self.owner_has_access() else "inactive",
            "owner": owner,
        }


@dataclass
class Project:
    id: str
    name: str | None
    created_at: int
    archived_at: int | None = None
    external_key_id: str | None = None
    residency: str | None = None
    accounts: Collection[ServiceAccount] = field(default_factory=Collection)
    keys: Collection[ProjectKey] = field(default_factory=Collection)

    def as_json(self) -> dict[str, Any]:
        shown = {
            "object": "organization.project",
            "id": self.id,
            "name": self.name,
            "created_at": self.created_at,
            "archived_at": self.archived_at,
            "status": "active" if self.archived_at is None else "archived",
            "external_key_id": self.external_key_id,
        }
        if self.residency is not None:
            shown["residency"] = self.residency
        return shown
