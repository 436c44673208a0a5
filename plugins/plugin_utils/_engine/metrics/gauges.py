# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a mount: which there are, and what each is now."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import OpenAICredsError, UnreadableError
from ..leases.counts import role_label
from ..library.status import AVAILABLE, CHECKED_OUT, library_status
from ..mount import Mount
from ..rotation.schedule import next_rotation
from .api_errors import read_api_errors
from .cleanups import last_cleanup
from .costs import Spent, spent
from .counters import LeaseNumbers, lease_numbers

_ISSUED = "openai_creds_issued_total"
_REVOKED = "openai_creds_revoked_total"
_API_ERRORS = "openai_api_error_total"
_LAST_CLEANUP = "openai_creds_last_cleanup_timestamp_seconds"
_LIBRARY = "openai_creds_library_accounts"
_STATUSES = ("active", "expired", "failed", "pending")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A value, and its labels beside that of the mount."""

    value: float
    labels: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a mount. Of a counter the name ends in _total."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]

    @property
    def is_counter(self) -> bool:
        return self.name.endswith("_total")


class Collected(t.NamedTuple):
    """The metrics of a mount; what a person should know of them; and why what was spent is not among them though asked for."""

    metrics: list[Metric]
    warnings: list[str]
    error: str | None


def collect(mount: Mount, costs_window: int | None) -> Collected:
    """Return the metrics of a mount; with what was spent in a window of so many seconds."""
    warnings: list[str] = []
    failure = None
    numbers = lease_numbers(mount)
    metrics = [
        *_leases(numbers, warnings),
        *_api_errors(mount, warnings),
        *_admin_key(mount, warnings),
        *_cleanup(mount, warnings),
        *_library(mount, warnings),
    ]
    if costs_window is not None:
        try:
            costs = spent(mount, costs_window)
        except OpenAICredsError as error:
            # What the store says is worth telling all the same.
            failure = f"costs: what was spent is not known: {error}"
        else:
            warnings += [costs.problem] if costs.problem else []
            metrics += _spent(costs, numbers)
    return Collected(metrics, warnings, failure)


def _spent(costs: Spent, numbers: LeaseNumbers) -> t.Iterator[Metric]:
    by_project = tuple(Sample(amount, {"project": project}) for project, amount in sorted(costs.by_project.items()))
    what = "What OpenAI says was spent in the window, by project, in its currency."
    yield Metric("openai_quota_used", what, ("project",), by_project)
    by_lease = {numbers.keys[key]: amount for key, amount in costs.by_key.items() if key in numbers.keys}
    samples = [
        Sample(amount, {"role": role_label(lease_id) or "", "lease_id": lease_id})
        for lease_id, amount in sorted(by_lease.items())
    ]
    what = "What OpenAI says the key of a lease on record has spent in the window, in its currency."
    yield Metric("openai_creds_lease_cost", what, ("role", "lease_id"), tuple(samples))


def _leases(numbers: LeaseNumbers, warnings: list[str]) -> t.Iterator[Metric]:
    if numbers.uncounted:
        warnings += (_left_out(name, numbers.uncounted) for name in (_ISSUED, _REVOKED))
    elif numbers.issued is None:
        warnings.append(
            f"openai_creds_issued_total is left out: {numbers.unreadable} place(s) in the store cannot be read; "
            "openai_cleanup says which"
            if numbers.unreadable
            else "openai_creds_issued_total is left out: the store was changed too fast to count; the next time it is there again"
        )
    else:
        yield _by_role(_ISSUED, "Credentials that OpenAI has made for a role.", numbers.issued)
    if not numbers.uncounted:
        yield _by_role(_REVOKED, "Credentials of a role that have ended at OpenAI.", numbers.revoked)
    roles = sorted({*numbers.revoked, *(role for role, _status in numbers.now)})
    samples = [
        Sample(numbers.now.get((role, status), 0), {"role": role, "status": status})
        for role in roles
        for status in _STATUSES
    ]
    yield Metric("openai_creds_leases", "Leases on record, by status.", ("role", "status"), tuple(samples))
    unreadable = (Sample(numbers.unreadable),)
    yield Metric("openai_creds_unreadable", "Places in the store that hold leases and cannot be read.", (), unreadable)


def _by_role(name: str, what: str, numbers: dict[str, int]) -> Metric:
    return Metric(
        name, what, ("role",), tuple(Sample(count, {"role": role}) for role, count in sorted(numbers.items()))
    )


def _left_out(name: str, why: UnreadableError) -> str:
    return f"{name} is left out, since what it is made of cannot be read: {why}"


def _api_errors(mount: Mount, warnings: list[str]) -> t.Iterator[Metric]:
    try:
        failures = read_api_errors(mount)
    except UnreadableError as error:
        warnings.append(_left_out(_API_ERRORS, error))
        return
    samples = tuple(Sample(count, failure._asdict()) for failure, count in sorted(failures.items()))
    what = "Calls to OpenAI that were refused (code is the HTTP status) or not answered (none)."
    yield Metric(_API_ERRORS, what, ("endpoint", "code"), samples)


def _admin_key(mount: Mount, warnings: list[str]) -> t.Iterator[Metric]:
    config = mount.config()
    if config is None:
        return
    now = mount.now()
    age = (Sample(max(0, now - config.created_at)),)
    yield Metric("openai_creds_admin_key_age_seconds", "For how long the admin key has been the mount's.", (), age)
    last = (Sample(config.last_rotated or 0),)
    what = "When the admin key was last rotated, as a Unix time; 0 for never."
    yield Metric("openai_creds_last_rotation_timestamp_seconds", what, (), last)
    try:
        due = next_rotation(config, now)
    except OpenAICredsError as error:
        warnings.append(f"openai_creds_next_rotation_timestamp_seconds is left out: {error}")
        return
    if due is not None:
        what = "When the admin key is to be rotated next, as a Unix time."
        yield Metric("openai_creds_next_rotation_timestamp_seconds", what, (), (Sample(due),))


def _cleanup(mount: Mount, warnings: list[str]) -> t.Iterator[Metric]:
    try:
        last = last_cleanup(mount)
    except UnreadableError as error:
        warnings.append(_left_out(_LAST_CLEANUP, error))
        return
    what = "When a cleanup last did all that there was to do, as a Unix time; 0 for never."
    yield Metric(_LAST_CLEANUP, what, (), (Sample(last),))


def _library(mount: Mount, warnings: list[str]) -> t.Iterator[Metric]:
    try:
        sets = library_status(mount, None)
    except UnreadableError as error:
        warnings.append(_left_out(_LIBRARY, error))
        return
    samples = [
        Sample(library_set[f"{status}_accounts"], {"library_set": library_set["name"], "status": status})
        for library_set in sets
        for status in (AVAILABLE, CHECKED_OUT)
    ]
    what = "Accounts of library sets, by status."
    yield Metric(_LIBRARY, what, ("library_set", "status"), tuple(samples))
