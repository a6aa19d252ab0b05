"""The envelope on the broker: ours are read, everything else is refused and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers_app import celery_tasks, lifecycle, messages
from workers_app.messages import BadEnvelope, pack, unpack

GOOD = [(1, 1), (2, 3)]


def test_an_envelope_comes_through_json_as_it_was_packed():
    assert unpack(json.loads(json.dumps(pack(GOOD)))) == GOOD


@pytest.mark.parametrize(
    "change", [{"runs": [[1, 1], [2, 4]]}, {"runs": [[1, 1]]}, {"sig": "0" * 64}, {"sig": "\ud800"}]
)
def test_an_envelope_that_was_changed_on_the_way_is_refused(change):
    assert unpack(pack(GOOD)) == GOOD
    with pytest.raises(BadEnvelope, match="wrong signature"):
        unpack(pack(GOOD) | change)


def test_an_envelope_signed_with_another_key_is_refused(settings):
    foreign = pack(GOOD)
    settings.SECRET_KEY = "another installation " * 4
    assert unpack(pack(GOOD)) == GOOD
    with pytest.raises(BadEnvelope, match="wrong signature"):
        unpack(foreign)


GARBAGE: list[Any] = [
    None,
    "",
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

        def execute(self, pairs):
            self.executed += pairs

    monkeypatch.setattr(lifecycle, "_node", Node())
    before = lifecycle.dropped._value.get()
    for envelope in (*GARBAGE, {**pack(GOOD), "sig": "\ud800"}):
        celery_tasks.execute_runs(envelope)
    assert lifecycle.dropped._value.get() - before == len(GARBAGE) + 1
    assert Node.executed == []
    celery_tasks.execute_runs(pack(GOOD))
    assert Node.executed == GOOD
