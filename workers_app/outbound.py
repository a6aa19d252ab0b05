"""Where `http` runs may connect: public addresses, and private ones only where the operator allowed the range.

The name is resolved once and the connection goes to the address that was checked, so that a name which changes its
answer in between gains nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
from django.conf import settings
from httpcore._backends.sync import SyncBackend

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(Exception):
    """The address is private, loopback, link-local or reserved, and SCHEDULER_HTTP_ALLOW does not name it."""


def is_allowed(address: Address) -> bool:
    """Whether a run may connect there; an IPv6 form of an IPv4 address counts as that address."""
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    address = mapped or address
    if any(address in ipaddress.ip_network(allowed, strict=False) for allowed in settings.SCHEDULER_HTTP_ALLOW):
        return True
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int) -> str:
    """The first allowed address of the host. Raises AddressRefused, or OSError when the name is unknown."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in infos]
    for text in addresses:
        if is_allowed(ipaddress.ip_address(text.partition("%")[0])):
            return text
    raise AddressRefused(f"{host} is {', '.join(sorted(set(addresses)))}, which http runs may not reach")


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to the address that was checked; the host name stays in TLS and in the Host header.

    `abort` breaks what is under way from another thread: closing a socket does not wake its reader, shutting down does.
    """

    def __init__(self) -> None:
        self._inner = SyncBackend()
        self._stream: httpcore.NetworkStream | None = None
        self._aborted = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            address = resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"The name {host} is unknown: {error}.") from error
        return self.track(self._inner.connect_tcp(address, port, timeout, local_address, socket_options))

    def track(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        self._stream = stream
        if self._aborted:
            self.abort()
        return _TrackedStream(stream, self)

    def abort(self) -> None:
        self._aborted = True
        raw = self._stream.get_extra_info("socket") if self._stream is not None else None
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _TrackedStream(httpcore.NetworkStream):
    """Passes everything on, and tells the backend when TLS puts another socket in place of the first."""

    def __init__(self, inner: httpcore.NetworkStream, backend: CheckedBackend) -> None:
        self._inner, self._backend = inner, backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return self._backend.track(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
