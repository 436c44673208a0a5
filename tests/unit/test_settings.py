# SPDX-License-Identifier: GPL-3.0-or-later
"""Where settings come from: what counts as given, what is the default when nothing is, and which folder a path means."""

from __future__ import annotations

import errno
import os
import pwd
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.parsing.vault import VaultSecret
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment as StoreFragment
from ansible_collections.ephemeral.openai.plugins.doc_fragments.vault_kv import ModuleDocFragment as VaultFragment
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import make_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import resolve
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.task_environment import (
    network_environment,
    task_environment,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.version import check_version
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError, missing_package

SOURCES: dict[str, dict[str, t.Any]] = {
    **yaml.safe_load(StoreFragment.PLUGINS)["options"],
    **yaml.safe_load(VaultFragment.PLUGINS)["options"],
}
STORE = {"mount", "store", "store_path", "kv_path"}
BLANK = ["", " ", "\t\n"]
#: Something that an option takes and that is not its default, if that is not any word.
VALUES: dict[str, t.Any] = {
    "store": "vault_kv",
    "store_path": "/srv/state",
    "timeout": "7",
    "retries": "7",
    "validate_certs": "no",
    "token_validate": "yes",
    "auth_method": "approle",
    "retry_action": "ignore",
    "proxies": "http://proxy:3128",
    "cert_auth_public_key": "/srv/cert",
    "cert_auth_private_key": "/srv/key",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_", "OPENAI_")) or name == "ANSIBLE_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setattr(C.config, "_config_file", None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ini(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Callable[..., None]:
    """Return how to write ansible.cfg: sections with their keys."""

    def write(**sections: dict[str, t.Any]) -> None:
        lines = [
            line
            for section, keys in sections.items()
            for line in (f"[{section}]", *(f"{key} = {value}" for key, value in keys.items()))
        ]
        path = tmp_path / "cfg" / "ansible.cfg"
        path.parent.mkdir()
        path.write_text("\n".join(lines))
        monkeypatch.setattr(C.config, "_config_file", str(path))
        C.config._parse_config_file(str(path))

    return write


def settings(options: t.Mapping[str, t.Any] | None = None, **variables: t.Any) -> dict[str, t.Any]:
    return resolve(options or {}, variables, lambda value: value)


def refused(options: t.Mapping[str, t.Any] | None = None, **variables: t.Any) -> str:
    with pytest.raises(OpenAICredsError) as error:
        settings(options, **variables)
    return sentence(error.value)


# Defaults


def test_defaults_of_the_store(tmp_path: Path) -> None:
    assert settings() == {
        "mount": "openai",
        "store": "vaulted_file",
        "kv_path": "openai_creds",
        "store_path": str(tmp_path / "home" / ".ansible" / "openai_creds"),
    }


@pytest.mark.parametrize(
    ("name", "told", "default"),
    [
        ("mount", "The default is V(openai).", "openai"),
        ("store", "The default is V(vaulted_file).", "vaulted_file"),
        ("store_path", "The default is C(openai_creds) in Ansible's home, C(~/.ansible).", None),
        ("kv_path", "The default is V(openai_creds).", "openai_creds"),
    ],
)
def test_the_documented_defaults(name: str, told: str, default: str | None) -> None:
    assert told in " ".join(yaml.safe_load(StoreFragment.DOCUMENTATION)["options"][name]["description"])
    assert SOURCES[name]["default"] == (default or '{{ ANSIBLE_HOME ~ "/openai_creds" }}')


def test_state_is_in_the_home_of_ansible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ini: t.Callable[..., None]
) -> None:
    ini(defaults={"home": "kept"})
    assert settings()["store_path"] == str(tmp_path / "cfg" / "kept" / "openai_creds")
    for given, meant in (("/srv/a", "/srv/a"), ("~/a", f"{tmp_path}/home/a"), ("a", f"{tmp_path}/a")):
        monkeypatch.setenv("ANSIBLE_HOME", given)
        assert settings()["store_path"] == f"{meant}/openai_creds"
    monkeypatch.setenv("ANSIBLE_HOME", "")
    assert settings()["store_path"] == str(tmp_path / "cfg" / "kept" / "openai_creds")


def test_an_empty_home_of_ansible_is_not_given(ini: t.Callable[..., None], tmp_path: Path) -> None:
    ini(defaults={"home": ""})
    assert settings()["store_path"] == str(tmp_path / "home" / ".ansible" / "openai_creds")


# What is blank is not given


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_is_blank_gives_way_to_the_next_source(
    name: str, monkeypatch: pytest.MonkeyPatch, ini: t.Callable[..., None]
) -> None:
    """From each place where an option can be given."""
    if name not in STORE or name == "kv_path":
        monkeypatch.setenv("OPENAI_CREDS_STORE", "vault_kv")
    value = VALUES.get(name, "something")
    source = SOURCES[name]
    wanted = settings({name: value})[name]
    default = settings().get(name)
    assert wanted != default

    for blank in (None, *BLANK):
        assert settings({name: blank}).get(name) == default
    variables: dict[str, t.Any] = {}
    for entry in source.get("vars", []):
        for blank in (None, *BLANK):
            assert settings(**{entry["name"]: blank}).get(name) == default
        assert settings({name: ""}, **{entry["name"]: value})[name] == wanted
        variables[entry["name"]] = " "
    for entry in source.get("env", []):
        for blank in BLANK:
            monkeypatch.setenv(entry["name"], blank)
            assert settings(**variables).get(name) == default
    for entry in source.get("env", []):
        # All others are blank, those that would win too.
        with monkeypatch.context() as patch:
            patch.setenv(entry["name"], value)
            assert settings({name: None}, **variables)[name] == wanted
    for entry in source.get("ini", []):
        ini(**{entry["section"]: {entry["key"]: value}})
        assert settings({name: ""}, **variables)[name] == wanted


@pytest.mark.parametrize("name", sorted(name for name, source in SOURCES.items() if source.get("ini")))
def test_what_is_blank_in_the_file_is_not_given(name: str, ini: t.Callable[..., None]) -> None:
    store = {} if name == "store" else {"store": "vaulted_file" if name == "store_path" else "vault_kv"}
    default = settings(store).get(name)
    for entry in SOURCES[name]["ini"]:
        ini(**{entry["section"]: {entry["key"]: ""}})
    assert settings(store).get(name) == default


@pytest.mark.parametrize("program", ["BAO", "VAULT"])
def test_what_other_programs_read_is_not_given_either(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ADDR", "TOKEN", "NAMESPACE", "CACERT", "CLIENT_CERT", "CLIENT_KEY", "SKIP_VERIFY")
    default = settings({"store": "vault_kv"})
    for name in names:
        monkeypatch.setenv(f"{program}_{name}", " ")
    assert settings({"store": "vault_kv"}) == default


def test_a_variable_that_is_omitted_is_not_given() -> None:
    def template(value: t.Any) -> t.Any:
        raise AnsibleValueOmittedError()

    assert resolve({}, {"openai_creds_mount": "{{ omit }}"}, template)["mount"] == "openai"


# Variables


@pytest.mark.parametrize("name", sorted(name for name, source in SOURCES.items() if source.get("vars")))
def test_an_undefined_variable_is_said_to_be_in_the_one_that_holds_it(name: str) -> None:
    def template(value: t.Any) -> t.Any:
        if value == "{{ tenant }}":
            raise AnsibleUndefinedVariable("'tenant' is undefined")
        return value

    store = {} if name == "store" else {"store": "vaulted_file" if name == "store_path" else "vault_kv"}
    for entry in SOURCES[name]["vars"]:
        with pytest.raises(OpenAICredsError) as error:
            resolve(store, {entry["name"]: "{{ tenant }}"}, template)
        assert sentence(error.value, entry["name"]) == f"{entry['name']}: 'tenant' is undefined"


def test_what_a_template_computes_with_is_not_quoted() -> None:
    def template(value: t.Any) -> t.Any:
        raise AnsibleError("cannot compute with the-secret")

    with pytest.raises(OpenAICredsError) as error:
        resolve({}, {"openai_creds_mount": "{{ secret | int / 0 }}"}, template)
    assert "cannot be templated" in sentence(error.value, "openai_creds_mount")
    assert "the-secret" not in str(error.value)


@pytest.mark.parametrize("name", sorted(STORE))
def test_a_structure_is_no_text(name: str) -> None:
    store = {} if name == "store" else {"store": "vaulted_file" if name == "store_path" else "vault_kv"}
    for value in ({"a": 1}, ["a"]):
        assert refused({**store, name: value}) == f"{name}: give a string"


# Paths


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user that /etc/passwd does not know, without HOME, as in many containers."""

    def unknown(uid: int) -> t.Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")


@pytest.mark.parametrize("home", [None, "", " "])
def test_without_a_home_the_account_has_one(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    of_account = pwd.getpwuid(os.getuid()).pw_dir
    assert settings()["store_path"] == os.path.join(of_account, ".ansible", "openai_creds")
    assert settings({"store_path": "~/x"})["store_path"] == os.path.join(of_account, "x")


@pytest.mark.parametrize("home", [None, ""])
def test_a_home_that_nobody_knows(
    home: str | None, monkeypatch: pytest.MonkeyPatch, ini: t.Callable[..., None], tmp_path: Path
) -> None:
    """From each place where a path can be given; nothing is made in a folder of the name ~, or in the root."""
    without_home(monkeypatch)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    way_out = "this user has none; set HOME, or give an absolute path"
    assert refused() == f"store_path: '~/.ansible' needs a home folder, and {way_out}"
    assert refused({"store_path": "~"}) == f"store_path: '~' needs a home folder, and {way_out}"
    assert way_out in refused(openai_creds_store_path="~/state")
    for name in ("ca_cert", "token_path", "cert_auth_public_key", "cert_auth_private_key"):
        assert refused({"store": "vault_kv", name: "~/x"}).startswith(f"{name}: '~/x' needs a home folder")
    ini(defaults={"home": "~/a"}, openai_creds={"store_path": "~/b"})
    assert refused().startswith("store_path: '~/b' needs")
    monkeypatch.setenv("OPENAI_CREDS_STORE_PATH", "~/state")
    assert refused().startswith("store_path: '~/state' needs")
    assert settings({"store_path": "/srv/state"})["store_path"] == "/srv/state"
    assert settings({"store": "vault_kv"})["store"] == "vault_kv"
    monkeypatch.setenv("ANSIBLE_HOME", "~/c")
    monkeypatch.setattr(C.config, "_config_file", None)
    monkeypatch.delenv("OPENAI_CREDS_STORE_PATH")
    assert refused().startswith("ANSIBLE_HOME: '~/c' needs")


def test_the_home_in_the_file_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, ini: t.Callable[..., None]) -> None:
    without_home(monkeypatch)
    ini(defaults={"home": "~/a"})
    assert refused().startswith("home: '~/a' needs")


def test_another_users_home() -> None:
    assert settings({"store_path": "~root/x"})["store_path"] == os.path.join(pwd.getpwnam("root").pw_dir, "x")
    assert "the user 'nobody-here' has none" in refused({"store_path": "~nobody-here/x"})


@pytest.mark.parametrize("path", ["$NOT_SET/x", "${NOT_SET}/x", "/a/$NOT_SET", "$EMPTY/x", "/a/${EMPTY}"])
def test_an_environment_variable_in_a_path_that_is_not_set(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a folder of that very name, or one in the root."""
    monkeypatch.setenv("EMPTY", "")
    name = "EMPTY" if "EMPTY" in path else "NOT_SET"
    assert refused({"store_path": path}) == (
        f"store_path: {path!r} holds the environment variable {name}, which is not set"
    )


def test_an_environment_variable_in_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE", "/srv")
    assert settings({"store_path": "$STATE/a/../${STATE}"})["store_path"] == "/srv/srv"


@pytest.mark.parametrize("path", ["state", "./state", "../state", "."])
def test_a_relative_path_is_refused_where_it_has_no_base(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = f"store_path: {path!r} is not an absolute path"
    assert refused({"store_path": path}).startswith(wanted)
    assert refused(openai_creds_store_path=path).startswith(wanted)
    monkeypatch.setenv("OPENAI_CREDS_STORE_PATH", path)
    assert refused().startswith(wanted)


def test_a_relative_path_in_the_file_is_relative_to_it(ini: t.Callable[..., None], tmp_path: Path) -> None:
    ini(openai_creds={"store_path": "../state"}, hashi_vault_collection={"cert_auth_public_key": "cert.pem"})
    assert settings()["store_path"] == str(tmp_path / "state")
    assert settings({"store": "vault_kv"})["cert_auth_public_key"] == str(tmp_path / "cfg" / "cert.pem")
    given = settings({"store": "vault_kv", "cert_auth_public_key": "cert.pem"})
    assert given["cert_auth_public_key"] == str(tmp_path / "cert.pem")


def test_a_path_from_the_current_folder(ini: t.Callable[..., None], tmp_path: Path) -> None:
    """As everywhere in ansible.cfg."""
    ini(openai_creds={"store_path": "{{CWD}}/state"})
    assert settings()["store_path"] == str(tmp_path / "state")


def test_a_template_in_the_file_is_refused(ini: t.Callable[..., None]) -> None:
    ini(openai_creds={"store_path": "{{ ANSIBLE_HOME }}/state"})
    assert "holds a template, and nothing renders it here" in refused()


def test_control_characters_in_a_path_are_refused() -> None:
    for path in ("/a\0b", "/a\n"):
        assert "is not a path; it has control characters in it" in refused({"store_path": path})


# The environment of a task


def test_the_environment_of_a_task_holds_while_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CREDS_MOUNT", "outer")
    monkeypatch.setenv("NO_PROXY", "outer")
    before = network_environment()
    environment = [
        {"OPENAI_CREDS_MOUNT": "play", "OPENAI_CREDS_KV_PATH": "play", "HOME": "/nowhere", "PATH": "/nowhere"},
        {"OPENAI_CREDS_MOUNT": "task", "HTTPS_PROXY": "http://p:1", "NO_PROXY": None, "VAULT_SKIP_VERIFY": True},
    ]
    home, path = os.environ["HOME"], os.environ["PATH"]
    with task_environment(environment, lambda value: value):
        found = settings({"store": "vault_kv"})
        assert (found["mount"], found["kv_path"], found["validate_certs"]) == ("task", "play", False)
        assert os.environ["HTTPS_PROXY"] == "http://p:1" and "NO_PROXY" not in os.environ
        assert (os.environ["HOME"], os.environ["PATH"]) == (home, path)
        assert network_environment() != before
    assert settings()["mount"] == "outer"
    assert network_environment() == before and "VAULT_SKIP_VERIFY" not in os.environ


def test_it_does_not_outlive_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OPENAI_CREDS_MOUNT": "task", "OPENAI_CREDS_STORE": "a\0b"}
    with pytest.raises(OpenAICredsError) as error, task_environment(environment, lambda value: value):
        pass
    assert "OPENAI_CREDS_STORE cannot be set to this" in sentence(error.value, "environment")
    assert "OPENAI_CREDS_MOUNT" not in os.environ


def test_without_an_environment() -> None:
    for nothing in (None, [], {}, [None, {}]):
        with task_environment(nothing, lambda value: value):
            assert settings()["mount"] == "openai"


# What else a user meets first


def test_a_missing_package_names_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_package("httpx", "ephemeral.openai").endswith(
        f"install it there: {sys.executable} -m pip install httpx"
    )
    monkeypatch.setattr(sys, "executable", "/a b/python3")
    assert missing_package("httpx", "ephemeral.openai").endswith("'/a b/python3' -m pip install httpx")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), ValueError("I/O on closed file")], ids=repr
)
def test_a_line_that_cannot_be_written_stops_nothing(error: Exception) -> None:
    """The terminal is closed, or the pipe broken; calls are logged while leases are ended."""
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        raise error

    mount = make_mount(settings(), [("default", VaultSecret(b"secret"))], log=show, warn=show)
    mount.log("OpenAI answers")
    mount.warn("the clock is wrong")
    assert lines == ["OpenAI answers", "the clock is wrong"]


@pytest.mark.parametrize("version", ["2.9.27", "2.18.0", "2.18.19.post1", "2.18.0rc1", "1.9"])
def test_releases_that_are_refused(version: str) -> None:
    with pytest.raises(AnsibleError) as error:
        check_version(version)
    assert str(error.value) == (f"ephemeral.openai does not run on ansible-core {version}; it needs 2.19 or newer")


@pytest.mark.parametrize("version", ["2.19.0", "2.19.0b1", "2.20.3", "2.21.0.dev0", "3.0"])
def test_releases_that_are_supported(version: str) -> None:
    check_version(version)
