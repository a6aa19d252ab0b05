"""The envelope on the broker: ours are read, everything else is refused and counted."""

from __future__ import annotations

import copy
import json
from typing import Any
from uuid import UUID

import pytest

from workers_app import celery_tasks, lifecycle, messages
from workers_app.messages import BadEnvelope, pack, unpack

GOOD = [(1, 1), (2**40, 3)]


def test_an_envelope_comes_through_json_as_it_was_packed():
    assert unpack(json.loads(json.dumps(pack(GOOD)))) == GOOD


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda e: e["runs"].append([3, 1]), "wrong signature"),
        (lambda e: e["runs"].pop(), "wrong signature"),
        (lambda e: e["runs"].reverse(), "wrong signature"),
        (lambda e: e["runs"][1].__setitem__(1, 4), "wrong signature"),
        (lambda e: e.update(sig=""), "wrong signature"),
        (lambda e: e.update(sig="0" * 64), "wrong signature"),
        (lambda e: e.update(sig="é"), "wrong signature"),
        (lambda e: e.update(sig="\ud800"), "wrong signature"),
        (lambda e: e.update(sig=None), "malformed"),
        (lambda e: e.update(v=2), "version"),
        (lambda e: e.pop("v"), "version"),
        (lambda e: e.update(runs=[]), "malformed"),
        (lambda e: e.update(runs=[[1, 1]] * (messages.MAX_PAIRS + 1)), "malformed"),
        (lambda e: e.update(runs=[[1]]), "malformed"),
        (lambda e: e.update(runs=[[1, True]]), "malformed"),
        (lambda e: e.update(runs=[[1, "1"]]), "malformed"),
        (lambda e: e.update(runs="11"), "malformed"),
        (lambda e: e.update(runs={"1": 1}), "malformed"),
    ],
)
def test_an_envelope_that_was_changed_on_the_way_is_refused_with_the_reason(change, why):
    envelope = json.loads(json.dumps(pack(GOOD)))
    sound = copy.deepcopy(envelope)
    change(envelope)
    with pytest.raises(BadEnvelope, match=why):
        unpack(envelope)
    assert unpack(sound) == GOOD


def test_an_envelope_signed_with_another_key_is_refused(settings):
    foreign = pack(GOOD)
    settings.SECRET_KEY = "another installation " * 4
    assert unpack(pack(GOOD)) == GOOD
    with pytest.raises(BadEnvelope, match="wrong signature"):
        unpack(foreign)


GARBAGE: list[Any] = [
    None,
    "",
    "text",
    5,
    [],
    {},
    {"v": 2},
    {"v": 1},
    {"v": 1, "runs": [], "sig": ""},
    {"v": 1, "runs": [[1]], "sig": ""},
    {"v": 1, "runs": [["1", "1"]], "sig": ""},
    {"v": 1, "runs": [[True, 1]], "sig": ""},
    {"v": 1, "runs": [[1.0, 1]], "sig": ""},
    {"v": 1, "runs": {"1": 1}, "sig": ""},
    {"v": 1, "runs": [[1, 1]], "sig": None},
]


@pytest.mark.parametrize("envelope", GARBAGE)
def test_garbage_is_refused(envelope):
    with pytest.raises(BadEnvelope):
        unpack(envelope)


def test_an_envelope_of_too_many_runs_is_refused_even_when_signed():
    most = [(number, 1) for number in range(messages.MAX_PAIRS)]
    assert len(unpack(pack(most))) == messages.MAX_PAIRS
    with pytest.raises(BadEnvelope, match="malformed"):
        unpack(pack([*most, (0, 1)]))


def test_a_worker_drops_and_counts_what_is_not_ours_and_executes_what_is(monkeypatch):
    class Node:
        executed: list[messages.Pair] = []

        def execute(self, pairs, *, queue):
            self.executed += pairs

    monkeypatch.setattr(lifecycle, "_node", Node())
    before = lifecycle.dropped._value.get()
    for envelope in (*GARBAGE, {**pack(GOOD), "sig": "\ud800"}):
        celery_tasks.execute_runs(envelope)
    assert lifecycle.dropped._value.get() - before == len(GARBAGE) + 1
    assert Node.executed == []
    celery_tasks.execute_runs(pack(GOOD))
    assert Node.executed == GOOD


def test_the_queue_of_a_worker_bears_its_id_and_ends_some_time_after_it_and_that_of_a_pool_stays(settings):
    settings.SCHEDULER_QUEUE_PREFIX = "p"
    id = UUID("0b5cdd6a-5f0c-4e5b-9d53-0a7b6f1e2c3d")
    own: Any = messages.pool_queue(messages.worker_address(id))
    pool: Any = messages.pool_queue("default")
    assert (own.name, own.durable, own.expires) == (f"p.{id}", True, messages.WORKER_QUEUE_SECONDS)
    assert (pool.name, pool.durable, pool.expires) == ("p.default", True, None)
