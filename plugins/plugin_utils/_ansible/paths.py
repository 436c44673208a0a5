# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths that users give: what in them stands for something else is replaced, or refused if nothing is known for it.

What Python leaves as it is would become a folder of that very name, in the current folder or in the root of the file system.
"""

from __future__ import annotations

import os
import pwd
import re

from ansible.config.manager import resolve_path

from .._engine.errors import OpenAICredsError, quoted

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\w+))", re.ASCII)
#: The one thing in braces that Ansible replaces in paths: the current folder.
_CURRENT = "{{CWD}}"


def expand_path(path: str, option: str, base: str | None) -> str:
    """Return the absolute path that is meant. base is the folder, or a file in it, that a relative path is relative to."""
    if not path.isprintable():
        raise OpenAICredsError(f"{option}: {quoted(path)} is not a path; it has control characters in it")
    expanded = expand_home(_expand_variables(path, option), option)
    if "{{" in expanded.replace(_CURRENT, ""):
        raise OpenAICredsError(
            f"{option}: {quoted(path)} holds a template, and nothing renders it here; write the path out"
        )
    if base is None and not os.path.isabs(expanded.replace(_CURRENT, os.sep)):
        raise OpenAICredsError(
            f"{option}: {quoted(path)} is not an absolute path; begin with / or ~, or with playbook_dir in a playbook"
        )
    return str(resolve_path(expanded, basedir=base))


def expand_home(path: str, option: str) -> str:
    """Return the path with the home of a user in the place of ~."""
    if not path.startswith("~"):
        return path
    user, separator, rest = path.partition("/")
    home = os.path.expanduser(user) if user != "~" or os.environ.get("HOME", "").strip() else _home_of_account()
    if not os.path.isabs(home):
        whose = "this user" if user == "~" else f"the user {quoted(user[1:])}"
        raise OpenAICredsError(
            f"{option}: {quoted(path)} needs a home folder, and {whose} has none; set HOME, or give an absolute path"
        )
    return home.rstrip("/") + separator + rest or "/"


def _home_of_account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        # A container may run as a user that its /etc/passwd does not know.
        return ""


def _expand_variables(path: str, option: str) -> str:
    for match in _VARIABLE.finditer(path):
        if not os.environ.get(name := match[1] or match[2] or ""):
            raise OpenAICredsError(f"{option}: {quoted(path)} holds the environment variable {name}, which is not set")
    return os.path.expandvars(path)
