# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenBao servers of the tests are what they are meant to be: policy, TLS, audit log, a new leader."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import hvac
import pytest
import requests
from bao import Bao, Cluster, Vault, start_dev, until

pytestmark = pytest.mark.once

PLACE = "openai_creds/mount/place"


def _write(client: hvac.Client, path: str, data: dict[str, t.Any], version: int = 0) -> None:
    client.secrets.kv.v2.create_or_update_secret(path, data, cas=version, mount_point="secret")


def _read(client: hvac.Client, path: str) -> t.Any:
    return client.secrets.kv.v2.read_secret_version(path, mount_point="secret", raise_on_deleted_version=True)["data"]


@pytest.mark.parametrize("kind", ["bao", "raft"])
def test_the_policy_is_enough_and_no_more(request: pytest.FixtureRequest, kind: str) -> None:
    server: Vault = request.getfixturevalue(kind)
    role_id, secret_id = server.approle()
    login = server.client("").auth.approle.login(role_id, secret_id)["auth"]
    assert login["token_policies"] == login["policies"]
    kv = server.client().secrets.kv.v2
    for token in (server.policy_token(), login["client_token"]):
        client = server.client(token)
        _write(client, PLACE, {"a": 1})
        with pytest.raises(hvac.exceptions.InvalidRequest, match="did not match"):
            _write(client, PLACE, {"a": 2})
        _write(client, PLACE, {"a": 3}, version=1)
        assert _read(client, PLACE)["data"] == {"a": 3}
        assert client.secrets.kv.v2.list_secrets("openai_creds/mount", "secret")["data"]["keys"] == ["place"]
        assert client.adapter.get("/v1/sys/internal/ui/mounts/secret")["data"]["options"] == {"version": "2"}
        client.secrets.kv.v2.delete_metadata_and_all_versions(PLACE, "secret")
        with pytest.raises(hvac.exceptions.InvalidPath):
            kv.read_secret_metadata(PLACE, "secret")
        for refused in (
            lambda client=client: _write(client, "elsewhere/place", {}),
            lambda client=client: _read(client, "elsewhere/place"),
            lambda client=client: client.secrets.kv.v2.list_secrets("", "secret"),
            lambda client=client: client.sys.list_mounted_secrets_engines(),
        ):
            with pytest.raises(hvac.exceptions.Forbidden):
                refused()


def test_only_who_has_the_ca_trusts_the_server(raft: Cluster) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        hvac.Client(raft.address, verify=True).sys.read_seal_status()
    port = raft.address.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        assert hvac.Client(f"https://{host}:{port}", verify=raft.ca_cert).sys.read_seal_status()["sealed"] is False
    assert requests.get(raft.address.replace("https", "http"), timeout=5).status_code == 400


def test_the_audit_log_tells_what_was_asked_without_a_token(raft: Cluster) -> None:
    token = raft.policy_token()
    before = raft.audit_log.stat().st_size
    _write(raft.client(token), "openai_creds/mount/audited", {"a": "ValueOfTheTests"})
    text = raft.audit_log.read_text()
    assert "openai_creds/mount/audited" in text[before:]
    for secret in (token, raft.root_token, "ValueOfTheTests"):
        assert (secret in text) is False


def test_sealing_and_restarts(raft: Cluster, tmp_path: Path) -> None:
    client = raft.client(raft.policy_token())
    _write(client, "openai_creds/mount/lasting", {"a": 1})
    raft.seal()
    with pytest.raises(hvac.exceptions.VaultDown, match="sealed"):
        _read(client, "openai_creds/mount/lasting")
    raft.unseal()
    assert _read(client, "openai_creds/mount/lasting")["data"] == {"a": 1}
    raft.nodes[0].stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        _read(client, "openai_creds/mount/lasting")
    raft.restart(0)
    assert _read(client, "openai_creds/mount/lasting")["data"] == {"a": 1}
    memory = start_dev(tmp_path)
    _write(memory.client(), PLACE, {})
    memory.seal()
    memory.unseal()
    assert _read(memory.client(), PLACE)
    memory.restart()
    with pytest.raises(hvac.exceptions.InvalidPath):
        _read(memory.client(), PLACE)
    memory.stop()


def test_another_server_takes_the_place_of_a_leader_that_is_killed(cluster: Cluster) -> None:
    token = cluster.policy_token()
    for number in range(10):
        _write(cluster.admin(), f"openai_creds/mount/{number}", {"a": number})
    old = cluster.kill_leader()
    killed = time.monotonic()
    until(lambda: cluster.leader() is not None, "another leader", seconds=15)
    assert cluster.leader() != old
    for number in range(10):
        # A client of its own, so that the balancer chooses again.
        assert _read(cluster.client(token), f"openai_creds/mount/{number}")["data"] == {"a": number}
    _write(cluster.client(token), "openai_creds/mount/after", {})
    assert time.monotonic() - killed < 15
    cluster.restart(old)
    cluster.settle()
    assert _read(cluster.nodes[old].client(token), "openai_creds/mount/after")["data"] == {}


def test_a_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
from bao import start_dev
print(start_dev(pathlib.Path({str(tmp_path)!r})).process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen((sys.executable, "-c", program), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    assert server.exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    until(lambda: not server.exists() or server.read_text().rpartition(")")[2].split()[0] == "Z", "it ends", 10)


def test_a_port_that_is_taken(tmp_path: Path, bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = iter([int(bao.address.rpartition(":")[2]), 0])
    import bao as module

    free = module._free_port
    monkeypatch.setattr(module, "_free_port", lambda: next(ports) or free())
    second = start_dev(tmp_path)
    assert second.address != bao.address
    second.stop()
