# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide to AWX: AWX takes what its tasks make, and what the credential type injects logs in.

AWX's rules are in https://github.com/ansible/awx: for credential types in awx/main/fields.py (CredentialTypeInputField,
CredentialTypeInjectorField and its validate_env_var_allowed) and awx/main/constants.py (ENV_BLOCKLIST), and newer ones in
awx_plugins.interfaces; for kinds, job templates and schedules in awx/api/serializers.py (CredentialTypeSerializer, JobOptionsSerializer,
SchedulePreviewSerializer) and awx/main/models/jobs.py; for what is a playbook in awx/main/utils/ansible.py.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
import typing as t
import urllib.parse
from pathlib import Path

import pytest
import yaml
from bao import Bao
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pages import blocks

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import resolve

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "awx.md"
#: The files that the guide writes.
FILES = {block.file: block.text for block in blocks(PAGE) if block.file}
#: Where the collection awx.awx is: alone, or with the others of Ansible's community package.
COLLECTIONS = [
    path
    for path in (ROOT / ".build" / "awx", ROOT / ".build" / "community")
    if (path / "ansible_collections/awx").is_dir()
]
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


class _Loader(yaml.SafeLoader):
    """Reads a playbook without Ansible."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(t.cast(yaml.ScalarNode, node)))


def credential_type() -> dict[str, t.Any]:
    """Return the credential type of the guide."""
    (play,) = yaml.load(FILES["awx.yml"], _Loader)
    (found,) = (task["awx.awx.credential_type"] for task in play["tasks"] if "awx.awx.credential_type" in task)
    return t.cast(dict[str, t.Any], found)


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


def test_awx_takes_the_credential_type() -> None:
    made = credential_type()
    assert refusals(made["inputs"], made["injectors"]) == []


def test_awx_would_refuse() -> None:
    fields = {"fields": [{"id": "url", "label": "URL"}]}
    for name in ("ANSIBLE_HASHI_VAULT_ROLE_ID", "ANSIBLE_HOME", "PATH", "JOB_ID", "A-B"):
        assert refusals(fields, {"env": {name: "{{ url }}"}}) == [f"the variable {name}"]


def test_what_it_injects_logs_in(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_", "OPENAI_CREDS_")):
            monkeypatch.delenv(name)
    role_id, secret_id = bao.approle("openai_creds/awx")
    values = {"url": bao.address, "role_id": role_id, "secret_id": secret_id}
    for name, text in credential_type()["injectors"]["env"].items():
        monkeypatch.setenv(name, ImmutableSandboxedEnvironment().from_string(text).render(values))
    settings = resolve({"kv_path": "openai_creds/awx"}, {}, lambda value: value)
    assert settings["store"] == "vault_kv"
    assert open_mount(settings).definitions("config") == {}


class _Awx(http.server.BaseHTTPRequestHandler):
    """Keeps what the modules of awx.awx send. Everything else about AWX is beyond it."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, list[dict[str, t.Any]]]

    def log_message(self, *_args: t.Any) -> None:
        pass

    def _answer(self, status: int, body: t.Any) -> None:
        data = json.dumps(body).encode() if status != 204 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _endpoint(self) -> str:
        endpoint = urllib.parse.urlsplit(self.path).path.removeprefix("/api/v2/").strip("/")
        return "job_templates" if endpoint == "unified_job_templates" else endpoint

    def do_GET(self) -> None:
        wanted = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        there = self.kept.get(self._endpoint(), [])
        found = [one for one in there if wanted.get("name") in (None, one["name"])]
        self._answer(200, {"count": len(found), "results": found, "next": None})

    def do_POST(self) -> None:
        endpoint = self._endpoint()
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        there = self.kept.setdefault(endpoint, [])
        if set(sent) == {"id"}:
            there.append(sent)
            self._answer(204, None)
            return
        number = len(there) + 1
        more = {"id": number, "url": f"/api/v2/{endpoint}/{number}/", "summary_fields": {}, "scm_revision": ""}
        there.append({**sent, **more})
        self._answer(201, there[-1])


@pytest.mark.once
@pytest.mark.skipif(not COLLECTIONS, reason="the collection awx.awx is not here: make awx")
def test_the_tasks_make_what_awx_takes(tmp_path: Path) -> None:
    (tmp_path / "awx.yml").write_text(FILES["awx.yml"])
    _Awx.kept = {"organizations": [{"id": 1, "name": "Default"}]}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Awx) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        played = subprocess.run(
            ("ansible-playbook", "awx.yml", "-e", "vault_awx_role_id=role vault_awx_secret_id=secret"),
            cwd=tmp_path,
            env={
                **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
                "HOME": str(tmp_path),
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS[0]),
                "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
                "ANSIBLE_REMOTE_TMP": str(tmp_path / "tmp"),
                "CONTROLLER_HOST": f"http://127.0.0.1:{server.server_port}",
                "CONTROLLER_OAUTH_TOKEN": "token",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        server.shutdown()
    assert played.returncode == 0, played.stdout
    kept = _Awx.kept
    (made,) = kept["credential_types"]
    assert {name: made[name] for name in ("kind", "inputs", "injectors")} == {
        name: credential_type()[name] for name in ("kind", "inputs", "injectors")
    }
    # AWX lets nobody make other kinds.
    assert made["kind"] in ("cloud", "net")
    (credential,) = kept["credentials"]
    assert set(credential["inputs"]) == {field["id"] for field in made["inputs"]["fields"]}
    assert [template["name"].split()[-1] for template in kept["job_templates"]] == ["cleanup", "rotate", "metrics"]
    for template in kept["job_templates"]:
        # AWX takes no file for a playbook in which no line looks like this, and starts no job without an inventory.
        assert re.search(r"^\s*-?\s*(ansible\.builtin\.)?import_playbook:", FILES[template["playbook"]], re.M)
        assert {"project", "inventory", "execution_environment"} <= set(template)
        assert [one["id"] for one in kept[f"job_templates/{template['id']}/credentials"]] == [credential["id"]]
    for schedule in kept["schedules"]:
        # AWX takes others, too.
        assert re.fullmatch(
            r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=(MINUTELY|HOURLY|DAILY|WEEKLY);INTERVAL=[1-9]\d*", schedule["rrule"]
        )
    assert [one["unified_job_template"] for one in kept["schedules"]] == [one["id"] for one in kept["job_templates"]]
    assert json.loads(kept["job_templates"][2]["extra_vars"])["openai_creds_metrics_pushgateway"]
