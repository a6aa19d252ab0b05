"""A worker is told over the broker that it is held for dead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from kombu import Producer

from access_app import runtime
from scripts.private_servers import free_port
from scripts.probes import RABBITMQ, REDIS
from tests.workers_app import redis_keys
from workers_app import brokers, messages
from workers_app.doorbell import Publisher
from workers_app.fencing import Notices, notices
from workers_app.messages import MAX_PAIRS, fence_address, queue_name, worker_address

BROKERS = [
    pytest.param(RABBITMQ.url(), marks=pytest.mark.rabbitmq, id="rabbitmq"),
    pytest.param(REDIS.url(), marks=pytest.mark.redis, id="redis"),
    pytest.param(REDIS.url().replace("redis://", "redis-stream://", 1), marks=pytest.mark.redis, id="redis-stream"),
    pytest.param("memory://localhost/", id="memory"),
]


@pytest.fixture(autouse=True)
def _prefix(settings) -> Iterator[None]:
    with redis_keys.prefix() as one:
        settings.SCHEDULER_QUEUE_PREFIX = one
        yield


@pytest.fixture
def ears(monkeypatch) -> Iterator[Any]:
    """Notices of a worker at a broker, by (url, worker)."""
    made: list[Notices] = []

    def listen(url: str, worker: UUID) -> Notices:
        monkeypatch.setattr(runtime, "_stored", {"broker_url": url})
        made.append(Notices(worker))
        return made[-1]

    yield listen
    for one in made:
        one.close()


def tell(url: str, *workers: UUID) -> None:
    publisher = Publisher(url)
    publisher.publish(notices((worker, (7, 1)) for worker in workers))
    assert not publisher.unsent
    publisher.close()


@pytest.mark.parametrize("url", BROKERS)
def test_a_worker_hears_what_was_said_of_it_before_and_after_it_asks_and_nothing_of_another(url, ears):
    one, other, third = uuid4(), uuid4(), uuid4()
    early = ears(url, one)
    assert not early.told()
    tell(url, one, other)
    assert early.told() and ears(url, other).told()
    assert not ears(url, third).told()


@pytest.mark.parametrize("url", BROKERS)
def test_what_is_not_signed_or_was_meant_for_another_queue_is_no_notice_and_is_counted(url, ears):
    worker = uuid4()
    ear, own = ears(url, worker), queue_name(fence_address(worker))
    assert not ear.told()
    with brokers.connection(url, seconds=5) as link:
        producer = Producer(link.default_channel)
        body, headers = messages.seal(queue_name(worker_address(worker)), [(7, 1)])
        for text, signature in (("garbage", {}), (body, headers)):
            producer.publish(text, routing_key=own, exchange="", content_type="application/json", headers=signature)
    before = messages.dropped.value
    assert not ear.told()
    assert messages.dropped.value == before + 2
    tell(url, worker)
    assert ear.told()


def test_a_broker_that_is_away_says_nothing(ears):
    ear = ears(f"amqp://guest:guest@127.0.0.1:{free_port()}//", uuid4())
    assert not ear.told()


@pytest.mark.redis
def test_a_notice_that_nobody_reads_does_not_stay_in_redis_and_what_a_pool_waits_for_does():
    worker = uuid4()
    publisher = Publisher(REDIS.url())
    publisher.publish([*notices([(worker, (7, 1))]), ("default", [(8, 1)])])
    publisher.close()
    with redis_keys.client() as client:
        assert 0 < client.ttl(queue_name(fence_address(worker))) <= messages.FENCE_QUEUE_SECONDS
        assert client.ttl(queue_name("default")) == -1


def test_each_worker_hears_of_its_own_runs_alone_in_messages_that_are_not_too_large():
    one, other = uuid4(), uuid4()
    taken = [(one, (id, 1)) for id in range(MAX_PAIRS + 1)] + [(other, (5000, 2))]
    told = notices(taken)
    assert [(address, len(pairs)) for address, pairs in told] == [
        (fence_address(one), MAX_PAIRS),
        (fence_address(one), 1),
        (fence_address(other), 1),
    ]
    assert told[-1][1] == [(5000, 2)]
    assert notices([]) == []
