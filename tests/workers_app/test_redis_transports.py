"""kombu over Redis, lists and streams: what the publisher and Celery's consumer need of a transport."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from kombu import Connection, Consumer
from kombu.asynchronous import Hub

from scripts.probes import REDIS
from tests.workers_app import redis_keys
from workers_app import brokers, messages, redis_streams, stream_groups
from workers_app.doorbell import Publisher
from workers_app.redis_payloads import UNREADABLE, payload_of

pytestmark = pytest.mark.redis
STREAMS = REDIS.url().replace("redis://", "redis-stream://", 1)
SECONDS = 5.0


@pytest.fixture(params=["redis", "redis-stream"])
def url(request) -> str:
    return REDIS.url().replace("redis://", f"{request.param}://", 1)


@pytest.fixture(autouse=True)
def prefix(settings) -> Iterator[str]:
    with redis_keys.prefix() as one:
        settings.SCHEDULER_QUEUE_PREFIX = one
        yield one


def connect(url: str) -> Connection:
    return brokers.connection(url, seconds=SECONDS)


class Reader:
    """A consumer on kombu's event loop, as in Celery; `prefetch` messages ahead at most."""

    def __init__(self, url: str, *, prefetch: int = 1, pool: str = "default") -> None:
        self.got: list[Any] = []
        self.connection = connect(url)
        self.connection.connect()
        self.hub = Hub()
        self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
        channel = self.connection.default_channel
        channel.basic_qos(0, prefetch, False)
        queue = messages.pool_queue(pool)
        self.consumer = Consumer(channel, [queue], accept=["json"], on_message=self.got.append)
        self.consumer.consume()
        # The read is under way: only then is there somebody whom a message can be handed to.
        self.turn()

    def turn(self) -> None:
        self.hub.timer.call_after(0.02, lambda: None)
        self.hub.run_once()

    def wait_for(self, count: int, seconds: float = SECONDS) -> list[Any]:
        end = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < end:
            self.turn()
        assert len(self.got) >= count, f"{len(self.got)} of {count} messages came within {seconds} s"
        return self.got

    def idle(self) -> None:
        for _ in range(3):
            self.turn()

    def close(self) -> None:
        self.connection.close()
        self.hub.close()

    def die(self) -> None:
        """As by kill -9: nothing is put back."""
        for channel in list(self.connection.transport.channels):
            channel._hang_up()
            channel.groups = stream_groups.StreamGroups(cast(redis.Redis, Nothing()), "dead")


class Nothing:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: []


@pytest.fixture
def publisher(url) -> Iterator[Publisher]:
    one = Publisher(url)
    yield one
    one.close()


@pytest.fixture
def reader(url) -> Iterator[Reader]:
    one = Reader(url)
    yield one
    one.close()


def pairs_of(message: Any) -> list[messages.Pair]:
    known = [messages.queue_name("default")]
    return messages.open_message(message, known).pairs


def take(got: list[Any], message: Any) -> None:
    got.append(message)
    message.ack()


def put_raw(url: str, *texts: bytes) -> None:
    with redis_keys.client() as server:
        for text in texts:
            queue = messages.queue_name("default")
            if url.startswith("redis-stream"):
                server.xadd(queue + stream_groups.SUFFIX, {stream_groups.FIELD: text})
            else:
                server.lpush(queue, text)


def test_envelopes_come_through_in_their_order(publisher, reader):
    publisher.publish([("default", [(number, 1)]) for number in range(20)])
    for number in range(20):
        message = reader.wait_for(number + 1)[number]
        assert pairs_of(message) == [(number, 1)]
        message.ack()


def test_no_more_is_taken_ahead_than_asked_for_and_the_rest_goes_to_others(publisher, reader, url):
    publisher.publish([("default", [(number, 1)]) for number in range(2)])
    assert [pairs_of(message) for message in reader.wait_for(1)] == [[(0, 1)]]
    reader.idle()
    assert len(reader.got) == 1
    assert not publisher.is_empty("default")
    second = Reader(url)
    try:
        assert [pairs_of(message) for message in second.wait_for(1)] == [[(1, 1)]]
        assert publisher.is_empty("default"), "what somebody holds does not lie in the queue"
        second.got[0].ack()
    finally:
        second.close()
    reader.got[0].ack()
    reader.idle()
    assert len(reader.got) == 1


def test_a_consumer_that_leaves_gives_back_what_it_had_not_acknowledged(publisher, reader, url):
    publisher.publish([("default", [(7, 1)])])
    reader.wait_for(1)
    reader.close()
    with connect(url) as connection:
        queue = messages.pool_queue("default")(connection.default_channel)
        message = queue.get()
        assert message is not None and pairs_of(message) == [(7, 1)]
        message.ack()
        assert queue.get() is None


def test_garbage_reaches_the_consumer_as_something_to_refuse_and_what_follows_it_comes_through(publisher, reader, url):
    garbage = [b"\x80\x04", b"not json", b"{}", b"[1]", b"null", b"[" * 50_000, b'{"properties": {}}', b" " * 300_000]
    put_raw(url, *garbage)
    publisher.publish([("default", [(1, 1)])])
    for number in range(len(garbage)):
        message = reader.wait_for(number + 1)[number]
        with pytest.raises(messages.BadEnvelope):
            pairs_of(message)
        message.ack()
    assert pairs_of(reader.wait_for(len(garbage) + 1)[-1]) == [(1, 1)]


def test_a_queue_can_be_looked_at_purged_and_deleted(publisher, url):
    publisher.publish([("default", [(1, 1)]), ("default", [(2, 1)])])
    with connect(url) as connection:
        queue = messages.pool_queue("default")(connection.default_channel)
        assert queue.queue_declare(passive=True).message_count == 2
        assert queue.purge() == 2
        assert queue.queue_declare().message_count == 0
        publisher.publish([("default", [(3, 1)])])
        message = queue.get(no_ack=False)
        assert message is not None
        message.reject()
        assert queue.get() is None
        publisher.publish([("default", [(4, 1)])])
        message = queue.get()
        message.requeue()
        assert pairs_of(queue.get()) == [(4, 1)]


def test_without_an_event_loop_messages_come_as_well(publisher, url):
    publisher.publish([("default", [(number, 1)]) for number in range(3)])
    got: list[Any] = []
    with connect(url) as connection:
        channel = connection.default_channel
        channel.basic_qos(0, 1, False)
        with Consumer(channel, [messages.pool_queue("default")], on_message=lambda one: take(got, one)):
            while len(got) < 3:
                connection.drain_events(timeout=SECONDS)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.05)
    assert [pairs_of(message) for message in got] == [[(0, 1)], [(1, 1)], [(2, 1)]]


def test_two_installations_on_one_redis_do_not_see_each_other(publisher, url, settings):
    publisher.publish([("default", [(1, 1)])])
    with redis_keys.prefix() as other:
        settings.SCHEDULER_QUEUE_PREFIX = other
        assert publisher.is_empty("default")


# Streams alone


def test_what_a_killed_consumer_held_is_taken_over_by_another(monkeypatch):
    monkeypatch.setattr(redis_streams, "CLAIM_SECONDS", 0.05)
    publisher = Publisher(STREAMS)
    publisher.publish([("default", [(1, 1)]), ("default", [(2, 1)])])
    dead, alive = Reader(STREAMS), Reader(STREAMS)
    try:
        dead.wait_for(1)
        alive.wait_for(1)
        alive.got[0].ack()
        dead.die()
        monkeypatch.setattr(stream_groups, "IDLE_SECONDS", 0.0)
        assert pairs_of(alive.wait_for(2)[1]) == [(1, 1)]
        alive.got[1].ack()
    finally:
        alive.close()
        publisher.close()


def test_after_a_flush_consumer_and_publisher_go_on():
    publisher = Publisher(STREAMS)
    reader = Reader(STREAMS)
    try:
        publisher.publish([("default", [(1, 1)])])
        reader.wait_for(1)
        with redis_keys.client() as server:
            server.delete(messages.queue_name("default") + stream_groups.SUFFIX)
        reader.got[0].ack()
        publisher.publish([("default", [(2, 1)])])
        assert pairs_of(reader.wait_for(2)[1]) == [(2, 1)]
    finally:
        reader.close()
        publisher.close()


def test_a_redis_that_does_not_answer_is_noticed(monkeypatch):
    reader = Reader(STREAMS)
    try:
        reader.turn()
        monkeypatch.setattr(redis_streams, "OVERDUE_SECONDS", -1000.0)
        with pytest.raises(reader.connection.connection_errors, match="does not answer"):
            reader.turn()
    finally:
        reader.close()


def test_every_consumer_has_a_name_of_its_own():
    with connect(STREAMS) as one, connect(STREAMS) as two:
        names = {
            one.default_channel.groups.consumer,
            two.default_channel.groups.consumer,
            one.channel().groups.consumer,
        }
    assert len(names) == 3


# What lies in a key


SOUND = {
    "body": "e30=",
    "content-type": "application/json",
    "headers": {},
    "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}},
}


def test_a_sound_payload_is_read_as_it_is():
    assert payload_of(json.dumps(SOUND)) == payload_of(json.dumps(SOUND).encode()) == SOUND


@pytest.mark.parametrize(
    "changed",
    [
        {"body": "not base64!"},
        {"body": None},
        {"headers": []},
        {"headers": {"compression": "application/x-gzip"}},
        {"properties": None},
        {"properties": SOUND["properties"] | {"body_encoding": "rot13"}},  # type: ignore[operator]
        {"properties": SOUND["properties"] | {"delivery_tag": None}},  # type: ignore[operator]
        {"properties": SOUND["properties"] | {"delivery_info": "x"}},  # type: ignore[operator]
    ],
)
def test_a_payload_that_would_break_a_channel_is_replaced_by_one_that_is_refused(changed):
    assert payload_of(json.dumps(SOUND | changed))["content-type"] == UNREADABLE
