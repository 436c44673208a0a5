# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a mount's state is: options, variables, environment, ansible.cfg, in this order."""

from __future__ import annotations

import getpass
import os
import socket
import typing as t

import yaml
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultSecretsContext
from ansible.utils.display import Display

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment

from .errors import OpenAICredsError, quoted
from .mount import Mount
from .names import check_name
from .vaulted_file import VaultedFileStore

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLUGIN = ("action", "ephemeral.openai")


def load_yaml(text: str) -> t.Any:
    """Return the data of a YAML document, such as a plugin's documentation."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader


def _definitions() -> dict[str, t.Any]:
    options: dict[str, t.Any] = load_yaml(ModuleDocFragment.DOCUMENTATION)["options"]
    for name, sources in load_yaml(ModuleDocFragment.PLUGINS)["options"].items():
        options[name].update(sources)
        options[name].pop("choices", None)
    return options


# Which there are is checked here: Ansible's own sentence would not say.
_STORES = tuple(load_yaml(ModuleDocFragment.DOCUMENTATION)["options"]["store"]["choices"])
_OPTIONS = _definitions()
#: The names of the options that settings are made of.
NAMES = frozenset(_OPTIONS)
#: The variables that may set them.
VARIABLES = frozenset(source["name"] for option in _OPTIONS.values() for source in option["vars"])
C.config.initialize_plugin_configuration_definitions(*_PLUGIN, _OPTIONS)


def resolve(options: t.Mapping[str, t.Any], variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return all settings from a task's options (those that are given) and from its templated variables."""
    given = {name: options[name] for name in NAMES if options.get(name) is not None}
    try:
        settings = C.config.get_plugin_options(*_PLUGIN, variables=dict(variables), direct=given)
    except AnsibleError as error:
        raise OpenAICredsError(" ".join(str(error).split())) from None
    if settings["store"] not in _STORES:
        raise OpenAICredsError(f"store: {quoted(settings['store'])} is not a store; there is {', '.join(_STORES)}")
    if not settings["store_path"]:
        raise OpenAICredsError("store_path: name a folder, or leave the option out")
    return dict(settings)


def open_mount(settings: t.Mapping[str, t.Any]) -> Mount:
    """Return the mount that settings describe."""
    name = check_name(settings["mount"], "mount")
    secrets = VaultSecretsContext.current(optional=True)
    store = VaultedFileStore(
        settings["store_path"],
        name,
        secrets.secrets if secrets else [],
        C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY"),
    )
    return Mount(name, store, issued_by=_issuer(), log=Display().vvv)


def _issuer() -> dict[str, str]:
    """Return who is asking, for the record of a lease."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    issuer = {"user": user, "controller": socket.gethostname()}
    playbooks = context.CLIARGS.get("args")
    if isinstance(playbooks, (list, tuple)) and playbooks:
        issuer["playbook"] = os.path.basename(str(playbooks[0]))
    if os.environ.get("JOB_ID"):
        issuer["job"] = os.environ["JOB_ID"]
    return issuer
