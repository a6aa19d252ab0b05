"""A RabbitMQ that can go away and come back, and a look at what lies in its queues."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kombu import Connection

from scripts.private_servers import free_port
from scripts.probes import RABBITMQ
from workers_app.messages import pool_queue


class Link:
    """A port of its own that leads to the RabbitMQ of the tests while the link is up."""

    def __init__(self) -> None:
        target = urlsplit(RABBITMQ.url())
        self._target = (target.hostname or "127.0.0.1", target.port or 5672)
        self._port = free_port()
        credentials = f"{target.username or 'guest'}:{target.password or 'guest'}"
        self.url = urlunsplit(target._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def up(self) -> None:
        server = socket.create_server(("127.0.0.1", self._port))
        self._sockets.append(server)
        self._start(self._accept, server)

    def down(self) -> None:
        """Refuse new connections and break those that stand."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)
        self._threads.clear()
        for one in sockets:
            one.close()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = server.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._start(self._carry, near, far)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    @staticmethod
    def _carry(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _events in ready.select(timeout=1):
                    if not (data := key.fileobj.recv(65536)):  # type: ignore[union-attr]
                        return
                    key.data.sendall(data)


def take_all(pool: str) -> list[Any]:
    """The messages in the queue of the pool, taken out of it."""
    taken = []
    with Connection(RABBITMQ.url()) as connection:
        queue = pool_queue(pool)(connection.default_channel)
        queue.declare()
        while (message := queue.get(no_ack=True)) is not None:
            taken.append(message)
    return taken


def drop(pool: str) -> None:
    with Connection(RABBITMQ.url()) as connection:
        pool_queue(pool)(connection.default_channel).delete()
