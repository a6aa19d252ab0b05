"""Ringing the doorbell: envelopes to the broker, with one wait for a window of confirms."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from kombu import Producer
from kombu.exceptions import KombuError

from workers_app import brokers, messages
from workers_app.messages import Pair
from workers_app.runtime_settings import BROKER_URL

log = structlog.get_logger(__name__)

CONFIRM_WINDOW = 500
CONFIRM_SECONDS = 10.0
MOST_UNSENT = 50_000
RETRY_SECONDS = 1.0
SLOW_SECONDS = 0.5
GOODBYE_SECONDS = 0.2
# What Redis or RabbitMQ does not take within this long is tried again.
SEND_SECONDS = 5.0

Message = tuple[str, list[Pair]]


class Publisher:
    """Sends messages over one connection of its own, to the broker at `url`, else to the one that the runtime setting
    names at the time. What cannot be sent is kept and tried again with the next call.

    Losing what is kept costs only time: rescue publishes again whatever stays queued and unclaimed.
    """

    def __init__(self, url: str | None = None) -> None:
        self._given, self._url = url, ""
        self._connection: Any = None
        self._producer: Any = None
        self._declared: set[str] = set()
        self._unsent: deque[Message] = deque()
        self._retry_at = 0.0
        self._confirms = _Confirms()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def publish(self, batch: Iterable[Message]) -> int:
        """Send the messages, and before them what an earlier call had to leave. Returns the runs announced."""
        self._unsent.extend(batch)
        while len(self._unsent) > MOST_UNSENT:
            self._unsent.popleft()
        return self.flush()

    def flush(self) -> int:
        """Send what is waiting. Never raises for a broker that is away."""
        sent, began = 0, time.monotonic()
        self._follow()
        if not self._unsent or began < self._retry_at:
            return 0
        try:
            while self._unsent:
                window = [self._unsent[i] for i in range(min(CONFIRM_WINDOW, len(self._unsent)))]
                self._send(window)
                for _pool, pairs in window:
                    self._unsent.popleft()
                    sent += len(pairs)
        except self._broker_errors() as error:
            log.warning("broker out of reach", error=str(error) or type(error).__name__, unsent=len(self._unsent))
            self._put_off(began)
        return sent

    def is_empty(self, pool: str) -> bool:
        """Whether the pool's queue holds no message; False when the broker cannot say."""
        self._follow()
        if (began := time.monotonic()) < self._retry_at:
            return False
        try:
            producer = self._connect()
            return int(messages.pool_queue(pool)(producer.channel).queue_declare().message_count) == 0
        except self._broker_errors() as error:
            log.warning("broker out of reach", error=str(error) or type(error).__name__)
            self._put_off(began)
            return False

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            try:
                connection.release()
            except Exception as error:  # noqa: BLE001  (the link is gone; there is nothing to save in it)
                log.debug("closing the broker connection failed", error=str(error))

    def _put_off(self, began: float) -> None:
        """Leave the link, and the broker alone for a moment; for as long as it has kept us where that was long, since
        whoever publishes has other work too."""
        if self._connection is not None:
            # RabbitMQ's client says good-bye, and waits for the answer.
            brokers.limit_waits(self._connection, GOODBYE_SECONDS)
        self.close()
        now = time.monotonic()
        kept = now - began
        self._retry_at = now + (kept if kept > max(SLOW_SECONDS, RETRY_SECONDS) else RETRY_SECONDS)

    def _follow(self) -> None:
        """Leave a broker that is not the one to publish to any more."""
        url = self._given or BROKER_URL.value
        if url != self._url:
            self.close()
            self._url, self._retry_at = url, 0.0

    def _send(self, window: Sequence[Message]) -> None:
        producer = self._connect()
        for pool, _pairs in window:
            if pool not in self._declared:
                messages.pool_queue(pool)(producer.channel).declare()
                self._declared.add(pool)
        self._confirms.expect(len(window))
        for pool, pairs in window:
            queue = messages.queue_name(pool)
            body, headers = messages.seal(queue, pairs)
            producer.publish(
                body,
                routing_key=queue,
                exchange="",
                content_type=messages.CONTENT_TYPE,
                content_encoding="utf-8",
                headers=headers,
                delivery_mode=2,
            )
        self._confirms.wait(self._connection)

    def _connect(self) -> Any:
        if self._producer is None:
            # No heartbeat: this connection may idle for hours, and a confirm that does not come shows a dead one.
            self._connection = brokers.connection(self._url, seconds=SEND_SECONDS)
            # connect() would sleep for two seconds before it gives up, and with it the tick that asked.
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            brokers.limit_waits(self._connection, SEND_SECONDS)
            channel = self._connection.channel()
            self._confirms.select(channel)
            self._producer = Producer(channel)
        return self._producer

    def _broker_errors(self) -> tuple[type[Exception], ...]:
        if self._connection is None:
            return (KombuError, OSError)
        return (KombuError, OSError, *self._connection.connection_errors, *self._connection.channel_errors)


class _Confirms:
    """Publisher confirms, waited for once per window instead of once per message; nothing on other transports."""

    def __init__(self) -> None:
        self._selected = False
        self._last_tag = 0
        self._open: set[int] = set()
        self._refused = False

    def select(self, channel: Any) -> None:
        self._selected = hasattr(channel, "confirm_select")
        self._last_tag, self._open, self._refused = 0, set(), False
        if self._selected:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)

    def expect(self, count: int) -> None:
        """Say that `count` more messages are about to be sent; the broker numbers them from 1."""
        self._open.update(range(self._last_tag + 1, self._last_tag + count + 1))
        self._last_tag += count

    def wait(self, connection: Any) -> None:
        """Wait until the broker has taken every message. Raises OSError when it refuses one or is too slow."""
        end = time.monotonic() + CONFIRM_SECONDS
        while self._selected and self._open and not self._refused:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no confirm for {len(self._open)} messages in {CONFIRM_SECONDS:.0f} s")
            connection.drain_events(timeout=left)
        if self._refused:
            raise ConnectionError("the broker refused a message")

    def _on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._open = {open_tag for open_tag in self._open if open_tag > tag}
        else:
            self._open.discard(tag)

    def _on_nack(self, _tag: int, _multiple: bool) -> None:
        self._refused = True
