# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a value comes from: an option of a task or lookup, its variables, the environment, ansible.cfg, in this order."""

from __future__ import annotations

import dataclasses
import os
import typing as t

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.parsing.vault import EncryptedString

from .._engine.errors import OpenAICredsError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass(frozen=True)
class Option:
    """An option as its documentation describes it; its variables and environment variables, first the one that wins."""

    name: str
    type: str
    aliases: tuple[str, ...]
    variables: tuple[str, ...]
    environment: tuple[str, ...]
    default: t.Any
    #: Under which name Ansible knows its place in ansible.cfg.
    group: str


class Found(t.NamedTuple):
    """A value, None if it is given nowhere and has no default, and whether it is from ansible.cfg."""

    value: t.Any
    in_file: bool


def load_yaml(text: str) -> t.Any:
    """Return the data of a YAML document, such as a plugin's documentation."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader


def is_blank(value: t.Any) -> bool:
    """Say whether a value counts as not given.

    Compose files, systemd units and surveys of AWX set what was left out to an empty text, and YAML to null.
    """
    return value is None or (isinstance(value, str) and not value.strip())


def first_given(*values: t.Any) -> t.Any:
    """Return the first value that is not blank, or None."""
    return next((value for value in values if not is_blank(value)), None)


def read_options(group: str, described: t.Mapping[str, t.Any], sources: t.Mapping[str, t.Any]) -> dict[str, Option]:
    """Return the options of two parts of a documentation, and let Ansible know where in ansible.cfg they are."""
    places = {name: {"ini": source.get("ini", [])} for name, source in sources.items()}
    C.config.initialize_plugin_configuration_definitions("action", group, places)
    return {
        name: Option(
            name=name,
            type=described[name]["type"],
            aliases=tuple(described[name].get("aliases", ())),
            # As everywhere in Ansible, the last of several variables wins.
            variables=tuple(entry["name"] for entry in reversed(source.get("vars", []))),
            environment=tuple(entry["name"] for entry in reversed(source.get("env", []))),
            default=source.get("default"),
            group=group,
        )
        for name, source in sources.items()
    }


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a task or lookup was given, its variables, and how to template one of these."""

    given: t.Mapping[str, t.Any]
    variables: t.Mapping[str, t.Any]
    template: t.Callable[[t.Any], t.Any]

    def find(self, option: Option) -> Found:
        """Return the first value that is not blank, or the default."""
        for name in (option.name, *option.aliases):
            if not is_blank(value := _plain(self.given.get(name))):
                return Found(_typed(option, value), False)
        for name in option.variables:
            if name in self.variables and not is_blank(value := self._variable(name)):
                return Found(_typed(option, value), False)
        for name in option.environment:
            if not is_blank(value := os.environ.get(name)):
                return Found(value, False)
        value = C.config.get_config_value(option.name, plugin_type="action", plugin_name=option.group)
        return Found(option.default, False) if is_blank(value) else Found(value, True)

    def _variable(self, name: str) -> t.Any:
        try:
            return _plain(self.template(self.variables[name]))
        except AnsibleValueOmittedError:
            return None
        except AnsibleUndefinedVariable as error:
            raise OpenAICredsError(f"{name}: {' '.join(str(error).split())}") from None
        except AnsibleError as error:
            # Its text may quote what a template computes with, such as a secret.
            raise OpenAICredsError(f"{name}: this variable cannot be templated: {type(error).__name__}") from None


def _plain(value: t.Any) -> t.Any:
    """Return a value as a template would show it; a vaulted one is decrypted."""
    return str(value) if isinstance(value, EncryptedString) else value


def _typed(option: Option, value: t.Any) -> t.Any:
    """Return a text if the option takes one, also of a number. Not for other types, which are checked where they are used."""
    if option.type not in ("str", "path"):
        return value
    if isinstance(value, (str, int, float)):
        return str(value)
    raise OpenAICredsError(f"{option.name}: give a string")
