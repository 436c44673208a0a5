# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in to a real OpenBao by every method, and one sentence without a secret for every failure."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import multiprocessing
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hvac
import pytest
from bao import Bao, start_raft
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from lab import COLLECTIONS
from wording import sentence

from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible import options
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.vault_options import sources
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import StoreError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import vault_client, vault_login
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vault_http import adapter_class

SECRET = "SecretOfTheLoginTests-5d1c"
PEM = serialization.Encoding.PEM


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who has nothing set and has not logged in."""
    for name in list(os.environ):
        if name.startswith(("VAULT_", "BAO_", "ANSIBLE_HASHI_VAULT_", "OPENAI_CREDS_")) or name.lower() == "http_proxy":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    vault_client._usable.cache_clear()
    vault_client._certificate.cache_clear()


def resolve(**given: t.Any) -> dict[str, t.Any]:
    return options.resolve({"store": "vault_kv", **given}, {}, lambda value: value)


def connect(adapter: type = hvac.adapters.JSONAdapter, **options: t.Any) -> hvac.Client:
    return vault_login.connect(resolve(**options), adapter, sources)


def refused(option: str, **options: t.Any) -> str:
    """Return the sentence with which a login is refused."""
    with pytest.raises(StoreError) as error:
        connect(**options)
    text = sentence(error.value, option)
    assert SECRET not in text
    assert error.value.__cause__ is None
    return text


def who(client: hvac.Client) -> str:
    """Return who the client is to the server."""
    return str(client.auth.token.lookup_self()["data"]["display_name"])


@contextlib.contextmanager
def serving(answer: t.Callable[[str, str, t.Any], tuple[int, t.Any]]) -> t.Iterator[str]:
    """A server that is not Vault; yields its address. answer gets method, path and body, gives status and JSON or text."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = answer(self.command, self.path, json.loads(body or b"null"))
            self.send_response(status)
            is_text = isinstance(content, str)
            self.send_header("Content-Type", "text/html" if is_text else "application/json")
            self.end_headers()
            self.wfile.write((content if is_text else json.dumps(content)).encode())

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: t.Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def enable(bao: t.Any, method: str) -> str:
    """Mount an auth method somewhere new; returns where."""
    mount = f"{method}-{secrets.token_hex(4)}"
    bao.admin().sys.enable_auth_method(method, path=mount)
    return mount


def jwt(key: ec.EllipticCurvePrivateKey, **claims: t.Any) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = int(time.time())
    content = {"iat": now, "nbf": now - 5, "exp": now + 300, **claims}
    signed = f"{part(json.dumps({'alg': 'ES256', 'typ': 'JWT'}).encode())}.{part(json.dumps(content).encode())}"
    numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{part(b''.join(number.to_bytes(32, 'big') for number in numbers))}"


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


# By every method


def test_token(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bao.policy_token()
    assert connect(url=bao.address, token=token).token == token
    monkeypatch.setenv("VAULT_TOKEN", bao.root_token)
    monkeypatch.setenv("BAO_ADDR", bao.address)
    assert who(connect()) == "token"


@pytest.mark.parametrize("explicit", [False, True])
def test_token_file(bao: Bao, tmp_path: Path, explicit: bool) -> None:
    (tmp_path / ("mine" if explicit else ".vault-token")).write_text(f"{bao.root_token}\n")
    where = {"token_path": "~", "token_file": "mine"} if explicit else {}
    assert connect(url=bao.address, **where).token == bao.root_token


def test_token_validate(bao: Bao) -> None:
    assert connect(url=bao.address, token="s.wrong" + SECRET).token
    text = refused("token", url=bao.address, token="s.wrong" + SECRET, token_validate=True)
    assert "does not let the token look itself up: permission denied" in text
    assert connect(url=bao.address, token=bao.root_token, token_validate=True).token == bao.root_token
    # A token without the policy default may not look itself up, and is fine without being asked to.
    assert refused("token", url=bao.address, token=bao.policy_token(), token_validate=True)


def test_approle(bao: Bao) -> None:
    role_id, secret_id = bao.approle()
    client = connect(url=bao.address, auth_method="approle", role_id=role_id, secret_id=secret_id)
    bao_says = bao.admin().auth.token.lookup(client.token)["data"]
    assert bao_says["path"] == "auth/approle/login"
    assert client.secrets.kv.v2.create_or_update_secret("openai_creds/x", {"a": "b"})


def test_userpass(bao: Bao) -> None:
    mount = enable(bao, "userpass")
    bao.admin().auth.userpass.create_or_update_user("joe", password=SECRET, mount_point=mount)
    login = {"url": bao.address, "auth_method": "userpass", "mount_point": mount, "username": "joe"}
    assert who(connect(**login, password=SECRET)) == f"{mount}-joe"
    text = refused("auth_method", **login, password=SECRET + "x")
    assert (
        f"refuses the userpass login at auth/{mount}: invalid username or password; look at username, password" in text
    )


def test_jwt(bao: Bao) -> None:
    mount = enable(bao, "jwt")
    key = ec.generate_private_key(ec.SECP256R1())
    admin = bao.admin()
    admin.auth.jwt.configure(jwt_validation_pubkeys=public_pem(key), path=mount)
    admin.auth.jwt.create_role(
        "builder", role_type="jwt", user_claim="sub", allowed_redirect_uris=[], bound_audiences=["bao"], path=mount
    )
    login = {"url": bao.address, "auth_method": "jwt", "mount_point": mount, "role_id": "builder"}
    assert who(connect(**login, jwt=jwt(key, sub="joe", aud="bao"))) == f"{mount}-joe"
    wrong = jwt(key, sub="joe", aud="somebody else")
    text = refused("auth_method", **login, jwt=wrong)
    assert "aud" in text and "look at role_id, jwt, mount_point" in text and wrong not in text


def test_kubernetes(bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod_key = ec.generate_private_key(ec.SECP256R1())
    identity = {"namespace": "jobs", "serviceaccount": {"name": "ansible", "uid": "u1"}}
    token = jwt(pod_key, sub="system:serviceaccount:jobs:ansible", **{"kubernetes.io": identity})

    def review(method: str, path: str, body: t.Any) -> tuple[int, t.Any]:
        known = path == "/apis/authentication.k8s.io/v1/tokenreviews" and body["spec"]["token"] == token
        user = {"username": "system:serviceaccount:jobs:ansible", "uid": "u1", "groups": ["system:serviceaccounts"]}
        return 201, {**body, "status": {"authenticated": known, "user": user} if known else {"error": "unknown"}}

    # It asks for one, also where there is no TLS.
    certificate = Path(client_certificate(tmp_path / "cluster")["cert_auth_public_key"]).read_text()
    mount = enable(bao, "kubernetes")
    with serving(review) as address:
        admin = bao.admin()
        admin.write_data(
            f"auth/{mount}/config",
            data={
                "kubernetes_host": address,
                "token_reviewer_jwt": token,
                "disable_local_ca_jwt": True,
                "kubernetes_ca_cert": certificate,
            },
        )
        bound = {"bound_service_account_names": "ansible", "bound_service_account_namespaces": "jobs"}
        admin.write_data(f"auth/{mount}/role/ansible", data=bound)
        login = {"url": bao.address, "auth_method": "kubernetes", "mount_point": mount, "role_id": "ansible"}
        assert who(connect(**login, jwt=token)) == f"{mount}-jobs-ansible"

        monkeypatch.setattr(vault_login, "_POD_TOKEN", str(tmp_path / "token"))
        assert f"{tmp_path}/token cannot be read: No such file" in refused("jwt", **login)
        (tmp_path / "token").write_text(f"{token}\n")
        assert who(connect(**login)) == f"{mount}-jobs-ansible"
        assert "name not authorized; look at role_id, jwt" in refused("auth_method", **login, jwt=jwt(pod_key, sub="x"))


def test_ldap() -> None:
    """OpenBao has no LDAP plugin, so it is the request that is looked at."""
    asked: list[t.Any] = []

    def answer(*request: t.Any) -> tuple[int, t.Any]:
        asked.append(request)
        return 200, {"auth": {"client_token": "s.given", "lease_duration": 60}}

    with serving(answer) as address:
        login = {"url": address, "auth_method": "ldap", "username": "joe@x/y", "password": SECRET}
        assert connect(**login).token == "s.given"
        assert connect(**login, mount_point="team/ldap").token == "s.given"
    assert asked == [
        ("POST", "/v1/auth/ldap/login/joe%40x%2Fy", {"password": SECRET}),
        ("POST", "/v1/auth/team/ldap/login/joe%40x%2Fy", {"password": SECRET}),
    ]


def test_none(bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An agent adds the token; none is sent, whatever the user has."""
    monkeypatch.setenv("VAULT_TOKEN", bao.root_token)
    (tmp_path / ".vault-token").write_text(bao.root_token)
    client = connect(url=bao.address, auth_method="none")
    assert not client.token
    with pytest.raises(hvac.exceptions.Forbidden):
        client.auth.token.lookup_self()


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[t.Any]:
    cluster = start_raft(tmp_path_factory.mktemp("tls"))
    yield cluster
    cluster.stop()


def client_certificate(folder: Path, password: bytes | None = None) -> dict[str, str]:
    """Make a certificate to log in with; returns the options."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "joe")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(usage, critical=False).sign(key, hashes.SHA256())
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    folder.mkdir(exist_ok=True)
    (folder / "joe.pem").write_bytes(certificate.public_bytes(PEM))
    (folder / "joe.key").write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))
    return {"cert_auth_public_key": str(folder / "joe.pem"), "cert_auth_private_key": str(folder / "joe.key")}


def test_cert(tls: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = client_certificate(tmp_path / "mine")
    mount = enable(tls, "cert")
    tls.admin().write_data(
        f"auth/{mount}/certs/joe", data={"certificate": Path(mine["cert_auth_public_key"]).read_text()}
    )
    login = {"url": tls.address, "ca_cert": tls.ca_cert, "auth_method": "cert", "mount_point": mount}
    assert who(connect(**login, **mine)) == f"{mount}-joe"
    assert who(connect(**login, **mine, role_id="joe")) == f"{mount}-joe"
    assert "refuses the cert login" in refused("auth_method", **login, **client_certificate(tmp_path / "another"))
    monkeypatch.setenv("VAULT_CLIENT_CERT", mine["cert_auth_public_key"])
    monkeypatch.setenv("BAO_CLIENT_KEY", mine["cert_auth_private_key"])
    assert who(connect(**login)) == f"{mount}-joe"


def test_a_certificate_that_cannot_be_used(tls: t.Any, tmp_path: Path) -> None:
    login = {"url": tls.address, "ca_cert": tls.ca_cert, "auth_method": "cert"}
    options = "cert_auth_public_key, cert_auth_private_key"
    assert "No such file" in refused(
        options, **login, cert_auth_public_key="/nowhere", cert_auth_private_key="/nowhere"
    )
    mine, other = client_certificate(tmp_path / "mine"), client_certificate(tmp_path / "other")
    mixed = {**mine, "cert_auth_private_key": other["cert_auth_private_key"]}
    assert "not what belongs together" in refused(options, **login, **mixed)
    # Without asking for a password at the terminal.
    locked = client_certificate(tmp_path / "locked", password=b"x")
    assert "cannot be used: this is not PEM without a password" in refused(options, **login, **locked)


def test_the_servers_certificate(tls: t.Any, bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = client_certificate(tmp_path / "mine")["cert_auth_public_key"]
    login = {"url": tls.address, "token": tls.root_token, "token_validate": True}
    untrusted = "ca_cert, validate_certs"
    assert "is not trusted" in refused(untrusted, **login)
    assert "is not trusted" in refused(untrusted, **login, ca_cert=mine)
    assert "'/nowhere' cannot be used: No such file" in refused("ca_cert", **login, ca_cert="/nowhere")
    (tmp_path / "empty").write_text("")
    assert "cannot be used: this is not PEM" in refused("ca_cert", **login, ca_cert=str(tmp_path / "empty"))
    monkeypatch.setenv("VAULT_CACERT", tls.ca_cert)
    assert who(connect(**login)) == "root"
    assert "is not trusted" in refused(untrusted, **login, ca_cert=mine)
    monkeypatch.delenv("VAULT_CACERT")
    # The way to trust a company's CA in all that uses requests, unless there is something more special.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", tls.ca_cert)
    vault_client._usable.cache_clear()
    assert who(connect(**login)) == "root"
    assert "is not trusted" in refused(untrusted, **login, ca_cert=mine)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    vault_client._usable.cache_clear()
    assert "'/nowhere' cannot be used" in refused("ca_cert", **login)
    # Nobody asks for it where there is no TLS, but whoever is sent on from there is not without.
    assert connect(url=bao.address, token=bao.root_token).adapter._kwargs["verify"] is True


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_without_checking_the_certificate(tls: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"url": tls.address, "token": tls.root_token, "token_validate": True}
    assert who(connect(**login, validate_certs=False)) == "root"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "1")
    assert who(connect(**login)) == "root"
    assert "cannot be used" in refused("ca_cert", **login, validate_certs=True)


# At most once


class Counting(hvac.adapters.JSONAdapter):  # type: ignore[misc]
    """Counts the logins."""

    logins = 0

    def request(self, method: str, url: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
        if "/login" in url:
            Counting.logins += 1
        return super().request(method, url, *args, **kwargs)


def test_one_login_for_the_same_settings(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "logins", 0)
    role_id, secret_id = bao.approle()
    login = {"url": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
    with ThreadPoolExecutor(8) as pool:
        tokens = {client.token for client in pool.map(lambda _n: connect(Counting, **login), range(16))}
    assert len(tokens) == 1 and Counting.logins == 1
    # Another mount of ours, with the same login.
    assert connect(Counting, **login, mount="other", kv_path="elsewhere").token in tokens
    assert Counting.logins == 1
    _role_id, another = bao.approle()
    assert connect(Counting, **{**login, "secret_id": another}).token not in tokens
    assert Counting.logins == 2


@pytest.mark.parametrize(("auth", "logins"), [({"lease_duration": 3600}, 1), ({}, 1), ({"num_uses": 5}, 2)])
def test_a_token_is_used_while_it_lasts(auth: t.Any, logins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "logins", 0)
    with serving(lambda *_request: (200, {"auth": {"client_token": "s.given", **auth}})) as address:
        login = {"url": address, "auth_method": "userpass", "username": "joe", "password": SECRET}
        for _unused in range(2):
            connect(Counting, **login)
        assert Counting.logins == logins
        if auth.get("lease_duration"):
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now + 1900)
            connect(Counting, **login)
            assert Counting.logins == logins + 1


def test_a_token_that_cannot_be_replaced_is_used_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JWT of five minutes has logged in for an hour."""
    refusing: list[str] = []
    answers = {"auth": {"client_token": "s.given", "lease_duration": 3600}}

    def answer(_method: str, path: str, _body: t.Any) -> tuple[int, t.Any]:
        if refusing:
            refusing.append(path)
            return 400, {"errors": ["token is expired"]}
        return 200, answers

    with serving(answer) as address:
        login = {"url": address, "auth_method": "jwt", "role_id": "x", "jwt": SECRET}
        begun = time.monotonic()
        assert connect(**login).token == "s.given"
        refusing.append("from now on")
        for passed in (1900, 2700, 3500):
            monkeypatch.setattr(time, "monotonic", lambda passed=passed: begun + passed)
            for _unused in range(3):
                assert connect(**login).token == "s.given"
        assert len(refusing) - 1 <= 3
        monkeypatch.setattr(time, "monotonic", lambda: begun + 3700)
        assert "token is expired" in refused("auth_method", **login)


def test_a_server_that_is_down_when_a_token_is_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    down: list[int] = []
    answers = {"auth": {"client_token": "s.given", "lease_duration": 3600}}
    with serving(lambda *_request: (500, {"errors": ["no"]}) if down else (200, answers)) as address:
        login = {"url": address, "auth_method": "userpass", "username": "joe", "password": SECRET}
        begun = time.monotonic()
        assert connect(**login).token == "s.given"
        down.append(1)
        monkeypatch.setattr(time, "monotonic", lambda: begun + 1900)
        assert connect(**login).token == "s.given"


def test_one_refusal_answers_the_whole_run(bao: Bao) -> None:
    """Ten hosts with a wrong password do not lock the account."""
    mount = enable(bao, "userpass")
    bao.admin().auth.userpass.create_or_update_user("joe", SECRET, mount_point=mount)
    login = {"url": bao.address, "auth_method": "userpass", "mount_point": mount, "username": "joe"}
    lines: list[str] = []

    def ask() -> None:
        try:
            connect(adapter_class(lines.append), **login, password=SECRET + "x")
        except StoreError as error:
            results.put(str(error))

    results = multiprocessing.get_context("fork").Queue()
    workers = [multiprocessing.get_context("fork").Process(target=ask) for _unused in range(10)]
    for worker in workers:
        worker.start()
    sentences = {results.get(timeout=30) for _unused in workers}
    for worker in workers:
        worker.join()
    (text,) = sentences
    assert "invalid username or password" in text
    # Another password is another matter, and the account is not locked.
    assert who(connect(**login, password=SECRET)) == f"{mount}-joe"
    begun = len(lines)
    ask()
    assert len(lines) == begun


def test_one_login_for_the_workers_of_a_run() -> None:
    """Each asks for a token in a process of its own, after the fork; some at the same time."""
    logins: list[str] = []

    def answer(_method: str, path: str, _body: t.Any) -> tuple[int, t.Any]:
        logins.append(path)
        time.sleep(0.1)
        return 200, {"auth": {"client_token": f"s.given{len(logins)}", "lease_duration": 3600}}

    def work() -> None:
        assert connect(**login).token == "s.given1"

    with serving(answer) as address:
        login = {"url": address, "auth_method": "userpass", "username": "joe", "password": SECRET}
        for count in (8, 1):
            workers = [multiprocessing.get_context("fork").Process(target=work) for _unused in range(count)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert [worker.exitcode for worker in workers] == [0] * count
    assert len(logins) == 1


def test_a_token_that_has_ended_is_replaced_by_one_login(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_login, "_YOUNG_SECONDS", 0)
    mount = enable(bao, "userpass")
    bao.admin().auth.userpass.create_or_update_user("joe", SECRET, mount_point=mount)
    lines: list[str] = []
    login = {
        "url": bao.address,
        "auth_method": "userpass",
        "mount_point": mount,
        "username": "joe",
        "password": SECRET,
    }
    client = connect(adapter_class(lines.append), **login)
    ended = client.token
    bao.admin().revoke_token(ended)
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _n: who(client), range(16)))
    assert names == {f"{mount}-joe"} and client.token != ended
    assert sum("/login" in line for line in lines) == 2
    # It is the run's from now on.
    assert connect(adapter_class(lines.append), **login).token == client.token
    assert not [line for line in lines if ended in line or client.token in line or SECRET in line]


def test_what_a_policy_refuses_is_refused_without_another_login(bao: Bao) -> None:
    role_id, secret_id = bao.approle()
    lines: list[str] = []
    login = {"url": bao.address, "auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
    client = connect(adapter_class(lines.append), **login)
    with pytest.raises(hvac.exceptions.Forbidden):
        client.adapter.get("/v1/secret/data/elsewhere")
    assert len(lines) == 2


def test_a_login_that_is_refused_by_now_does_not_hide_what_was(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_login, "_YOUNG_SECONDS", 0)
    mount = enable(bao, "userpass")
    bao.admin().auth.userpass.create_or_update_user("joe", SECRET, mount_point=mount)
    login = {"url": bao.address, "auth_method": "userpass", "mount_point": mount, "username": "joe"}
    client = connect(adapter_class(lambda _line: None), **login, password=SECRET)
    bao.admin().revoke_token(client.token)
    bao.admin().auth.userpass.delete_user("joe", mount_point=mount)
    with pytest.raises(hvac.exceptions.Forbidden):
        who(client)


def test_a_token_file_that_somebody_renews(bao: Bao, tmp_path: Path) -> None:
    file = tmp_path / ".vault-token"
    file.write_text(bao.policy_token())
    client = connect(adapter_class(lambda _line: None), url=bao.address)
    bao.admin().revoke_token(client.token)
    with pytest.raises(hvac.exceptions.Forbidden):
        who(client)
    file.write_text(bao.root_token)
    assert who(client) == "token"


def test_the_adapter_is_told_of_retries(bao: Bao) -> None:
    client = connect(url=bao.address, token="s.x", retries=3, retry_action="ignore", timeout=7)
    assert (client.adapter.retries, client.adapter.retry_action) == (3, "ignore")
    assert client.adapter._kwargs["timeout"] == 7
    assert isinstance(client.adapter, hvac.adapters.JSONAdapter)


def test_only_settings_count(bao: Bao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """hvac would look for all of these by itself."""
    for name, value in {"ADDR": "http://127.0.0.1:1", "TOKEN": "s.other", "NAMESPACE": "other"}.items():
        monkeypatch.setenv(f"VAULT_{name}", value)
    monkeypatch.setenv("ANSIBLE_HASHI_VAULT_NAMESPACE", "mine")
    (tmp_path / ".vault-token").write_text("s.file")
    client = connect(url=bao.address, token="s.mine")
    assert (client.url, client.token, client.adapter.namespace) == (bao.address, "s.mine", "mine")


@pytest.mark.parametrize("name", ["VAULT_CAPATH", "BAO_CAPATH"])
def test_a_folder_of_certificates(tls: t.Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Vault's own program takes it: whatever the files are called."""
    login = {"url": tls.address, "token": tls.root_token, "token_validate": True}
    folder = tmp_path / "cas"
    folder.mkdir()
    monkeypatch.setenv(name, str(folder))
    assert "there is no certificate in it" in refused("ca_cert", **login)
    (folder / "notes.txt").write_text("no certificate")
    client_certificate(folder)
    vault_client._usable.cache_clear()
    assert "is not trusted" in refused("ca_cert, validate_certs", **login)
    (folder / "company.crt").write_text(Path(tls.ca_cert).read_text())
    assert who(connect(**login)) == "root"
    assert who(connect(**login, ca_cert=tls.ca_cert)) == "root"
    monkeypatch.setenv("VAULT_CACERT", client_certificate(tmp_path / "mine")["cert_auth_public_key"])
    assert "is not trusted" in refused("ca_cert, validate_certs", **login)


@pytest.mark.parametrize("more", ["/", "/v1", "/v1/", "/ui", "/ui/", "/ui/vault/secrets"])
def test_an_address_with_more_behind_it(bao: Bao, more: str) -> None:
    assert who(connect(url=f"{bao.address}{more}", token=bao.root_token)) == "token"


def test_a_gateway_with_a_path_of_its_own() -> None:
    asked: list[str] = []

    def answer(_method: str, path: str, _body: t.Any) -> tuple[int, t.Any]:
        asked.append(path)
        return 200, {"auth": {"client_token": "s.given"}}

    with serving(answer) as address:
        for more in ("/vault", "/vault/", "/vault/v1"):
            login = {"url": f"{address}{more}", "auth_method": "userpass", "username": "joe", "password": SECRET}
            assert connect(**login).token == "s.given"
    assert set(asked) == {"/vault/v1/auth/userpass/login/joe"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("unix:///run/vault.sock", "through a Unix socket"),
        ("/run/vault.sock", "through a Unix socket"),
        ("https://vault/v1/secret/data/x", "without the path of a secret"),
    ],
)
def test_an_address_of_something_else(url: str, text: str) -> None:
    assert text in refused("url", url=url, token="s.x")


# On the way


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_secret_is_sent_over_a_weaker_connection(tls: t.Any, tmp_path: Path, status: int) -> None:
    """A front that speaks TLS redirects to http: neither the login nor a token follows."""
    seen: list[str] = []

    class Front(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Location", f"{plain}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, format: str, *args: t.Any) -> None:
            pass

    folder = Path(tls.ca_cert).parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with (
        serving(lambda *request: seen.append(str(request)) or (200, {"auth": {"client_token": "s.given"}})) as plain,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front) as front,
    ):
        front.socket = context.wrap_socket(front.socket, server_side=True)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        where = {"url": f"https://127.0.0.1:{front.server_port}", "ca_cert": tls.ca_cert}
        adapter = adapter_class(lambda _line: None)
        for login in (
            {"auth_method": "approle", "role_id": "x", "secret_id": SECRET},
            {"token": SECRET, "token_validate": True},
        ):
            with pytest.raises(StoreError) as error:
                connect(adapter, **where, **login)
            assert "without TLS" in sentence(error.value, "url") and SECRET not in str(error.value)
        front.shutdown()
    assert seen == []


@contextlib.contextmanager
def refusing_proxy(status: int) -> t.Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_CONNECT

        def log_message(self, format: str, *args: t.Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("status", [403, 407])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("source", ["proxies", "HTTP(S)_PROXY", "all_proxy"])
def test_a_proxy_that_refuses_is_named(status: int, scheme: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = source.replace("HTTP(S)", scheme.upper())
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    with refusing_proxy(status) as (host, asked):
        options = {}
        if name == "proxies":
            options["proxies"] = f"http://joe:{SECRET}@{host}"
        else:
            monkeypatch.setenv(name, f"http://joe:{SECRET}@{host}")
        login = {"auth_method": "approle", "role_id": "x", "secret_id": SECRET, **options}
        with pytest.raises(StoreError) as error:
            connect(adapter_class(lambda _line: None), url=f"{scheme}://vault.invalid:8200", **login)
        text = sentence(error.value, name)
        assert f"the proxy {host} refuses the way to Vault ({status})" in text and SECRET not in text
    assert len(asked) == 1


def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever is installed here.
    monkeypatch.setattr(vault_client, "find_spec", lambda _name: None)
    login = {"url": "https://vault.invalid", "token": "s.x"}
    text = refused("proxies", **login, proxies=f"socks5://joe:{SECRET}@proxy.example.com:1080")
    assert "the SOCKS proxy proxy.example.com:1080 needs the Python package PySocks" in text
    assert text.endswith(f"{sys.executable} -m pip install PySocks")
    assert "this is not a proxy" in refused("proxies", **login, proxies="gopher://proxy:1")
    # What applies to another scheme does not matter.
    assert connect(**login, proxies={"http": "socks5://proxy:1080", "https": "http://proxy:1"}).token == "s.x"


@pytest.mark.parametrize(("version", "fits"), [("1.0.2", False), ("1.1.0", True)])
def test_the_oldest_hvac_that_will_do(bao: Bao, tmp_path: Path, version: str, fits: bool) -> None:
    """In a process of its own, with a real package."""
    command = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "old"))
    packages = (f"hvac=={version}", "pyhcl==0.4.5")
    if subprocess.run((*command, *packages), capture_output=True, check=False).returncode:
        pytest.skip("the package index cannot be reached")
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path / "old")!r}, {str(COLLECTIONS)!r}]
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.open_mount import open_mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.options import resolve
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Write
options = {{"store": "vault_kv", "url": {bao.address!r}, "token": {bao.root_token!r}, "mount": "m{secrets.token_hex(4)}"}}
store = open_mount(resolve(options, {{}}, lambda value: value)).store
try:
    store.write(Write("a/x", {{}}))
    print(store.read("a/x").version, [one.path for one in store.scan("a/")])
    store.delete("a/x")
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    run = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, env=environment, check=False)
    wanted = "1 ['a/x']" if fits else "StoreError store: vault_kv needs the Python package hvac 1.1 or newer"
    assert run.stdout.startswith(wanted), run.stdout + run.stderr
    assert fits or run.stdout.endswith(f"install it there: {sys.executable} -m pip install --upgrade hvac\n")


# What is missing or wrong


def test_no_url() -> None:
    text = refused("url", token="s.x")
    for place in ("ansible_hashi_vault_url", "ANSIBLE_HASHI_VAULT_ADDR", "BAO_ADDR or VAULT_ADDR"):
        assert place in text


@pytest.mark.parametrize(
    "url",
    [
        "vault.example.com",
        "ftp://vault",
        f"https://joe:{SECRET}@vault",
        f"https://vault/?token={SECRET}",
        "https://vault#x",
        "https://va ult",
        "https://vault:99999",
        "https://vault:x",
        "https://",
        "https:///v1",
    ],
)
def test_no_address(url: str) -> None:
    assert "give the address of Vault or OpenBao without" in refused("url", url=url, token="s.x")


def test_no_token(tmp_path: Path) -> None:
    text = refused("token", url="http://127.0.0.1:1")
    for place in ("give token", "ansible_hashi_vault_token", "BAO_TOKEN or VAULT_TOKEN", f"{tmp_path}/.vault-token"):
        assert place in text
    (tmp_path / ".vault-token").write_text("\n")
    assert refused("token", url="http://127.0.0.1:1") == text


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".vault-token").mkdir()
    assert ".vault-token cannot be read: Is a directory" in refused("token_path", url="http://127.0.0.1:1")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused("token_path", url="http://127.0.0.1:1", token_file="binary")


@pytest.mark.parametrize("token", [f"{SECRET} ", f"{SECRET}\nX-Evil: 1", f"é{SECRET}", f"{SECRET}\0"])
def test_not_a_token(token: str) -> None:
    assert "this is not a token" in refused("token", url="http://127.0.0.1:1", token=token)


@pytest.mark.parametrize(
    ("method", "given", "missing"),
    [
        ("approle", {}, "role_id"),
        ("jwt", {"jwt": SECRET}, "role_id"),
        ("jwt", {"role_id": "x"}, "jwt"),
        ("kubernetes", {}, "role_id"),
        ("userpass", {"password": SECRET}, "username"),
        ("userpass", {"username": "joe"}, "password"),
        ("ldap", {"username": "joe"}, "password"),
        ("cert", {}, "cert_auth_public_key"),
    ],
)
def test_what_a_method_needs(method: str, given: dict[str, str], missing: str) -> None:
    text = refused(missing, url="http://127.0.0.1:1", auth_method=method, **given)
    assert f"auth_method {method} needs it; give {missing}, " in text or f"give {missing} or " in text
    assert f"ANSIBLE_HASHI_VAULT_{missing.upper()}" in text


def test_a_wrong_approle(bao: Bao) -> None:
    role_id, secret_id = bao.approle()
    login = {"url": bao.address, "auth_method": "approle"}
    wrong = "refuses the approle login at auth/approle: invalid role or secret ID; look at role_id, secret_id"
    assert wrong in refused("auth_method", **login, role_id="nobody", secret_id=secret_id)
    assert wrong in refused("auth_method", **login, role_id=role_id, secret_id=SECRET)
    assert "missing secret_id" in refused("auth_method", **login, role_id=role_id)
    elsewhere = refused("auth_method", **login, role_id=role_id, secret_id=secret_id, mount_point="nowhere")
    assert "login at auth/nowhere: permission denied" in elsewhere and "mount_point" in elsewhere


def test_no_such_namespace(bao: Bao) -> None:
    role_id, secret_id = bao.approle()
    login = {"url": bao.address, "namespace": "nowhere"}
    approle = {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
    assert "has no namespace 'nowhere'" in refused("namespace", **login, **approle)
    assert "has no namespace 'nowhere'" in refused("namespace", **login, token=bao.root_token, token_validate=True)


def test_a_namespace(bao: Bao) -> None:
    name = f"team-{secrets.token_hex(4)}"
    bao.admin().write_data(f"sys/namespaces/{name}", data={})
    inside = hvac.Client(bao.address, token=bao.root_token, namespace=name)
    inside.sys.enable_auth_method("userpass")
    inside.auth.userpass.create_or_update_user("joe", password=SECRET)
    login = {"url": bao.address, "auth_method": "userpass", "username": "joe", "password": SECRET}
    assert who(connect(**login, namespace=f"/{name}/")) == f"{name}-auth-userpass-joe"
    assert "login at auth/userpass: " in refused("auth_method", **login)


def test_sealed(tmp_path: Path) -> None:
    from bao import start_dev

    bao = start_dev(tmp_path / "bao")
    try:
        role_id, secret_id = bao.approle()
        bao.seal()
        approle = {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
        assert "is sealed" in refused("url", url=bao.address, **approle)
    finally:
        bao.stop()


@pytest.mark.parametrize("method", ["approle", "token"])
def test_nobody_answers(method: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        login = {"auth_method": method, "role_id": "x", "secret_id": SECRET, "token": SECRET, "token_validate": True}
        assert f"Vault at {url} cannot be reached" in refused("url", url=url, **login)


def test_no_answer_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused("timeout", url=url, auth_method="approle", role_id="x", secret_id=SECRET, timeout=1)


@pytest.mark.parametrize(
    ("status", "content", "option", "text"),
    [
        (400, "<html>No</html>", "url", "is not Vault or OpenBao"),
        (404, "<html>No</html>", "url", "is not Vault or OpenBao"),
        (403, {"error": "no"}, "url", "is not Vault or OpenBao"),
        (200, "<html>Log in</html>", "auth_method", "without a token"),
        (200, {"auth": None}, "auth_method", "without a token"),
        (200, {"auth": {"client_token": "", "mfa_requirement": {}}}, "auth_method", "second factor"),
        (200, {"auth": {"client_token": "a\nb"}}, "auth_method", "without a token"),
        (200, [], "auth_method", "without a token"),
        (204, "", "auth_method", "without a token"),
        (400, {"errors": ["you sent " + SECRET]}, "auth_method", "you sent …; look at"),
        (400, {"errors": ["long " * 1000]}, "auth_method", "long long"),
        (400, {"errors": []}, "auth_method", "refuses the userpass login"),
        (429, {"errors": ["slow down"]}, "url", "429"),
        (500, {"errors": ["oh"]}, "url", "cannot answer now"),
        (418, {"errors": ["teapot"]}, "url", "cannot answer now"),
    ],
)
def test_what_answers_strangely(status: int, content: t.Any, option: str, text: str) -> None:
    with serving(lambda *_request: (status, content)) as address:
        login = {"url": address, "auth_method": "userpass", "username": "joe", "password": SECRET}
        assert text in refused(option, **login)


def test_http_where_https_is_spoken(tls: t.Any) -> None:
    login = {"url": tls.address.replace("https", "http"), "auth_method": "approle", "role_id": "x"}
    assert "or it wants https" in refused("url", **login)


def test_https_where_http_is_spoken(bao: Bao) -> None:
    refused("", url=bao.address.replace("http", "https"), auth_method="approle", role_id="x", secret_id=SECRET)


def test_a_proxy(bao: Bao) -> None:
    login = {"url": "http://vault.invalid:8200", "auth_method": "userpass", "username": "joe", "password": SECRET}
    proxy = f"http://joe:{SECRET}@127.0.0.1:1"
    assert "the proxy 127.0.0.1:1 cannot be reached" in refused("proxies", **login, proxies=proxy)
    asked: list[str] = []

    def answer(_method: str, path: str, _body: t.Any) -> tuple[int, t.Any]:
        asked.append(path)
        return 200, {"auth": {"client_token": "s.given"}}

    with serving(answer) as address:
        assert connect(**login, proxies={"http": address}).token == "s.given"
    assert asked == ["http://vault.invalid:8200/v1/auth/userpass/login/joe"]
