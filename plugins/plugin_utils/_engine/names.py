# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names: what a mount, role or project may be called, and the templates that name service accounts."""

from __future__ import annotations

import base64
import random
import re
import typing as t

from .errors import OpenAICredsError, quoted

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")
_OPENAI_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PLACEHOLDER = re.compile(r"\{\{\s*\.(\w*)\s*\}\}|\{(\w*)\}")
_FIELDS = {
    "RoleName": "role_name",
    "RandomSuffix": "random_suffix",
    "ProjectName": "project_name",
}
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
SUFFIX_LENGTH = 8

_random = random.SystemRandom()


def check_name(value: t.Any, option: str) -> str:
    """Return the name, or raise OpenAICredsError naming option."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise OpenAICredsError(
            f"{option}: {quoted(value)} is not a valid name; use 1 to 128 letters, digits, '_', '.' or '-', "
            "beginning and ending with a letter or digit"
        )
    return str(value)


def check_openai_id(value: t.Any, option: str) -> str:
    """Return an id of OpenAI's (a project, a key), or raise OpenAICredsError naming option."""
    if not isinstance(value, str) or not _OPENAI_ID.fullmatch(value):
        raise OpenAICredsError(f"{option}: {quoted(value)} is not an id of OpenAI's; use letters, digits, '_' and '-'")
    return str(value)


def random_text(length: int) -> str:
    """Return unguessable lowercase letters and digits."""
    return base36(_random.randrange(len(_ALPHABET) ** length), length)


def path_part(name: str) -> str:
    """Return a name, which may have capitals and other characters, as a part of a path in the store."""
    return base64.b32encode(name.encode()).decode().rstrip("=").lower()


def base36(number: int, width: int) -> str:
    """Return a number as at least width lowercase letters and digits, in an order that sorts."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits.rjust(width, "0")


def check_template(template: str, option: str, role: str, project: str) -> str:
    """Return the template if every name it can give is valid and none is given twice; else raise."""
    used = set()
    for match in _PLACEHOLDER.finditer(template):
        go, jinja = match.groups()
        field = _FIELDS.get(go) if go is not None else jinja
        if field not in _FIELDS.values():
            raise OpenAICredsError(
                f"{option}: {quoted(match.group(0))} is not known; use {{{{.RoleName}}}}, {{{{.RandomSuffix}}}}, "
                "{{.ProjectName}} or {role_name}, {random_suffix}, {project_name}"
            )
        used.add(field)
    if "random_suffix" not in used:
        raise OpenAICredsError(
            f"{option}: {quoted(template)} would give the same name twice; put {{{{.RandomSuffix}}}} or {{random_suffix}} in it"
        )
    example = render_template(template, role, project)
    if not _NAME.fullmatch(example):
        raise OpenAICredsError(
            f"{option}: {quoted(template)} gives {quoted(example)}, which is not a valid name; use 1 to 128 letters, digits, "
            "'_', '.' or '-', beginning and ending with a letter or digit"
        )
    return template


def render_template(template: str, role: str, project: str) -> str:
    """Return a new name from a checked template."""
    values = {"role_name": role, "project_name": project, "random_suffix": random_text(SUFFIX_LENGTH)}

    def value(match: re.Match[str]) -> str:
        go, jinja = match.groups()
        return values[_FIELDS[go] if go is not None else jinja]

    return _PLACEHOLDER.sub(value, template)
