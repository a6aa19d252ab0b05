"""After a change of broker: what still lies in our queues on the one before is announced on the new one.

Only time is won by it. What is not carried over, the dispatchers' sweep announces again; what is announced twice is
executed once, for a claim is a conditional update.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from kombu import Connection

from workers_app import brokers, messages
from workers_app.doorbell import Message

log = structlog.get_logger("worker")
SECONDS = 5.0
# A dispatcher that learns of the change a little later than we still publishes to the old broker.
WATCH_SECONDS = 15.0
LOOK_SECONDS = 0.5
BATCH = 200
Ring = Callable[[list[Message]], Any]


def carry_over(url: str, queues: Iterable[str], ring: Ring) -> threading.Thread:
    """Empty the queues on the broker at `url` into `ring`, on a thread; until nothing has come for WATCH_SECONDS."""
    arguments = (url, list(queues), ring)
    thread = threading.Thread(target=_carry, args=arguments, name="worker-carry", daemon=True)
    thread.start()
    return thread


def _carry(url: str, queues: list[str], ring: Ring) -> None:
    carried = 0
    try:
        with brokers.connection(url, seconds=SECONDS) as connection:
            connection.ensure_connection(max_retries=2, interval_start=0.5)
            brokers.limit_waits(connection, SECONDS)
            end = time.monotonic() + WATCH_SECONDS
            while time.monotonic() < end:
                if moved := sum(_carry_from(connection, queue, ring) for queue in queues):
                    carried += moved
                    end = time.monotonic() + WATCH_SECONDS
                else:
                    time.sleep(LOOK_SECONDS)
    except brokers.errors() as error:
        log.warning("could not empty the broker before", error=str(error) or type(error).__name__, carried=carried)
        return
    log.info("nothing is left on the broker before", broker=brokers.masked(url), carried=carried)


def _carry_from(connection: Connection, queue: str, ring: Ring) -> int:
    """Carry over up to BATCH messages. Returns how many were taken, those that were not ours among them."""
    source = messages.queue_of(queue)(connection.default_channel)
    # It is not there on a broker where nobody has ever published to it.
    source.queue_declare()
    taken: list[Any] = []
    while len(taken) < BATCH and (message := source.get()) is not None:
        taken.append(message)
    batch = [(messages.address_of(queue), pairs) for message in taken if (pairs := _pairs(message, queue))]
    if batch:
        ring(batch)
    for message in taken:
        message.ack()
    return len(taken)


def _pairs(message: Any, queue: str) -> list[messages.Pair]:
    try:
        return messages.open_message(message, (queue,)).pairs
    except messages.BadEnvelope as error:
        messages.dropped.inc()
        log.warning("message dropped", error=str(error))
        return []
