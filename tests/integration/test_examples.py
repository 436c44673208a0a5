# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation is true: every example runs, every link leads somewhere, every message and name exists."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import re
import textwrap
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from lab import MARKER, Lab, new_lab

from ansible_collections.ephemeral.openai.plugins.doc_fragments.store import ModuleDocFragment

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "plugins"
PAGES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("roles/*/README.md"),
        ROOT / "CODE_OF_CONDUCT.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *ROOT.glob("tests/**/README.md"),
        *ROOT.glob("changelogs/*.md"),
    ]
)

#: The public contract: which options there may be. Not all exist yet; none exists that is not here.
STORE = {"mount", "store", "store_path", "kv_path"}
CONTRACT: dict[str, set[str]] = {
    "openai_config": {
        "admin_api_key",
        "admin_api_key_id",
        "organization_id",
        "api_endpoint",
        "rotation_period",
        "rotation_schedule",
        "rotation_window",
        "disable_automated_rotation",
        "update_admin_key",
        "validate",
        "force",
        "state",
    },
    "openai_config_info": set(),
    "openai_admin_key": {"rotate", "overlap", "expires_in", "new_admin_api_key", "new_admin_api_key_id"},
    "openai_project": {"name", "project_id", "description", "state"},
    "openai_project_info": {"name"},
    "openai_role": {
        "name",
        "project",
        "project_id",
        "service_account_name_template",
        "service_account_description",
        "service_account_id",
        "ttl",
        "max_ttl",
        "renewable",
        "scopes",
        "native_expiry",
        "state",
    },
    "openai_role_info": {"name"},
    "openai_creds": {"name", "ttl", "count"},
    "openai_lease": {"lease_id", "prefix", "state", "increment", "force"},
    "openai_lease_info": {"lease_id", "prefix", "role", "expiring_within", "status"},
    "openai_cleanup": {"orphans", "max_concurrency", "limit", "grace"},
    "openai_store_move": {"from", "to", "grace"},
    "openai_static_role": {
        "name",
        "service_account_id",
        "project",
        "project_id",
        "api_key_name",
        "rotation_period",
        "ttl",
        "rotation_strategy",
        "overlap",
        "state",
    },
    "openai_static_role_info": {"name"},
    "openai_static_creds": {"name", "rotate"},
    "openai_library_set": {
        "name",
        "project",
        "project_id",
        "service_account_names",
        "max_ttl",
        "description",
        "state",
    },
    "openai_library_set_info": {"name"},
    "openai_library_checkout": {"name", "ttl", "service_account"},
    "openai_library_checkin": {"name", "service_account_id", "service_account", "force"},
    "openai_metrics": {"textfile", "pushgateway", "job", "costs", "costs_window"},
}
#: Its defaults, where there is one.
DEFAULTS: dict[str, dict[str, t.Any]] = {
    "openai_config": {"update_admin_key": "on_create", "validate": True, "state": "present"},
    "openai_admin_key": {"rotate": "if_due", "overlap": "0"},
    "openai_project": {"state": "present"},
    "openai_role": {
        "service_account_name_template": "vault-{{.RoleName}}-{{.RandomSuffix}}",
        "ttl": "1h",
        "max_ttl": "24h",
        "renewable": True,
        "native_expiry": True,
        "state": "present",
    },
    "openai_creds": {"count": 1},
    "openai_library_set": {"max_ttl": "24h", "state": "present"},
    "openai_library_checkout": {"ttl": "1h"},
    "openai_library_checkin": {"force": False},
    "openai_cleanup": {"orphans": "report", "max_concurrency": 16, "grace": "10m"},
    "openai_metrics": {"costs_window": "1d"},
}
LOOKUPS = {"openai_creds": {"ttl", "reuse", "min_remaining"}, "openai_static_creds": set()}
CALLBACKS = {"openai_leases": {"revoke", "include_tasks"}}


def names(kind: str) -> list[str]:
    """Return the names of the plugins of a kind, or of the roles or playbooks."""
    if kind == "roles":
        return sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "meta").is_dir())
    folder = ROOT / "playbooks" if kind == "playbooks" else PLUGINS / kind
    return sorted(path.stem for path in folder.iterdir() if path.suffix in (".py", ".yml"))


def constant(path: Path, name: str) -> str:
    """Return a string that a plugin's source assigns to a name."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return t.cast(str, ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no {name}")


def documentation(kind: str, name: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(constant(PLUGINS / kind / f"{name}.py", "DOCUMENTATION")))


# Examples


@dataclasses.dataclass
class Example:
    """A play or a list of tasks that a user may copy."""

    where: str
    text: str

    def __str__(self) -> str:
        return self.where

    def playbook(self) -> str:
        """Return it as a playbook."""
        first = DataLoader().load(self.text)[0]
        if "hosts" in first or "ansible.builtin.import_playbook" in first:
            return self.text
        return f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{textwrap.indent(self.text, '    ')}"

    def does(self, name: str) -> bool:
        """Say whether it uses a module or role of the collection."""
        return re.search(rf"ephemeral\.openai\.{name}(:|$)", self.text, re.MULTILINE) is not None


def examples() -> list[Example]:
    """Return the examples of modules and plugins. Those of the guides are tried page by page in test_pages.py."""
    return [
        Example(f"{kind}/{name}", constant(PLUGINS / kind / f"{name}.py", "EXAMPLES"))
        for kind in ("modules", "lookup")
        for name in names(kind)
    ]


@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_runs_and_prints_no_key(lab: Lab, example: Example, request: pytest.FixtureRequest) -> None:
    """What an example does not set up itself is there before: mounts, a project, roles, and the variables it names."""
    double = lab.double
    double.add_project("abc", "proj_abc123")
    double.add_service_account("proj_abc123", "workload", id="svc_acct_abc123")
    configures = example.does("openai_config") or example.does("configure")
    if not configures:
        lab.configure()
    if not example.does("openai_project") and not example.does("configure"):
        prepare(lab, "ephemeral.openai.openai_project", name="my-project", project_id="proj_abc123")
    if not example.does("openai_role") and not example.does("configure"):
        for name in ("my-role", "model-reader"):
            lab.role(name, project_id="proj_abc123")
    if "openai_static_creds" in example.text:
        static = {"service_account_id": "svc_acct_abc123", "project": "my-project"}
        prepare(lab, "ephemeral.openai.openai_static_role", name="data-science", **static)
    if "openai_library_check" in example.text:
        pool = {"name": "shared-pool", "project": "my-project", "service_account_names": ["account-1", "account-2"]}
        prepare(lab, "ephemeral.openai.openai_library_set", max_ttl="72h", **pool)
    if "research" in example.text and not configures:
        key = {"admin_api_key": double.admin_key, "api_endpoint": double.url}
        role = {"name": "my-role", "project_id": "proj_abc123"}
        tasks = [("openai_config", key), ("openai_role", role)]
        ready = lab.play([{f"ephemeral.openai.{name}": {"mount": "research", **args}} for name, args in tasks])
        assert ready.rc == 0, ready.out
    vault: dict[str, str] = {}
    if "vault_kv" in example.text:
        there = new_lab(lab.path / "vault", double, request.getfixturevalue("bao"))
        connection = ("VAULT_", "ANSIBLE_HASHI_VAULT_", "OPENAI_CREDS_KV_PATH")
        vault = {name: value for name, value in there.env.items() if name.startswith(connection)}
    adopted = double.add_admin_key()
    (lab.path / "variables.json").write_text(
        json.dumps(
            {
                "vault_openai_admin_key": double.admin_key,
                "vault_openai_research_admin_key": double.admin_key,
                "vault_openai_adopted_key": adopted["value"],
                "openai_adopted_key_id": adopted["id"],
                "website_env_file": str(lab.path / "website.env"),
            }
        )
    )
    text = example.playbook().replace("https://api.openai.com/v1", double.url)
    text = re.sub(r"\borg-\d{6}\b", double.organization, text)
    text = text.replace("/var/lib/node_exporter/textfile_collector", str(lab.path))
    if "pushgateway.example.com:9091" in text:
        text = text.replace("pushgateway.example.com:9091", request.getfixturevalue("pushgateway").address)
    run = lab.play(
        text,
        "-v",
        "--diff",
        "-e",
        f"@{lab.path / 'variables.json'}",
        env={"OPENAI_BASE_URL": double.url, "OPENAI_ADMIN_KEY": double.admin_key, **vault},
    )
    assert run.rc == 0, run.out
    assert MARKER not in run.out


def prepare(lab: Lab, module: str, **args: t.Any) -> None:
    ready = lab.play([{module: args}])
    assert ready.rc == 0, ready.out


# Pages


def slug(heading: str) -> str:
    """Return the anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^(\s*)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _hash, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in map(slug, headings(there)), target


def test_guides_name_only_what_exists() -> None:
    """Modules, plugins, roles and playbooks by their full names; our modules by their short ones."""
    known = {name for kind in ("modules", "lookup", "callback", "roles", "playbooks") for name in names(kind)}
    events = ROOT / "extensions" / "eda"
    known |= {path.stem for path in (*events.glob("plugins/event_source/*.py"), *events.glob("rulebooks/*.yml"))}
    # The action group and the repository.
    known |= {"openai", "git"}
    for page in PAGES:
        used = set(re.findall(r"\bephemeral\.openai\.(\w+)", page.read_text()))
        used |= {
            name for name in re.findall(r"`(openai_\w+)`", page.read_text()) if not name.startswith("openai_creds_")
        }
        assert used <= known, f"{page.name}: {sorted(used - known)}"


def test_the_reference_lists_all() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    for command, kind in (
        ("", "modules"),
        ("-t lookup ", "lookup"),
        ("-t callback ", "callback"),
        ("-t role ", "roles"),
    ):
        for name in names(kind):
            assert f"`ansible-doc {command}ephemeral.openai.{name}`" in text
    for name in names("playbooks"):
        assert f"`ansible-playbook ephemeral.openai.{name}`" in text


# Error messages

ERRORS = {"OpenAICredsError", "StoreError", "UnreadableError", "NotAFileError", "ApiError", "AnsibleError", "Conflict"}
TROUBLE = ROOT / "docs" / "troubleshooting.md"


def literal(node: ast.AST) -> str | None:
    """Return the text of a string in the source, with … where it has a value put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) or "…" for part in node.values)
    return None


def source() -> t.Iterator[ast.AST]:
    for path in PLUGINS.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


@functools.cache
def texts() -> set[str]:
    """Return all texts of the source, in which the messages are."""
    tasks = (" ".join(path.read_text().split()) for path in ROOT.glob("roles/*/tasks/*.yml"))
    return {*filter(None, map(literal, source())), *tasks}


def phrases() -> list[str]:
    """Return the messages that the headings of the troubleshooting page quote."""
    return [
        phrase
        for heading in headings(TROUBLE)
        if heading.startswith("`")
        for phrase in re.findall(r"`([^`]+)`", heading)
    ]


def occurs(phrase: str, text: str) -> bool:
    """Say whether a text of the source can give a message with this phrase in it."""
    start = 0
    for part in filter(None, (part.strip() for part in phrase.split("…"))):
        found = text.find(part, start)
        if found < 0:
            # One word of the phrase may be what the source puts in.
            words = part.split(" ")
            candidates = (" ".join([*words[:at], "…", *words[at + 1 :]]) for at in range(1, len(words) - 1))
            found = max((text.find(candidate, start) for candidate in candidates), default=-1)
        if found < 0:
            return False
        start = found
    return True


@pytest.mark.parametrize("phrase", phrases())
@pytest.mark.once
def test_a_message_that_is_explained_exists(phrase: str) -> None:
    assert any(occurs(phrase, text) for text in texts())


def test_every_message_is_explained() -> None:
    explained = phrases()
    for node in source():
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args
        ):
            continue
        text = literal(node.args[0])
        if text is not None and len(text.replace("…", "")) > 8:
            assert any(occurs(phrase, text) for phrase in explained), f"docs/troubleshooting.md misses: {text}"


@pytest.mark.parametrize(
    "phrase",
    [
        "OpenAI client not configured",
        "error validating OpenAI configuration",
        "project not found",
        "project has roles that use it, cannot delete",
        "service account creation failed",
        "API key creation failed",
        "no available service accounts in library",
        "service account is already checked out",
    ],
)
def test_what_users_of_the_vault_plugin_search_for_is_found(phrase: str) -> None:
    assert phrase in phrases()


# The reference


@pytest.mark.parametrize("name", names("modules"))
def test_a_module_has_the_options_of_the_contract(name: str) -> None:
    options = documentation("modules", name).get("options", {})
    assert set(options) <= CONTRACT[name]
    for option, default in DEFAULTS.get(name, {}).items():
        assert options[option]["default"] == default, option


@pytest.mark.parametrize(("kind", "contract"), [("lookup", LOOKUPS), ("callback", CALLBACKS)])
def test_a_plugin_has_the_options_of_the_contract(kind: str, contract: dict[str, set[str]]) -> None:
    for name in names(kind):
        assert set(documentation(kind, name)["options"]) - {"_terms"} <= contract[name]


def test_settings_have_the_sources_of_the_contract() -> None:
    options = yaml.safe_load(ModuleDocFragment.PLUGINS)["options"]
    assert set(options) == STORE
    for name, option in options.items():
        assert option["vars"] == [{"name": f"openai_creds_{name}"}]
        assert option["env"] == [{"name": f"OPENAI_CREDS_{name.upper()}"}]
        assert option["ini"] == [{"section": "openai_creds", "key": name}]


@pytest.mark.parametrize(
    ("kind", "folder"), [("module", "modules"), ("lookup", "lookup"), ("callback", "callback"), ("role", "roles")]
)
def test_ansible_doc_shows_it(lab: Lab, kind: str, folder: str) -> None:
    """All at once, since ansible-doc passes over what it cannot show."""
    full = [f"ephemeral.openai.{name}" for name in names(folder)]
    shown = lab.command("ansible-doc", "-t", kind, *full)
    assert shown.rc == 0, shown.out
    complaints = [line for line in shown.out.splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]
    assert not [line for line in complaints if "ephemeral" in line]
    data = lab.command("ansible-doc", "-t", kind, "--json", *full)
    assert data.rc == 0, data.out
    # Before it may stand a warning about a collection of Ansible's own.
    start = next(match.start() for match in re.finditer(r"^{", data.out, re.MULTILINE))
    assert set(json.loads(data.out[start:])) == set(full)
