"""After a change of broker, what lies on the one before comes over, the publisher and the consumer follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu import Producer

from access_app import runtime
from scripts.private_servers import free_port
from scripts.probes import RABBITMQ, REDIS
from tests.workers_app import redis_keys
from workers_app import brokers, carrying, messages
from workers_app.carrying import carry_over
from workers_app.consumer import BrokerChanged, PatientConsumer
from workers_app.doorbell import Message, Publisher

STREAMS = REDIS.url().replace("redis://", "redis-stream://", 1)
PAIRS = [[(1, 1)], [(2, 1), (3, 1)], [(4, 2)]]


@pytest.fixture(autouse=True)
def _prefix(settings, monkeypatch) -> Iterator[None]:
    settings.SCHEDULER_QUEUE_PREFIX = f"test-{uuid4().hex}"
    monkeypatch.setattr(carrying, "WATCH_SECONDS", 0.3)
    monkeypatch.setattr(carrying, "LOOK_SECONDS", 0.05)
    yield
    redis_keys.drop(settings.SCHEDULER_QUEUE_PREFIX)
    with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
        messages.pool_queue("fast")(connection.default_channel).delete()


def move_to(monkeypatch: Any, url: str) -> None:
    monkeypatch.setattr(runtime, "_stored", {"broker_url": url})


def lying(url: str) -> list[list[messages.Pair]]:
    """The envelopes in the queue of the pool, taken out of it."""
    found = []
    with brokers.connection(url, seconds=5) as connection:
        queue = messages.pool_queue("fast")(connection.default_channel)
        queue.declare()
        while (message := queue.get(no_ack=True)) is not None:
            found.append(messages.open_message(message, [queue.name]).pairs)
    return found


@pytest.mark.rabbitmq
@pytest.mark.redis
@pytest.mark.parametrize("url", [RABBITMQ.url(), REDIS.url(), STREAMS])
def test_what_lies_on_the_broker_before_is_announced_anew_and_garbage_is_dropped(url):
    publisher = Publisher(url)
    publisher.publish([("fast", pairs) for pairs in PAIRS])
    publisher.close()
    queue = messages.queue_name("fast")
    with brokers.connection(url, seconds=5) as connection:
        Producer(connection.default_channel).publish("garbage", routing_key=queue, exchange="", headers={})
    rung: list[Message] = []
    before = messages.dropped.value
    carry_over(url, [queue], rung.extend).join(10)
    assert rung == [("fast", pairs) for pairs in PAIRS]
    assert messages.dropped.value - before == 1
    assert lying(url) == []


def test_a_broker_before_that_is_dead_is_let_go():
    rung: list[Message] = []
    thread = carry_over(f"redis://127.0.0.1:{free_port()}/0", [messages.queue_name("fast")], rung.extend)
    thread.join(15)
    assert not thread.is_alive() and rung == []


@pytest.mark.rabbitmq
@pytest.mark.redis
def test_the_publisher_follows_the_runtime_setting_and_takes_what_it_could_not_send_along(monkeypatch):
    publisher = Publisher()
    move_to(monkeypatch, f"amqp://127.0.0.1:{free_port()}//")
    assert publisher.publish([("fast", [(1, 1)])]) == 0
    move_to(monkeypatch, RABBITMQ.url())
    assert publisher.publish([("fast", [(2, 1)])]) == 2
    assert not publisher.is_empty("fast")
    move_to(monkeypatch, STREAMS)
    assert publisher.is_empty("fast")
    assert publisher.publish([("fast", [(3, 1)])]) == 1
    publisher.close()
    assert lying(RABBITMQ.url()) == [[(1, 1)], [(2, 1)]]
    assert lying(STREAMS) == [[(3, 1)]]


def test_the_consumer_leaves_its_broker_when_the_runtime_setting_names_another(monkeypatch):
    consumer = PatientConsumer.__new__(PatientConsumer)
    move_to(monkeypatch, RABBITMQ.url())
    consumer._url = RABBITMQ.url()
    consumer._follow()
    move_to(monkeypatch, STREAMS)
    with pytest.raises(BrokerChanged):
        consumer._follow()


def test_an_address_survives_being_made_a_queue_of_either_type(settings):
    for settings.SCHEDULER_RABBITMQ_QUEUE_TYPE in ("classic", "quorum"):
        assert messages.address_of(messages.queue_name("fast.quick")) == "fast.quick"
