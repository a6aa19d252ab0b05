"""Word over the broker that a worker is held for dead. It reaches one that is cut off from the database alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog

from workers_app import brokers, messages
from workers_app.doorbell import Message
from workers_app.messages import MAX_PAIRS, Pair, fence_address, pool_queue, queue_name
from workers_app.runtime_settings import BROKER_URL

log = structlog.get_logger("worker")
ANSWER_SECONDS = 3.0


def notices(taken: Iterable[tuple[UUID, Pair]]) -> list[Message]:
    """The messages that tell each worker which of its (run id, attempt) pairs were taken from it."""
    by_worker: dict[UUID, list[Pair]] = {}
    for worker_id, pair in taken:
        by_worker.setdefault(worker_id, []).append(pair)
    return [
        (fence_address(worker_id), pairs[start : start + MAX_PAIRS])
        for worker_id, pairs in by_worker.items()
        for start in range(0, len(pairs), MAX_PAIRS)
    ]


class Notices:
    """What was said of one worker. It is read over a connection of its own: the consumer's takes nothing while all
    slots are busy, and a worker that has to ask is in doubt and not in a hurry."""

    def __init__(self, worker_id: UUID) -> None:
        self._address = fence_address(worker_id)
        self._connection: Any = None
        self._queue: Any = None

    def told(self) -> bool:
        """Whether somebody has said that the worker is held for dead. A broker that is away says nothing."""
        try:
            self._connect()
            while (message := self._queue.get(no_ack=True)) is not None:
                if self._is_notice(message):
                    return True
        except brokers.errors() as error:
            log.debug("nobody to ask", error=str(error) or type(error).__name__)
            self.close()
        return False

    def close(self) -> None:
        """Leave the broker; `told` connects again."""
        link, self._connection, self._queue = self._connection, None, None
        if link is not None:
            try:
                brokers.limit_waits(link, ANSWER_SECONDS)
                link.release()
            except Exception as error:  # noqa: BLE001  (the link is gone; there is nothing to save in it)
                log.debug("closing the broker connection failed", error=str(error))

    def _connect(self) -> None:
        if self._queue is None:
            link = brokers.connection(BROKER_URL.value, seconds=ANSWER_SECONDS, connect_seconds=ANSWER_SECONDS)
            self._connection = link
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            brokers.limit_waits(link, ANSWER_SECONDS)
            self._queue = pool_queue(self._address)(link.default_channel)
            # Where nobody has said anything yet there is no queue, and to read from one would be an error.
            self._queue.declare()

    def _is_notice(self, message: Any) -> bool:
        try:
            messages.open_message(message, {queue_name(self._address)})
        except messages.BadEnvelope as error:
            messages.dropped.inc()
            log.warning("message dropped", error=str(error))
            return False
        return True
