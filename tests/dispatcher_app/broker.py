"""A look at what lies in the queues of the RabbitMQ of the tests."""

from __future__ import annotations

from typing import Any

from kombu import Connection

from scripts.probes import RABBITMQ
from workers_app.messages import pool_queue


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
