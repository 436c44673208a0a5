# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the vault_kv store: connection and login, found where community.hashi_vault has them, and checked."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible import constants as C
from ansible.module_utils.common.validation import check_type_dict, check_type_int
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.ephemeral.openai.plugins.doc_fragments.vault_kv import ModuleDocFragment

from .._engine.errors import OpenAICredsError, quoted
from .paths import expand_home, expand_path
from .sources import Sources, first_given, load_yaml, read_options

_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
#: The documentation of the options.
VAULT_DOCUMENTED: dict[str, dict[str, t.Any]] = load_yaml(ModuleDocFragment.DOCUMENTATION)["options"]
#: Options that no one but Vault may see. Documentation cannot say which they are.
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
# Apart from the other options, so that what is set for community.hashi_vault costs nothing and may not fit, unless the
# store is in Vault.
_OPTIONS = read_options("ephemeral.openai.vault_kv", VAULT_DOCUMENTED, load_yaml(ModuleDocFragment.PLUGINS)["options"])


def resolve_vault_options(places: Sources) -> dict[str, t.Any]:
    """Return the options of vault_kv, checked and complete."""
    found = {name: places.find(option) for name, option in _OPTIONS.items()}
    options = {name: one.value for name, one in found.items()}
    for name, variable in _LAST.items():
        if options[name] is None:
            options[name] = _last(variable)
    if options["validate_certs"] is None:
        try:
            options["validate_certs"] = not boolean(_last("SKIP_VERIFY") or False)
        except TypeError:
            options["validate_certs"] = True
    for name in ("validate_certs", "token_validate"):
        try:
            options[name] = boolean(options[name])
        except TypeError:
            raise OpenAICredsError(f"{name}: {quoted(options[name])} is neither true nor false") from None
    for name in ("auth_method", "retry_action"):
        check_choice(name, options[name], VAULT_DOCUMENTED[name]["choices"])
    options["proxies"] = _proxies(options["proxies"])
    with contextlib.suppress(TypeError):  # a number
        options["retries"] = check_type_dict(options["retries"]).get("total")
    for name, least in (("retries", 0), ("timeout", 1)):
        options[name] = _number(name, options[name], least)
    for name in ("engine_mount_point", "mount_point", "namespace"):
        if options[name] is not None:
            options[name] = vault_path(name, options[name])
    for name in ("cert_auth_public_key", "cert_auth_private_key"):
        if found[name].value is not None:
            base = C.config.get_config_value("CONFIG_FILE") if found[name].in_file else os.getcwd()
            options[name] = expand_path(options[name], name, base)
    for name in ("ca_cert", "token_path"):
        if options[name] is not None:
            options[name] = expand_home(options[name], name)
    return options


def sources(name: str) -> str:
    """Return where an option of vault_kv may be given, for a sentence on one that is missing."""
    option = _OPTIONS[name]
    places = [name, *reversed(option.variables), *option.environment]
    if name in _LAST:
        places += [f"BAO_{_LAST[name]}", f"VAULT_{_LAST[name]}"]
    return f"{', '.join(places[:-1])} or {places[-1]}"


def check_choice(name: str, value: t.Any, choices: t.Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        raise OpenAICredsError(f"{name}: {quoted(value)} is not one of {', '.join(choices)}")


def vault_path(name: str, value: str) -> str:
    """Return a path in Vault without slashes around it, or raise if it is none."""
    path = value.strip("/")
    if not _PATH.fullmatch(path):
        raise OpenAICredsError(
            f"{name}: {quoted(value)} is not a path such as team/openai; use letters, digits, '_', '-' and '.'"
        )
    return path


def _last(variable: str) -> str | None:
    return t.cast("str | None", first_given(os.environ.get(f"BAO_{variable}"), os.environ.get(f"VAULT_{variable}")))


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


def _number(name: str, value: t.Any, least: int) -> int | None:
    if value is None:
        return None
    try:
        number = int(check_type_int(value))
    except TypeError:
        number = least - 1
    if number < least:
        raise OpenAICredsError(f"{name}: {quoted(value)} is not a number of at least {least}")
    return number
