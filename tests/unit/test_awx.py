# SPDX-License-Identifier: GPL-3.0-or-later
"""The credential types for AWX in the documentation: AWX takes them, and what they inject logs in.

AWX's rules are in https://github.com/ansible/awx, in awx/main/fields.py (CredentialTypeInputField, CredentialTypeInjectorField and its
validate_env_var_allowed) and awx/main/constants.py (ENV_BLOCKLIST), and newer ones in awx_plugins.interfaces.
"""

from __future__ import annotations

import json
import os
import re
import typing as t
from pathlib import Path

import pytest
from bao import Bao
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import resolve

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")]
NAME = re.compile(r"[a-zA-Z_]+[a-zA-Z0-9_]*")
INJECTORS = {"env", "extra_vars", "file"}
#: What AWX sets itself. It also refuses what begins with ANSIBLE_.
BLOCKED = frozenset(
    [
        "VIRTUAL_ENV",
        "PATH",
        "PYTHONPATH",
        "PROOT_TMP_DIR",
        "JOB_ID",
        "INVENTORY_ID",
        "INVENTORY_SOURCE_ID",
        "INVENTORY_UPDATE_ID",
        "AD_HOC_COMMAND_ID",
        "REST_API_URL",
        "REST_API_TOKEN",
        "MAX_EVENT_RES",
        "CALLBACK_QUEUE",
        "CALLBACK_CONNECTION",
        "CACHE",
        "JOB_CALLBACK_DEBUG",
        "INVENTORY_HOSTVARS",
        "AWX_HOST",
        "PROJECT_REVISION",
        "SUPERVISOR_CONFIG_PATH",
        "SUPERVISOR_WEB_CONFIG_PATH",
    ]
)
FIELD_KEYS = {
    "id",
    "label",
    "type",
    "secret",
    "help_text",
    "multiline",
    "format",
    "choices",
    "ask_at_runtime",
    "default",
}


def credential_types() -> list[tuple[str, dict[str, t.Any], dict[str, t.Any]]]:
    """Return the credential types on our pages: where, the inputs, the injectors."""
    found = []
    for page in PAGES:
        blocks = [
            json.loads(text) for text in re.findall(r"^ *```json\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.M)
        ]
        inputs = [block for block in blocks if isinstance(block, dict) and "fields" in block]
        injectors = [block for block in blocks if isinstance(block, dict) and INJECTORS & set(block)]
        assert len(inputs) == len(injectors), f"{page.name}: inputs and injectors of a credential type belong together"
        found += [(page.name, *pair) for pair in zip(inputs, injectors, strict=True)]
    return found


def refusals(inputs: dict[str, t.Any], injectors: dict[str, t.Any]) -> list[str]:
    """Return what AWX would refuse in a credential type."""
    fields = inputs["fields"]
    ids = [field["id"] for field in fields]
    refused = [f"the keys {set(inputs) - {'fields', 'required'}}"] if set(inputs) - {"fields", "required"} else []
    refused += [f"required: {name}" for name in inputs.get("required", []) if name not in ids]
    refused += [f"the id {name}" for name in ids if not NAME.fullmatch(name) or name == "tower" or ids.count(name) > 1]
    refused += [f"a key of {field}" for field in fields if not set(field) <= FIELD_KEYS or "label" not in field]
    refused += [f"the injector {name}" for name in set(injectors) - INJECTORS]
    template = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    for name, text in injectors.get("env", {}).items():
        if not NAME.fullmatch(name) or name.startswith("ANSIBLE_") or name in BLOCKED:
            refused.append(f"the variable {name}")
        if not (isinstance(text, str) and text.isascii()):
            refused.append(f"the value of {name}")
            continue
        # Raises what AWX would answer with.
        template.from_string(text).render(dict.fromkeys(ids, "EXAMPLE"))
    return refused


def test_there_is_one_at_least() -> None:
    assert any(page == "vault.md" for page, _inputs, _injectors in credential_types())


@pytest.mark.parametrize(("page", "inputs", "injectors"), credential_types())
def test_awx_takes_it(page: str, inputs: dict[str, t.Any], injectors: dict[str, t.Any]) -> None:
    assert refusals(inputs, injectors) == []


def test_awx_would_refuse() -> None:
    fields = {"fields": [{"id": "url", "label": "URL"}]}
    for name in ("ANSIBLE_HASHI_VAULT_ROLE_ID", "ANSIBLE_HOME", "PATH", "JOB_ID", "A-B"):
        assert refusals(fields, {"env": {name: "{{ url }}"}}) == [f"the variable {name}"]


def test_what_it_injects_logs_in(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_", "OPENAI_CREDS_")):
            monkeypatch.delenv(name)
    (injectors,) = (injectors for page, _inputs, injectors in credential_types() if page == "vault.md")
    role_id, secret_id = bao.approle("openai_creds/awx")
    values = {"url": bao.address, "role_id": role_id, "secret_id": secret_id}
    for name, text in injectors["env"].items():
        monkeypatch.setenv(name, ImmutableSandboxedEnvironment().from_string(text).render(values))
    settings = resolve({"kv_path": "openai_creds/awx"}, {}, lambda value: value)
    assert settings["store"] == "vault_kv"
    assert open_mount(settings).definitions("config") == {}
