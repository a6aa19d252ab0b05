"""Queued runs are announced in signed envelopes, in their order; what cannot be sent is kept and sent later."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from dispatcher_app.publish import SPREAD, packed
from dispatcher_app.release import Released
from dispatcher_app.runtime_settings import PACK_SIZE
from scripts.probes import RABBITMQ
from tests.dispatcher_app.broker import drop, take_all
from tests.proxy import Proxy
from workers_app import doorbell, messages
from workers_app.doorbell import Publisher


def released(number: int, *, first: int = 1, executor: str = "callable", version: int = 7, pool: str = "default"):
    return [Released(id, 1, pool, version, executor) for id in range(first, first + number)]


# Packing


def test_only_short_runs_share_a_message():
    assert list(packed(released(3, executor="shell"))) == [("default", [(id, 1)]) for id in (1, 2, 3)]
    assert list(packed([])) == []


@pytest.mark.parametrize(("number", "size"), [(1, 1), (16, 1), (17, 2), (160, 10), (1600, 100), (5000, 100)])
def test_a_burst_is_spread_before_messages_grow(number, size):
    sent = list(packed(released(number)))
    assert len(sent[0][1]) == size <= PACK_SIZE.value
    assert all(len(pairs) <= size for _pool, pairs in sent)
    assert [pair for _pool, pairs in sent for pair in pairs] == [(id, 1) for id in range(1, number + 1)]
    assert len(sent) >= min(number, SPREAD // 2)


def test_versions_and_pools_do_not_share_a_message():
    runs = released(40) + released(40, first=100, version=8) + released(40, first=200, pool="other")
    for pool, pairs in packed(runs):
        assert len({(pool, id // 100) for id, _attempt in pairs}) == 1
        assert (pool == "other") is (pairs[0][0] >= 200)


def test_the_order_of_the_runs_is_the_order_of_the_messages():
    runs = [*released(1), *released(2, first=10, executor="shell", version=9), *released(1, first=2)]
    assert [pairs for _pool, pairs in packed(runs)] == [[(1, 1)], [(2, 1)], [(10, 1)], [(11, 1)]]
    urgent = [*released(1, version=1), *released(50, first=10, executor="http", version=2)]
    assert next(packed(urgent)) == ("default", [(1, 1)])


# A real broker


@pytest.fixture
def link(settings):
    settings.SCHEDULER_QUEUE_PREFIX = f"test-{uuid4().hex}"
    with Proxy(RABBITMQ.url(), 5672) as one:
        yield one
    for pool in ("default", "other"):
        drop(pool)


@pytest.fixture
def publisher(link, monkeypatch):
    monkeypatch.setattr(doorbell, "RETRY_SECONDS", 0.0)
    one = Publisher(link.url)
    yield one
    one.close()


def pairs_of(message) -> list[tuple[int, int]]:
    return messages.open_message(message, [messages.queue_name(pool) for pool in ("default", "other")]).pairs


@pytest.mark.rabbitmq
def test_messages_lie_durable_in_the_queue_of_their_pool_when_publish_returns(publisher):
    assert publisher.is_empty("default")
    assert publisher.publish([("default", [(1, 1), (2, 1)]), ("other", [(3, 2)]), ("default", [(4, 1)])]) == 4
    assert not publisher.is_empty("default")
    taken = take_all("default")
    assert [pairs_of(message) for message in taken] == [[(1, 1), (2, 1)], [(4, 1)]]
    assert [pairs_of(message) for message in take_all("other")] == [[(3, 2)]]
    assert {message.properties["delivery_mode"] for message in taken} == {2}
    assert publisher.is_empty("default")


@pytest.mark.rabbitmq
def test_more_than_a_window_of_messages_are_all_confirmed_in_order(publisher):
    number = 2 * doorbell.CONFIRM_WINDOW + 3
    assert publisher.publish([("default", [(id, 1)]) for id in range(number)]) == number
    assert [pairs_of(message) for message in take_all("default")] == [[(id, 1)] for id in range(number)]


@pytest.mark.rabbitmq
def test_what_cannot_be_sent_is_kept_and_sent_first_when_the_broker_is_back(link, publisher):
    assert publisher.publish([("default", [(1, 1)])]) == 1
    link.cut()
    assert publisher.publish([("default", [(2, 1)])]) == 0
    assert publisher.publish([("default", [(3, 1)])]) == 0
    assert publisher.unsent == 2
    assert publisher.is_empty("default") is False
    link.restore()
    assert publisher.publish([("default", [(4, 1)])]) == 3
    assert publisher.unsent == 0
    assert [pairs_of(message) for message in take_all("default")] == [[(id, 1)] for id in (1, 2, 3, 4)]


@pytest.mark.rabbitmq
def test_a_broker_that_is_away_is_not_asked_at_every_call(link, publisher, monkeypatch):
    link.cut()
    monkeypatch.setattr(doorbell, "RETRY_SECONDS", 60.0)
    publisher.publish([("default", [(1, 1)])])
    link.restore()
    assert not publisher.is_empty("default")
    assert publisher.flush() == 0
    monkeypatch.setattr(publisher, "_retry_at", time.monotonic())
    assert publisher.flush() == 1


@pytest.mark.rabbitmq
def test_no_more_is_kept_than_rescue_would_find_again_anyway(link, publisher, monkeypatch):
    monkeypatch.setattr(doorbell, "MOST_UNSENT", 3)
    link.cut()
    publisher.publish([("default", [(id, 1)]) for id in range(5)])
    assert publisher.unsent == 3
    link.restore()
    assert publisher.flush() == 3
    assert [pairs_of(message) for message in take_all("default")] == [[(id, 1)] for id in (2, 3, 4)]


@pytest.mark.rabbitmq
def test_a_purged_queue_loses_nothing_that_is_sent_afterwards(publisher):
    publisher.publish([("default", [(1, 1)])])
    assert len(take_all("default")) == 1
    publisher.publish([("default", [(2, 1)])])
    assert [pairs_of(message) for message in take_all("default")] == [[(2, 1)]]


@pytest.mark.rabbitmq
def test_a_broker_that_falls_silent_keeps_nobody_for_long_and_is_left_alone_then(link, publisher, monkeypatch):
    monkeypatch.setattr(doorbell, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(doorbell, "CONFIRM_SECONDS", 1.0)
    publisher.publish([("default", [(1, 1)])])
    link.silence()
    began = time.monotonic()
    assert not publisher.is_empty("default")
    assert 0.9 < time.monotonic() - began < 5
    began = time.monotonic()
    assert not publisher.is_empty("default")
    assert publisher.publish([("default", [(2, 1)])]) == 0
    assert time.monotonic() - began < 0.5
    link.speak()
    monkeypatch.setattr(publisher, "_retry_at", 0.0)
    assert publisher.flush() == 1
