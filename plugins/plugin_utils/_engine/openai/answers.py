# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shapes of OpenAI's answers: each is checked before the domain sees it."""

from __future__ import annotations

import dataclasses
import re
import typing as t

Answer = dict[str, t.Any]
_T = t.TypeVar("_T")
#: A redacted value that shows less of a key's end says nothing.
_TELLING = 3


class Malformed(Exception):
    """An answer of another shape than described."""


@dataclasses.dataclass(frozen=True)
class ServiceAccount:
    """A service account of a project. created_at is a Unix time."""

    id: str
    name: str
    created_at: int


@dataclasses.dataclass(frozen=True)
class NewKey:
    """A key as OpenAI shows it once. expires_at is a Unix time, or None; so is created_at where the answer lacks it."""

    id: str
    value: str = dataclasses.field(repr=False)
    expires_at: int | None
    created_at: int | None = None


@dataclasses.dataclass(frozen=True)
class AdminKey:
    """An admin key as listed: with its value redacted."""

    id: str
    name: str | None
    redacted_value: str

    def fits(self, value: str) -> bool | None:
        """Say whether this may be the key with this value; None if the redacted value shows too little to tell."""
        shown = re.split(r"\*+|\.{3,}|…", self.redacted_value)
        if len(shown) < 2 or len(shown[-1]) < _TELLING:
            return None
        return value.startswith(shown[0]) and value.endswith(shown[-1])


@dataclasses.dataclass(frozen=True)
class ProjectKey:
    """A key of a project as listed. account_id is that of the service account that owns it; expires_at is a Unix time."""

    id: str
    name: str | None
    account_id: str | None
    expires_at: int | None


def read_project_key(row: Answer) -> ProjectKey:
    """Return a row of the list of a project's keys; raises Malformed."""
    account = field(row, "owner", dict).get("service_account") or {}
    return ProjectKey(field(row, "id", str), row.get("name"), account.get("id"), optional_time(row, "expires_at"))


def read_service_account(row: Answer) -> ServiceAccount:
    """Return a row of a list of accounts; raises Malformed."""
    return ServiceAccount(field(row, "id", str), field(row, "name", str), field(row, "created_at", int))


def read_admin_key(row: Answer) -> AdminKey:
    """Return a row of the list of admin keys; raises Malformed."""
    return AdminKey(field(row, "id", str), row.get("name"), field(row, "redacted_value", str))


def read_new_key(answer: Answer) -> NewKey:
    """Return a key as it is shown once; raises Malformed."""
    return NewKey(
        field(answer, "id", str),
        field(answer, "value", str),
        optional_time(answer, "expires_at"),
        optional_time(answer, "created_at"),
    )


@dataclasses.dataclass(frozen=True)
class Cost:
    """What was spent on a day for a project with a key; either is None for what belongs to none."""

    project_id: str | None
    api_key_id: str | None
    amount: float
    currency: str


def read_costs(bucket: Answer) -> list[Cost]:
    """Return the costs of a day, grouped by projects and keys; raises Malformed."""
    costs = []
    for result in field(bucket, "results", list):
        if not isinstance(result, dict):
            raise Malformed("an entry of 'results' is not an object")
        amount = field(result, "amount", dict)
        value = amount.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Malformed("'value' is not a number")
        project_id, api_key_id = (
            None if result.get(name) is None else field(result, name, str) for name in ("project_id", "api_key_id")
        )
        costs.append(Cost(project_id, api_key_id, float(value), field(amount, "currency", str)))
    return costs


def field(answer: Answer, name: str, kind: type[_T]) -> _T:
    """Return a member that must be of this type and not empty; raises Malformed."""
    value = answer.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise Malformed(f"{name!r} is not {'a text' if kind is str else f'of type {kind.__name__}'}")
    return value


def optional_time(answer: Answer, name: str) -> int | None:
    """Return a Unix time that may be missing or null; raises Malformed."""
    return None if answer.get(name) is None else field(answer, name, int)
