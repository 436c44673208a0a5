# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings that say where a mount's state is: those of the store, and with vault_kv those of Vault."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible import constants as C

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment

from .paths import expand_path
from .sources import Sources, load_yaml, read_options
from .vault_options import VAULT_DOCUMENTED, check_choice, resolve_vault_options, vault_path

_DOCUMENTED = load_yaml(ModuleDocFragment.DOCUMENTATION)["options"]
_OPTIONS = read_options("ephemeral.openai", _DOCUMENTED, load_yaml(ModuleDocFragment.PLUGINS)["options"])
#: The documentation of the options that settings are made of.
DOCUMENTED: dict[str, dict[str, t.Any]] = {**_DOCUMENTED, **VAULT_DOCUMENTED}
#: Their names and other names.
NAMES = frozenset(name for option, text in DOCUMENTED.items() for name in (option, *text.get("aliases", ())))
# Ansible renders the documented default of a plugin without its own settings, which gives "/openai_creds".
_STORE_PATH = dataclasses.replace(_OPTIONS["store_path"], default=None)
# Ansible's own setting has taken an empty text for the current folder, and kept a ~ that it could not replace.
_HOME = read_options(
    "ephemeral.openai.home",
    {"home": {"type": "path"}},
    {
        "home": {
            "default": "~/.ansible",
            "env": [{"name": "ANSIBLE_HOME"}],
            "ini": [{"section": "defaults", "key": "home"}],
        }
    },
)["home"]
_OUTSIDE = Sources({}, {}, lambda value: value)


def resolve(
    options: t.Mapping[str, t.Any], variables: t.Mapping[str, t.Any], template: t.Callable[[t.Any], t.Any]
) -> dict[str, t.Any]:
    """Return all settings, as JSON data: from a task's options (those that are given), from its variables, from outside.

    Settings of a store that is not used are not looked at, nor their variables templated.
    """
    places = Sources(options, variables, template)
    settings = {name: places.find(_OPTIONS[name]).value for name in ("mount", "store", "kv_path")}
    check_choice("store", settings["store"], _DOCUMENTED["store"]["choices"])
    if settings["store"] == "vault_kv":
        settings |= resolve_vault_options(places)
        settings["kv_path"] = vault_path("kv_path", settings["kv_path"])
    else:
        settings["store_path"] = _store_path(places)
    return settings


def store_outside_plays() -> t.Any:
    """Return which store is used unless an option or a variable names another."""
    return _OUTSIDE.find(_OPTIONS["store"]).value


def _store_path(places: Sources) -> str:
    path, in_file = places.find(_STORE_PATH)
    if path is not None:
        return expand_path(path, "store_path", _config_file() if in_file else None)
    home, in_file = _OUTSIDE.find(_HOME)
    name = "home" if in_file else "store_path" if home == _HOME.default else "ANSIBLE_HOME"
    return os.path.join(expand_path(home, name, _config_file() if in_file else os.getcwd()), "openai_creds")


def _config_file() -> str:
    return str(C.config.get_config_value("CONFIG_FILE"))
