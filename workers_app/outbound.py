"""Where `http` runs may connect: public addresses, and private ones only where the operator allowed the range.

The name is resolved once and the connection goes to the address that was checked, so that a name which changes its
answer in between gains nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterable

import httpcore
from django.conf import settings
from httpcore._backends.sync import SyncBackend

# Protocol assignments, one cloud's metadata service among them; Python before 3.13 calls part of it global.
_ASSIGNED = ipaddress.IPv4Network("192.0.0.0/24")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(Exception):
    """The address is private, loopback, link-local or reserved, and SCHEDULER_HTTP_ALLOW does not name it."""


def is_allowed(address: Address) -> bool:
    """Whether a run may connect there; an IPv6 form of an IPv4 address counts as that address."""
    address = _embedded(address) or address
    if any(address in allowed for allowed in settings.SCHEDULER_HTTP_ALLOW):
        return True
    odd = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not odd and address not in _ASSIGNED


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4 or NAT64 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


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
        self._lock = threading.Lock()
        # A second handle of each connection: TLS takes the first one into an object that is not ours to touch.
        self._handles: list[socket.socket] = []
        self._aborted = threading.Event()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        if self._aborted.is_set():
            raise httpcore.ConnectError("The run was ended before it could connect.")
        try:
            address = resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"The name {host} is unknown: {error}.") from error
        stream = self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        with self._lock:
            self._handles.append(stream.get_extra_info("socket").dup())
        if self._aborted.is_set():
            self.abort()
        return stream

    def abort(self) -> None:
        """Break every connection, now and later; whoever waits on one gets an error."""
        with self._lock:
            self._aborted.set()
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
