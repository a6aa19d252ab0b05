"""The kombu transport for Redis Streams: `redis-stream://` and, with TLS, `rediss-stream://`.

Only what a doorbell needs: direct queues, acknowledgement, prefetch. No fan-out, no delayed delivery, no priorities.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
import uuid
from contextlib import suppress
from queue import Empty
from typing import Any

import redis
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.transport.redis import get_redis_error_classes
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers_app.redis_payloads import payload_of
from workers_app.stream_groups import Entry, StreamGroups, entries_of, is_group_gone

# Redis answers a read after this long, with nothing if there is nothing; an answer that stays out means a dead link.
BLOCK_SECONDS = 1.0
OVERDUE_SECONDS = 10.0
CLAIM_SECONDS = 5.0


class QoS(virtual.QoS):
    # What is left unacknowledged is put back by the channel, or claimed by another consumer.
    restore_at_shutdown = False

    def held(self) -> list[str]:
        """The tags of the messages that are not acknowledged yet."""
        self._flush()
        return list(self._delivered)

    def ack(self, delivery_tag: str) -> None:
        self.channel.groups.remove(*_split(delivery_tag))
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        groups = self.channel.groups
        (groups.put_back if requeue else groups.remove)(*_split(delivery_tag))
        super().ack(delivery_tag)


class Channel(virtual.Channel):
    """Reads on a connection of its own, with at most one read under way; all else goes over the transport's pool."""

    QoS = QoS
    do_restore = False
    supports_fanout = False

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        # Fresh each time: a consumer that comes back by the same name would be held for the one that died.
        consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.groups = StreamGroups(connection.redis, consumer)
        self._link: Any = None
        self._asked_at: float | None = None

    # --- what kombu asks for ----------------------------------------------------------------------------------------

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.groups.put(queue, json.dumps(message))

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002  (kombu's signature)
        entry = self.groups.take(queue)
        if entry is None:
            raise Empty
        return _payload(queue, entry)

    def _size(self, queue: str) -> int:
        return self.groups.count_unread(queue)

    def prepare_queue_arguments(self, arguments: Any, **given: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **given)

    def _new_queue(self, queue: str, arguments: Any = None, **_: Any) -> None:
        self.groups.create(queue, lifetime_ms=(arguments or {}).get("x-expires"))

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self.groups.exists(queue)

    def _purge(self, queue: str) -> int:
        count = self._size(queue)
        self.groups.delete(queue)
        self.groups.create(queue)
        return count

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any) -> None:  # noqa: ARG002
        if not (if_empty and self._size(queue)):
            self.groups.delete(queue)

    def close(self) -> None:
        if not self.closed:
            queues = {*self._active_queues, *(_split(tag)[0] for tag in self.qos.held())}
            self._hang_up()
            with suppress(*Transport.connection_errors, *Transport.channel_errors):
                for queue in queues:
                    self.groups.leave(queue)
        super().close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def ask(self) -> Any:
        """Send a read unless one is under way. Returns the socket on which the answer comes, or None when nothing is
        to be read. Raises a connection error when an answer is overdue."""
        if self._asked_at is not None:
            if time.monotonic() - self._asked_at > BLOCK_SECONDS + OVERDUE_SECONDS:
                raise redis.ConnectionError("Redis does not answer")
            return self._link._sock
        if not (self._active_queues and self.qos.can_consume()):
            return None
        if self._link is None:
            self._link = self.connection.new_link()
            self._link.connect()
        self._link.send_command(*self.groups.reading(list(dict.fromkeys(self._active_queues)), BLOCK_SECONDS))
        self._asked_at = time.monotonic()
        return self._link._sock

    def receive(self) -> bool:
        """Take the answer and deliver what came. Returns whether anything did."""
        self._asked_at = None
        try:
            answer = self._link.read_response()
        except redis.ResponseError as error:
            if not is_group_gone(error):
                raise
            for queue in self._active_queues:
                self.groups.create(queue)
            return False
        for queue, entry in entries_of(answer):
            self.connection._deliver(_payload(queue, entry), queue)
        return bool(answer)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> None:  # noqa: ARG002
        """For consumers without an event loop: wait for one answer."""
        sock = self.ask()
        if sock is None or not _can_be_read(sock, BLOCK_SECONDS if timeout is None else timeout):
            raise Empty
        if not self.receive():
            raise Empty

    def claim(self) -> None:
        """Say that what is held here is held by the living, and take over what was held by the dead, one at a time."""
        for tag in self.qos.held():
            self.groups.keep(*_split(tag))
        for queue in list(dict.fromkeys(self._active_queues)):
            self.groups.prolong(queue)
            if self.qos.can_consume():
                for entry in self.groups.claim(queue):
                    self.connection._deliver(_payload(queue, entry), queue)

    def _hang_up(self) -> None:
        link, self._link, self._asked_at = self._link, None, None
        if link is not None:
            link.disconnect()


class Transport(virtual.Transport):
    Channel = Channel
    driver_type = driver_name = "redis-stream"
    default_port: Any = 6379
    polling_interval = 0.01
    implements = virtual.Transport.implements.extend(asynchronous=True, exchange_type=frozenset(["direct"]))
    connection_errors, channel_errors = get_redis_error_classes()

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._pool = redis.ConnectionPool(
            connection_class=redis.SSLConnection if client.ssl else redis.Connection, **_parameters(client)
        )
        self.redis = redis.Redis(connection_pool=self._pool)
        self._loop: Any = None
        self._timer: Any = None

    def new_link(self) -> Any:
        """A connection to Redis outside the pool, not connected yet."""
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def driver_version(self) -> str:
        return redis.__version__

    def establish_connection(self) -> Any:
        self.redis.ping()
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        if self._loop is not None:
            self._loop.on_tick.discard(self._on_tick)
            self._timer.cancel()
        super().close_connection(connection)
        self._pool.disconnect()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ARG002  (kombu's signature)
        self._loop = loop
        loop.on_tick.add(self._on_tick)
        self._timer = loop.call_repeatedly(CLAIM_SECONDS, self._claim)

    def _on_tick(self) -> None:
        for channel in list(self.channels):
            sock = channel.ask()
            if sock is not None:
                # Every time: a socket that took the number of a closed one is not known by that number.
                self._loop.add_reader(sock, channel.receive)

    def _claim(self) -> None:
        for channel in list(self.channels):
            channel.claim()


def _parameters(client: Any) -> dict[str, Any]:
    options = client.transport_options
    return {
        "host": client.hostname or "127.0.0.1",
        "port": client.port or Transport.default_port,
        "db": int((client.virtual_host or "").strip("/") or 0),
        "username": client.userid,
        "password": client.password,
        "protocol": 2,
        "socket_timeout": options.get("socket_timeout", 15),
        "socket_connect_timeout": options.get("socket_connect_timeout", 5),
        "socket_keepalive": True,
        "socket_keepalive_options": options.get("socket_keepalive_options") or {},
        # Once more at once: a connection that has idled may have been closed at the other end. One that does not
        # answer has taken its time already.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        **(client.ssl or {}),
    }


def _can_be_read(sock: socket.socket, seconds: float) -> bool:
    # Not select(): among a thousand runs the number of a socket may be too high for it.
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _payload(queue: str, entry: Entry) -> dict[str, Any]:
    id, raw = entry
    payload = payload_of(raw)
    payload["properties"]["delivery_tag"] = f"{id} {queue}"
    return payload


def _split(tag: str) -> tuple[str, str]:
    """(queue, id) of a delivery tag."""
    id, _space, queue = tag.partition(" ")
    return queue, id
