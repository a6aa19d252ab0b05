"""Streams as queues: nothing unread is lost; what the dead held is taken over, what the living hold is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.workers_app import redis_keys
from workers_app import stream_groups
from workers_app.stream_groups import GROUP, StreamGroups, entries_of, is_group_gone

pytestmark = pytest.mark.redis


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    with redis_keys.client() as one:
        yield one


@pytest.fixture
def queue() -> Iterator[str]:
    with redis_keys.prefix() as one:
        yield one


@pytest.fixture
def one(server, queue) -> StreamGroups:
    groups = StreamGroups(server, "one")
    groups.create(queue)
    return groups


@pytest.fixture
def other(server) -> StreamGroups:
    return StreamGroups(server, "other")


def put(groups: StreamGroups, queue: str, *texts: str) -> None:
    for text in texts:
        groups.put(queue, text)


def take(groups: StreamGroups, queue: str) -> str:
    entry = groups.take(queue)
    assert entry is not None and entry[1] is not None
    return entry[1].decode()


def length(server: Any, queue: str) -> int:
    return int(server.xlen(queue + stream_groups.SUFFIX))


def test_messages_are_taken_in_their_order_each_by_one_consumer(one, other, queue):
    put(one, queue, "a", "b", "c")
    assert (take(one, queue), take(other, queue), take(one, queue)) == ("a", "b", "c")
    assert one.take(queue) is other.take(queue) is None


def test_what_was_put_before_there_was_a_group_is_read_as_well(server, other, queue):
    put(other, queue, "early")
    other.create(queue)
    assert take(other, queue) == "early"


def test_only_what_nobody_has_taken_counts_as_unread_and_what_is_done_leaves_the_stream(one, queue, server):
    put(one, queue, "a", "b", "c")
    assert one.count_unread(queue) == 3
    id, _message = one.take(queue)
    assert (one.count_unread(queue), length(server, queue)) == (2, 3)
    one.remove(queue, id)
    assert (one.count_unread(queue), length(server, queue)) == (2, 2)
    assert one.count_unread(queue + "-that-is-not-there") == 0


def test_a_message_put_back_is_unread_again_behind_the_others(one, other, queue):
    put(one, queue, "a", "b")
    id, _message = one.take(queue)
    one.put_back(queue, id)
    assert (take(other, queue), take(other, queue)) == ("b", "a")


def test_a_consumer_that_leaves_puts_back_what_it_holds_and_nothing_of_others(one, other, queue, server):
    put(one, queue, "a", "b", "c")
    take(one, queue)
    kept, _message = other.take(queue)
    one.leave(queue)
    assert (take(other, queue), take(other, queue)) == ("c", "a")
    assert [consumer["name"] for consumer in server.xinfo_consumers(queue + stream_groups.SUFFIX, GROUP)] == [b"other"]
    other.remove(queue, kept)
    assert other.count_unread(queue) == 0


def test_what_a_dead_consumer_held_is_taken_over_once_and_what_a_living_one_holds_is_not(
    one, other, queue, monkeypatch
):
    put(one, queue, "of the dead", "of the living")
    dead, _message = one.take(queue)
    living, _message = other.take(queue)
    third = StreamGroups(one._redis, "third")
    assert third.claim(queue) == [], "both may live"
    # A moment in which only one of the two says that it holds its message.
    monkeypatch.setattr(stream_groups, "IDLE_SECONDS", 0.0)
    one._redis.xclaim(queue + stream_groups.SUFFIX, GROUP, "one", 0, [dead], idle=60_000, justid=True)
    one._redis.xclaim(queue + stream_groups.SUFFIX, GROUP, "other", 0, [living], idle=60_000, justid=True)
    other.keep(queue, living)
    monkeypatch.setattr(stream_groups, "IDLE_SECONDS", 30.0)
    assert third.claim(queue) == [(dead, b"of the dead")]
    assert third.claim(queue) == third.claim(queue) == []
    third.remove(queue, dead)
    other.remove(queue, living)
    assert length(one._redis, queue) == 0


def test_claiming_goes_through_all_that_was_held_one_call_after_the_other(one, other, queue, monkeypatch):
    put(one, queue, *"abcde")
    for _ in range(5):
        one.take(queue)
    monkeypatch.setattr(stream_groups, "IDLE_SECONDS", 0.0)
    claimed = [message for _ in range(5) for _id, message in other.claim(queue)]
    assert claimed == [b"a", b"b", b"c", b"d", b"e"]


def test_after_a_flush_the_group_is_made_anew_and_work_goes_on(one, queue, server):
    put(one, queue, "lost")
    id, _message = one.take(queue)
    server.delete(queue + stream_groups.SUFFIX)
    one.keep(queue, id)
    server.delete(queue + stream_groups.SUFFIX)
    assert one.claim(queue) == []
    server.delete(queue + stream_groups.SUFFIX)
    assert one.take(queue) is None
    one.remove(queue, id)
    put(one, queue, "later")
    assert take(one, queue) == "later"
    with pytest.raises(redis.ResponseError) as refused:
        server.execute_command(*one.reading([queue + "-gone"], 0.01))
    assert is_group_gone(refused.value)


def test_the_names_of_the_dead_are_forgotten_once_they_hold_nothing(one, other, queue, server, monkeypatch):
    put(one, queue, "a", "b")
    held, _message = one.take(queue)
    done, _message = other.take(queue)
    other.remove(queue, done)
    monkeypatch.setattr(stream_groups, "FORGET_SECONDS", -1)
    one.create(queue)
    assert [consumer["name"] for consumer in server.xinfo_consumers(queue + stream_groups.SUFFIX, GROUP)] == [b"one"]
    one.remove(queue, held)


def test_the_answer_to_a_waiting_read_names_queue_and_message_and_strange_entries_are_none(one, queue, server):
    put(one, queue, "a")
    server.xadd(queue + stream_groups.SUFFIX, {"else": "x"})
    link = server.connection_pool.get_connection()
    try:
        answers = []
        for _ in range(3):
            link.send_command(*one.reading([queue], 0.01))
            answers += entries_of(link.read_response())
    finally:
        server.connection_pool.release(link)
    assert [(name, message) for name, (_id, message) in answers] == [(queue, b"a"), (queue, None)]


def test_a_queue_with_a_lifetime_ends_that_long_after_it_was_last_prolonged_and_others_stay(server, one, queue):
    own = f"{queue}.own"
    one.create(own, lifetime_ms=60_000)
    assert server.ttl(queue + stream_groups.SUFFIX) == -1
    assert 50 <= server.ttl(own + stream_groups.SUFFIX) <= 60
    server.pexpire(own + stream_groups.SUFFIX, 5_000)
    one.prolong(own)
    one.prolong(queue)
    assert 50 <= server.ttl(own + stream_groups.SUFFIX) <= 60
    assert server.ttl(queue + stream_groups.SUFFIX) == -1
    one.delete(own)
    assert one.take(own) is None
    assert 50 <= server.ttl(own + stream_groups.SUFFIX) <= 60, "made anew, it has its lifetime again"
