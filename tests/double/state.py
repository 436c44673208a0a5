# SPDX-License-Identifier: GPL-3.0-or-later
"""The organization: the state behind the API, and every change that can be made to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .collection import Collection, Member
from .objects import AdminKey, Owner, Project, ProjectKey, ServiceAccount, new_id, new_value

M = TypeVar("M", bound=Member)


@dataclass
class Settings:
    """What tests may switch while the double runs."""

    latency: float = 0.0
    refuse_service_account_key_delete: bool = False
    refuse_deleted_cursor: bool = False
    keys_need_owner_access: bool = True
    young_not_found: float = 0.0


@dataclass(frozen=True)
class Start:
    """What the double begins with, and returns to on reset."""

    organization: str
    admin_key: str
    admin_key_id: str
    projects: tuple[str, ...] = ("proj_default",)
    secret_marker: str = ""
    latency: float = 0.0


@dataclass
class Cost:
    """Money spent in one day by one key; `start_time` may be any second of that day."""

    value: float
    start_time: int
    currency: str = "usd"
    project_id: str | None = None
    api_key_id: str | None = None
    line_item: str | None = None
    user_id: str | None = None
    quantity: float | None = None
    quantity_unit: str | None = None


@dataclass
class State:
    """One organization. `version` grows with every change a request makes, so a caller can tell whether it made one."""

    start: Start
    version: int = 0
    clock_offset: float = 0.0
    #: A Unix time at which the clock stands still, or None.
    frozen_at: float | None = None
    #: Other organizations behind the same endpoint; whose a request is, its key tells.
    others: list[State] = field(default_factory=list)
    settings: Settings = field(init=False)
    owner: Owner = field(init=False)
    projects: Collection[Project] = field(default_factory=Collection)
    admin_keys: Collection[AdminKey] = field(default_factory=Collection)
    costs: list[Cost] = field(default_factory=list)
    _admin_by_value: dict[str, AdminKey] = field(default_factory=dict)
    _project_by_value: dict[str, ProjectKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = Settings(latency=self.start.latency)
        self.owner = Owner("user-double0000000000000000", "Double Owner", "owner@example.com", self.now())
        for identifier in self.start.projects:
            self.add_project(identifier, identifier)
        first = AdminKey(self.start.admin_key_id, "double", self.start.admin_key, self.now())
        self.admin_keys.add(first)
        self._admin_by_value[first.value] = first
        self.projects.settle()
        self.admin_keys.settle()

    def now(self) -> int:
        return int((time.time() if self.frozen_at is None else self.frozen_at) + self.clock_offset)

    def add_organization(self, start: Start) -> State:
        other = State(start)
        self.others.append(other)
        return other

    def seen_with(self, value: str | None) -> State:
        """The organization that a key belongs to; the first one for keys that nobody knows."""
        for other in self.others:
            if value is not None and other.key_id(value) is not None:
                other.clock_offset, other.frozen_at = self.clock_offset, self.frozen_at
                return other
        return self

    def find(self, members: Collection[M], identifier: str) -> M | None:
        """A member by its own path, which may not be known everywhere yet."""
        return None if members.age(identifier) < self.settings.young_not_found else members.get(identifier)

    def _expires_at(self, seconds: int | None) -> int | None:
        return None if seconds is None else self.now() + seconds

    # Keys that open something. An expired or deleted key opens nothing.

    def live_admin_key(self, value: str) -> AdminKey | None:
        key = self._admin_by_value.get(value)
        return None if key is None or key.expired(self.now()) else key

    def live_project_key(self, value: str) -> ProjectKey | None:
        key = self._project_by_value.get(value)
        return None if key is None or key.expired(self.now()) else key

    def key_id(self, value: str) -> str | None:
        """The id of a key, live or expired: what the request log shows instead of the value."""
        key = self._admin_by_value.get(value) or self._project_by_value.get(value)
        return None if key is None else key.id

    # Changes.

    def add_admin_key(self, name: str, expires_in: int | None = None) -> AdminKey:
        value = new_value("sk-admin", self.start.secret_marker)
        key = AdminKey(new_id("key"), name, value, self.now(), self._expires_at(expires_in))
        self.admin_keys.add(key)
        self._admin_by_value[value] = key
        self.version += 1
        return key

    def delete_admin_key(self, key: AdminKey) -> None:
        self.admin_keys.remove(key.id)
        del self._admin_by_value[key.value]
        self.version += 1

    def add_project(
        self,
        name: str | None,
        identifier: str | None = None,
        external_key_id: str | None = None,
        residency: str | None = None,
    ) -> Project:
        project = Project(identifier or new_id("proj"), name, self.now(), None, external_key_id, residency)
        self.projects.add(project)
        self.version += 1
        return project

    def update_project(self, project: Project, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            setattr(project, name, value)
        self.version += bool(changes)

    def archive_project(self, project: Project) -> None:
        """An archived project has no service accounts, and nobody's keys open it."""
        if project.archived_at is not None:
            return
        project.archived_at = self.now()
        for account in list(project.accounts):
            self.delete_service_account(project, account)
        for key in list(project.keys):
            self.delete_project_key(project, key)
        self.version += 1

    def add_service_account(
        self, project: Project, name: str, role: str = "member", identifier: str | None = None
    ) -> ServiceAccount:
        account = ServiceAccount(identifier or new_id("svc_acct"), name, project.id, role, self.now())
        project.accounts.add(account)
        self.version += 1
        return account

    def update_service_account(self, account: ServiceAccount, changes: dict[str, str]) -> None:
        account.name = changes.get("name", account.name)
        account.role = changes.get("role", account.role)
        self.version += bool(changes)

    def delete_service_account(self, project: Project, account: ServiceAccount) -> None:
        for identifier in list(account.key_ids):
            key = project.keys.get(identifier)
            if key is not None:
                self.delete_project_key(project, key)
        project.accounts.remove(account.id)
        self.version += 1

    def add_project_key(
        self,
        project: Project,
        owner: ServiceAccount | Owner,
        name: str,
        expires_in: int | None = None,
        scopes: list[str] | None = None,
    ) -> ProjectKey:
        account = owner if isinstance(owner, ServiceAccount) else None
        key = ProjectKey(
            id=new_id("key"),
            name=name,
            value=new_value("sk-svcacct" if account else "sk-proj", self.start.secret_marker),
            created_at=self.now(),
            expires_at=self._expires_at(expires_in),
            project_id=project.id,
            account=account,
            user=owner if isinstance(owner, Owner) else None,
            scopes=list(scopes or []),
        )
        project.keys.add(key)
        self._project_by_value[key.value] = key
        if account is not None:
            account.key_ids[key.id] = None
        self.version += 1
        return key

    def update_project_key(self, key: ProjectKey, changes: dict[str, Any]) -> None:
        if "scopes" in changes:
            key.scopes = list(changes["scopes"])
        if "expires_in_seconds" in changes:
            key.expires_at = self._expires_at(changes["expires_in_seconds"])
        self.version += 1

    def delete_project_key(self, project: Project, key: ProjectKey) -> None:
        project.keys.remove(key.id)
        del self._project_by_value[key.value]
        if key.account is not None:
            key.account.key_ids.pop(key.id, None)
        self.version += 1

    def facts(self) -> dict[str, Any]:
        """Everything, for the control API."""
        return {
            "organization": self.start.organization,
            "clock_offset": self.clock_offset,
            "frozen_at": self.frozen_at,
            "settings": vars(self.settings),
            "projects": [project.as_json() for project in self.projects],
            "service_accounts": [account.facts() for project in self.projects for account in project.accounts],
            "api_keys": [key.facts() for project in self.projects for key in project.keys],
            "admin_keys": [key.facts() for key in self.admin_keys],
            "costs": [vars(cost) for cost in self.costs],
            "others": [other.facts() for other in self.others],
        }
