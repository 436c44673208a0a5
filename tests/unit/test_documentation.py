# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation is the contract: what is documented is what is checked, and every module is complete."""

from __future__ import annotations

import importlib
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment as StoreFragment
from ansible_collections.ephemeral.openai.plugins.doc_fragments.vault_kv import ModuleDocFragment as VaultFragment

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = "ansible_collections.ephemeral.openai.plugins"
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
STORE = {
    **yaml.safe_load(StoreFragment.DOCUMENTATION)["options"],
    **yaml.safe_load(VaultFragment.DOCUMENTATION)["options"],
}
KEYS = ("type", "required", "default", "choices", "elements", "aliases")
#: What documentation cannot say.
NO_LOG = {"admin_api_key", "token", "secret_id", "password", "jwt"}
DEFINING = {"openai_config", "openai_library_set", "openai_project", "openai_role", "openai_static_role"}

#: What the contract says that users may type: option, default.
CONTRACT: dict[str, dict[str, t.Any]] = {
    "openai_config": {
        "admin_api_key": None,
        "admin_api_key_id": None,
        "organization_id": None,
        "api_endpoint": None,
        "rotation_period": None,
        "rotation_schedule": None,
        "rotation_window": None,
        "disable_automated_rotation": None,
        "update_admin_key": "on_create",
        "validate": True,
        "force": False,
        "state": "present",
    },
    "openai_config_info": {},
    "openai_admin_key": {
        "rotate": "if_due",
        "overlap": "0",
        "expires_in": None,
        "new_admin_api_key": None,
        "new_admin_api_key_id": None,
    },
    "openai_project": {"name": None, "project_id": None, "state": "present"},
    "openai_project_info": {"name": None},
    "openai_role": {
        "name": None,
        "project": None,
        "project_id": None,
        "service_account_name_template": "vault-{{.RoleName}}-{{.RandomSuffix}}",
        "ttl": "1h",
        "max_ttl": "24h",
        "renewable": True,
        "native_expiry": True,
        "state": "present",
    },
    "openai_role_info": {"name": None},
    "openai_creds": {"name": None, "ttl": None, "count": 1},
    "openai_lease": {"lease_id": None, "prefix": None, "state": "revoked", "increment": None, "force": False},
    "openai_lease_info": {"lease_id": None, "prefix": None, "role": None, "expiring_within": None, "status": None},
    "openai_static_role": {
        "name": None,
        "service_account_id": None,
        "project": None,
        "project_id": None,
        "api_key_name": "vault-static-key",
        "rotation_period": "24h",
        "ttl": "24h",
        "rotation_strategy": "new_key",
        "overlap": "0",
        "state": "present",
    },
    "openai_static_role_info": {"name": None},
    "openai_static_creds": {"name": None, "rotate": "if_due"},
    "openai_library_set": {
        "name": None,
        "project": None,
        "project_id": None,
        "service_account_names": None,
        "max_ttl": "24h",
        "state": "present",
    },
    "openai_library_set_info": {"name": None},
    "openai_library_checkout": {"name": None, "ttl": "1h", "service_account": None},
    "openai_library_checkin": {"name": None, "service_account_id": None, "service_account": None, "force": False},
    "openai_cleanup": {"orphans": "report", "max_concurrency": 16, "limit": None, "grace": "10m"},
    "openai_metrics": {
        "textfile": None,
        "pushgateway": None,
        "job": "openai_creds",
        "costs": False,
        "costs_window": "1d",
    },
}


def documented(name: str) -> dict[str, t.Any]:
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    return t.cast("dict[str, t.Any]", yaml.safe_load(module.DOCUMENTATION))


def action(name: str) -> t.Any:
    return importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule


def test_every_module_has_an_action_and_the_other_way_round() -> None:
    actions = sorted(path.stem for path in (ROOT / "plugins" / "action").glob("*.py") if path.stem != "__init__")
    assert actions == MODULES and MODULES


def test_the_action_group_is_all_modules() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    assert runtime["action_groups"]["openai"] == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_what_is_documented_is_what_is_checked(name: str) -> None:
    options = {**STORE, **(documented(name).get("options") or {})}
    wanted = {option: {key: text[key] for key in KEYS if key in text} for option, text in options.items()}
    for option in NO_LOG & set(options):
        wanted[option]["no_log"] = True
    assert action(name)._argument_spec == wanted


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_of_a_module(name: str) -> None:
    module, documentation = importlib.import_module(f"{PLUGINS}.modules.{name}"), documented(name)
    assert documentation["module"] == name
    fragments = documentation["extends_documentation_fragment"]
    assert {"ephemeral.openai.store", "ephemeral.openai.vault_kv", "ephemeral.openai.attributes"} <= set(fragments)
    assert ("ephemeral.openai.attributes.diff" in fragments) is (name in DEFINING)
    for option, text in (documentation.get("options") or {}).items():
        assert text.get("description") and text.get("type"), option
        assert not (text.get("required") and "default" in text), option
        assert text["type"] != "list" or "elements" in text, option
        assert "default" not in text or "choices" not in text or text["default"] in text["choices"], option
        assert option not in STORE
    examples = yaml.safe_load(module.EXAMPLES)
    assert any(f"ephemeral.openai.{name}" in task for task in examples)
    assert yaml.safe_load(module.RETURN)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_name_options_that_there_are(name: str) -> None:
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    for task in yaml.safe_load(module.EXAMPLES):
        for used, args in task.items():
            if not used.startswith("ephemeral.openai.") or not isinstance(args, dict):
                continue
            spec = action(used.rpartition(".")[2])._argument_spec
            assert set(args) <= set(spec), used
            assert {option for option, text in spec.items() if text.get("required")} <= set(args), used


@pytest.mark.parametrize("name", MODULES)
def test_rules_between_options_are_about_options_that_there_are(name: str) -> None:
    cls = action(name)
    spec = cls._argument_spec
    for rule in (*cls.MUTUALLY_EXCLUSIVE, *cls.REQUIRED_ONE_OF):
        assert set(rule) <= set(spec)
    for option, value, needed, *_any in cls.REQUIRED_IF:
        assert value in spec[option]["choices"]
        assert set(needed) <= set(spec)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_names_and_defaults_are_those_of_the_contract(name: str) -> None:
    spec = action(name)._argument_spec
    assert set(CONTRACT[name]) <= set(spec)
    for option, default in CONTRACT[name].items():
        assert spec[option].get("default") == default, option
    assert {"mount", "store", "store_path", "kv_path"} <= set(spec)


@pytest.mark.parametrize("name", MODULES)
def test_unknown_options_and_wrong_types_are_refused(name: str) -> None:
    spec = action(name)._argument_spec
    good: dict[str, t.Any] = {
        option: text.get("choices", ["x"])[0] for option, text in spec.items() if text.get("required")
    }
    validator = ArgumentSpecValidator(spec)
    assert not validator.validate(good).error_messages
    assert "nonsense" in str(validator.validate({**good, "nonsense": 1}).error_messages)
    for option, text in spec.items():
        for bad in {"bool": ["maybe"], "int": ["x", 1.5], "list": [{}], "str": [], "path": [], "raw": []}[text["type"]]:
            assert validator.validate({**good, option: bad}).error_messages, (option, bad)
        if "choices" in text:
            assert validator.validate({**good, option: "nonsense"}).error_messages, option


@pytest.mark.parametrize("module", sorted(DEFINING))
def test_what_is_only_returned_is_known(module: str) -> None:
    """So that what an info module returns can be put back, and whoever mistypes an option is told."""
    action = importlib.import_module(f"{PLUGINS}.action.{module}").ActionModule
    info = importlib.import_module(f"{PLUGINS}.modules.{module}_info")
    options = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{module}").DOCUMENTATION)["options"]
    (returned,) = yaml.safe_load(info.RETURN).values()
    # Where nothing is said of the fields, they are the options.
    assert set(returned.get("contains", ())) - set(options) == action.ONLY_RETURNED
