"""Certificates of our own, and a server's TLS before a server that has none, so that handshakes are real."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

STARTS = datetime(2020, 1, 1, tzinfo=UTC)
LIFETIME = timedelta(days=36_500)
LOOK_SECONDS = 0.1


class Authority:
    """Signs certificates; its own is the file `path`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = self._certificate(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str) -> Path:
        """A file with a certificate for that name or address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        builder = self._certificate(_name(host), key)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        path = self._directory / f"{host}-by-{self.path.stem}.pem"
        path.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=STARTS,
            not_valid_after=STARTS + LIFETIME,
        )


class TlsFront:
    """Listens on loopback with the certificate and passes what it decrypts on to the server of `url`; with `clients`
    it asks for a certificate of that authority."""

    def __init__(self, url: str, default_port: int, certificate: Path, *, clients: Authority | None = None) -> None:
        server = urlsplit(url)
        self._target = (server.hostname or "127.0.0.1", server.port or default_port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        if clients is not None:
            self._context.load_verify_locations(clients.path)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.handshakes = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            if not select.select([self._listener], [], [], LOOK_SECONDS)[0]:
                continue
            thread = threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        """One thread a link: an SSL socket is not for two."""
        plain.settimeout(5)
        with plain, suppress(OSError), self._context.wrap_socket(plain, server_side=True) as outer:
            self.handshakes += 1
            with socket.create_connection(self._target, timeout=5) as inner:
                while not self._over.is_set():
                    readable = [outer] if outer.pending() else select.select([outer, inner], [], [], LOOK_SECONDS)[0]
                    for source in readable:
                        data = source.recv(65536)
                        if not data:
                            return
                        (inner if source is outer else outer).sendall(data)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
