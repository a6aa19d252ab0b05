"""The envelope on the broker: ours are read, everything else is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any
from uuid import UUID

import pytest

from workers_app import messages
from workers_app.messages import CONTENT_TYPE, SIGNATURE, BadEnvelope, seal, unseal

GOOD = [(1, 1), (2**40, 3)]
QUEUE = "here.default"


def opened(body: Any, headers: Any, *, content_type: Any = CONTENT_TYPE, queues: tuple[str, ...] = (QUEUE,)) -> Any:
    return unseal(body, content_type=content_type, headers=headers, queues=queues).pairs


def signed(body: bytes | str) -> tuple[Any, dict[str, str]]:
    """A body that nobody of ours would write, with a signature that holds."""
    raw = body.encode() if isinstance(body, str) else body
    return body, {SIGNATURE: messages._sign(messages._keys()[0], raw)}


def envelope(**changed: Any) -> str:
    return json.dumps({"v": messages.VERSION, "queue": QUEUE, "runs": [[1, 1]]} | changed)


def test_an_envelope_comes_out_as_it_was_sealed():
    body, headers = seal(QUEUE, GOOD)
    assert opened(body, headers) == GOOD
    assert opened(body.encode(), headers) == GOOD
    assert opened(body, headers | {"x-delivery-count": 2}, queues=("other", QUEUE)) == GOOD


def test_no_byte_of_a_sealed_body_can_be_changed():
    body, headers = seal(QUEUE, GOOD)
    raw = body.encode()
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(BadEnvelope, match="wrong signature"):
            opened(changed, headers)
    for changed in (raw + b" ", raw[:-1], b""):
        with pytest.raises(BadEnvelope, match="wrong signature"):
            opened(changed, headers)
    assert opened(raw, headers) == GOOD


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "not signed"),
        (None, "not signed"),
        ([SIGNATURE], "not signed"),
        ({SIGNATURE: None}, "not signed"),
        ({SIGNATURE: 5}, "not signed"),
        ({SIGNATURE: "é" * 64}, "not signed"),
        ({SIGNATURE: "\ud800"}, "not signed"),
        ({SIGNATURE: ""}, "wrong signature"),
        ({SIGNATURE: "0" * 64}, "wrong signature"),
    ],
)
def test_a_message_without_our_signature_is_refused(headers, why):
    body, _headers = seal(QUEUE, GOOD)
    with pytest.raises(BadEnvelope, match=why):
        opened(body, headers)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xff\xfe", "malformed"),
        ("not json", "malformed"),
        ("[" * 20_000, "malformed"),
        ("5", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        (envelope(v=1), "version"),
        (envelope(v=None), "version"),
        (envelope(queue="here.other"), "another queue"),
        (envelope(queue=None), "another queue"),
        (envelope(runs=[]), "malformed"),
        (envelope(runs=[[1, 1]] * (messages.MAX_PAIRS + 1)), "malformed"),
        (envelope(runs=[[1]]), "malformed"),
        (envelope(runs=[[1, True]]), "malformed"),
        (envelope(runs=[[1.0, 1]]), "malformed"),
        (envelope(runs=[["1", "1"]]), "malformed"),
        (envelope(runs="11"), "malformed"),
        (envelope(runs={"1": 1}), "malformed"),
        (envelope(runs=None), "malformed"),
    ],
)
def test_what_is_signed_and_yet_no_envelope_of_this_version_and_queue_is_refused(body, why):
    with pytest.raises(BadEnvelope, match=why):
        opened(*signed(body))


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "text/plain", "", None, 5])
def test_what_does_not_call_itself_json_is_refused_unread(content_type):
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("unpickled",)

    with pytest.raises(BadEnvelope, match="not JSON"):
        opened(*signed(pickle.dumps(Bomb())), content_type=content_type)


@pytest.mark.parametrize("body", [None, 5, ["x"], {"v": 2}])
def test_a_body_that_is_no_text_is_refused(body):
    with pytest.raises(BadEnvelope, match="not JSON"):
        opened(body, {SIGNATURE: "0" * 64})


def test_a_message_that_is_too_large_is_refused_even_when_signed():
    with pytest.raises(BadEnvelope, match="too large"):
        opened(*signed(envelope() + " " * messages.MAX_BYTES))


def test_the_largest_envelope_that_is_allowed_is_small_enough():
    most = [(2**63 - number, 2**31) for number in range(messages.MAX_PAIRS)]
    body, headers = seal(QUEUE, most)
    assert opened(body, headers) == most


def test_an_envelope_signed_with_another_key_is_refused(settings):
    foreign = seal(QUEUE, GOOD)
    settings.SECRET_KEY = "another installation " * 4
    assert opened(*seal(QUEUE, GOOD)) == GOOD
    with pytest.raises(BadEnvelope, match="wrong signature"):
        opened(*foreign)


def test_a_change_of_key_loses_nothing_in_whatever_order_processes_learn_of_it(settings):
    old, new = "the old key " * 5, "the new key " * 5

    def knows(key: str, *others: str) -> None:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, list(others)

    knows(old)
    by_old = seal(QUEUE, GOOD)
    knows(old, new)  # the first step: everybody believes the new key
    assert opened(*by_old) == GOOD
    knows(new, old)  # the second: it signs
    by_new = seal(QUEUE, GOOD)
    assert opened(*by_old) == opened(*by_new) == GOOD
    knows(old, new)  # a process that has not taken the second step yet
    assert opened(*by_new) == GOOD
    knows(new)  # the last: the old key is forgotten
    assert opened(*by_new) == GOOD
    with pytest.raises(BadEnvelope, match="wrong signature"):
        opened(*by_old)


def test_a_quorum_queue_has_a_name_of_its_own_for_no_queue_can_change_its_type(settings):
    settings.SCHEDULER_QUEUE_PREFIX = "one"
    classic: Any = messages.pool_queue("fast")
    assert (classic.name, classic.durable, classic.queue_arguments) == ("one.fast", True, None)
    settings.SCHEDULER_RABBITMQ_QUEUE_TYPE = "quorum"
    quorum: Any = messages.pool_queue("fast")
    assert (quorum.name, quorum.durable) == ("one.fast.quorum", True)
    assert quorum.queue_arguments == {"x-queue-type": "quorum"}


def test_the_queue_of_a_worker_bears_its_id_and_ends_some_time_after_it_and_that_of_a_pool_stays(settings):
    settings.SCHEDULER_QUEUE_PREFIX = "p"
    id = UUID("0b5cdd6a-5f0c-4e5b-9d53-0a7b6f1e2c3d")
    own: Any = messages.pool_queue(messages.worker_address(id))
    pool: Any = messages.pool_queue("default")
    assert (own.name, own.durable, own.expires) == (f"p.{id}", True, messages.WORKER_QUEUE_SECONDS)
    assert (pool.name, pool.durable, pool.expires) == ("p.default", True, None)
    settings.SCHEDULER_RABBITMQ_QUEUE_TYPE = "quorum"
    own = messages.pool_queue(messages.worker_address(id))
    assert (own.name, own.expires) == (f"p.{id}.quorum", messages.WORKER_QUEUE_SECONDS)
    assert messages.address_of(own.name) == messages.worker_address(id)
