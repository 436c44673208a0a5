# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to the double: real TLS servers before it, with certificates of all kinds, and real proxies."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A CA of its own, whose certificate is in the file ca."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the tests")])
        self.ca = folder / "ca.pem"
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        subject = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = self._sign(self._name, self._key.public_key(), True, 1, usage, subject)
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names, which ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(
            subject, key.public_key(), False, days, x509.SubjectAlternativeName(alternatives), issuer
        )
        pem = serialization.Encoding.PEM
        file = self._folder / f"{names[0].replace(':', '_')}{days}.pem"
        form = serialization.PrivateFormat.PKCS8
        file.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()) + certificate.public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool, days: int, *more: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            self._name,
            subject,
            public,
            x509.random_serial_number(),
            now - datetime.timedelta(days=10),
            now + datetime.timedelta(days=days),
        ).add_extension(x509.BasicConstraints(ca, None), critical=True)
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@contextlib.contextmanager
def tls_front(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> t.Iterator[int]:
    """Run a TLS server that passes what it gets to a port of 127.0.0.1; yields its own port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family)

    def serve() -> None:
        while True:
            try:
                connection, _address = server.accept()
            except OSError:
                return
            threading.Thread(target=_pass, args=(connection, context, port), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def _pass(connection: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as client:
        client.settimeout(10)
        with socket.create_connection(("127.0.0.1", port)) as server:
            answers = threading.Thread(target=_copy, args=(server, client), daemon=True)
            answers.start()
            _copy(client, server)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


@contextlib.contextmanager
def tinyproxy(folder: Path, *settings: str) -> t.Iterator[int]:
    """Run Debian's tinyproxy with further lines in its configuration; yields its port."""
    program = shutil.which("tinyproxy", path="/usr/bin:/usr/local/bin")
    assert program
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 20", f'LogFile "{folder}/log"', *settings]
    configuration.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [program, "-d", "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)
