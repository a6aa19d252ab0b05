"""Limits that several tasks or keys share: weights, keys, rates, resources, breakers, backfills."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app.release import release_ready
from tasks_app import breaker, breaker_columns, transitions
from tasks_app.breaker import BreakerState
from tasks_app.models import Backfill, Calendar, RateStart, Resource, Run, Task, TaskResource
from tasks_app.states import LIVE, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, end, later, make_pool, make_task, plan

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


def release(now: datetime = NOW, limit: int = 5000) -> list[int]:
    return [run.id for run in release_ready(now, actor=ACTOR, limit=limit)]


def keyed(task: Task, key: str, number: int = 1, **firing: Any) -> list[int]:
    ids = plan(task, number, **firing)
    Run.objects.filter(pk__in=ids).update(concurrency_key=key)
    return ids


def finish(*ids: int, now: datetime = NOW, state: RunState = RunState.SUCCEEDED) -> None:
    pairs = list(Run.objects.filter(pk__in=ids).values_list("pk", "attempt"))
    transitions.claim(pairs, worker_id=ANSWERED, now=now, actor=ACTOR)
    for id in ids:
        end(id, state, now=now)


def using(amount: int = 1, *, task: Task | None = None, **fields: Any) -> tuple[Task, Resource]:
    """A task and a resource that it uses."""
    name = fields.pop("name", "api")
    resource = Resource.objects.filter(name=name).first() or Resource.objects.create(name=name, **fields)
    task = task or make_task()
    TaskResource.objects.create(task=task, resource=resource, amount=amount)
    return task, resource


# Pools


def test_a_run_takes_as_many_slots_of_its_pool_as_it_weighs():
    pool = make_pool("small", slots=5)
    heavy, light = make_task(pool=pool, weight=3, priority=90), make_task(pool=pool)
    first, second = plan(heavy, 2)
    small = plan(light, 4)
    assert release() == [first, *small[:2]]
    finish(small[0], small[1])
    assert release() == small[2:4]
    finish(first, *small[2:4])
    assert release() == [second]


def test_a_heavy_run_that_has_waited_long_gets_the_slots_that_come_free():
    pool = make_pool("small", slots=3)
    heavy, light = make_task(pool=pool, weight=3), make_task(pool=pool, priority=90)
    busy = plan(light, 3)
    assert release() == busy
    (patient,) = plan(heavy, due_at=NOW)
    now = later(minutes=1)
    late = plan(light, 3, now=now)
    finish(busy[0])
    assert release(later(seconds=30)) == []
    # By its age alone it is still behind them: it keeps the slots only once its turn has come.
    Task.objects.filter(pk=light.pk).update(priority=0)
    Run.objects.filter(pk__in=late).update(priority=0)
    assert release(now) == []
    finish(*busy[1:])
    assert release(now) == [patient]


def test_a_run_starts_in_the_pool_that_its_task_has_now():
    full, wide = make_pool("full", slots=1), make_pool("wide")
    task = make_task(pool=full)
    first, second = plan(task, 2)
    assert release() == [first]
    assert release() == []
    Task.objects.filter(pk=task.pk).update(pool=wide)
    assert [(run.id, run.pool) for run in release_ready(NOW, actor=ACTOR)] == [(second, "wide")]
    assert [Run.objects.get(pk=id).pool for id in (first, second)] == [full, wide]


# Keys


def test_no_key_has_more_live_runs_than_its_limit_and_none_holds_up_another():
    task, other = make_task(max_concurrent_per_key=2), make_task()
    a, b = keyed(task, "a", 4), keyed(task, "b", 1)
    free, theirs = plan(task, 3), keyed(other, "a", 2)
    assert sorted(release()) == sorted([*a[:2], *b, *free, theirs[0]])
    assert release() == []
    finish(a[0])
    assert release() == [a[2]]


def test_keys_take_turns_however_long_the_backlog_of_one_is():
    task = make_task(max_concurrent=1)
    a = keyed(task, "a", 40, due_at=later(hours=-1))
    b, c = keyed(task, "b", 3), keyed(task, "c", 2)
    order = []
    for second in range(8):
        (id,) = release(later(seconds=second))
        finish(id, now=later(seconds=second))
        order.append(id)
    assert order == [a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2]]


def test_runs_without_a_key_neither_starve_nor_are_starved():
    task = make_task(max_concurrent=1)
    ids = {**dict.fromkeys(keyed(task, "a", 30), "a"), **dict.fromkeys(plan(task, 30), "")}
    served = []
    for second in range(24):
        (id,) = release(later(seconds=second))
        finish(id, now=later(seconds=second))
        served.append(ids[id])
    assert served.count("a") >= 3 and served.count("") >= 3


# Rates


def test_a_task_starts_no_more_often_than_its_rate_in_any_window():
    task, other = make_task(rate_limit=3, rate_window_seconds=10), make_task()
    ids, free = plan(task, 12), plan(other, 2)
    started: dict[int, datetime] = {}
    for tenth in range(0, 400, 7):
        now = NOW + tenth * SECOND / 10
        for id in release(now):
            started[id] = now
            if id in ids:
                finish(id, now=now)
    times = sorted(started[id] for id in ids)
    assert len(times) == 12 and all(started[id] == NOW for id in free)
    assert all(sum(at <= other < at + 10 * SECOND for other in times) <= 3 for at in times)
    assert times[3] - times[0] < 11 * SECOND, "and no slower than that"
    assert set(RateStart.objects.values_list("task", flat=True)) == {task.pk}


def test_a_rate_of_a_resource_counts_the_starts_of_all_its_tasks():
    first, _ = using(rate_limit=2, rate_window_seconds=60)
    second, _ = using()
    a, b = plan(first, 2), plan(second, 2)
    assert release() == [a[0], a[1]]
    assert release(later(seconds=59)) == []
    assert release(later(seconds=60)) == b
    assert RateStart.objects.count() == 4


# Resources


def test_the_live_runs_of_all_its_tasks_take_no_more_of_a_resource_than_there_is():
    big, _ = using(3, task=make_task(priority=90), capacity=4)
    small, _ = using(1)
    first, second = plan(big, 2)
    little = plan(small, 3)
    assert release() == [first, little[0]]
    finish(little[0])
    assert release() == [little[1]]
    finish(first)
    assert release() == [second]


def test_a_resource_is_used_only_in_its_hours():
    hours = {"time_zone": "UTC", "blackout": [{"kind": "weekly", "from": "12:00", "to": "13:00"}]}
    task, _ = using(calendar=Calendar.objects.create(name="maintenance", document=hours))
    (id,) = plan(task)
    (free,) = plan(make_task())
    assert release() == [free]
    assert release(later(minutes=59)) == []
    assert release(later(minutes=60)) == [id]


def test_a_calendar_that_includes_another_holds_with_it():
    inner = Calendar.objects.create(
        name="inner", document={"blackout": [{"kind": "weekly", "from": "12:00", "to": "13:00"}]}
    )
    outer = Calendar.objects.create(name="outer", document={})
    outer.includes.add(inner)
    task, _ = using(calendar=outer)
    plan(task)
    assert release() == []
    assert len(release(later(hours=1))) == 1


def test_a_calendar_that_cannot_be_read_keeps_its_resource_closed():
    task, _ = using(calendar=Calendar.objects.create(name="broken", document={"blackout": 1}))
    plan(task)
    plan(make_task())
    assert len(release()) == 1


# Circuit breakers


def trip(resource: Resource, now: datetime = NOW) -> None:
    resource.refresh_from_db()
    opened = breaker.trip(breaker_columns.breaker_of(resource), breaker_columns.policy_of(resource), now=now)
    breaker_columns.put(resource, opened)
    resource.save()


def record(resource: Resource, id: int, now: datetime, *, succeeded: bool = True) -> None:
    """The end of a run, told to the breaker."""
    resource.refresh_from_db()
    released_at = Run.objects.get(pk=id).queued_at
    assert released_at is not None
    known = breaker_columns.breaker_of(resource)
    policy = breaker_columns.policy_of(resource)
    breaker_columns.put(resource, breaker.record(known, policy, succeeded=succeeded, released_at=released_at, now=now))
    resource.save()


def test_an_open_breaker_holds_runs_and_burns_no_retries_then_lets_waves_through():
    task, resource = using(breaker_failures=3, breaker_open_seconds=30)
    ids = plan(task, 40)
    trip(resource)
    assert release(later(seconds=29)) == []
    assert set(Run.objects.values_list("state", "attempt")) == {("waiting", 1)}
    waves: list[int] = []
    now = later(seconds=30)
    while len(waves) < 5:
        wave = release(now)
        resource.refresh_from_db()
        if waves == []:
            assert (resource.breaker_state, resource.breaker_wave) == (BreakerState.HALF_OPEN, 1)
            assert release(now) == [], "one probe at a time"
        waves.append(len(wave))
        now += SECOND
        finish(*wave, now=now)
        for id in wave:
            record(resource, id, now)
    assert waves == [1, 2, 4, 8, 16]
    assert resource.breaker_state == BreakerState.CLOSED
    assert len(release(now)) == len(ids) - sum(waves)


def test_a_probe_that_fails_opens_it_again_for_longer():
    task, resource = using(breaker_failures=3, breaker_open_seconds=30)
    plan(task, 3)
    trip(resource)
    (probe,) = release(later(seconds=30))
    finish(probe, now=later(seconds=31), state=RunState.FAILED)
    record(resource, probe, later(seconds=31), succeeded=False)
    assert release(later(seconds=90)) == []
    assert len(release(later(seconds=91))) == 1


def test_the_probes_of_all_tasks_of_a_resource_are_one_wave():
    first, resource = using(breaker_failures=3)
    second, _ = using()
    plan(first, 2)
    plan(second, 2)
    trip(resource, later(minutes=-1))
    assert len(release()) == 1
    assert Run.objects.filter(state__in=sorted(LIVE)).count() == 1


# Backfills


def test_a_backfill_runs_so_many_at_once_and_only_while_it_is_active():
    task = make_task()
    batch, paused = (
        Backfill.objects.create(task=task, start_at=NOW, end_at=NOW, created_at=NOW, **fields)
        for fields in ({"max_concurrent": 2}, {"state": "paused", "max_concurrent": 5})
    )
    ids, still, plain = plan(task, 5), plan(task, 2), plan(task, 2)
    Run.objects.filter(pk__in=ids).update(backfill=batch)
    Run.objects.filter(pk__in=still).update(backfill=paused)
    assert sorted(release()) == sorted([*ids[:2], *plain])
    assert release() == []
    finish(ids[0])
    assert release() == [ids[2]]
    Backfill.objects.filter(pk=paused.pk).update(state="active")
    assert release() == still


# Together


def test_every_limit_at_once_takes_no_more_than_each_allows():
    pool = make_pool("small", slots=6)
    tasks = [make_task(pool=pool, max_concurrent=3, rate_limit=2, rate_window_seconds=60) for _ in range(4)]
    for task in tasks:
        using(2, task=task, capacity=7)
        keyed(task, "a", 3)
        keyed(task, "b", 3)
    released = Run.objects.filter(pk__in=release())
    assert released.count() == 3, "the capacity is the narrowest: 2 each of 7"


def _statements(now: datetime) -> int:
    with CaptureQueriesContext(connection) as captured:
        release(now)
    return len(captured)


def test_kinds_of_limits_that_nobody_uses_cost_no_statement():
    plan(make_task(), 3)
    plain = _statements(NOW)
    plan(make_task(max_concurrent=5), 3)
    assert _statements(NOW) == plain + 2, "its row and its live runs"


def test_two_thousand_runs_under_every_limit_take_as_many_statements_as_two():
    pool = make_pool("wide", slots=5000)
    tasks = [make_task(pool=pool, max_concurrent=900, rate_limit=5000, rate_window_seconds=60) for _ in range(4)]
    for task in tasks:
        using(task=task, capacity=5000, rate_limit=5000, rate_window_seconds=60)
    batch = Backfill.objects.create(task=tasks[0], start_at=NOW, end_at=NOW, created_at=NOW, max_concurrent=900)

    def some(number: int, now: datetime) -> int:
        for task in tasks:
            ids = keyed(task, "k" if number == 2 else "l", number, now=now)
            Task.objects.filter(pk=task.pk).update(max_concurrent_per_key=900)
            if task == tasks[0]:
                Run.objects.filter(pk__in=ids).update(backfill=batch)
        return _statements(now)

    few = some(2, NOW)
    many = some(500, later(seconds=1))
    assert Run.objects.filter(state=RunState.QUEUED).count() == 2008
    assert many <= few
