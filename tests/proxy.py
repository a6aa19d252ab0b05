"""A TCP proxy before a server, so that a test can take the server away from its clients, or make the network bad."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit

JOIN_SECONDS = 5
LOOK_SECONDS = 0.1
SO_ATTACH_FILTER = 26
# A packet filter of one instruction: nothing comes in.
_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
_DROP_ALL = struct.pack("HL", 1, ctypes.addressof(_NOTHING))
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a port of its own and passes everything on; `cut` drops all links and refuses new ones.

    `url` is the server's URL with the proxy in its place. Leaving a `with` block cuts it. `delay` is added to all that
    passes, in seconds. `reset` drops links as a router does that has forgotten them. `lose` makes them half-open: what
    the client sends is not even acknowledged, and nothing comes. `silence` lets nothing pass until `speak`, as with a
    server that is frozen: the links stand, and packets are acknowledged.
    """

    def __init__(self, url: str, default_port: int) -> None:
        server = urlsplit(url)
        self._target = (server.hostname or "127.0.0.1", server.port or default_port)
        self.delay = 0.0
        self.passing = threading.Event()
        self.passing.set()
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._port = 0
        self.restore()
        account, at, _host = server.netloc.rpartition("@")
        self.url = urlunsplit(server._replace(netloc=f"{account}{at}127.0.0.1:{self._port}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.cut()

    def restore(self) -> None:
        """Listen (again)."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
            self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            self._accepting.start()

    def cut(self) -> None:
        """Refuse new links and drop those that are open; none of them stands when it returns."""
        with self._lock:
            listener, self._listener = self._listener, None
            accepting, links, self._links = self._accepting, self._links, []
        if listener is not None and accepting is not None:
            _shut(listener)
            accepting.join(JOIN_SECONDS)
            listener.close()
        _close(links)

    def reset(self) -> None:
        """Drop the links that are open, with a reset instead of an end; new ones are as good as any."""
        with self._lock:
            links, self._links = self._links, []
        _close(links, reset=True)

    def lose(self) -> int:
        """Make the links that are open half-open, for good; new ones are as good as any. Returns how many."""
        with self._lock:
            standing = [link for link in self._links if link.lose()]
        return len(standing)

    def silence(self) -> None:
        """Let nothing pass, on links that are open and on those to come."""
        self.passing.clear()

    def speak(self) -> None:
        """Let pass what has come meanwhile, and all that comes."""
        self.passing.set()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _address = listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    if self._listener is listener:
                        self._links.append(_Link(self, client, server))
                        continue
                # It was accepted before the cut and connected after it.
                client.close()
                server.close()


class _Link:
    """A client's connection and the one to the server; two threads pass on what comes."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._lost = self._over = False
        ways = ((client, server), (server, client))
        self._threads = [threading.Thread(target=self._pass_on, args=way, daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def lose(self) -> bool:
        """Returns whether it stood until now."""
        if self._lost or not any(thread.is_alive() for thread in self._threads):
            return False
        self._lost = True
        self._client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _DROP_ALL)
        return True

    def end(self, *, reset: bool) -> None:
        self._over = True
        for one in (self._client, self._server):
            if reset:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
                    # Ends the wait for more, and sends nothing.
                    one.shutdown(socket.SHUT_RD)
            else:
                _shut(one)

    def close(self) -> None:
        # Closed only when nobody uses it any more: the number of a closed socket may be another's at once.
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._client.close()
        self._server.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._proxy.delay:
                    time.sleep(self._proxy.delay)
                while not self._proxy.passing.wait(LOOK_SECONDS):
                    if self._over:
                        return
                if not self._lost:
                    sink.sendall(data)
        if not (self._lost or self._over):
            _shut(source)
            _shut(sink)


def _close(links: list[_Link], *, reset: bool = False) -> None:
    for link in links:
        link.end(reset=reset)
    for link in links:
        link.close()


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
