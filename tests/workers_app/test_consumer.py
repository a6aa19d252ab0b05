"""A worker's consumer: envelopes go to a slot and are acknowledged when it takes them up; all else is dropped."""

from __future__ import annotations

import gzip
import threading
from typing import Any

import pytest
from kombu.message import Message

from workers_app import consumer, lifecycle, messages
from workers_app.consumer import PatientConsumer
from workers_app.messages import BadEnvelope, seal

QUEUE = "here.default"


class Channel:
    no_ack_consumers = None

    def __init__(self) -> None:
        self.acknowledged: list[str] = []

    def basic_ack(self, delivery_tag: str, multiple: bool) -> None:
        self.acknowledged.append(delivery_tag)


class Slots:
    """Keeps what was applied until the test lets a slot take it up."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def apply_async(self, target: Any, args: Any, accept_callback: Any, callback: Any) -> None:
        self.waiting.append((target, args, accept_callback, callback))

    def take_up(self) -> None:
        target, args, accept_callback, callback = self.waiting.pop(0)
        accept_callback(0, 0.0)
        callback(target(*args))


class Node:
    def __init__(self) -> None:
        self.executed: list[messages.Pair] = []
        self.queues: list[str] = []

    def execute(self, pairs: list[messages.Pair], *, queue: str) -> None:
        self.executed += pairs
        self.queues.append(queue)


@pytest.fixture
def node(monkeypatch) -> Node:
    one = Node()
    monkeypatch.setattr(lifecycle, "_node", one)
    monkeypatch.setattr(consumer, "close_old_connections", lambda: None)
    return one


@pytest.fixture
def ours(monkeypatch) -> PatientConsumer:
    """The consumer without the rest of Celery's worker."""
    one = PatientConsumer.__new__(PatientConsumer)
    one.pool, one.hub, one._acknowledging = Slots(), None, threading.Lock()
    monkeypatch.setattr(PatientConsumer, "_queues", lambda _self: (QUEUE,))
    return one


def message(body: Any, headers: dict[str, Any], *, content_type: str = "application/json") -> Any:
    return Message(
        body=body,
        headers=headers,
        content_type=content_type,
        content_encoding="utf-8",
        delivery_tag="1",
        channel=Channel(),
    )


def dropped() -> int:
    return messages.dropped.value


def test_an_envelope_is_acknowledged_when_a_slot_takes_it_up_and_not_before(ours, node):
    one = message(*seal(QUEUE, [(1, 1), (2, 1)]))
    ours.create_task_handler()(one)
    assert (one.channel.acknowledged, node.executed) == ([], [])
    ours.pool.take_up()
    assert (one.channel.acknowledged, node.executed, node.queues) == (["1"], [(1, 1), (2, 1)], [QUEUE])


def test_what_is_no_envelope_is_dropped_and_counted_and_reaches_no_slot(ours, node):
    body, headers = seal(QUEUE, [(1, 1)])
    strangers = [
        message("text", {}),
        message(body, {}),
        message(body, {"task": "os.system", "id": "1"}),
        message(b"\x80\x04", {}, content_type="application/x-python-serialize"),
        message(None, headers),
        message(*seal("here.other", [(1, 1)])),
    ]
    before = dropped()
    for one in strangers:
        ours.create_task_handler()(one)
    assert dropped() - before == len(strangers)
    assert [one.channel.acknowledged for one in strangers] == [["1"]] * len(strangers)
    assert ours.pool.waiting == []


def test_a_compressed_message_is_dropped_without_being_unpacked(ours):
    packed = gzip.compress(b" " * 10**6)
    one = message(packed, {"compression": "application/x-gzip"})
    assert one.body == packed and one.errors, "kombu could not unpack it"
    before = dropped()
    ours.on_decode_error(one, BadEnvelope("compressed"))
    assert (dropped() - before, one.channel.acknowledged) == (1, ["1"])


def test_an_acknowledgement_that_cannot_be_sent_harms_nothing(ours, node):
    one = message(*seal(QUEUE, [(1, 1)]))
    one.channel = None
    ours.on_envelope(one)
    ours.pool.take_up()
    assert node.executed == [(1, 1)]


def test_an_envelope_that_fails_does_not_end_its_slot(ours, node, monkeypatch):
    def fail(_pairs: Any, *, queue: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(node, "execute", fail)
    ours.on_envelope(message(*seal(QUEUE, [(1, 1)])))
    ours.pool.take_up()


def test_celery_declares_no_queues_of_its_own_for_delayed_delivery():
    assert not any("delayed" in step for step in PatientConsumer.Blueprint.default_steps)
