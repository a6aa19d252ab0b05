"""A limit of 3, released by several dispatchers and claimed by eight workers at once: never are four live."""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from dispatcher_app import release
from dispatcher_app.limits import measure
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.models import Pool, Run, RunEvent
from tasks_app.moves import Outcome
from tasks_app.states import LIVE, RunState
from tests.tasks_app.making import ACTOR, make_pool, make_task, make_worker, plan
from workers_app.models import Worker

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

LIMIT, CLAIMERS, DISPATCHERS, RUNS, SECONDS = 3, 8, 3, 60, 60


class Bell:
    """The messages between dispatchers and claimers, some of them rung twice."""

    def __init__(self) -> None:
        self._pairs: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()
        self.over = threading.Event()

    def ring(self, pairs: list[tuple[int, int]]) -> None:
        with self._lock:
            self._pairs.extend(pairs + pairs[:1])

    def take(self) -> tuple[int, int] | None:
        with self._lock:
            return self._pairs.popleft() if self._pairs else None


def dispatch(bell: Bell) -> int:
    released = 0
    while not bell.over.is_set():
        found = release_ready(datetime.now(UTC), actor=ACTOR)
        bell.ring([(run.id, run.attempt) for run in found])
        released += len(found)
    return released


def claim(bell: Bell, worker: Worker) -> int:
    """Start and finish runs; every fifth fails once and comes back for another attempt."""
    started = 0
    while not bell.over.is_set():
        pair = bell.take()
        if pair is None:
            bell.over.wait(0.001)
            continue
        for run in transitions.claim([pair], worker_id=worker.pk, now=datetime.now(UTC), actor=ACTOR):
            started += 1
            again = run.id % 5 == 0 and run.attempt == 1
            state = RunState.WAITING if again else RunState.SUCCEEDED
            ended = Outcome(run.id, run.attempt, state, retry_at=datetime.now(UTC) if again else None)
            moved = transitions.finish([ended], worker_id=worker.pk, now=datetime.now(UTC), actor=ACTOR)
            assert moved == {run.id}
    return started


def watch(bell: Bell) -> list[int]:
    """How many runs were live, each time it looked: one statement, so one instant."""
    seen = []
    deadline = datetime.now(UTC) + timedelta(seconds=SECONDS)
    while Run.objects.exclude(state=RunState.SUCCEEDED).exists() and datetime.now(UTC) < deadline:
        seen.append(Run.objects.filter(state__in=sorted(LIVE)).count())
    bell.over.set()
    return seen


def most_at_once() -> tuple[int, int]:
    """(most that were live at once, live in the end), from the events in the order in which they were written: each
    release takes a slot, each end gives it back.

    A release counts the live runs under the lock of its limit, so that its event is written after those of the ends
    that made room for it.
    """
    live = most = 0
    for old, new in RunEvent.objects.order_by("id").values_list("from_state", "to_state"):
        live += (new in LIVE) - (old in LIVE)
        most = max(most, live)
    return most, live


def plan_limited(limited_by: str) -> Pool:
    """RUNS runs behind a limit of three; the pool that they are to run in."""
    pool = make_pool("three", slots=LIMIT if limited_by == "pool" else None)
    limits: dict[str, dict[str, Any]] = {
        "pool": {},
        "task": {"max_concurrent": LIMIT},
        "key": {"concurrency_key": "k", "max_concurrent_per_key": LIMIT},
    }
    task = make_task(pool=pool, **limits[limited_by])
    plan(task, RUNS, concurrency_key="k" if limited_by == "key" else "")
    return pool


@pytest.mark.parametrize("limited_by", ["task", "pool", "key"])
def test_eight_claimers_never_hold_more_than_three(limited_by, in_thread):
    pool = plan_limited(limited_by)
    bell = Bell()
    workers = [make_worker(pool) for _ in range(CLAIMERS)]
    dispatchers = [in_thread(dispatch, bell) for _ in range(DISPATCHERS)]
    claimers = [in_thread(claim, bell, worker) for worker in workers]
    seen = in_thread(watch, bell).result(SECONDS + 10)
    released = sum(one.result(20) for one in dispatchers)
    started = sum(one.result(20) for one in claimers)
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.SUCCEEDED}
    again = Run.objects.annotate(rest=F("pk") % 5).filter(rest=0).count()
    assert released == started == RUNS + again
    assert max(seen) <= LIMIT
    assert most_at_once() == (LIMIT, 0)


@pytest.mark.parametrize("limited_by", ["task", "pool", "key"])
def test_a_limit_whose_row_is_not_locked_is_seen_to_be_exceeded(limited_by, hold, monkeypatch):
    plan_limited(limited_by)
    monkeypatch.setattr(release, "measure", lambda lanes, now, lock: measure(lanes, now, lock=False))
    first = hold(lambda: release_ready(datetime.now(UTC), actor=ACTOR))
    # It sees neither what the first one has queued nor a lock that would tell it to wait.
    second = release_ready(datetime.now(UTC), actor=ACTOR)
    assert len(first.commit()) == len(second) == LIMIT
    assert most_at_once() == (2 * LIMIT, 2 * LIMIT)
