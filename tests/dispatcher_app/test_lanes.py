"""Lanes of ready runs are found by jumps through one index: closed tasks cost a step, due-later runs nothing more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from dispatcher_app import lanes
from dispatcher_app.lanes import Cursor, candidates, due_lanes
from tasks_app.models import Backfill, Resource, Run, Task, TaskResource
from tasks_app.states import RunState
from tests.tasks_app.making import NOW, bring, depend, enqueue, later, make_pool, make_task, plan
from tests.tasks_app.plans import indexes, nodes, plans_of, scanned_tables

pytestmark = pytest.mark.django_db


def found(cursor: Cursor | None = None) -> list[tuple[int, str, int]]:
    return sorted((lane.task.id, lane.key, lane.priority) for lane in due_lanes(NOW, cursor))


def keyed(task: Task, *keys: str, **firing: Any) -> list[int]:
    """A run of the task for each key."""
    ids = plan(task, len(keys), **firing)
    for id, key in zip(ids, keys, strict=True):
        Run.objects.filter(pk=id).update(concurrency_key=key)
    return ids


def make_backfill(task: Task, **fields: Any) -> Backfill:
    return Backfill.objects.create(task=task, start_at=NOW, end_at=NOW, created_at=NOW, **fields)


def test_there_is_one_lane_for_each_task_key_priority_and_backfill_with_something_due():
    plain, parted = make_task(), make_task(max_concurrent_per_key=9)
    plan(plain, 3)
    plan(plain, 2, priority=90)
    keyed(parted, "a", "b", "b")
    batch = make_backfill(plain)
    Run.objects.filter(pk__in=plan(plain, 2)).update(backfill=batch)
    assert found() == sorted(
        [(plain.pk, "", 50), (plain.pk, "", 50), (plain.pk, "", 90), (parted.pk, "a", 50), (parted.pk, "b", 50)]
    )
    assert {lane.backfill for lane in due_lanes(NOW)} == {0, batch.pk}


def test_what_is_not_ready_is_in_no_lane():
    for id, state in zip(plan(make_task(), 3), (RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED), strict=True):
        bring(id, state)
    Run.objects.filter(pk__in=plan(make_task())).update(held=True)
    plan(make_task(), due_at=later(seconds=1))
    up, down = make_task(), make_task()
    depend(up, down)
    plan(up)
    assert found() == [(up.pk, "", 50)]
    plan(down)
    assert found() == [(up.pk, "", 50), (down.pk, "", 50)]


@pytest.mark.parametrize(
    ("fields", "is_open"),
    [
        ({}, True),
        ({"paused": True}, False),
        ({"paused": True, "pause_mode": "drain"}, True),
        ({"paused": True, "pause_mode": "queue"}, False),
        ({"paused": True, "pause_mode": "queue", "paused_until": NOW}, True),
        ({"paused": True, "pause_mode": "queue", "paused_until": later(seconds=1)}, False),
        ({"max_concurrent": 1}, False),
        ({"max_concurrent": 2}, True),
        ({"overlap": "queue_all"}, False),
        ({"overlap": "skip"}, True),
        ({"overlap": "skip", "paused": True}, False),
    ],
)
def test_a_task_whose_gates_are_closed_is_passed_over(fields, is_open):
    before, task, behind = make_task(), make_task(**fields), make_task()
    ids = [plan(each, 3)[0] for each in (before, task, behind)]
    enqueue(ids[1])
    expected = {before.pk, behind.pk} | ({task.pk} if is_open else set())
    assert {lane[0] for lane in found()} == expected


def test_a_full_pool_and_an_open_breaker_close_all_their_tasks():
    small = make_pool("small", slots=3)
    heavy, light = make_task(pool=small, weight=2), make_task(pool=small)
    resource = Resource.objects.create(name="api", breaker_state="open", breaker_open_until=later(seconds=1))
    held, free = make_task(), make_task()
    TaskResource.objects.create(task=held, resource=resource)
    one, _ = plan(heavy, 2)
    for task in (light, held, free):
        plan(task)
    assert {lane[0] for lane in found()} == {heavy.pk, light.pk, free.pk}
    enqueue(one)
    assert {lane[0] for lane in found()} == {heavy.pk, light.pk, free.pk}
    (other,) = plan(light)
    enqueue(other)
    assert {lane[0] for lane in found()} == {free.pk}
    Resource.objects.update(breaker_open_until=NOW)
    assert {lane[0] for lane in found()} == {held.pk, free.pk}


def test_a_full_key_closes_its_lane_alone():
    task, other = make_task(max_concurrent_per_key=1), make_task()
    live, *_ = keyed(task, "a", "a", "b")
    keyed(other, "a")
    enqueue(live)
    assert found() == [(task.pk, "b", 50), (other.pk, "a", 50)]
    (lane, *_) = due_lanes(NOW)
    assert lane.last_started is None


def test_a_lane_knows_when_its_key_was_served_last():
    task = make_task(max_concurrent_per_key=5)
    first, second, _ = keyed(task, "a", "a", "a")
    enqueue(first, now=later(minutes=-2))
    enqueue(second, now=later(minutes=-1))
    for id in (first, second):
        bring_to_an_end(id)
    (lane,) = due_lanes(NOW)
    assert lane.last_started == later(minutes=-1)


def bring_to_an_end(id: int) -> None:
    from tasks_app import transitions

    transitions.cancel_unstarted([id], now=NOW, actor="test")


def test_more_lanes_than_one_look_takes_get_their_turn(monkeypatch):
    monkeypatch.setattr(lanes, "_POSTGRESQL", lanes._POSTGRESQL.replace(f"LIMIT {lanes.MOST_LANES}", "LIMIT 3"))
    monkeypatch.setattr(lanes, "_SQLITE", lanes._SQLITE.replace(f"LIMIT {lanes.MOST_LANES}", "LIMIT 3"))
    monkeypatch.setattr(lanes, "MOST_LANES", 3)
    tasks = [make_task().pk for _ in range(8)]
    for task in Task.objects.filter(pk__in=tasks):
        plan(task)
    cursor = Cursor()
    looks = [[lane[0] for lane in found(cursor)] for _ in range(3)]
    assert looks[:2] == [tasks[:3], tasks[3:6]]
    assert set(tasks[6:]) <= set(looks[2]), "the last ones, and again from the first"
    assert sorted({task for look in looks for task in look}) == tasks


def test_the_steps_over_closed_lanes_are_bounded_too(monkeypatch):
    for name in ("_POSTGRESQL", "_SQLITE"):
        text = getattr(lanes, name)
        monkeypatch.setattr(
            lanes, name, text.replace(f"step < {lanes.MOST_STEPS}", "step < 4").replace("= 20000", "= 4")
        )
    monkeypatch.setattr(lanes, "MOST_STEPS", 4)
    for _ in range(6):
        plan(make_task(), due_at=later(seconds=1))
    last = make_task()
    plan(last)
    cursor = Cursor()
    assert found(cursor) == []
    assert cursor.after is not None
    assert found(cursor) == [(last.pk, "", 50)]


def test_a_part_of_each_lane_is_read_the_longest_due_first():
    task, other = make_task(), make_task()
    young = plan(task, 2)
    (old,) = plan(task, due_at=later(minutes=-1))
    plan(task, due_at=later(seconds=1))
    theirs = plan(other, 3)
    first, second = sorted(due_lanes(NOW), key=lambda lane: lane.task.id)
    read = candidates([(first, 2), (second, 5)], NOW, lock=False)
    assert [[run.id for run in runs] for runs in read] == [[old, young[0]], theirs]
    assert candidates([], NOW, lock=True) == []


@pytest.mark.postgresql
@pytest.mark.parametrize("analysed", [False, True])
def test_lanes_and_their_runs_come_from_the_index_of_lanes(analysed):
    task, later_on = make_task(), make_task()
    old = plan(task, 5000)
    for id in old[:50]:
        bring(id, RunState.SUCCEEDED)
    Run.objects.filter(pk__in=old[50:4000]).update(held=True)
    plan(later_on, 2000, due_at=NOW + timedelta(days=1))
    if analysed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    def look() -> None:
        (lane,) = due_lanes(NOW)
        assert len(candidates([(lane, 100)], NOW, lock=True)[0]) == 100

    scan, read = plans_of(look)
    assert {index for index in indexes(scan) if index.startswith("run_")} >= {"run_lane"}
    assert {index for index in indexes(read) if index.startswith("run_")} == {"run_lane"}
    for one in (scan, read):
        assert "tasks_app_run" not in scanned_tables(one)
        assert "Sort" not in {node["Node Type"] for node in nodes(one)}
