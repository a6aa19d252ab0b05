"""What was lost on the way is found again; what is alive is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app import rescue
from dispatcher_app.rescue import expire_leases, find_unclaimed, recover_orphans
from tasks_app.models import EndStep, Run
from tasks_app.retry import POISON_LIMIT
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    bring,
    end,
    enqueue,
    events_of,
    later,
    make_pool,
    make_task,
    make_worker,
    plan,
    start,
    state_of,
)
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState

pytestmark = pytest.mark.django_db


def running_on(worker: Worker, **fields: Any) -> int:
    (id,) = plan(make_task(**fields))
    start(id, worker_id=worker.pk)
    return id


def recover() -> int:
    return len(recover_orphans(NOW, actor=ACTOR))


# Leases


def test_a_worker_whose_lease_has_run_out_is_lost():
    late = make_worker(lease_until=later(seconds=-1))
    draining = make_worker(lease_until=later(seconds=-1), state=WorkerState.DRAINING)
    punctual, offline = make_worker(lease_until=NOW), make_worker(lease_until=later(days=-1), state=WorkerState.OFFLINE)
    assert expire_leases(NOW) == 2
    states = dict(Worker.objects.values_list("pk", "state"))
    assert states == {late.pk: "lost", draining.pk: "lost", punctual.pk: "online", offline.pk: "offline"}
    late.refresh_from_db()
    assert late.stopped_at == NOW
    assert expire_leases(NOW) == 0


# Orphans


@pytest.mark.parametrize("state", [WorkerState.LOST, WorkerState.OFFLINE, None])
@pytest.mark.parametrize(("retry", "expected"), [(True, RunState.WAITING), (False, RunState.LOST)])
def test_a_run_without_a_live_worker_waits_again_or_is_lost(state, retry, expected):
    worker = make_worker(state=state or WorkerState.ONLINE)
    id = running_on(worker, retry_on_lost=retry)
    if state is None:
        worker.delete()
    assert recover() == 1
    run = Run.objects.get(pk=id)
    assert (run.state, run.reason, run.worker_deaths) == (expected, "worker_lost", 1)
    assert (run.attempt, run.due_at, run.finished_at) == ((2, NOW, None) if retry else (1, NOW, NOW))
    assert events_of(id)[-1] == ("running", expected, 1)
    assert recover() == 0


@pytest.mark.parametrize("state", HOLDING_A_LEASE)
def test_a_live_workers_runs_are_not_touched(state):
    mine = running_on(make_worker(state=state), retry_on_lost=True)
    (queued,) = plan(make_task())
    enqueue(queued)
    (ended,) = plan(make_task())
    lost = make_worker(state=WorkerState.LOST)
    start(ended, worker_id=lost.pk)
    end(ended)
    before = list(Run.objects.order_by("pk").values())
    assert recover() == 0
    assert list(Run.objects.order_by("pk").values()) == before
    assert state_of(mine) == RunState.RUNNING


@pytest.mark.parametrize("retry", [True, False])
def test_a_run_that_was_asked_to_end_is_cancelled(retry):
    id = running_on(make_worker(state=WorkerState.LOST), retry_on_lost=retry)
    Run.objects.filter(pk=id).update(cancel_requested_at=NOW)
    assert recover() == 1
    assert (state_of(id), Run.objects.get(pk=id).reason) == (RunState.CANCELLED, "cancel_requested")
    (step,) = EndStep.objects.all()
    assert (step.run_id, step.step, step.at) == (id, "worker_lost", NOW)


def test_a_run_that_kills_its_workers_is_quarantined():
    (id,) = plan(make_task(retry_on_lost=True))
    states = []
    for _ in range(POISON_LIMIT):
        start(id, worker_id=make_worker(state=WorkerState.LOST).pk)
        assert recover() == 1
        states.append(state_of(id))
    assert states == [RunState.WAITING] * (POISON_LIMIT - 1) + [RunState.QUARANTINED]
    run = Run.objects.get(pk=id)
    assert (run.reason, run.worker_deaths, run.attempt) == ("poison", POISON_LIMIT, POISON_LIMIT)
    assert "3 workers have died with this run" in run.reason_detail


def test_the_loss_names_the_worker():
    worker = make_worker(state=WorkerState.LOST)
    id = running_on(worker)
    recover()
    assert worker.name in Run.objects.get(pk=id).reason_detail


def test_a_thousand_orphans_take_as_many_statements_as_two():
    worker, task = make_worker(state=WorkerState.LOST), make_task(retry_on_lost=True)

    def statements(number: int) -> int:
        start(*plan(task, number), worker_id=worker.pk)
        with CaptureQueriesContext(connection) as captured:
            assert recover() == number
        return len(captured)

    assert statements(1000) == statements(2)


# Unclaimed


def unclaimed(now=NOW, *, full: tuple[str, ...] = (), limit: int = 100) -> list[int]:
    found = find_unclaimed(now, is_empty=lambda pool: pool not in full, limit=limit)
    return [run.id for run in found]


def queued(pool=None, *, now=NOW) -> int:
    (id,) = plan(make_task(pool=pool))
    enqueue(id, now=now)
    return id


def test_a_queued_run_that_nobody_claimed_is_found_after_its_time():
    make_worker()
    id = queued()
    queued(now=later(seconds=1))
    assert unclaimed(later(seconds=4.9)) == []
    assert unclaimed(later(seconds=5)) == [id]


def test_the_time_to_the_next_look_doubles_up_to_five_minutes():
    make_worker()
    id = queued()
    looks: list[int] = []
    now = NOW
    while len(looks) < 9:
        now += timedelta(seconds=1)
        if unclaimed(now) == [id]:
            looks.append(round((now - NOW).total_seconds()))
    assert looks == [5, 10, 20, 40, 80, 160, 320, 620, 920]


def test_a_clock_that_was_set_back_does_not_put_off_the_next_look():
    make_worker()
    ahead = queued(now=later(hours=1))
    queued(now=later(minutes=5))
    assert unclaimed(NOW) == [ahead], "by the clock of another dispatcher the other one is to be looked at in time"
    assert Run.objects.get(pk=ahead).sweep_at == later(seconds=5)
    assert unclaimed(later(seconds=4)) == []
    assert unclaimed(later(seconds=5)) == [ahead]


def test_nothing_is_announced_again_while_no_slot_is_free():
    worker = make_worker(slots=1)
    busy = running_on(worker)
    id = queued()
    assert unclaimed(later(minutes=1)) == []
    end(busy)
    assert unclaimed(later(minutes=1)) == [id]


@pytest.mark.parametrize("state", sorted(set(WorkerState.values) - {WorkerState.ONLINE}))
def test_a_worker_that_takes_nothing_has_no_free_slot(state):
    make_worker(state=state)
    queued()
    assert unclaimed(later(minutes=1)) == []


def test_free_slots_of_another_pool_and_waiting_messages_hold_it_back():
    here, there = make_pool("here"), make_pool("there")
    make_worker(there)
    first, second = queued(here), queued(there)
    assert unclaimed(later(minutes=1)) == [second]
    make_worker(here)
    assert unclaimed(later(minutes=2), full=("here", "there")) == []
    assert unclaimed(later(minutes=3), full=("there",)) == [first]


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.QUEUED}))
def test_only_queued_runs_are_announced_again(state):
    make_worker()
    (id,) = plan(make_task())
    bring(id, state)
    assert unclaimed(later(hours=1)) == []


def test_the_broker_is_not_asked_while_nothing_is_overdue():
    make_worker()
    queued()

    def refuse(pool: str) -> bool:
        raise AssertionError(pool)

    assert find_unclaimed(later(seconds=1), is_empty=refuse) == []


def test_the_longest_overdue_are_found_first_and_no_more_than_the_limit():
    make_worker()
    ids = [queued(now=later(seconds=place)) for place in range(4)]
    assert unclaimed(later(minutes=1), limit=3) == ids[:3]
    assert unclaimed(later(minutes=1), limit=3) == ids[3:]


def test_an_attempt_is_announced_as_it_stands():
    worker = make_worker(slots=9)
    (id,) = plan(make_task())
    start(id, worker_id=worker.pk)
    end(id, RunState.WAITING)
    enqueue(id)
    (found,) = find_unclaimed(later(minutes=1), is_empty=lambda pool: True)
    assert (found.id, found.attempt, found.pool) == (id, 2, "default")


def test_a_worker_that_is_not_known_is_named_so():
    (id,) = plan(make_task())
    start(id, worker_id=uuid4())
    recover()
    assert Run.objects.get(pk=id).reason_detail.startswith("Worker unknown stopped answering.")
    assert rescue.judge(rescue.Orphan(1, 1, 0, True, False, "w"), NOW).retry_at == NOW
