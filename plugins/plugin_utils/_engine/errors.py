# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The errors a user sees: each is one sentence that says what to do."""

from __future__ import annotations

import re
import shlex
import sys
import typing as t

_QUOTED = 160
#: What looks like a key of OpenAI's, whole or as OpenAI shortens it; not the end of a word such as task-runner.
_KEY = re.compile(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_*.\-]{4,}")


class OpenAICredsError(Exception):
    """Something a user can act on; str(error) is one sentence without secrets."""

    def __init__(self, text: str) -> None:
        super().__init__(mask_keys(text))


def mask_keys(text: str) -> str:
    """Return a text without keys, wherever somebody put them: a user may give one for another option by mistake."""
    return _KEY.sub("sk-***", text)


def quoted(value: object) -> str:
    """Return what a user gave, for a message: on one line, not all of a book, and without keys."""
    text = repr(mask_keys(value)[:_QUOTED]) if isinstance(value, str) else mask_keys(repr(value))
    return text if len(text) <= 2 * _QUOTED else f"{text[:_QUOTED]}…"


def unless_done(error: object) -> str:
    """Return the warning of a dry run on an error that would not come up if an earlier task had done what is missing."""
    return f"{error} (a real run fails unless that is done by then)"


def missing_package(package: str, needed_by: str) -> str:
    """Return a sentence on a Python package that is not there."""
    return (
        f"{needed_by} needs the Python package {package}; {package} is missing from the Python that runs Ansible, "
        f"{how_to_install(package)}"
    )


def how_to_install(arguments: str) -> str:
    """Return how to install what these arguments of pip name. It names the interpreter, since most machines have several."""
    python = shlex.quote(sys.executable or "python3")
    return f"install it there: {python} -m pip install {arguments}"


class StoreError(OpenAICredsError):
    """The store cannot be read or written. may_have_happened says that a write may have taken effect all the same."""

    def __init__(self, text: str, *, may_have_happened: bool = False) -> None:
        super().__init__(text)
        self.may_have_happened = may_have_happened


class UnreadableError(StoreError):
    """One document, or several that are kept together, cannot be read; others may be."""


class Conflict(StoreError):
    """A compare-and-set found another version than the one expected."""


class ApiError(OpenAICredsError):
    """A call to OpenAI that failed.

    status is the HTTP status, or None when there was no answer; may_have_happened says that the call may have taken
    effect all the same, general that every other call fails for the same reason: the admin key, or the way to OpenAI.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        error_type: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        may_have_happened: bool = False,
        general: bool = False,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.error_type = error_type
        self.code = code
        self.request_id = request_id
        self.may_have_happened = may_have_happened
        self.general = general


class ApiFailure(t.NamedTuple):
    """An attempt at a call to OpenAI that failed, as it is counted: the path without ids, and the HTTP status or none."""

    endpoint: str
    code: str
