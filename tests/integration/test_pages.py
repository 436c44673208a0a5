# SPDX-License-Identifier: GPL-3.0-or-later
"""Every recipe of the documentation is done as a user does it: page by page, in order, in one shell session.

Commands are run, configuration and playbooks are written where the page says, against the OpenAI double and real servers. What cannot be
done here has a row in one of the tables below, which says what stands for it. A block that is in no table and cannot be run fails the test.
"""

from __future__ import annotations

import configparser
import dataclasses
import datetime
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from cronsim import CronSim
from double.client import Double
from lab import COLLECTIONS, MARKER, PROJECT, VAULT_PASSWORD, Lab
from pages import ROOT, Block, Session, blocks, playbook

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue

if t.TYPE_CHECKING:
    from bao import Bao

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])
#: The account that is there before, for pages on its keys.
_FOREIGN = "workload"
#: Pages that begin with nothing. On the others the mount is there, as the quickstart leaves it.
FROM_NOTHING = {"README.md", "docs/quickstart.md"}
#: Commands that are not run as they are: what is run instead, and why.
STANDS_FOR = {
    "make demo": ("true", "make demo is a step of .ci/run, and test_playbooks.py runs its script"),
    "make test": ("true", "this is a part of it"),
    "ansible-galaxy collection install git+https://github.com/ephemeral-openai/ephemeral.openai.git": (
        "true",
        "the tests install what they are to test; test_fresh_user.py and make test-installed install the tarball",
    ),
    "pip install httpx": (
        "python -c 'import httpx'",
        "the environment of the tests has it; test_fresh_user.py installs it",
    ),
    "pip install prometheus-client": ("python -c 'import prometheus_client'", "the environment of the tests has it"),
    "ansible-playbook ephemeral.openai.metrics -e openai_creds_metrics_pushgateway=pushgateway.example.com:9091": (
        "true",
        "there is no Pushgateway; test_metrics.py and test_prometheus.py push",
    ),
    "python3 -m venv ~/openai && . ~/openai/bin/activate": (
        f"ln -s {Path(sys.executable).parent.parent} ~/openai && export PATH=~/openai/bin:$PATH",
        "the environment of the tests, in the place of one that would have to be downloaded",
    ),
    "ansible-galaxy collection install --force git+https://github.com/ephemeral-openai/ephemeral.openai.git": (
        "true",
        "as above",
    ),
    "pip install ansible-core httpx": ("python -c 'import ansible, httpx'", "as above"),
    "ansible-playbook awx.yml --ask-vault-pass -e @secrets.yml": (
        "test -f awx.yml",
        "there is no AWX here; test_awx.py runs it",
    ),
    "pip install ansible-rulebook": ("true", "test_rulebook.py runs it where it is"),
    "ansible-rulebook --rulebook ephemeral.openai.openai_creds --inventory inventory": (
        "test -f inventory",
        "it would run for ever, and needs Java; test_rulebook.py runs it",
    ),
    "ansible-galaxy collection build": (f"ansible-galaxy collection build {ROOT}", "in a checkout"),
    "ansible-galaxy collection install ephemeral-openai-1.0.0.tar.gz": (
        "ansible-galaxy collection install --offline -p ~/installed ephemeral-openai-1.0.0.tar.gz",
        "elsewhere, so that the page goes on with the collection under test",
    ),
}
#: Blocks that are not run, by page and beginning, and how they are held to what they describe.
DESCRIPTIONS = {
    ("docs/design.md", "flowchart"): "the procedure, drawn: tests/unit/crashes holds it",
    ("docs/store.md", "store_path/"): "names of the store: test_vaulted_file.py",
    ("docs/vault.md", "secret/"): "names of the store: test_vault_kv.py",
    (
        "docs/vault.md",
        "# token; of the same name",
    ): "each login is tried in test_vault_login.py; the names are checked here",
    (
        "docs/execution-environments.md",
        "additional_build_files:",
    ): "make image builds an image of it",
    (
        "docs/schedule.md",
        "- name: Schedule the upkeep",
    ): "needs root and systemd: the role is run in test_schedule_role.py",
    (
        "docs/events.md",
        "- name: Watch the credentials",
    ): "a rulebook, which test_rulebook.py lets ansible-rulebook check",
    ("docs/deliver.md", "[Service]"): "the format is that of the file in test_deliver.py",
    ("docs/static-roles.md", "sequenceDiagram"): "a diagram of what tests/unit/crashes tries",
    (
        "docs/migrating-from-vault.md",
        "vault write openai/config",
    ): "the commands of another program, of which the block after it is the translation",
    ("docs/library.md", "sequenceDiagram"): "a diagram of what test_library_modules.py tries",
    (
        "docs/ci.md",
        "name: Tests with OpenAI",
    ): "a workflow for GitHub, whose two playbooks are run; the names are checked",
    ("docs/ci.md", "tests:"): "a pipeline for GitLab, likewise",
}
#: Commands whose purpose is to show a key.
SHOWS_KEYS = ("ansible-vault view", "ansible localhost -m ansible.builtin.debug")


@dataclasses.dataclass
class Reader:
    """Somebody who does what a page says."""

    lab: Lab
    session: Session
    bao: Bao | None = None
    said: str = ""
    #: What the reader types where a page asks for an admin key; that of the double's organization unless it is another.
    admin_key: str = ""

    def do(self, page: str, block: Block) -> None:
        """Do what one block says."""
        where = f"{page}:{block.line}"
        described = next(
            (why for (there, begin), why in DESCRIPTIONS.items() if there == page and block.text.startswith(begin)),
            None,
        )
        if described is not None:
            CHECKS.get(block.language, lambda _text: None)(block.text)
            return
        PREPARE.get((page, block.first), lambda _reader: None)(self)
        text = block.text.replace("https://api.openai.com/v1", self.lab.double.url)
        if block.language == "shell":
            self.type(where, "\n".join(self._command(line) for line in text.splitlines()))
        elif block.language == "ini":
            assert block.file == "ansible.cfg", f"{where}: the text before it names no file"
            self._configure(self._here(text))
        elif block.language == "hcl":
            assert block.file, f"{where}: the text before it names no file"
            (self.session.cwd / block.file).write_text(text)
        elif block.language == "yaml" and block.file:
            (self.session.cwd / block.file).write_text(text)
        elif block.language == "yaml":
            (self.session.cwd / "example.yml").write_text(playbook(text))
            self.type(where, "ansible-playbook -v --diff -e @variables.json example.yml")
        elif block.language == "text" and re.match(r"[*\d]", text):
            self._cron(where, text)
        else:
            raise AssertionError(f"{where}: nothing says how a block of {block.language or 'no language'} is tried")

    def type(self, where: str, commands: str) -> None:
        stdin = ""
        if re.search(r"read -rsp .* OPENAI_ADMIN_KEY", commands):
            stdin = f"{self.admin_key or self.lab.double.admin_key}\n"
        elif "--ask-vault-pass" in commands:
            stdin = f"{VAULT_PASSWORD}\n"
        code, self.said = self.session.run(commands, stdin)
        assert code == 0, f"{where}: {self.said}"
        if not commands.startswith(SHOWS_KEYS):
            assert (MARKER in self.said) is False, f"{where} prints a key"

    def _command(self, line: str) -> str:
        bare = re.sub(r"\s+# .*", "", line).strip()
        return STANDS_FOR[bare][0] if bare in STANDS_FOR else self._here(line)

    def _here(self, text: str) -> str:
        """Put in what differs from machine to machine."""
        if self.bao is None:
            return text
        text = text.replace("https://vault.example.com:8200", self.bao.address)
        text = text.replace("7d9c2a64-0000-0000-0000-000000000000", self.session.env.get("ROLE_ID", ""))
        group, _dash, key = self.session.env.get("LEASE", "").partition("-")
        return text.replace("aoxs/htk9uovu96-", f"{group}-").replace("ourh3qvoag7", key)

    def _configure(self, text: str) -> None:
        """Add settings to ansible.cfg."""
        path = self.session.cwd / "ansible.cfg"
        settings = configparser.ConfigParser(interpolation=None)
        settings.read(path)
        settings.read_string(text)
        with path.open("w") as file:
            settings.write(file)

    def _cron(self, where: str, text: str) -> None:
        """Cron runs the line with its own shell and next to no environment, from the home of the user."""
        (line,) = text.splitlines()
        schedule, command = " ".join(line.split()[:5]), line.split(maxsplit=5)[5]
        CronSim(schedule, datetime.datetime.now())
        assert "%" not in command, "to cron, % is a new line"
        folder = self.session.home / "openai-creds"
        if not (self.session.home / "openai").exists():
            (self.session.home / "openai").symlink_to(Path(sys.executable).parent.parent)
        # What cron cannot know is where the tests have the collection and OpenAI.
        names = ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_REMOTE_TMP", "OPENAI_BASE_URL", "HOME")
        kept = {name: self.session.env[name] for name in names}
        cron = Session(self.session.home, {**kept, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"})
        # Without the alternative that reports a failure, so that a failure is seen.
        command, alternative = command.split(" || ")
        assert alternative.startswith("logger ")
        code, said = cron.run(f"cd; /bin/sh -c '{command}'")
        (log,) = re.findall(r">> (\S+)", command)
        assert code == 0, f"{where}: {said}{(folder / log).read_text()}"
        assert (MARKER in (folder / log).read_text()) is False


def _names_in_environment(text: str) -> None:
    """The names that a guide exports are names that the collection reads."""
    known = (ROOT / "plugins" / "doc_fragments" / "vault_kv.py").read_text()
    for name in re.findall(r"\b([A-Z][A-Z_]+)=", text):
        assert name in known, f"{name} is read by nothing"


def _names_in_yaml(text: str) -> None:
    """What a job is given for Vault has names that the collection reads, and it runs only playbooks that the page has."""
    data = yaml.safe_load(text)
    assert data
    known = (ROOT / "plugins" / "doc_fragments" / "vault_kv.py").read_text() + "OPENAI_CREDS_STORE"
    for name in re.findall(r"\b(OPENAI_CREDS_\w+|VAULT_\w+)", text):
        assert name in known, f"{name} is read by nothing"
    for name in re.findall(r"ansible-playbook ([\w-]+\.yml)", text):
        assert f"`{name}`:" in (ROOT / "docs" / "ci.md").read_text(), name


CHECKS: dict[str, t.Callable[[str], None]] = {"shell": _names_in_environment, "yaml": _names_in_yaml}


# What has to be there before some of the blocks, by page and the first line of the block


def _secrets(reader: Reader) -> None:
    """A person writes the variable in the editor of ansible-vault create."""
    vault = VaultLib([("default", VaultSecret(VAULT_PASSWORD.encode()))])
    variables = {"vault_openai_admin_key": reader.lab.double.admin_key}
    (reader.session.cwd / "secrets.yml").write_bytes(vault.encrypt(yaml.safe_dump(variables)))
    # --ask-vault-pass is the only vault password here.
    reader.session.env.pop("ANSIBLE_VAULT_PASSWORD_FILE", None)


def _lease(reader: Reader) -> None:
    issue(reader.lab.mount(), "my-role")


def _all_kinds(reader: Reader) -> None:
    """Leases of all kinds: of a role, of a static role and of a library set."""
    _lease(reader)
    project = {"project_id": "proj_abc123"}
    tasks = [
        {
            "ephemeral.openai.openai_static_role": {
                "name": "reports",
                "service_account_id": "svc_acct_abc123",
                "overlap": "1h",
                "ttl": "48h",
                **project,
            }
        },
        {"ephemeral.openai.openai_static_creds": {"name": "reports", "rotate": "always"}},
        {
            "ephemeral.openai.openai_library_set": {
                "name": "shared-pool",
                "service_account_names": ["account-1"],
                **project,
            }
        },
        {"ephemeral.openai.openai_library_checkout": {"name": "shared-pool"}, "register": "lent"},
    ]
    ready = reader.lab.play(tasks, env={"OPENAI_BASE_URL": reader.lab.double.url})
    assert ready.rc == 0, ready.out


def _an_admin_key_of_an_owner(reader: Reader) -> None:
    reader.admin_key = reader.lab.double.add_admin_key("an owner's")["value"]


def _new_password(reader: Reader) -> None:
    (reader.session.cwd / "new-password").write_text("AnotherPasswordOfTheTests-19c4")


def _use_new_password(reader: Reader) -> None:
    """From then on Ansible is given the new password. The file stays for who rekeys once more, with a vault id."""
    (reader.session.cwd / "vault-password").write_text((reader.session.cwd / "new-password").read_text())


def _no_engine(reader: Reader) -> None:
    """OpenBao's server in memory comes with an engine; and the page says to write bao for vault."""
    assert reader.bao
    bin_ = reader.session.home / "bin"
    bin_.mkdir()
    (bin_ / "vault").symlink_to(Path(sys.executable).parent / "bao")
    reader.session.env |= {
        "PATH": f"{bin_}:{reader.session.env['PATH']}",
        "VAULT_ADDR": reader.bao.address,
        "VAULT_TOKEN": reader.bao.root_token,
    }
    reader.bao.client().sys.disable_secrets_engine("secret")


def _engine_is_there(reader: Reader) -> None:
    assert reader.bao
    reader.bao.await_kv()


def _login(reader: Reader) -> None:
    # Without a terminal, nothing separates the two.
    role_id, secret_id = re.findall(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", reader.said)[-2:]
    reader.session.env |= {"ROLE_ID": role_id, "ANSIBLE_HASHI_VAULT_SECRET_ID": secret_id}


def _lease_in_vault(reader: Reader) -> None:
    """The mount is set up as in the quickstart, now in Vault, and a run has taken a lease."""
    plays = [
        {"ephemeral.openai.openai_config": {"organization_id": "org-123456"}},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": "proj_abc123"}},
        {"ephemeral.openai.openai_creds": {"name": "my-role"}, "register": "issued"},
        {"ansible.builtin.debug": {"msg": "lease={{ issued.creds.lease_id }}="}},
    ]
    (reader.session.cwd / "lease.yml").write_text(
        yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": plays}])
    )
    reader.session.env["OPENAI_ADMIN_KEY"] = reader.lab.double.admin_key
    reader.type("docs/vault.md, quickstart", "ansible-playbook lease.yml; unset OPENAI_ADMIN_KEY")
    unique = re.findall(r"lease=openai/creds/my-role/(\S+?)=", reader.said)[0]
    reader.session.env["LEASE"] = f"{unique[:4]}/{unique[4:]}"


def _move(reader: Reader) -> None:
    """The move is for somebody who has vaulted files and nothing in Vault yet."""
    assert reader.bao
    client = reader.bao.client()
    client.sys.disable_secrets_engine("secret")
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    reader.bao.await_kv()
    reader.lab.configure()


def _web_servers(reader: Reader) -> None:
    """The hosts of the page: folders of this machine, whose systemctl has nothing to do. Two make two batches of 25%."""
    one = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "openai_creds_deliver_path": f"{reader.lab.path}/{{{{ inventory_hostname }}}}/credentials.env",
        "website_key_file": f"{reader.lab.path}/{{{{ inventory_hostname }}}}/key",
    }
    inventory = {"webservers": {"hosts": {f"web{number}": one for number in range(2)}}}
    (reader.session.cwd / "inventory.yml").write_text(yaml.safe_dump(inventory))
    bin_ = reader.session.home / "bin"
    bin_.mkdir()
    (bin_ / "systemctl").symlink_to("/bin/true")
    reader.session.env["PATH"] = f"{bin_}:{reader.session.env['PATH']}"


PREPARE: dict[tuple[str, str], t.Callable[[Reader], None]] = {
    (
        "docs/incident.md",
        "ansible-playbook ephemeral.openai.revoke -e openai_creds_prefix=openai/creds/my-role/",
    ): _all_kinds,
    ("docs/incident.md", "- name: Find keys that the mount has not made"): _an_admin_key_of_an_owner,
    ("docs/upgrade.md", "- name: End all that a mount has made, and forget it"): _all_kinds,
    (
        "docs/migrating-from-ansible-vault.md",
        "- name: Keep the web servers supplied with OpenAI credentials",
    ): _web_servers,
    ("docs/deliver.md", "- name: Keep the web servers supplied with OpenAI credentials"): _web_servers,
    ("roles/deliver/README.md", "- name: Keep the web servers supplied with OpenAI credentials"): _web_servers,
    ("README.md", "ansible-playbook --ask-vault-pass -e @secrets.yml ask.yml"): _secrets,
    (
        "docs/security.md",
        "ansible-playbook ephemeral.openai.revoke -e openai_creds_prefix=openai/creds/my-role/",
    ): _lease,
    ("docs/leases.md", "- name: What would go"): _lease,
    (
        "docs/store.md",
        "find ~/.ansible/openai_creds -name '*.*.*.*' -type f -exec ansible-vault rekey --new-vault-password-file new-password {} +",
    ): _new_password,
    (
        "docs/store.md",
        "ansible-vault view ~/.ansible/openai_creds/openai/definitions.*    # shows the admin key, also one that a rotation is about to go over to",
    ): _lease,
    (
        "docs/store.md",
        "find ~/.ansible/openai_creds -name '*.*.*.*' -type f -exec ansible-vault rekey --new-vault-id prod@new-password {} +",
    ): _use_new_password,
    ("docs/vault.md", "vault secrets enable -path=secret -version=2 kv"): _no_engine,
    ("docs/vault.md", 'path "secret/data/openai_creds/*" {'): _engine_is_there,
    ("docs/vault.md", "vault kv metadata put -mount=secret -max-versions=1 openai_creds/openai/definitions"): _login,
    ("docs/vault.md", "vault kv list -mount=secret openai_creds/openai/leases"): _lease_in_vault,
    ("docs/vault.md", "- name: Move to Vault, for the other controllers to come"): _move,
}


@pytest.fixture(scope="module")
def organization() -> t.Iterator[Double]:
    """OpenAI with the organization and the project that the documentation names."""
    with Double(organization="org-123456", projects=["proj_abc123", PROJECT], secret_marker=MARKER) as double:
        yield double


@pytest.fixture
def reader(tmp_path: Path, organization: Double) -> Reader:
    """An ordinary user on the first day: a home, and the tools in the path."""
    organization.reset()
    lab = Lab(tmp_path / "node", organization)
    env = {
        "HOME": str(lab.home),
        "PATH": lab.env["PATH"],
        "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_REMOTE_TMP": lab.env["ANSIBLE_REMOTE_TMP"],
        "OPENAI_BASE_URL": organization.url,
        "PYTHONDONTWRITEBYTECODE": "1",
        "no_proxy": "127.0.0.1",
    }
    return Reader(lab, Session(lab.home, env))


def _as_the_quickstart_leaves_it(reader: Reader) -> None:
    """Chapters 1 to 4 of the quickstart have been followed; the examples' further names exist as well."""
    lab, double = reader.lab, reader.lab.double
    folder = lab.home / "openai-creds"
    folder.mkdir()
    (folder / "vault-password").write_text(VAULT_PASSWORD)
    (folder / "ansible.cfg").write_text("[defaults]\nvault_password_file = ./vault-password\n")
    lab.double.add_service_account("proj_abc123", _FOREIGN, id="svc_acct_abc123")
    lab.configure(project_id="proj_abc123")
    lab.role("model-reader", project_id="proj_abc123")
    tasks = [
        {"ephemeral.openai.openai_project": {"name": "my-project", "project_id": "proj_abc123"}},
        {
            "ephemeral.openai.openai_config": {"admin_api_key": double.admin_key, "mount": "research"},
        },
        {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": "proj_abc123", "mount": "research"}},
    ]
    ready = lab.play(tasks, env={"OPENAI_BASE_URL": double.url})
    assert ready.rc == 0, ready.out
    adopted = double.add_admin_key()
    variables = {
        "vault_openai_admin_key": double.admin_key,
        "vault_openai_research_admin_key": double.admin_key,
        "vault_openai_adopted_key": adopted["value"],
        "openai_adopted_key_id": adopted["id"],
        "website_env_file": str(lab.path / "website.env"),
    }
    (folder / "variables.json").write_text(json.dumps(variables))
    reader.session.cwd = folder


@pytest.mark.once
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(reader: Reader, page: Path, tmp_path: Path) -> None:
    name = str(page.relative_to(ROOT))
    if name == "docs/vault.md":
        from bao import start_dev

        reader.bao = start_dev(tmp_path / "bao")
    try:
        if name not in FROM_NOTHING:
            _as_the_quickstart_leaves_it(reader)
        for block in blocks(page):
            reader.do(name, block)
    finally:
        if reader.bao:
            reader.bao.stop()
    ENDS.get(name, lambda _reader: None)(reader)


def _state_in_home(reader: Reader) -> None:
    assert list((reader.lab.home / ".ansible" / "openai_creds" / "openai").glob("definitions.*"))
    assert len(reader.lab.accounts()) == 1


def _everything_revoked(reader: Reader) -> None:
    assert list((reader.lab.home / ".ansible" / "openai_creds" / "openai").glob("definitions.*"))
    assert reader.lab.accounts() <= {_FOREIGN}
    assert "OPENAI_ADMIN_KEY" not in reader.session.env


def _no_accounts(reader: Reader) -> None:
    assert reader.lab.accounts() <= {_FOREIGN}


def _an_account_each(reader: Reader) -> None:
    assert len(reader.lab.accounts() - {_FOREIGN}) == len(list(reader.lab.path.glob("web*/credentials.env"))) == 2


def _keys_left(reader: Reader) -> list[str]:
    """Return the names of the keys of accounts that exist at OpenAI."""
    return [key["name"].partition("-static-key-")[0] for key in reader.lab.double.state()["api_keys"]]


def _no_key_of_the_job(reader: Reader) -> None:
    _no_accounts(reader)
    assert not list(reader.session.cwd.glob("openai.*"))


def _only_what_was_there_before(reader: Reader) -> None:
    _no_accounts(reader)
    # The key that the account had before; the admin keys of the other mount, and the one that the page says to delete.
    assert _keys_left(reader) == ["Secret Key"]
    assert not (reader.lab.home / ".ansible" / "openai_creds").exists()


def _all_replaced(reader: Reader) -> None:
    assert reader.lab.accounts() == {_FOREIGN, "account-1"}
    assert sorted(_keys_left(reader)) == ["Secret Key", "vault"]
    assert reader.lab.double.admin_key_id not in reader.lab.admin_keys()
    assert reader.lab.admin_key_works()


def _an_account_each_and_one_of_the_run(reader: Reader) -> None:
    """No callback is enabled here, so the lease that a lookup took is there until a cleanup."""
    assert len(list(reader.lab.path.glob("web*/credentials.env"))) == 2
    assert len(reader.lab.accounts() - {_FOREIGN}) == 3


#: What has to be so at the end of a page, by OpenAI's own state.
ENDS: dict[str, t.Callable[[Reader], None]] = {
    "README.md": _state_in_home,
    "docs/ci.md": _no_key_of_the_job,
    "docs/incident.md": _all_replaced,
    "docs/migrating-from-ansible-vault.md": _an_account_each_and_one_of_the_run,
    "docs/upgrade.md": _only_what_was_there_before,
    "docs/quickstart.md": _everything_revoked,
    "docs/security.md": _no_accounts,
    "docs/deliver.md": _no_accounts,
    "roles/deliver/README.md": _an_account_each,
}


def test_the_tables_name_only_what_is_there() -> None:
    """What stands for something that no page says any more would hide that a block is not tried."""
    there = {(str(page.relative_to(ROOT)), block) for page in PAGES for block in blocks(page)}
    lines = {re.sub(r"\s+# .*", "", line).strip() for _page, block in there for line in block.text.splitlines()}
    assert set(STANDS_FOR) <= lines
    assert {(page, block.first) for page, block in there} >= set(PREPARE)
    for page, begin in DESCRIPTIONS:
        assert any(name == page and block.text.startswith(begin) for name, block in there), begin
