# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a mount's state is: options, variables, environment, ansible.cfg, in this order."""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import os
import re
import socket
import typing as t
from importlib.util import find_spec

import yaml
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.common.validation import check_type_dict, check_type_int
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultSecretsContext
from ansible.utils.display import Display

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment as StoreFragment
from ansible_collections.ephemeral.openai.plugins.doc_fragments.vault_kv import ModuleDocFragment as VaultFragment

from .._engine.errors import OpenAICredsError, StoreError, quoted
from .._engine.mount import Mount
from .._engine.names import check_name
from .._engine.store.base import Store
from .._engine.store.vaulted_file import VaultedFileStore
from .run import identify_run

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STORE = ("action", "ephemeral.openai")
_VAULT = ("action", "ephemeral.openai.vault_kv")
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
#: Options of vault_kv that no one but Vault may see. Documentation cannot say which they are.
SECRETS = frozenset({"jwt", "password", "secret_id", "token"})
# What programs other than Ansible read from the environment too, as BAO_… and VAULT_…: it counts when nothing else does.
_LAST = {
    "ca_cert": "CACERT",
    "cert_auth_private_key": "CLIENT_KEY",
    "cert_auth_public_key": "CLIENT_CERT",
    "namespace": "NAMESPACE",
    "token": "TOKEN",
    "url": "ADDR",
}


def load_yaml(text: str) -> t.Any:
    """Return the data of a YAML document, such as a plugin's documentation."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader


#: The documentation of the options that settings are made of.
DOCUMENTED: dict[str, dict[str, t.Any]] = {
    **load_yaml(StoreFragment.DOCUMENTATION)["options"],
    **load_yaml(VaultFragment.DOCUMENTATION)["options"],
}
#: Their names and other names.
NAMES = frozenset(name for option, text in DOCUMENTED.items() for name in (option, *text.get("aliases", ())))


def _define(plugin: tuple[str, str], documentation: str) -> tuple[str, ...]:
    """Let Ansible know the options; returns the variables that may set them."""
    options = load_yaml(documentation)["options"]
    for name, option in options.items():
        # Ansible takes any word for a boolean, and quotes what is not a string.
        kind = DOCUMENTED[name]["type"]
        option["type"] = "raw" if name in SECRETS or kind in ("bool", "int") else kind
        option["aliases"] = DOCUMENTED[name].get("aliases", [])
    C.config.initialize_plugin_configuration_definitions(*plugin, options)
    return tuple(source["name"] for option in options.values() for source in option.get("vars", ()))


_VARIABLES = {
    _STORE: _define(_STORE, StoreFragment.PLUGINS),
    # Apart, so that what is set for community.hashi_vault costs nothing and may not fit, unless the store is in Vault.
    _VAULT: _define(_VAULT, VaultFragment.PLUGINS),
}


def resolve(
    options: t.Mapping[str, t.Any], variables: t.Mapping[str, t.Any], template: t.Callable[[t.Any], t.Any]
) -> dict[str, t.Any]:
    """Return all settings, as JSON data: from a task's options (those that are given), from its variables, from outside.

    Variables of a store that is not used are not templated.
    """
    given = {name: options[name] for name in NAMES if options.get(name) is not None}
    settings = _resolve(_STORE, given, variables, template)
    _check_choice(settings, "store")
    if settings["store"] == "vault_kv":
        settings |= _vault(_resolve(_VAULT, given, variables, template))
        settings["kv_path"] = _path(settings, "kv_path")
    elif not settings["store_path"]:
        raise OpenAICredsError("store_path: name a folder, or leave the option out")
    return settings


def _resolve(
    plugin: tuple[str, str],
    given: dict[str, t.Any],
    variables: t.Mapping[str, t.Any],
    template: t.Callable[[t.Any], t.Any],
) -> dict[str, t.Any]:
    templated = {name: template(variables[name]) for name in _VARIABLES[plugin] if name in variables}
    try:
        return dict(C.config.get_plugin_options(*plugin, variables=templated, direct=given))
    except AnsibleError as error:
        raise OpenAICredsError(" ".join(str(error).split())) from None


def _vault(found: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the settings of vault_kv, checked and complete."""
    known = C.config.get_configuration_definitions(*_VAULT)
    settings = {name: known[name].get("default") if value == "" else value for name, value in found.items()}
    for name in SECRETS:
        if isinstance(settings[name], (dict, list)):
            raise OpenAICredsError(f"{name}: give a string")
        settings[name] = None if settings[name] is None else str(settings[name])
    for name, variable in _LAST.items():
        if settings[name] is None:
            settings[name] = _last(variable)
    if settings["validate_certs"] is None:
        try:
            settings["validate_certs"] = not boolean(_last("SKIP_VERIFY") or False)
        except TypeError:
            settings["validate_certs"] = True
    for name in ("validate_certs", "token_validate"):
        try:
            settings[name] = boolean(settings[name] or False)
        except TypeError:
            raise OpenAICredsError(f"{name}: {quoted(settings[name])} is neither true nor false") from None
    for name in ("auth_method", "retry_action"):
        _check_choice(settings, name)
    settings["proxies"] = _proxies(settings["proxies"])
    with contextlib.suppress(TypeError):  # a number
        settings["retries"] = check_type_dict(settings["retries"]).get("total")
    for name, least in (("retries", 0), ("timeout", 1)):
        settings[name] = _number(settings, name, least)
    for name in ("engine_mount_point", "mount_point", "namespace"):
        if settings[name] is not None:
            settings[name] = _path(settings, name)
    return settings


def sources(name: str) -> str:
    """Return where an option of vault_kv may be given, for a sentence on one that is missing."""
    option = C.config.get_configuration_definitions(*_VAULT)[name]
    places = [name, *(source["name"] for source in (*option.get("vars", ()), *option["env"]))]
    if name in _LAST:
        places += [f"BAO_{_LAST[name]}", f"VAULT_{_LAST[name]}"]
    return f"{', '.join(places[:-1])} or {places[-1]}"


def _last(variable: str) -> str | None:
    return os.environ.get(f"BAO_{variable}") or os.environ.get(f"VAULT_{variable}") or None


def _check_choice(settings: t.Mapping[str, t.Any], name: str) -> None:
    # Ansible's own sentence would not say which there are.
    choices = DOCUMENTED[name]["choices"]
    if settings[name] not in choices:
        raise OpenAICredsError(f"{name}: {quoted(settings[name])} is not one of {', '.join(choices)}")


def _path(settings: t.Mapping[str, t.Any], name: str) -> str:
    path = str(settings[name] or "").strip("/")
    if not _PATH.fullmatch(path):
        raise OpenAICredsError(
            f"{name}: {quoted(settings[name])} is not a path such as team/openai; use letters, digits, '_', '-' and '.'"
        )
    return path


def _proxies(value: t.Any) -> dict[str, str] | None:
    """Return the proxy of each scheme. As in community.hashi_vault, a string may hold a dictionary."""
    if value is None:
        return None
    try:
        proxies = check_type_dict(value)
    except TypeError:
        proxies = {"http": value, "https": value}
    if not all(isinstance(proxy, str) and "://" in proxy for proxy in proxies.values()):
        # Not quoted: a proxy may have a password in it.
        raise OpenAICredsError(
            "proxies: give a URL such as http://proxy.example.com:3128, or one each for http and https"
        )
    return {str(scheme): str(proxy) for scheme, proxy in proxies.items()}


def _number(settings: t.Mapping[str, t.Any], name: str, least: int) -> int | None:
    if settings[name] is None:
        return None
    try:
        number = int(check_type_int(settings[name]))
    except TypeError:
        number = least - 1
    if number < least:
        raise OpenAICredsError(f"{name}: {quoted(settings[name])} is not a number of at least {least}")
    return number


def open_mount(settings: t.Mapping[str, t.Any]) -> Mount:
    """Return the mount that settings describe; the same one each time in a process, with its connections."""
    identify_run()
    return _open_mount(os.getpid(), json.dumps(settings, sort_keys=True))


@functools.cache
def _open_mount(_process: int, as_json: str) -> Mount:
    settings = json.loads(as_json)
    name = check_name(settings["mount"], "mount")
    log = Display().vvv
    store: Store
    if settings["store"] == "vault_kv":
        if find_spec("hvac") is None:
            raise StoreError("store: vault_kv needs the Python package hvac, which is missing: pip install hvac")
        # Whoever uses the other store does not wait for it.
        from .._engine.store.vault_kv import VaultKVStore
        from .._engine.store.vault_login import connect

        store = VaultKVStore(
            functools.partial(connect, settings),
            engine_mount_point=settings["engine_mount_point"],
            kv_path=settings["kv_path"],
            mount=name,
            log=log,
        )
    else:
        secrets = VaultSecretsContext.current(optional=True)
        store = VaultedFileStore(
            settings["store_path"],
            name,
            secrets.secrets if secrets else [],
            C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY"),
        )
    return Mount(name, store, issued_by=_issuer(), log=log)


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


def _load_ahead() -> None:
    """Import what each worker of the run would else import for itself, if it is known already that it will."""
    with contextlib.suppress(AnsibleError):
        if C.config.get_plugin_options(*_STORE).get("store") == "vault_kv" and find_spec("hvac"):
            from .._engine.store import (
                vault_kv,  # noqa: F401 pylint: disable=unused-import
                vault_login,  # noqa: F401 pylint: disable=unused-import
            )


_load_ahead()
