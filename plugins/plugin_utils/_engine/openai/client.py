# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of the OpenAI Admin API, and from here also the values and checks that go with them.

Source of the facts: OpenAI's API description and the official SDK.

A 404 is believed only when a list says so too: OpenAI may take some seconds to know everywhere what has just been made.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from functools import partial
from urllib.parse import quote

from ..errors import ApiError, ApiFailure
from ..run.threads import concurrently
from .answers import (
    AdminKey,
    Answer,
    Cost,
    Malformed,
    NewKey,
    ProjectKey,
    ServiceAccount,
    field,
    optional_time,
    read_admin_key,
    read_costs,
    read_new_key,
    read_project_key,
    read_service_account,
)
from .endpoint import check_endpoint, check_key
from .transport import Transport

__all__ = ["AdminKey", "NewKey", "OpenAI", "ServiceAccount", "check_endpoint", "check_key"]

_PAGE = 100
#: So many days are in one page of costs.
_DAYS = 180
#: How long to wait before something that OpenAI may not know yet is tried again.
_UNKNOWN_WAITS = (0.3, 0.7, 1.5, 2.5)
#: How many of those are tried at a time.
_AT_ONCE = 16
_ADMIN_KEYS = "/organization/admin_api_keys"
_T = t.TypeVar("_T")


class OpenAI:
    """One organization of OpenAI, seen with its admin key.

    log gets one line per attempt, never with a secret; warn gets what a person should know of the settings. current_key
    is asked when OpenAI refuses the key: if the admin key has been rotated meanwhile, the call is made again with the one
    that it returns. hear_time gets OpenAI's Unix time as often as an answer tells it, hear_error every attempt that fails.
    The object may be used by several threads at once.
    """

    def __init__(
        self,
        endpoint: str,
        admin_api_key: str,
        organization_id: str | None,
        *,
        log: t.Callable[[str], None],
        warn: t.Callable[[str], None] = lambda _text: None,
        current_key: t.Callable[[], str | None] = lambda: None,
        hear_time: t.Callable[[float], None] = lambda _time: None,
        hear_error: t.Callable[[ApiFailure], None] = lambda _failure: None,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = check_endpoint(endpoint, "api_endpoint")
        self.organization_id = organization_id
        #: OpenAI's Unix time as it said it last, and when that was by the monotonic clock.
        self._told = (time.time(), time.monotonic())

        def told(openai_time: float) -> None:
            self._told = (openai_time, time.monotonic())
            hear_time(openai_time)

        self._transport = Transport(
            self.endpoint,
            admin_api_key,
            organization_id,
            log=log,
            warn=warn,
            current_key=current_key,
            hear_time=told,
            hear_error=hear_error,
            sleep=sleep,
        )
        self._sleep = sleep

    def create_service_account(self, project_id: str, name: str, expires_in: int | None) -> tuple[str, NewKey]:
        """Create an account with its first key; returns the account's id and the key. expires_in is in seconds."""
        body: Answer = {"name": name}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        answer = self._transport.call("POST", f"{_project(project_id)}/service_accounts", body=body, create=True)
        try:
            return field(answer, "id", str), read_new_key(field(answer, "api_key", dict))
        except Malformed as error:
            raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None

    def create_account_only(self, project_id: str, name: str) -> str:
        """Create an account without a key, which may do nothing yet; returns its id."""
        body: Answer = {"name": name, "create_service_account_only": True}
        answer = self._transport.call("POST", f"{_project(project_id)}/service_accounts", body=body, create=True)
        try:
            account_id = field(answer, "id", str)
        except Malformed as error:
            raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None
        if answer.get("api_key") is not None:
            # Nobody is to have it, so it has to go with its account, which is found by its name.
            raise ApiError(
                "OpenAI, or a gateway on the way, has made a key with the account though none was asked for",
                status=200,
                may_have_happened=True,
            )
        return account_id

    def make_member(self, project_id: str, service_account_id: str, name: str) -> None:
        """Give an account its name, and the role of a member of its project. It may have been made a moment ago."""
        path, body = _account(project_id, service_account_id), {"name": name, "role": "member"}
        for wait in (*_UNKNOWN_WAITS, None):
            try:
                self._transport.call("POST", path, body=body)
                return
            except ApiError as error:
                if error.status != 404 or wait is None:
                    raise
            self._sleep(wait)

    def delete_service_account(self, project_id: str, service_account_id: str, *, prove: bool = True) -> bool:
        """Delete an account and its keys. One that is in no list of its project, or whose project is archived, is deleted.

        Without prove, returns False for one that OpenAI does not find; then delete_unknown_accounts has to be asked.
        """
        try:
            deleted = self._try_delete(_account(project_id, service_account_id), "account")
        except ApiError as error:
            if error.status != 400 or not self._is_archived(project_id):
                raise
            deleted = True
        if not deleted and prove:
            for left in self.delete_unknown_accounts([(project_id, service_account_id)])[0].values():
                raise left
        return deleted or prove

    def delete_unknown_accounts(
        self, accounts: t.Iterable[tuple[str, str]], calls: t.ContextManager[t.Any] | None = None
    ) -> tuple[dict[str, ApiError], set[str]]:
        """Delete accounts, by project and id, that OpenAI has not found.

        Returns why some of them, by their ids, are left, and the ids of those that were gone already: they are not in their
        projects' lists either. calls is held during each call, to bound how many there are at a time.
        """
        projects: dict[str, dict[str, str]] = {}
        for project_id, account_id in accounts:
            projects.setdefault(project_id, {})[account_id] = _account(project_id, account_id)
        errors: dict[str, ApiError] = {}
        gone: set[str] = set()
        for project_id, paths in projects.items():
            listed = partial(self.list_service_accounts, project_id)
            errors.update(self._delete_unknown(paths, "account", listed, calls or contextlib.nullcontext(), gone.add))
        return errors, gone

    def list_service_accounts(self, project_id: str) -> list[ServiceAccount]:
        """Return all accounts of a project; none if it has been archived."""
        try:
            return self._list(f"{_project(project_id)}/service_accounts", read_service_account)
        except ApiError as error:
            if error.status != 400 or not self._is_archived(project_id):
                raise
            return []

    def find_service_account(self, project_id: str, service_account_id: str) -> ServiceAccount | None:
        """Return an account of a project, or None if it is not in the project's list."""
        accounts = self.list_service_accounts(project_id)
        return next((account for account in accounts if account.id == service_account_id), None)

    def create_account_key(
        self, project_id: str, service_account_id: str, name: str, expires_in: int | None, scopes: list[str] | None
    ) -> NewKey:
        """Create a further key of an account. expires_in is in seconds."""
        body: Answer = {"name": name}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        if scopes:
            body["scopes"] = scopes
        path = f"{_account(project_id, service_account_id)}/api_keys"
        for wait in (*_UNKNOWN_WAITS, None):
            try:
                return read_new_key(self._transport.call("POST", path, body=body, create=True))
            except Malformed as error:
                raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None
            except ApiError as error:
                # An account that is listed may have been made a moment ago.
                if error.status != 404 or wait is None or not self.find_service_account(project_id, service_account_id):
                    raise
            self._sleep(wait)
        raise AssertionError("unreachable")

    def list_project_keys(self, project_id: str) -> list[ProjectKey]:
        """Return all keys of a project, whoever may use it; none if it has been archived."""
        try:
            return self._list(f"{_project(project_id)}/api_keys", read_project_key, {"owner_project_access": "any"})
        except ApiError as error:
            if error.status != 400 or not self._is_archived(project_id):
                raise
            return []

    def delete_project_key(self, project_id: str, key_id: str) -> bool:
        """Delete a key of a project; returns False if OpenAI does not find it."""
        return self._try_delete(_key(project_id, key_id), "key")

    def update_key(
        self, project_id: str, key_id: str, *, expires_in: int | None = None, scopes: list[str] | None = None
    ) -> int | None:
        """Change when a key of a project ends, in seconds from now, or what it may be used for.

        Returns the Unix time at which the key ends, or None if that is never. A key that OpenAI does not know may have been
        made a moment ago, so it is tried a few times.
        """
        body: Answer = {}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        if scopes is not None:
            body["scopes"] = scopes
        # A key is limited right after the admin key has made it: then a 401 does not mean that the admin key is dead.
        unknown = (401, 404) if expires_in is None else (404,)
        path = _key(project_id, key_id)
        for wait in (*_UNKNOWN_WAITS, None):
            try:
                return optional_time(self._transport.call("POST", path, body=body), "expires_at")
            except Malformed as error:
                raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None
            except ApiError as error:
                if error.status not in unknown or wait is None:
                    raise
            self._sleep(wait)
        raise AssertionError("unreachable")

    def has_project(self, project_id: str) -> bool:
        """Say whether the organization has this project, be it archived."""
        try:
            return bool(self._transport.call("GET", _project(project_id)).get("id") == project_id)
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            return False

    def now(self) -> float:
        """Return OpenAI's Unix time, as far as its answers have told."""
        return self._told[0] + time.monotonic() - self._told[1]

    def wait(self, seconds: float) -> None:
        """Wait before OpenAI is asked again."""
        self._sleep(seconds)

    def ask_time(self) -> None:
        """Make a call that changes nothing, so that hear_time is told the time."""
        self._transport.call("GET", "/organization/projects", query={"limit": "1"})

    def costs(self, start: int) -> list[Cost]:
        """Return what was spent since a Unix time at which a day of UTC begins, by day, project and key."""
        asked: dict[str, str | list[str]] = {
            "start_time": str(start),
            "bucket_width": "1d",
            "limit": str(_DAYS),
            "group_by": ["project_id", "api_key_id"],
        }
        days = self._list("/organization/costs", read_costs, asked, numbered=False)
        return [cost for day in days for cost in day]

    def list_admin_keys(self) -> list[AdminKey]:
        """Return all admin keys of the organization."""
        return self._list(_ADMIN_KEYS, read_admin_key)

    def create_admin_key(self, name: str, expires_in: int | None) -> NewKey:
        """Create an admin key and return it. expires_in is in seconds."""
        body: Answer = {"name": name}
        if expires_in is not None:
            body["expires_in_seconds"] = expires_in
        answer = self._transport.call("POST", _ADMIN_KEYS, body=body, create=True)
        try:
            return read_new_key(answer)
        except Malformed as error:
            raise ApiError(f"OpenAI's answer cannot be understood: {error}", may_have_happened=True) from None

    def delete_admin_key(self, key_id: str) -> None:
        """Delete an admin key. One that is in no list is deleted."""
        path = f"{_ADMIN_KEYS}/{quote(key_id, safe='')}"
        if not self._try_delete(path, "key"):
            errors = self._delete_unknown({key_id: path}, "key", self.list_admin_keys, contextlib.nullcontext())
            for error in errors.values():
                raise error

    def _try_delete(self, path: str, kind: str) -> bool:
        """Delete something; returns False if OpenAI does not find it."""
        try:
            if self._transport.call("DELETE", path).get("deleted") is not True:
                raise ApiError(f"OpenAI's answer to DELETE {path} does not say that the {kind} was deleted")
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _delete_unknown(
        self,
        paths: dict[str, str],
        kind: str,
        listed: t.Callable[[], t.Sequence[ServiceAccount | AdminKey]],
        calls: t.ContextManager[t.Any],
        tell_gone: t.Callable[[str], None] = lambda _id: None,
    ) -> dict[str, ApiError]:
        """Delete what OpenAI has not found, by ids and paths, as long as a list that is read after that still has it.

        tell_gone hears of each that the list does not have.
        """
        errors: dict[str, ApiError] = {}

        def try_again(identifier: str) -> str | None:
            try:
                with calls:
                    return None if self._try_delete(paths[identifier], kind) else identifier
            except ApiError as error:
                errors[identifier] = error
                return None

        left = list(paths)
        for wait in (*_UNKNOWN_WAITS, None):
            try:
                # What was not found may also have been the path, by a gateway: then there is no list either.
                with calls:
                    there = {entry.id for entry in listed()}
            except ApiError as error:
                return {**errors, **dict.fromkeys(left, error)}
            for identifier in left:
                if identifier not in there:
                    tell_gone(identifier)
            left = [identifier for identifier in left if identifier in there]
            if not left:
                break
            if wait is None:
                return {**errors, **{identifier: _listed_yet_unknown(identifier) for identifier in left}}
            self._sleep(wait)
            left = [identifier for identifier in concurrently(try_again, left, _AT_ONCE) if identifier]
        return errors

    def _is_archived(self, project_id: str) -> bool:
        """Say whether a project is archived, and all its accounts with it. One that is not found proves nothing."""
        try:
            return self._transport.call("GET", _project(project_id)).get("status") == "archived"
        except ApiError:
            return False

    def _list(
        self,
        path: str,
        convert: t.Callable[[Answer], _T],
        asked: t.Mapping[str, str | list[str]] | None = None,
        *,
        numbered: bool = True,
    ) -> list[_T]:
        """Return all entries of all pages of a list. The next page comes after the id of the last entry; where entries have none,
        the answer says which it is."""
        entries: list[_T] = []
        following: dict[str, str] = {}
        seen = set()
        while True:
            answer = self._transport.call("GET", path, query={"limit": str(_PAGE), **(asked or {}), **following})
            try:
                rows = field(answer, "data", list)
                if not all(isinstance(row, dict) for row in rows):
                    raise Malformed("an entry of 'data' is not an object")
                entries.extend(convert(row) for row in rows)
                if not answer.get("has_more") or (numbered and not rows):
                    return entries
                position = field(rows[-1], "id", str) if numbered else field(answer, "next_page", str)
                if position in seen:
                    raise Malformed("the same page comes again and again")
                seen.add(position)
                following = {"after" if numbered else "page": position}
            except Malformed as error:
                raise ApiError(f"OpenAI's answer to GET {path} cannot be understood: {error}") from None


def _listed_yet_unknown(identifier: str) -> ApiError:
    return ApiError(f"OpenAI lists {identifier}, but answers 404 when it is to be deleted", status=404)


def _account(project_id: str, service_account_id: str) -> str:
    return f"{_project(project_id)}/service_accounts/{quote(service_account_id, safe='')}"


def _key(project_id: str, key_id: str) -> str:
    return f"{_project(project_id)}/api_keys/{quote(key_id, safe='')}"


def _project(project_id: str) -> str:
    return f"/organization/projects/{quote(project_id, safe='')}"
