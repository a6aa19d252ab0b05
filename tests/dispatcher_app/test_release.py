"""Waiting runs are queued when all their gates are open: best first, never beyond a limit."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app.release import Released, release_ready
from tasks_app.models import Run, Task
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    bring,
    depend,
    end,
    events_of,
    later,
    make_pool,
    make_task,
    member,
    plan,
    start,
    state_of,
)

pytestmark = pytest.mark.django_db


def release(limit: int = 5000) -> list[int]:
    return [run.id for run in release_ready(NOW, actor=ACTOR, limit=limit)]


def waiting(*ids: int) -> bool:
    return all(state_of(id) == RunState.WAITING for id in ids)


# Gates of the run itself


def test_a_ready_run_is_queued_with_all_that_publishing_needs(settings):
    settings.SCHEDULER_SWEEP_SECONDS = 5
    task = make_task(pool=make_pool("batch"), executor="shell", command="true")
    (id,) = plan(task)
    assert task.version_id is not None
    assert release_ready(NOW, actor=ACTOR) == [Released(id, 1, "batch", task.version_id, "shell")]
    run = Run.objects.get(pk=id)
    assert (run.state, run.queued_at, run.sweep_at, run.reason) == ("queued", NOW, NOW + timedelta(seconds=5), "")
    assert events_of(id)[-1] == ("waiting", "queued", 1)
    assert release() == []


def test_a_run_behind_a_gate_of_its_own_stays(django_assert_num_queries):
    (ready,) = plan(make_task())
    (not_due,) = plan(make_task(), due_at=later(seconds=1))
    (held,) = plan(make_task())
    Run.objects.filter(pk=held).update(held=True)
    (paused,) = plan(make_task(paused=True))
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    below = member(root, down).pk
    assert sorted(release()) == sorted([ready, root])
    assert waiting(not_due, held, paused, below)
    assert release_ready(later(seconds=1), actor=ACTOR)[0].id == not_due


def test_a_gate_that_opens_lets_the_run_go():
    (id,) = plan(make_task(paused=True))
    Run.objects.filter(pk=id).update(held=True)
    assert release() == []
    Task.objects.update(paused=False)
    assert release() == []
    Run.objects.filter(pk=id).update(held=False)
    assert release() == [id]


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.WAITING}))
def test_only_a_waiting_run_is_queued(state):
    (id,) = plan(make_task())
    bring(id, state)
    assert release() == []
    assert state_of(id) == state


# Order


def test_the_best_priority_goes_first_then_the_longest_due_then_the_oldest():
    low, high = make_task(priority=20), make_task(priority=75)
    (young,) = plan(high, due_at=NOW)
    (old,) = plan(high, due_at=later(minutes=-5))
    first, second = plan(low, 2)
    (urgent,) = plan(low, priority=100)
    expected = [urgent, old, young, first, second]
    assert [release(limit=1) for _ in expected] == [[id] for id in expected]


# Limits


@pytest.mark.parametrize(
    ("fields", "free"),
    [
        ({}, 5),
        ({"max_concurrent": 2}, 2),
        ({"max_concurrent": 9}, 5),
        ({"overlap": "queue_all"}, 1),
        ({"overlap": "queue_all", "max_concurrent": 3}, 3),
    ],
)
def test_a_task_has_no_more_live_runs_than_its_limit(fields, free):
    ids, others = plan(make_task(**fields), 5), plan(make_task(), 2)
    assert sorted(release()) == sorted(ids[:free] + others)
    assert release() == []
    assert waiting(*ids[free:])


def test_queued_and_running_runs_hold_their_slots_and_ended_ones_give_them_back():
    task = make_task(max_concurrent=2)
    running, queued, third, fourth = plan(task, 4)
    start(running)
    bring(queued, RunState.QUEUED)
    assert release() == []
    end(running)
    assert release() == [third]
    bring(queued, RunState.CANCELLED)
    assert release() == [fourth]


def test_a_pool_has_no_more_live_runs_than_slots_over_all_its_tasks():
    pool = make_pool("small", slots=3)
    first, second = make_task(pool=pool, priority=90), make_task(pool=pool)
    elsewhere = plan(make_task(), 4)
    favoured, others = plan(first, 2), plan(second, 2)
    assert sorted(release()) == sorted([*favoured, others[0], *elsewhere])
    assert release() == []
    assert waiting(others[1])


def test_the_narrower_of_two_limits_decides_and_takes_no_slot_of_the_wider():
    pool = make_pool("small", slots=3)
    narrow, wide = make_task(pool=pool, max_concurrent=1, priority=90), make_task(pool=pool)
    first, *rest = plan(narrow, 3)
    others = plan(wide, 3)
    assert sorted(release()) == sorted([first, *others[:2]])
    assert waiting(*rest, others[2])


def test_a_limit_that_was_lowered_below_what_is_live_lets_nothing_in():
    task = make_task(max_concurrent=3)
    ids = plan(task, 4)
    start(*ids[:3])
    Task.objects.filter(pk=task.pk).update(max_concurrent=1)
    end(ids[0])
    end(ids[1])
    assert release() == []
    end(ids[2])
    assert release() == [ids[3]]


def test_runs_behind_full_tasks_do_not_starve_those_behind_them():
    # More runs stand before the full tasks than one look takes.
    crowded = [make_task(priority=90, max_concurrent=1) for _ in range(3)]
    crowds = [plan(task, 20) for task in crowded]
    pool = make_pool("small", slots=1)
    pooled = plan(make_task(priority=80, pool=pool), 20)
    (last,) = plan(make_task(priority=1))
    released = release(limit=10)
    assert sorted(released) == sorted([crowd[0] for crowd in crowds] + [pooled[0], last])
    (later_one,) = plan(make_task(priority=1))
    assert release(limit=2) == [later_one]


def test_no_more_than_the_limit_are_queued_at_once():
    ids = plan(make_task(), 7)
    assert release(limit=3) == ids[:3]
    assert release(limit=3) == ids[3:6]
    assert release(limit=3) == ids[6:]


# Cost


def _statements() -> int:
    with CaptureQueriesContext(connection) as captured:
        release()
    return len(captured)


def test_two_thousand_runs_take_as_many_statements_as_two():
    limited, pooled = make_task(max_concurrent=900), make_task(pool=make_pool("wide", slots=900))

    def some(number: int) -> int:
        for task in (limited, pooled):
            plan(task, number)
        return _statements()

    few = some(2)
    many = some(1000)
    assert Run.objects.filter(state=RunState.QUEUED).count() == 1800
    assert many <= few
