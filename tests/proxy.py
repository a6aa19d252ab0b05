"""A TCP proxy before a server, so that a test can take the server away from its clients and give it back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

JOIN_SECONDS = 5


class Proxy:
    """Listens on a port of its own and passes everything on; `cut` drops all links and refuses new ones.

    `url` is the server's URL with the proxy in its place. Leaving a `with` block cuts it.
    """

    def __init__(self, url: str, default_port: int) -> None:
        server = urlsplit(url)
        self._target = (server.hostname or "127.0.0.1", server.port or default_port)
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
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
            self._start(self._accept, listener)

    def cut(self) -> None:
        """Refuse new links and drop those that are open; none of them stands when it returns."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets, self._links = [*self._links, *([listener] if listener else [])], []
            threads, self._threads = self._threads, []
        for one in sockets:
            _shut(one)
        # Closed only when nobody uses it any more: the number of a closed socket may be another's at once.
        for thread in threads:
            thread.join(JOIN_SECONDS)
        for one in sockets:
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _address = listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                else:
                    self._link(listener, client, server)

    def _link(self, listener: socket.socket, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            if self._listener is listener:
                self._links += [client, server]
                self._start(_pass_on, client, server)
                self._start(_pass_on, server, client)
                return
        # It was accepted before the cut and connected after it.
        client.close()
        server.close()

    def _start(self, target: Any, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _shut(source)
    _shut(sink)


def _shut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
