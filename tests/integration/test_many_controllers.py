# SPDX-License-Identifier: GPL-3.0-or-later
"""The store in real OpenBao servers: many controllers, a leader that dies, no secret anywhere, one sentence per error."""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import copy
import json
import re
import secrets
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from bao import Balancer, Bao, Cluster, start_dev, until
from double.client import Double
from lab import MARKER, VAULT_PASSWORD, Lab
from on_record import kinds

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.leases.issue import issue
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.shrinking import unshrink
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.upkeep.cleanup import cleanup

pytestmark = pytest.mark.long

#: A client token of OpenBao or Vault.
TOKEN = re.compile(rb"\b(?:[sbr]|hv[sbr])\.[A-Za-z0-9_-]{20,}")


#: What in a play only Vault may know.
LOGINS = ("role_id", "secret_id", "token")
#: What a user may be told: one line, and not that we did not think of it.
SENTENCE = re.compile(r"(?!.*defect of)[^\n]{20,400}")


def _own_path() -> str:
    """Return a path that no other test uses."""
    return f"openai_creds/{secrets.token_hex(8)}"


def _intents(lab: Lab) -> set[str]:
    return set(kinds(lab.store()))


def _finish(processes: t.Iterable[subprocess.Popen[bytes]]) -> list[str]:
    """Wait for playbooks that succeed; returns what they printed."""
    outputs = []
    for process in processes:
        out = process.communicate(timeout=240)[0].decode(errors="replace")
        assert process.returncode == 0, out
        outputs.append(out)
    return outputs


def test_8_controllers_issue_50_each_and_two_clean_up_at_once(tmp_path: Path, double: Double, raft: Cluster) -> None:
    kv_path = _own_path()
    nodes = [Lab(tmp_path / f"node{number}", double, raft, kv_path) for number in range(8)]
    nodes[0].configure()
    ids = "issued.results | map(attribute='creds_list') | flatten | map(attribute='lease_id') | unique"
    tasks = [
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 10}, "loop": [*range(5)], "register": "issued"},
        {"ansible.builtin.assert": {"that": f"{ids} | length == 50"}},
    ]
    _finish([node.start(tasks) for node in nodes])
    leases = nodes[0].leases()
    assert len(leases) == 400
    assert set(leases.values()) == {"active"}
    assert set(leases) == nodes[0].accounts()
    assert _intents(nodes[0]) == set()
    for node in nodes:
        assert not node.store_path.exists() and not (node.home / ".ansible" / "openai_creds").exists()

    begin = double.mark()
    double.clock(7200)

    def clean(node: Lab) -> list[str]:
        mount = node.mount(clock=lambda: time.time() + 7200)
        result = cleanup(mount, orphans="delete", max_concurrency=8, limit=None, grace=600, dry_run=False)
        assert result["failed"] == []
        return list(result["revoked"])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        revoked = [*pool.map(clean, nodes[:2])]
    assert len(revoked[0] + revoked[1]) == len({*revoked[0], *revoked[1]}) == 400
    deleted = collections.Counter(
        request["path"]
        for request in double.requests(begin)
        if request["method"] == "DELETE" and request["status"] == 200
    )
    assert len(deleted) == 400 and set(deleted.values()) == {1}
    assert nodes[0].accounts() == set()
    assert nodes[0].leases() == {}
    assert _intents(nodes[0]) == set()


ROUNDS = 6


def _rounds() -> list[dict[str, t.Any]]:
    """Issue two, renew the first and revoke the second, again and again, whatever fails; then tell."""
    tasks: list[dict[str, t.Any]] = []
    for number in range(ROUNDS):
        issued = f"issued{number}"
        first, second = (f"{{{{ {issued}.creds_list[{index}].lease_id }}}}" for index in range(2))
        for register, module, args in (
            (issued, "openai_creds", {"name": "my-role", "count": 2}),
            (f"renewed{number}", "openai_lease", {"lease_id": first, "state": "renewed"}),
            (f"revoked{number}", "openai_lease", {"lease_id": second}),
        ):
            task = {f"ephemeral.openai.{module}": args, "register": register, "ignore_errors": True}
            tasks.append(task if register == issued else {**task, "when": f"{issued} is not failed"})
    tell = "[issued{0}.creds_list | default([]) | map(attribute='service_account'), revoked{0} is changed,"
    tell += " [issued{0}, renewed{0}, revoked{0}] | select('failed') | map(attribute='msg')]"
    told = ", ".join(tell.format(number) for number in range(ROUNDS))
    return [*tasks, {"ansible.builtin.debug": {"msg": f"TOLD {{{{ [{told}] | to_json | b64encode }}}}"}}]


def test_the_leader_dies_while_4_controllers_work(tmp_path: Path, double: Double, cluster: Cluster) -> None:
    kv_path = _own_path()
    nodes = [Lab(tmp_path / f"node{number}", double, cluster, kv_path) for number in range(4)]
    nodes[0].configure()
    cluster.settle()
    processes = [node.start(_rounds()) for node in nodes]
    until(lambda: len(nodes[0].accounts()) >= 6, "all are at work")
    cluster.kill_leader()
    outputs = _finish(processes)
    errors: list[str] = []
    kept: set[str] = set()
    may_be_left: set[str] = set()
    for out in outputs:
        assert "Traceback" not in out, out
        for accounts, revoked, failures in json.loads(base64.b64decode(re.findall(r"TOLD ([\w+/=]+)", out)[0])):
            errors += failures
            kept |= set(accounts[:1])
            may_be_left |= set(accounts[:1] if revoked else accounts)
    # How many fail is the machine's business, but each says what it could not do in one sentence.
    assert all(SENTENCE.fullmatch(error) for error in errors), errors
    # Nothing was wrong with these, so nobody may be sent to look there.
    assert not [error for error in errors if re.match(r"ca_cert|auth_method|engine_mount_point|.* policy", error)], (
        errors
    )
    assert len(kept) + len(errors) >= 4 * ROUNDS

    node = nodes[0]
    run = node.play([{"ephemeral.openai.openai_cleanup": {"orphans": "delete"}}])
    assert run.rc == 0, run.out
    names = [account["name"] for account in double.state()["service_accounts"]]
    assert len(names) == len(set(names))
    assert kept <= set(names) <= may_be_left
    assert node.leases() == dict.fromkeys(names, "active")
    assert _intents(node) <= {"watch"}


def test_what_one_process_has_written_any_other_reads(double: Double, tmp_path: Path, cluster: Cluster) -> None:
    """Also where a standby answers, which learns of a write a moment later."""
    lab = Lab(tmp_path / "node", double, cluster, _own_path())
    standby = next(node for index, node in enumerate(cluster.nodes) if index != cluster.leader())
    one, other = (lab.store(server=standby) for _unused in range(2))
    assert other.read("warm") is None
    for number in range(20):
        one.write(Write(f"test/written{number}", {"a": number}))
        document = other.read(f"test/written{number}")
        assert document is not None and document.data == {"a": number}
        assert len(list(other.scan("test/"))) == number + 1
        other.write(Write(document.path, {"a": -number}, document.version))
        changed = one.read(document.path)
        assert changed is not None and changed.data == {"a": -number}


def test_what_a_process_has_written_in_several_threads_it_reads(
    double: Double, tmp_path: Path, cluster: Cluster
) -> None:
    lab = Lab(tmp_path / "node", double, cluster, _own_path())
    standby = next(node for index, node in enumerate(cluster.nodes) if index != cluster.leader())
    store = lab.store(server=standby)
    for _round in range(5):
        store.write(Write("test/alone", {}))
        paths = [f"test/written{number}" for number in range(8)]
        store.write(*(Write(path, {}) for path in paths))
        assert all(store.read(path) for path in paths)
        store.delete("test/alone", *paths)
        assert not any(store.read(path) for path in paths)


def test_a_connection_that_ends_in_its_handshake_is_made_again(tmp_path: Path, double: Double, raft: Cluster) -> None:
    """As they do when a server dies, or a load balancer has none for a moment."""
    lab = Lab(tmp_path / "node", double, raft, _own_path())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection = listener.accept()[0]
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        balancer = Balancer([int(raft.address.rpartition(":")[2]), listener.getsockname()[1]])
        front = copy.copy(raft)
        front.address = f"https://127.0.0.1:{balancer.port}"
        assert lab.store(server=front).read("nothing") is None
        thread.join(10)
        assert not thread.is_alive()
        balancer.stop()


def test_a_run_has_one_lease_whichever_servers_its_forks_ask(tmp_path: Path, double: Double, cluster: Cluster) -> None:
    lab = Lab(tmp_path / "node", double, cluster, _own_path())
    lab.configure()
    lab.env |= {"ANSIBLE_HASHI_VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": cluster.policy_token(lab.kv_path)}
    use = "{{ lookup('ephemeral.openai.openai_creds', 'my-role').lease_id }}"
    tasks = [{"ansible.builtin.debug": {"msg": [use] * 4}}] * 2
    hosts = ",".join(f"host{number}" for number in range(10)) + ","
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    run = lab.play([play], "-i", hosts, "-c", "local", "-f", "10")
    assert run.rc == 0, run.out
    assert len(lab.accounts()) == 1
    assert set(lab.leases()) == lab.accounts()


def _found(secret: str | re.Pattern[bytes], content: bytes) -> bool:
    if isinstance(secret, re.Pattern):
        return bool(secret.search(content))
    forms = {secret.encode(), secret.encode().hex().encode(), base64.b64encode(secret.encode()).rstrip(b"=")}
    return any(form in content for form in forms)


def _shown(content: bytes) -> bytes:
    """Return a content together with what it shows compressed, as groups are sent to Vault."""
    compressed = (match.decode() for match in re.findall(rb"gzip:[0-9A-Za-z+/]+=*", content))
    return b"\n".join([content, *(unshrink(one).encode() for one in compressed)])


def _leaks(secrets_: t.Mapping[str, str | re.Pattern[bytes]], places: t.Mapping[str, bytes]) -> list[str]:
    return [
        f"{what} in {place}"
        for place, content in ((place, _shown(content)) for place, content in places.items())
        for what, secret in secrets_.items()
        if _found(secret, content)
    ]


def _files(*folders: Path) -> dict[str, bytes]:
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths if path.name != "vault-password"}


@pytest.mark.parametrize("method", ["approle", "token"])
def test_no_secret_is_printed_or_written(
    tmp_path: Path, double: Double, raft: Cluster, temporary: Path, method: str
) -> None:
    lab = Lab(tmp_path / "node", double, raft, _own_path())
    login = {"role_id": lab.env.pop("ANSIBLE_HASHI_VAULT_ROLE_ID"), "auth_method": method}
    login["secret_id"] = lab.env.pop("ANSIBLE_HASHI_VAULT_SECRET_ID")
    login["token"] = raft.policy_token(lab.kv_path)
    del lab.env["ANSIBLE_HASHI_VAULT_AUTH_METHOD"]
    # In a file, since the environment is one of the facts that are gathered and cached.
    variables = lab.path / "variables.yml"
    given = {f"ansible_hashi_vault_{name}": value for name, value in login.items()} | {"admin_key": double.admin_key}
    vault = VaultLib([("default", VaultSecret(VAULT_PASSWORD.encode()))])
    variables.write_bytes(vault.encrypt(json.dumps(given)))
    config = {"organization_id": double.organization, "api_endpoint": double.url, "admin_api_key": "{{ admin_key }}"}
    options = {name: f"{{{{ ansible_hashi_vault_{name} }}}}" for name in ("auth_method", *LOGINS)}
    refused = {"ignore_errors": True}
    lookup = "lookup('ephemeral.openai.openai_creds', 'my-role').lease_id"
    tasks = [
        {"ephemeral.openai.openai_config": config, "diff": True},
        {"ephemeral.openai.openai_role": {"name": "my-role", "project_id": "proj_lab"}, "diff": True},
        {"ephemeral.openai.openai_creds": {"name": "my-role", "count": 3}, "register": "issued", "diff": True},
        {"ephemeral.openai.openai_creds": {"name": "my-role", **options}, "register": "also"},
        {"ephemeral.openai.openai_creds": {"name": "my-role", "kv_path": "elsewhere", **options}} | refused,
        {"ephemeral.openai.openai_creds": {"name": "my-role", "unknown": 1, **options}} | refused,
        {"ansible.builtin.debug": {"msg": f"{{{{ {lookup} }}}}"}},
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ also.creds.lease_id }}", "state": "renewed"}},
        {"ephemeral.openai.openai_lease": {"lease_id": "{{ issued.creds_list[0].lease_id }}"}},
        {"ephemeral.openai.openai_lease_info": {}, "register": "leases"},
        {"ansible.builtin.debug": {"var": "leases"}},
        {"ephemeral.openai.openai_cleanup": {"orphans": "delete"}},
    ]
    play = [{"hosts": "all", "gather_facts": True, "tasks": tasks}]
    env = {**lab.everything_written(temporary), "ANSIBLE_LOCAL_TEMP": str(temporary / "local")}
    run = lab.play(play, "-i", "one,two,", "-c", "local", "-vvvv", "-e", f"@{variables}", env=env, timeout=180)
    searched: dict[str, str | re.Pattern[bytes]] = {name: login[name] for name in LOGINS[1:]}
    searched |= {"any token": TOKEN, "any key": MARKER, "vault password": VAULT_PASSWORD, "root token": raft.root_token}
    places = {"output": run.out.encode(), **_files(lab.path, temporary, raft.audit_log.parent)}
    assert _leaks(searched, places) == []
    assert run.rc == 0, run.out
    # Or this shows nothing.
    assert "openai_leases: revoked 1 lease(s)" in run.out
    assert f"/v1/secret/data/{lab.kv_path}/openai/" in run.out and lab.kv_path in raft.audit_log.read_text()
    assert MARKER in double.admin_key and len(lab.leases()) == 6
    for what in ("/ansible.log", "/facts/", "/audit.log", "/server.log"):
        assert any(what in place for place in places), what


def test_a_leak_would_be_found(raft: Cluster) -> None:
    searched = {"token": TOKEN, "secret id": raft.approle()[1], "key": MARKER}
    token = raft.client("").auth.approle.login(*raft.approle())["auth"]["client_token"]
    batch = raft.client().auth.token.create(type="batch", policies=["default"])["auth"]["client_token"]
    assert _leaks(searched, {"a log": f"a b.c s.t/u {token[:9]} d12.example".encode()}) == []
    for text in (token, batch, f'"{token}"', f"X-Vault-Token:{token}\n", raft.root_token):
        assert _leaks(searched, {"a log": f"It said {text}".encode()}) == ["token in a log"]
    assert _leaks(searched, {"a log": base64.b64encode(str(searched["secret id"]).encode())}) == ["secret id in a log"]
    assert _leaks(searched, {"a log": b"sk-" + MARKER.encode() + b"-1234"}) == ["key in a log"]


def test_each_error_is_one_sentence(tmp_path: Path, double: Double, bao: Bao) -> None:
    lab = Lab(tmp_path / "node", double, bao, _own_path())
    lab.configure()
    issue(lab.mount(), "my-role")
    admin = bao.admin()
    if "old/" not in admin.sys.list_mounted_secrets_engines()["data"]:
        admin.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
        admin.sys.enable_secrets_engine("transit", path="transit")
    admin.sys.create_or_update_policy("old", 'path "old/*" { capabilities = ["create", "read", "update", "list"] }')
    admin.sys.create_or_update_policy("transit", 'path "transit/*" { capabilities = ["read"] }')

    def token(*policies: str, ttl: str = "1h") -> dict[str, str]:
        made = admin.auth.token.create(policies=[*policies], no_default_policy=True, ttl=ttl)
        return {"auth_method": "token", "token": str(made["auth"]["client_token"])}

    expired = token(bao.write_policy(lab.kv_path), ttl="1s")
    time.sleep(1.5)
    store = f"secret/data/{lab.kv_path}/openai/"
    cases: dict[str, tuple[dict[str, t.Any], str]] = {
        "KV version 1": (
            {"engine_mount_point": "old", **token("old")},
            "engine_mount_point: the KV engine at 'old' has version 1",
        ),
        "not KV": (
            {"engine_mount_point": "transit", **token("transit")},
            "engine_mount_point: .* 'transit' is transit, not kv",
        ),
        "no mount": ({"engine_mount_point": "none"}, "engine_mount_point: .* there is no secrets engine at 'none'"),
        "no policy": (token("none"), f"the token's policies give no access to {store}"),
        "expired token": (expired, "token: .*ended"),
        "no such token": ({"auth_method": "token", "token": "s.x"}, "token: .*ended"),
        "other path": ({"kv_path": "elsewhere"}, "kv_path: .*secret/elsewhere/openai/"),
        "wrong secret id": ({"secret_id": "wrong"}, "auth_method: .*approle login .*secret_id"),
        "wrong role id": ({"role_id": "wrong"}, "auth_method: .*approle login .*role_id"),
        "no such method": ({"mount_point": "none"}, "auth_method: .*auth/none"),
        "not Vault": ({"url": double.control}, "url: what answers at .* is not Vault"),
        "https": ({"url": bao.address.replace("http", "https")}, "url: .* does not speak TLS"),
    }
    tasks: list[dict[str, t.Any]] = [
        {
            "ephemeral.openai.openai_creds": {"name": "my-role", **options},
            "register": f"case{number}",
            "ignore_errors": True,
        }
        for number, (options, _unused) in enumerate(cases.values())
    ]
    said = [f"case{number}.msg if case{number}.failed else ''" for number in range(len(cases))]
    tasks.append({"ansible.builtin.debug": {"msg": f"TOLD {{{{ [{', '.join(said)}] | to_json | b64encode }}}}"}})
    before, mark = lab.leases(), double.mark()
    run = lab.play(tasks)
    assert run.rc == 0, run.out
    messages = json.loads(base64.b64decode(re.findall(r"TOLD ([\w+/=]+)", run.out)[0]))
    for message, (case, (_options, expected)) in zip(messages, cases.items()):
        assert re.search(expected, message) and SENTENCE.fullmatch(message), (case, message)
    assert lab.leases() == before
    # What is not Vault was asked for a login and nothing else.
    assert {request["path"].rpartition("/v1/")[2] for request in double.requests(mark)} == {"auth/approle/login"}


def test_a_server_that_does_not_serve(tmp_path: Path, double: Double, raft: Cluster) -> None:
    servers = {name: start_dev(tmp_path / name) for name in ("sealed", "stopped")}
    labs = {name: Lab(tmp_path / "nodes" / name, double, server) for name, server in servers.items()}
    labs["stranger"] = Lab(tmp_path / "nodes" / "stranger", double, raft, _own_path())
    for lab in labs.values():
        lab.configure()
    servers["sealed"].seal()
    servers["stopped"].stop()
    del labs["stranger"].env["VAULT_CACERT"]
    mark = double.mark()
    # The default is to wait for long, in case that the server serves again.
    labs["stopped"].env["ANSIBLE_HASHI_VAULT_RETRIES"] = "3"
    processes = {
        name: lab.start([{"ephemeral.openai.openai_creds": {"name": "my-role"}}]) for name, lab in labs.items()
    }
    for name, expected in (
        ("sealed", f"url: Vault at {servers['sealed'].address} is sealed"),
        ("stopped", f"url: Vault at {servers['stopped'].address} cannot be reached"),
        ("stranger", f"ca_cert, validate_certs: the certificate of Vault at {raft.address} is not trusted"),
    ):
        out = processes[name].communicate(timeout=120)[0].decode()
        message = re.findall(r'"msg": "(.*?)"}', out)
        assert len(message) == 1 and message[0].startswith(expected) and SENTENCE.fullmatch(message[0]), out
    assert double.requests(mark) == []
    servers["sealed"].unseal()
    assert labs["sealed"].leases() == {}
    servers["sealed"].stop()
