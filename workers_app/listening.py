"""The queues that a worker's consumer takes messages from: stopped, and taken up again, from any thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from kombu.exceptions import KombuError

log = structlog.get_logger("worker")


class Listening(Protocol):
    """What lets a worker stop taking messages, and go on."""

    def stop(self) -> None: ...
    def go_on(self) -> None: ...


class Deaf:
    """Stands in where there is no consumer."""

    def stop(self) -> None:
        """Nothing to stop."""

    def go_on(self) -> None:
        """Nothing to take up."""


class QueueListening:
    """The queues of a Celery worker. Its consumer belongs to one thread, so what is asked is done there, soon after.

    It also holds for connections yet to come: a consumer that reconnects listens to the queues that are selected.
    """

    def __init__(self, worker: Any, queues: Sequence[str]) -> None:
        self._worker, self._queues = worker, list(queues)

    def stop(self) -> None:
        """Take no more messages. One that was delivered already, and waits for a slot, still comes."""
        self._soon(_stop)

    def go_on(self) -> None:
        """Take messages again."""
        self._soon(_go_on)

    def _soon(self, step: Callable[[Any, str], None]) -> None:
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None:
            for queue in self._queues:
                consumer.call_soon(_guarded, step, consumer, queue)


def _guarded(step: Callable[[Any, str], None], consumer: Any, queue: str) -> None:
    try:
        step(consumer, queue)
    except (KombuError, OSError, *consumer.connection_errors, *consumer.channel_errors) as error:
        # The connection is gone; the next one begins with the queues as they are selected now.
        log.debug("the broker was not told", queue=queue, error=str(error))


def _stop(consumer: Any, queue: str) -> None:
    consumer.app.amqp.queues.deselect(queue)
    if consumer.task_consumer is not None:
        consumer.cancel_task_queue(queue)


def _go_on(consumer: Any, queue: str) -> None:
    queues = consumer.app.amqp.queues
    queues.select_add(queues[queue])
    if consumer.task_consumer is not None:
        consumer.add_task_queue(queue)
