# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the settings of vault_kv come from: what community.hashi_vault reads, in its order, OPENAI_CREDS_VAULT_… before its
environment, and OpenBao's environment after it."""

from __future__ import annotations

import os
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible import constants as C
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.doc_fragments.vault_kv import ModuleDocFragment
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible import action, open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import NAMES
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import resolve as resolve_settings
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import taken_leases

SECTION = "hashi_vault_collection"
ENVIRONMENTS = ["OPENAI_CREDS", "ANSIBLE_HASHI"]
SECRETS = {"token", "secret_id", "password", "jwt"}
#: What community.hashi_vault reads: variables, environment, whether ansible.cfg.
THEIRS: dict[str, tuple[list[str], list[str], bool]] = {
    "url": (["ansible_hashi_vault_url", "ansible_hashi_vault_addr"], ["ANSIBLE_HASHI_VAULT_ADDR"], True),
    "validate_certs": (["ansible_hashi_vault_validate_certs"], [], False),
    "engine_mount_point": (["ansible_hashi_vault_engine_mount_point"], [], False),
    "jwt": ([], ["ANSIBLE_HASHI_VAULT_JWT"], False),
    **{
        name: ([f"ansible_hashi_vault_{name}"], [f"ANSIBLE_HASHI_VAULT_{name.upper()}"], in_ini)
        for in_ini, names in (
            (False, ("token", "username", "password", "secret_id")),
            (
                True,
                (
                    "proxies",
                    "ca_cert",
                    "namespace",
                    "timeout",
                    "retries",
                    "retry_action",
                    "auth_method",
                    "mount_point",
                    "token_path",
                    "token_file",
                    "token_validate",
                    "role_id",
                    "cert_auth_public_key",
                    "cert_auth_private_key",
                ),
            ),
        )
        for name in names
    },
}
#: The same with the variable of the environment that is ours, from the one that loses to the one that wins.
SOURCES = {
    name: (variables, [*environment, f"OPENAI_CREDS_VAULT_{name.upper()}"], in_ini)
    for name, (variables, environment, in_ini) in THEIRS.items()
}
#: What other programs read as well, after BAO_ and VAULT_.
LAST = {
    "url": "ADDR",
    "ca_cert": "CACERT",
    "namespace": "NAMESPACE",
    "token": "TOKEN",
    "cert_auth_public_key": "CLIENT_CERT",
    "cert_auth_private_key": "CLIENT_KEY",
}
DEFAULTS = {
    "validate_certs": True,
    "engine_mount_point": "secret",
    "auth_method": "token",
    "token_file": ".vault-token",
    "token_validate": False,
    "retry_action": "warn",
}
#: Values from the source that wins to the one that loses; the last is for when only one remains.
VALUES: dict[str, list[t.Any]] = {
    "timeout": [5, 6, 7, 8, 9],
    "retries": [5, 6, 7, 8, 9],
    "validate_certs": [False, True, False],
    "token_validate": [True, False, True, False, True],
    "auth_method": ["approle", "jwt", "ldap", "cert", "userpass"],
    "retry_action": ["ignore", "warn", "ignore", "warn", "ignore"],
    "proxies": [{"https": f"http://p{number}:3128"} for number in range(5)],
    **{name: [f"/{name}{number}" for number in range(5)] for name in SOURCES if name.startswith("cert_auth_")},
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_", "OPENAI_CREDS_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(C.config, "_config_file", None)
    monkeypatch.setenv("OPENAI_CREDS_STORE", "vault_kv")


@pytest.fixture
def ini(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Callable[..., None]:
    """Return how to write a section of ansible.cfg."""

    def write(**keys: t.Any) -> None:
        path = tmp_path / "ansible.cfg"
        path.write_text("\n".join([f"[{SECTION}]", *(f"{key} = {value}" for key, value in keys.items())]))
        monkeypatch.setattr(C.config, "_config_file", str(path))
        C.config._parse_config_file(str(path))

    return write


def resolve(options: t.Mapping[str, t.Any] | None = None, **variables: t.Any) -> dict[str, t.Any]:
    return resolve_settings(options or {}, variables, lambda value: value)


def documented() -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    return tuple(  # type: ignore[return-value]
        yaml.safe_load(text)["options"] for text in (ModuleDocFragment.DOCUMENTATION, ModuleDocFragment.PLUGINS)
    )


def test_the_sources_are_those_of_the_other_collection() -> None:
    options, sources = documented()
    assert set(options) == set(sources) == set(SOURCES)
    for name, (variables, environment, in_ini) in SOURCES.items():
        assert [source["name"] for source in sources[name].get("vars", [])] == variables, name
        assert [source["name"] for source in sources[name].get("env", [])] == environment, name
        ini = [{"section": SECTION, "key": name}] if in_ini else []
        assert sources[name].get("ini", []) == ini, name
        assert sources[name].get("default") == (DEFAULTS.get(name) if name != "validate_certs" else None), name
        text = " ".join(options[name]["description"])
        # Those that are found as url says only say what is different.
        rule = {f"ansible_hashi_vault_{name}", *(f"{prefix}_VAULT_{name.upper()}" for prefix in ENVIRONMENTS)}
        found = {*variables, *environment}
        if name == "url":
            assert all(f"({source})" in text for source in found ^ rule)
        elif found != rule:
            assert "Besides the option, only " in text and all(f"({source})" in text for source in found), name
        elif not in_ini:
            assert "It is not read from C(ansible.cfg)." in text, name
        if name in LAST:
            assert f"If it is not set, E(BAO_{LAST[name]}) counts, then E(VAULT_{LAST[name]})" in text
    found_by_rule = " ".join(options["url"]["description"])
    assert all(f"C({prefix}_VAULT_<OPTION>)" in found_by_rule for prefix in ENVIRONMENTS)
    assert "C(ansible_hashi_vault_<option>)" in found_by_rule and f"C([{SECTION}])" in found_by_rule


def test_defaults() -> None:
    resolved = resolve()
    assert {name: resolved[name] for name in SOURCES} == {name: DEFAULTS.get(name) for name in SOURCES}
    assert resolved["kv_path"] == "openai_creds"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_order_is_option_variable_environment_file(
    name: str, monkeypatch: pytest.MonkeyPatch, ini: t.Callable[..., None]
) -> None:
    variables, environment, in_ini = SOURCES[name]
    values = list(VALUES.get(name, [f"{name}{number}" for number in range(5)]))
    # Each source is set on top of those that it wins over.
    if in_ini:
        ini(**{name: values[-1]})
        assert resolve()[name] == values.pop()
    for variable in environment:
        monkeypatch.setenv(variable, str(values[-1]))
        assert resolve()[name] == values.pop()
    given: dict[str, t.Any] = {}
    for variable in variables[:1]:
        given[variable] = values[-1]
        assert resolve(**given)[name] == values.pop()
    assert resolve({name: values[-1]}, **given)[name] == values[-1]


@pytest.mark.parametrize("name", sorted(LAST))
def test_what_other_programs_read_counts_last(
    name: str, monkeypatch: pytest.MonkeyPatch, ini: t.Callable[..., None]
) -> None:
    _variables, environment, in_ini = SOURCES[name]
    monkeypatch.setenv(f"VAULT_{LAST[name]}", "/from_vault" if "cert_auth" in name else "from_vault")
    assert resolve()[name].strip("/") == "from_vault"
    monkeypatch.setenv(f"BAO_{LAST[name]}", "from_bao")
    assert resolve()[name] == "from_bao"
    monkeypatch.setenv(f"BAO_{LAST[name]}", "")
    assert resolve()[name].strip("/") == "from_vault"
    if in_ini:
        ini(**{name: "/from_ini"})
        assert resolve()[name].strip("/") == "from_ini"
    monkeypatch.setenv(environment[0], "/from_ansible")
    assert resolve()[name].strip("/") == "from_ansible"


@pytest.mark.parametrize(
    ("environment", "given", "wanted"),
    [
        ({}, {}, True),
        ({"VAULT_SKIP_VERIFY": "true"}, {}, False),
        ({"VAULT_SKIP_VERIFY": "1"}, {}, False),
        ({"VAULT_SKIP_VERIFY": "false"}, {}, True),
        ({"VAULT_SKIP_VERIFY": "perhaps"}, {}, True),
        ({"VAULT_SKIP_VERIFY": ""}, {}, True),
        ({"VAULT_SKIP_VERIFY": "true", "BAO_SKIP_VERIFY": "false"}, {}, True),
        ({"VAULT_SKIP_VERIFY": "true"}, {"ansible_hashi_vault_validate_certs": True}, True),
        ({"VAULT_SKIP_VERIFY": "true"}, {"ansible_hashi_vault_validate_certs": "yes"}, True),
        ({}, {"ansible_hashi_vault_validate_certs": "no"}, False),
    ],
)
def test_skip_verify(
    environment: dict[str, str], given: dict[str, t.Any], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve(**given)["validate_certs"] is wanted


def test_other_names() -> None:
    assert resolve({"cacert": "/ca.pem"})["ca_cert"] == "/ca.pem"
    assert resolve(ansible_hashi_vault_addr="http://a:1")["url"] == "http://a:1"
    assert {"cacert", "ca_cert", "kv_path", "mount"} < NAMES


def test_what_is_empty_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the answer of lookup('env', …) for a variable that is not set."""
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:8200")
    resolved = resolve({"url": ""}, ansible_hashi_vault_auth_method="", ansible_hashi_vault_namespace="")
    assert (resolved["url"], resolved["auth_method"], resolved["namespace"]) == ("http://127.0.0.1:8200", "token", None)


@pytest.mark.parametrize(
    ("given", "proxies"),
    [
        ("http://p:3128", {"http": "http://p:3128", "https": "http://p:3128"}),
        ({"https": "http://p:3128"}, {"https": "http://p:3128"}),
        ('{"https": "http://p:3128"}', {"https": "http://p:3128"}),
    ],
)
def test_proxies(given: t.Any, proxies: dict[str, str]) -> None:
    assert resolve({"proxies": given})["proxies"] == proxies


@pytest.mark.parametrize(
    ("given", "retries"), [(0, 0), ("3", 3), ({"total": 4, "backoff_factor": 1}, 4), ({}, None), ('{"total": 5}', 5)]
)
def test_retries(given: t.Any, retries: int) -> None:
    assert resolve({"retries": given})["retries"] == retries


@pytest.mark.parametrize("path", ["openai_creds", "team/openai", "/team/openai/", "a-b/c.d/_e", "1"])
def test_paths(path: str) -> None:
    assert resolve({"kv_path": path})["kv_path"] == path.strip("/")
    assert resolve({"engine_mount_point": path})["engine_mount_point"] == path.strip("/")


HOSTILE_PATHS = ["/", "..", "a/../b", "a//b", "./a", "a/.", "a b", "a?b", "a#b", "a%2fb", "a\n", "é", "a\0", "{{ x }}"]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
@pytest.mark.parametrize("name", ["kv_path", "engine_mount_point", "mount_point", "namespace"])
def test_paths_that_are_refused(name: str, path: str) -> None:
    with pytest.raises(OpenAICredsError) as error:
        resolve({name: path})
    assert "is not a path such as team/openai" in sentence(error.value, name)


@pytest.mark.parametrize(
    ("options", "option", "text"),
    [
        ({"auth_method": "aws_iam"}, "auth_method", "'aws_iam' is not one of token, approle, jwt, kubernetes"),
        ({"retry_action": "shout"}, "retry_action", "'shout' is not one of ignore, warn"),
        ({"store": "paper"}, "store", "'paper' is not one of vaulted_file, vault_kv"),
        ({"validate_certs": "perhaps"}, "validate_certs", "'perhaps' is neither true nor false"),
        ({"token_validate": "ture"}, "token_validate", "'ture' is neither true nor false"),
        ({"timeout": 0}, "timeout", "0 is not a number of at least 1"),
        ({"timeout": "soon"}, "timeout", "'soon' is not a number of at least 1"),
        ({"retries": "often"}, "retries", "'often' is not a number of at least 0"),
        ({"retries": -1}, "retries", "-1 is not a number of at least 0"),
        ({"proxies": "proxy-password"}, "proxies", "give a URL such as"),
        ({"proxies": ["proxy-password"]}, "proxies", "give a URL such as"),
        ({"proxies": {"https": ["proxy-password"]}}, "proxies", "give a URL such as"),
    ],
)
def test_what_is_refused(options: dict[str, t.Any], option: str, text: str) -> None:
    with pytest.raises(OpenAICredsError) as error:
        resolve(options)
    assert text in sentence(error.value, option)
    assert "proxy-password" not in str(error.value)


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_of_the_wrong_kind_is_not_quoted(name: str) -> None:
    for value in ({"a": "the-secret"}, ["the-secret"]):
        with pytest.raises(OpenAICredsError) as error:
            resolve({name: value})
        assert sentence(error.value, name) == f"{name}: give a string"
    assert resolve({name: 1234})[name] == "1234"


def test_the_secrets_are_marked_as_such() -> None:
    spec = action.argument_spec("options: {admin_api_key: {type: str}, name: {type: str}}")
    assert {name for name, option in spec.items() if option.get("no_log")} == SECRETS | {"admin_api_key"}


def test_the_other_store_asks_for_nothing_of_this(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set for community.hashi_vault, which knows more methods, and however its variables are computed."""

    def template(value: t.Any) -> t.Any:
        assert value == "vaulted_file", value
        return value

    monkeypatch.setenv("ANSIBLE_HASHI_VAULT_AUTH_METHOD", "aws_iam")
    monkeypatch.setenv("ANSIBLE_HASHI_VAULT_TIMEOUT", "nonsense")
    monkeypatch.setenv("VAULT_TOKEN", "the-secret")
    variables = {"openai_creds_store": "vaulted_file", "ansible_hashi_vault_token": "{{ lookup('slow') }}"}
    assert set(resolve_settings({}, variables, template)) == {"mount", "store", "store_path", "kv_path"}


def test_without_hvac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_mount, "find_spec", lambda name: None)
    with pytest.raises(StoreError) as error:
        open_mount.open_mount(resolve())
    text = sentence(error.value, "store")
    assert "vault_kv needs the Python package hvac" in text and f"{sys.executable} -m pip install hvac" in text


def test_the_notes_of_a_run_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted for the end of the run tells how to reach the store."""
    monkeypatch.setattr(taken_leases, "_notes", None)
    taken_leases.begin_notes()
    entries = [
        {"lease_id": f"id-of-lease-{number}", **resolve({"token": "the-secret", "proxies": {}})} for number in (1, 2)
    ]
    assert all(map(taken_leases.note, entries))
    assert taken_leases.notes() == entries
    assert taken_leases._notes
    written = os.pread(taken_leases._notes[0], 100_000, 0)
    assert len(written.split()) == 2
    assert b"the-secret" not in written and b"id-of-lease" not in written
