# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to OpenAI: proxies, certificates, names and ports that do not lead there. Each failure is one sentence."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import threading
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from client.ways import Authority, tinyproxy, tls_front
from double.client import Double
from lab import PROJECT

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import ApiError, OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai import transport
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.client import OpenAI
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.openai.proxies import find_proxy

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NEEDS_TINYPROXY = pytest.mark.skipif(
    shutil.which("tinyproxy", path="/usr/bin:/usr/local/bin") is None, reason="tinyproxy is not installed"
)

#: What httpx speaks SOCKS with.
NEEDS_SOCKSIO = pytest.mark.skipif(importlib.util.find_spec("socksio") is None, reason="httpx[socks] is not installed")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CERTIFICATES, *PROXIES, *(name.upper() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def front(authority: Authority, running_double: Double) -> t.Iterator[int]:
    """The port of a TLS server before the double, whose certificate is for localhost."""
    with tls_front(urlsplit(running_double.url).port or 0, authority.context("localhost")) as port:
        yield port


class Tried(t.NamedTuple):
    """What became of a call: its error, how often it was tried, and the warnings."""

    error: str | None
    attempts: int
    warnings: list[str]


def ask(double: Double, url: str) -> Tried:
    """Create an account by way of an endpoint."""
    lines: list[str] = []
    warnings: list[str] = []
    try:
        openai = OpenAI(
            url, double.admin_key, None, log=lines.append, warn=warnings.append, sleep=lambda _seconds: None
        )
        openai.create_service_account(PROJECT, f"n{os.urandom(4).hex()}", 600)
    except OpenAICredsError as error:
        text = str(error)
        assert len(text.splitlines()) == 1 and double.admin_key not in text
        assert not isinstance(error, ApiError) or error.general or error.may_have_happened
        return Tried(text, len(lines), warnings)
    assert len(double.state()["service_accounts"]) == 1
    return Tried(None, len(lines), warnings)


def on(port: int, host: str = "localhost") -> str:
    return f"https://{host}:{port}/v1"


def refused(tried: Tried) -> str:
    assert tried.error is not None
    return tried.error


# Certificates.


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_ca_of_ones_own_by_each_variable(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    place = authority.ca
    if name == "SSL_CERT_DIR":
        shutil.copy(authority.ca, tmp_path)
        subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
        place = tmp_path
    monkeypatch.setenv(name, str(place))
    assert ask(double, on(front)).error is None


def test_all_variables_that_are_set_count(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A distribution sets one for itself, the user another one for the company's CA."""
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).ca))
    monkeypatch.setenv("CURL_CA_BUNDLE", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
    assert ask(double, on(front)).error is None


@pytest.mark.parametrize("ours", [True, False])
def test_a_certificate_that_is_not_trusted(
    double: Double, front: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: bool
) -> None:
    if ours:
        monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).ca))
    tried = ask(double, on(front))
    text = refused(tried)
    assert all(name in text for name in CERTIFICATES) and f"localhost:{front}" in text
    assert "certificate" in text and "not trusted" in text and tried.attempts == 1


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [(("localhost",), -1, "has expired"), (("other.example.com",), 1, "is for another name"), (("::1",), 1, "another")],
)
def test_a_certificate_that_is_wrong(
    double: Double,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    days: int,
    said: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with tls_front(urlsplit(double.url).port or 0, authority.context(*names, days=days)) as port:
        for host in ("localhost", "127.0.0.1")[: 1 if days < 0 else 2]:
            tried = ask(double, on(port, host))
            assert f"the certificate of {host}:{port}" in refused(tried) and said in refused(tried)
            assert refused(tried).startswith("api_endpoint, OPENAI_BASE_URL:") and tried.attempts == 1


@pytest.mark.parametrize("name", CERTIFICATES)
@pytest.mark.parametrize("content", [None, b"", b"no certificate\n", b"\0\xff", "folder"])
def test_certificates_that_cannot_be_read_name_their_variable(
    double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes | str | None
) -> None:
    place = tmp_path / "certificates"
    if content == "folder":
        place.mkdir()
    elif isinstance(content, bytes):
        place.write_bytes(content)
    monkeypatch.setenv(name, str(place))
    tried = ask(double, "https://openai.invalid/v1")
    assert refused(tried).startswith(f"{name}: ") and str(place) in refused(tried) and tried.attempts == 0


def test_an_endpoint_with_an_ipv6_address(
    double: Double, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with tls_front(urlsplit(double.url).port or 0, authority.context("::1"), "::1") as port:
        assert ask(double, on(port, "[::1]")).error is None
    assert f"[::1]:{port} cannot be reached" in refused(ask(double, on(port, "[::1]")))


# No way there.


def test_a_name_that_does_not_exist(double: Double) -> None:
    text = refused(ask(double, "https://no-such-name.invalid/v1"))
    assert text.startswith("api_endpoint, OPENAI_BASE_URL:") and "no-such-name.invalid" in text and "DNS" in text


def test_a_port_where_nothing_listens(double: Double) -> None:
    tried = ask(double, on(1, "127.0.0.1"))
    assert "api_endpoint, OPENAI_BASE_URL:" in refused(tried) and "Connection refused" in refused(tried)
    assert "127.0.0.1:1 " in refused(tried) and 1 < tried.attempts <= 6


def test_a_server_without_tls(double: Double) -> None:
    tried = ask(double, double.url.replace("http:", "https:"))
    assert "does not speak TLS" in refused(tried) and tried.attempts == 1


def test_a_server_that_hangs_up(double: Double) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        tried = ask(double, on(server.getsockname()[1], "127.0.0.1"))
        text = refused(tried)
        assert text.startswith("api_endpoint, OPENAI_BASE_URL:") and 1 < tried.attempts <= 6
        server.shutdown(socket.SHUT_RDWR)


def test_one_that_never_answers_does_not_take_minutes(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when connecting, where nobody accepts, nor after that, where nothing comes."""
    monkeypatch.setattr(transport, "_CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(transport, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(transport, "_PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        lines: list[str] = []
        openai = OpenAI(
            f"http://127.0.0.1:{server.getsockname()[1]}/v1", double.admin_key, None, log=lines.append, sleep=print
        )
        with pytest.raises(ApiError, match=r"api_endpoint, OPENAI_BASE_URL: .* did not answer within"):
            openai.list_admin_keys()
        assert len(lines) == 2
        with pytest.raises(ApiError) as caught:
            openai.create_admin_key("name", None)
        assert caught.value.may_have_happened and len(lines) == 3


# Proxies.


@NEEDS_TINYPROXY
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_by_each_variable(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with tinyproxy(tmp_path) as port:
        monkeypatch.setenv(name, f"127.0.0.1:{port}" if name.islower() else f"http://127.0.0.1:{port}/")
        assert ask(double, on(front)).error is None
    assert f"CONNECT localhost:{front}" in (tmp_path / "log").read_text()


@NEEDS_TINYPROXY
def test_only_the_proxy_that_applies_counts(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Desktops set ALL_PROXY to a SOCKS proxy, for which a package may be missing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    monkeypatch.setenv("HTTP_PROXY", "nonsense://")
    with tinyproxy(tmp_path) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        for other in ("socks5://127.0.0.1:1", "socks://127.0.0.1:1/", "nonsense"):
            monkeypatch.setenv("ALL_PROXY", other)
            assert ask(double, on(front)).error is None
            for account in double.state()["service_accounts"]:
                OpenAI(double.url, double.admin_key, None, log=print).delete_service_account(PROJECT, account["id"])


@NEEDS_TINYPROXY
def test_what_a_proxy_refuses(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with tinyproxy(tmp_path / "403", "ConnectPort 1") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:Pa55word@127.0.0.1:{port}")
        tried = ask(double, on(front))
        text = refused(tried)
        assert text.startswith("HTTPS_PROXY: ") and f"the proxy 127.0.0.1:{port} refuses" in text and "403" in text
        assert f"localhost:{front}" in text and tried.attempts == 1 and "Pa55word" not in text
    with tinyproxy(tmp_path / "407", "BasicAuth somebody secret") as port:
        for login in ("", "somebody:Pa55word@"):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{login}127.0.0.1:{port}")
            tried = ask(double, on(front))
            text = refused(tried)
            assert text.startswith(f"HTTPS_PROXY: no answer from OpenAI to POST /organization/projects/{PROJECT}")
            assert f"127.0.0.1:{port}" in text and "password" in text and "Pa55word" not in text
            # Without a login, tinyproxy says 407; with a wrong one, 401.
            assert ("407" in text or "401" in text) and tried.attempts == 1
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:secret@127.0.0.1:{port}")
        assert ask(double, on(front)).error is None


@NEEDS_TINYPROXY
def test_a_proxy_that_is_spoken_to_in_tls(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with tinyproxy(tmp_path) as port, tls_front(port, authority.context("localhost")) as tls_port:
        monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{tls_port}")
        assert ask(double, on(front)).error is None
    assert f"CONNECT localhost:{front}" in (tmp_path / "log").read_text()
    plain = urlsplit(double.url).port
    monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{plain}")
    tried = ask(double, on(front))
    assert refused(tried).startswith("HTTPS_PROXY: ") and "does not speak TLS" in refused(tried)


@NEEDS_TINYPROXY
def test_a_proxy_that_finds_no_way(double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with tinyproxy(tmp_path) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        tried = ask(double, on(1, "localhost"))
        text = refused(tried)
        assert text.startswith("HTTPS_PROXY: ") and f"the proxy 127.0.0.1:{port} cannot connect to localhost:1" in text
        assert "50" in text and tried.attempts > 1


@pytest.mark.parametrize(
    ("value", "said"), [("http://127.0.0.1:1", "Connection refused"), ("http://no-such-name.invalid:3128", "DNS")]
)
def test_a_proxy_that_is_not_there(double: Double, monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    text = refused(ask(double, on(1)))
    assert text.startswith("https_proxy: ") and "the proxy " in text and said in text


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_without_its_package(double: Double, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:Pa55word@127.0.0.1:1080")
    text = refused(ask(double, on(1)))
    assert text.startswith("ALL_PROXY: ") and "httpx[socks]" in text and "Pa55word" not in text


@NEEDS_SOCKSIO
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x00", b""], ids=repr)
def test_a_socks_proxy_that_is_none(double: Double, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """It is an HTTP proxy, or it breaks off, at once or when it is to connect."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(4096)
                        connection.sendall(answer)
                        if answer == b"\x05\x00":
                            connection.recv(4096)

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
        tried = ask(double, on(1))
        server.shutdown(socket.SHUT_RDWR)
    text = refused(tried)
    assert text.startswith("ALL_PROXY: no answer from OpenAI to POST /organization/projects/")
    assert text.endswith(f"the proxy 127.0.0.1:{port} does not answer as a SOCKS proxy does")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "ftp://127.0.0.1:1",
        "socks://127.0.0.1:1/",
        "socks4://127.0.0.1:1",
        "http://127.0.0.1:notaport",
        "http://127.0.0.1:99999",
        "http://",
        "http:///",
        "http://user:Pa55word@",
        "no such proxy",
        "http://127.0.0.1:1/path",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_a_proxy_that_cannot_be_one_names_its_variable(
    double: Double, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    tried = ask(double, on(1))
    assert refused(tried).startswith(f"{name}: this is not the URL of a proxy") and "Pa55word" not in refused(tried)
    assert tried.attempts == 0


def test_a_password_with_special_characters_is_sent_as_it_is() -> None:
    proxy = find_proxy(
        "https://api.openai.com/v1", print, {"HTTPS_PROXY": "http://me:p%40s:s@w@proxy.example.com:3128/"}
    )
    assert proxy and proxy.user == ("me", "p@s:s@w") and proxy.url == "http://proxy.example.com:3128"
    assert "p@s" not in repr(proxy)


COVERED = {
    "https://api.openai.com/v1": [
        "*",
        "api.openai.com",
        ".openai.com",
        "openai.com",
        "*.openai.com",
        "API.OpenAI.com.",
        "com",
        "localhost, openai.com",
        "localhost openai.com",
        " .openai.com ,x",
        "api.openai.com:443",
        "https://api.openai.com",
        "fd00::/8,[::1],openai.com",
    ],
    "https://10.1.2.3:8443/v1": ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:8443", "10.1.2.3/32", "10.0.0.1/255.0.0.0"],
    "https://[fd00::1]/v1": ["fd00::/8", "fd00::1", "[fd00::1]", "[fd00::1]:443", "fd00:0:0::1", "[fd00::]/8"],
}
NOT_COVERED = {
    "https://api.openai.com/v1": [
        "",
        "xopenai.com",
        "api.openai.com:8443",
        "penai.com",
        "localhost,127.0.0.1,::1,fd00::/8,10.0.0.0/8",
        "http://api.openai.com",
        "0.0.0.0/0",
    ],
    "https://10.1.2.3:8443/v1": ["10.1.2.3:443", "11.0.0.0/8", "::/0", "10.1.2"],
    "https://[fd00::1]/v1": ["fe00::/8", "[fd00::1]:8443", "0.0.0.0/0"],
}


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("covered", [True, False])
def test_no_proxy_in_every_spelling(name: str, covered: bool) -> None:
    warnings: list[str] = []
    for url, values in (COVERED if covered else NOT_COVERED).items():
        for value in values:
            environ = {"HTTPS_PROXY": "http://proxy.example.com:3128", name: value}
            assert (find_proxy(url, warnings.append, environ) is None) == covered, (url, value)
    assert warnings == []


@pytest.mark.parametrize("entry", ["fd00::/999", "10.0.0.0/99", "[::1", "a b/c", "<local>", "ex*mple.com", ":::"])
def test_what_no_proxy_cannot_mean_is_left_out_with_a_warning(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    monkeypatch.setenv("NO_PROXY", f"localhost,{entry}")
    tried = ask(double, on(front))
    assert tried.error is None and tried.warnings and all(text.startswith("NO_PROXY: ") for text in tried.warnings)


def test_ipv6_networks_in_no_proxy_harm_nobody(
    double: Double, front: int, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    monkeypatch.setenv("NO_PROXY", "localhost,fd00::/8")
    assert ask(double, on(front)) == Tried(None, 1, [])


# Refusals that only a person can end.


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 429, "code": "project_spend_limit_exceeded"}, "the spend limit of the project is reached"),
        ({"status": 429, "code": "organization_spend_limit_exceeded"}, "the spend limit of the organization"),
        ({"status": 429, "code": "insufficient_quota"}, "the organization's credit is used up"),
        ({"status": 401, "code": "ip_not_authorized"}, "does not allow this machine's IP address"),
        ({"status": 400, "message": "expires_in_seconds is required by policy"}, "ttl, native_expiry"),
        ({"status": 403, "message": "Your organization's policy limits key lifetime to 1 h"}, "ttl, native_expiry"),
        ({"status": 403, "code": "service_account_key_policy"}, "a policy of the organization does not allow"),
    ],
)
def test_a_refusal_that_lasts_is_not_repeated(double: Double, fault: dict[str, t.Any], said: str) -> None:
    double.fault(kind="refuse", **fault)
    tried = ask(double, double.url) if fault["status"] == 401 else None
    with pytest.raises(ApiError) as caught:
        OpenAI(double.url, double.admin_key, None, log=print, sleep=pytest.fail).create_service_account(PROJECT, "n", 9)
    assert said in str(caught.value) and f"OpenAI answered {fault['status']}" in str(caught.value)
    assert len(double.requests()) == (2 if tried else 1)
