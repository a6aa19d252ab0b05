"""Any number of dispatchers at once: no instant, slot, orphan or upstream run is taken twice or by nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from access_app.actors import system_actor
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.firing import fire_due
from dispatcher_app.release import release_ready
from dispatcher_app.rescue import expire_leases, find_unclaimed, recover_orphans
from tasks_app import transitions
from tasks_app.models import (
    Backfill,
    LedgerEntry,
    RateStart,
    Resource,
    Run,
    RunEvent,
    Task,
    TaskDependency,
    TaskResource,
)
from tasks_app.moves import Outcome
from tasks_app.services import tasks
from tasks_app.states import LIVE, RunState
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    bring,
    depend,
    end,
    enqueue,
    events_of,
    later,
    make_pool,
    make_schedule,
    make_task,
    make_worker,
    member,
    plan,
    start,
    state_of,
)
from workers_app.models import Worker, WorkerState

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def fire() -> int:
    return fire_due(NOW, actor=ACTOR).runs


def release(limit: int = 5000) -> list[int]:
    return [run.id for run in release_ready(NOW, actor=ACTOR, limit=limit)]


def recover() -> int:
    return len(recover_orphans(NOW, actor=ACTOR))


# Firing


def test_two_dispatchers_that_fire_the_same_schedules_give_one_run_each(together):
    task = make_task()
    schedules = [make_schedule(task, after=NOW - timedelta(minutes=3), catch_up="all") for _ in range(60)]

    def fire_in_parts() -> int:
        return sum(fire_due(NOW, actor=ACTOR, limit=7).runs for _ in range(20))

    answers = together(*[fire_in_parts] * 4)
    assert sum(answers) == 3 * len(schedules)
    counted = Counter(Run.objects.values_list("schedule", "nominal_at"))
    assert len(counted) == 3 * len(schedules) and set(counted.values()) == {1}
    assert not LedgerEntry.objects.exists()


def test_a_schedule_that_another_dispatcher_fires_is_passed_over(hold):
    held, free = make_schedule(after=NOW - timedelta(minutes=1)), make_schedule(after=NOW - timedelta(minutes=1))
    first = hold(lambda: fire_due(NOW, actor=ACTOR, limit=1).runs)
    assert fire() == 1
    assert first.commit() == 1
    assert fire() == 0
    assert set(Run.objects.values_list("schedule", flat=True)) == {held.pk, free.pk}


# Release


def test_one_slot_is_taken_once(together):
    pool = make_pool("single", slots=1)
    for _ in range(4):
        plan(make_task(pool=pool), 5)
    # One run each: a look at all of them would lock every row and leave nothing for the others to take.
    answers = together(*[lambda: release(limit=1)] * 4)
    assert sum(len(answer) for answer in answers) == 1
    assert Run.objects.filter(state=RunState.QUEUED).count() == 1


def test_who_comes_second_counts_the_slot_that_the_first_has_taken(hold, blocked):
    task = make_task(max_concurrent=1)
    plan(task, 2)
    first = hold(lambda: release(limit=1))
    second = blocked(release)
    assert len(first.commit()) == 1
    assert second.result(20) == []


def test_many_limits_and_dispatchers_never_exceed_a_limit_or_wait_in_a_circle(together):
    pools = [make_pool(f"pool-{n}", slots=3) for n in range(3)]
    tasks = [make_task(pool=pools[n % 3], max_concurrent=1 + n % 2) for n in range(12)]
    for place, task in enumerate(tasks):
        plan(task, 10, priority=50 + place % 5)
    answers = together(*[lambda: [release(limit=5) for _ in range(6)]] * 4)
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
    live = Run.objects.filter(state=RunState.QUEUED)
    per_task = Counter(live.values_list("task", flat=True))
    per_pool = Counter(live.values_list("pool", flat=True))
    assert all(per_task[task.pk] <= (task.max_concurrent or 0) for task in tasks)
    assert all(number <= 3 for number in per_pool.values())
    release()
    assert Run.objects.filter(state=RunState.QUEUED).count() == 9


def _work_off(rounds: int, most_live: Callable[[], int]) -> tuple[int, int]:
    """One dispatcher that also ends what it has released: how many runs, and the most that were live at any look."""
    done = most = 0
    for _ in range(rounds):
        ids = release()
        most = max(most, most_live())
        for id in ids:
            transitions.claim([(id, 1)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
            most = max(most, most_live())
            done += len(
                transitions.finish([Outcome(id, 1, RunState.SUCCEEDED)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
            )
    return done, most


LIMITS: dict[str, Callable[[], Task]] = {
    "task": lambda: make_task(max_concurrent=3),
    "pool": lambda: make_task(pool=make_pool("small", slots=3)),
    "key": lambda: make_task(max_concurrent_per_key=3),
    "resource": make_task,
    "backfill": make_task,
}


@pytest.mark.parametrize("kind", LIMITS)
def test_eight_dispatchers_never_exceed_a_limit_of_three_and_leave_nothing(together, kind):
    task = LIMITS[kind]()
    ids = plan(task, 40)
    if kind == "key":
        Run.objects.update(concurrency_key="a")
    if kind == "resource":
        resource = Resource.objects.create(name="api", capacity=3)
        TaskResource.objects.create(task=task, resource=resource)
    if kind == "backfill":
        batch = Backfill.objects.create(task=task, start_at=NOW, end_at=NOW, created_at=NOW, max_concurrent=3)
        Run.objects.update(backfill=batch)

    def live() -> int:
        return Run.objects.filter(state__in=sorted(LIVE)).count()

    answers = together(*[lambda: _work_off(6, live)] * 8)
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
    assert max(most for _done, most in answers) <= 3
    # Who counts between the finish of another and its own look may leave a slot to the next tick: never a run.
    while release():
        for id in Run.objects.filter(state=RunState.QUEUED).values_list("pk", flat=True):
            transitions.claim([(id, 1)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
            end(id)
    assert Run.objects.filter(state=RunState.SUCCEEDED).count() == len(ids)


def test_a_rate_holds_for_all_dispatchers_together(together):
    task = make_task(rate_limit=3, rate_window_seconds=60)
    plan(task, 20)
    answers = together(*[lambda: [id for _ in range(4) for id in release(limit=2)]] * 8)
    assert sum(len(answer) for answer in answers) == 3
    assert RateStart.objects.count() == 3


def test_one_probe_goes_to_a_target_whose_breaker_is_half_open(together):
    opened = {"breaker_state": "open", "breaker_open_until": NOW, "breaker_changed_at": later(minutes=-1)}
    resource = Resource.objects.create(name="api", **opened)
    for _ in range(4):
        task = make_task()
        TaskResource.objects.create(task=task, resource=resource)
        plan(task, 3)
    answers = together(*[release] * 8)
    assert sum(len(answer) for answer in answers) == 1
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_changed_at) == ("half_open", NOW)


def test_overlap_is_decided_once(together):
    task = make_task(overlap="skip")
    ids = plan(task, 10)
    answers = together(*[release] * 4)
    assert sum(len(answer) for answer in answers) == 1
    release()
    assert Run.objects.filter(state=RunState.SKIPPED).count() == len(ids) - 1


def test_a_task_that_is_deleted_meanwhile_neither_blocks_nor_breaks_a_release(hold, blocked):
    task = make_task(max_concurrent=1)
    plan(task, 3)
    (other,) = plan(make_task())
    deleting = hold(lambda: tasks.delete(system_actor(), task, now=NOW))
    looking = blocked(release)
    deleting.commit()
    assert looking.result(20) == [other]


def test_each_run_is_released_by_one_dispatcher(together):
    ids = plan(make_task(), 300)
    answers = together(*[lambda: [id for _ in range(10) for id in release(limit=17)]] * 3)
    rest = release()
    assert sorted(id for answer in [*answers, rest] for id in answer) == ids
    assert any(answers)
    assert RunEvent.objects.filter(to_state="queued").count() == len(ids)


# Rescue


def test_three_rescuers_recover_a_dead_workers_runs_once(together):
    worker = make_worker(state=WorkerState.LOST)
    ids = plan(make_task(retry_on_lost=True), 30)
    start(*ids, worker_id=worker.pk)
    assert sum(together(*[recover] * 3)) == len(ids)
    assert set(Run.objects.values_list("state", "attempt", "worker_deaths")) == {("waiting", 2, 1)}
    assert RunEvent.objects.filter(from_state="running", to_state="waiting").count() == len(ids)


def test_a_worker_is_declared_lost_once(together):
    make_worker(lease_until=later(seconds=-1))
    alive = make_worker(lease_until=later(seconds=1))
    assert sorted(together(*[lambda: expire_leases(NOW)] * 3)) == [0, 0, 1]
    assert Worker.objects.get(pk=alive.pk).state == WorkerState.ONLINE


def test_a_finish_that_comes_after_the_rescue_changes_nothing(hold, blocked):
    worker = make_worker(state=WorkerState.LOST)
    (id,) = plan(make_task(retry_on_lost=True))
    start(id, worker_id=worker.pk)
    rescue = hold(recover)
    done = [Outcome(id, 1, RunState.SUCCEEDED)]
    finish = blocked(lambda: transitions.finish(done, worker_id=worker.pk, now=NOW, actor=ACTOR))
    assert rescue.commit() == 1
    assert finish.result(20) == set()
    assert (state_of(id), events_of(id)[-1]) == (RunState.WAITING, ("running", "waiting", 1))


def test_a_rescue_that_comes_during_the_finish_leaves_the_run_alone(hold):
    worker = make_worker(state=WorkerState.LOST)
    (id,) = plan(make_task(retry_on_lost=True))
    start(id, worker_id=worker.pk)
    finish = hold(lambda: end(id))
    assert recover() == 0
    finish.commit()
    assert recover() == 0
    assert state_of(id) == RunState.SUCCEEDED


def test_a_lost_message_is_replaced_by_one_dispatcher(together):
    make_worker(slots=100)
    ids = plan(make_task(), 20)
    enqueue(*ids)

    def look() -> list[int]:
        return [run.id for run in find_unclaimed(later(minutes=1), is_empty=lambda pool: True)]

    found = together(*[look] * 3)
    assert sorted(id for answer in found for id in answer) == ids


# Acceptance


def test_two_ended_upstream_runs_told_by_two_dispatchers_start_the_run_below(hold):
    a, b, c, d = make_task(), make_task(), make_task(), make_task()
    depend(a, b, d)
    depend(a, c, d)
    (root,) = plan(a)
    bring(root, RunState.SUCCEEDED)
    accept_ended(NOW, actor=ACTOR)
    left, right, below = member(root, b).pk, member(root, c).pk, member(root, d).pk
    start(right, worker_id=ANSWERED)
    bring(left, RunState.SUCCEEDED)
    first = hold(lambda: accept_ended(NOW, actor=ACTOR))
    end(right)
    assert accept_ended(NOW, actor=ACTOR) == 1
    assert first.commit() == 1
    assert Run.objects.get(pk=below).upstream_ready
    assert release() == [below]


def test_many_dispatchers_tell_each_ended_run_once(together):
    up, down = make_task(), make_task()
    depend(up, down)
    roots = plan(up, 60)
    start(*roots)
    done = [Outcome(id, 1, RunState.SUCCEEDED if id % 2 else RunState.FAILED) for id in roots]
    transitions.finish(done, worker_id=ANSWERED, now=NOW, actor=ACTOR)
    answers = together(*[lambda: sum(accept_ended(NOW, actor=ACTOR, limit=7) for _ in range(12))] * 3)
    assert sum(answers) == 60
    assert len(release()) == 30
    assert Run.objects.filter(state=RunState.UPSTREAM_FAILED).count() == 30
    assert RunEvent.objects.filter(to_state="upstream_failed").count() == 30


# Dependencies by period


def waits_for_both() -> tuple[int, int]:
    """A run that waits for an upstream run and, by its last period, for a task that has succeeded: (upstream, run)."""
    above, by_period, down = make_task(), make_task(), make_task()
    depend(above, down)
    TaskDependency.objects.create(upstream=by_period, downstream=down, period="day")
    (root,) = plan(above, nominal_at=NOW)
    (other,) = plan(by_period, nominal_at=NOW)
    bring(root, RunState.SUCCEEDED)
    bring(other, RunState.SUCCEEDED)
    return root, member(root, down).pk


def test_of_the_last_upstream_and_the_last_period_the_later_one_makes_the_run_ready(hold, blocked):
    _root, id = waits_for_both()
    periods = hold(lambda: accept_periods(NOW, actor=ACTOR))
    ended = blocked(lambda: accept_ended(NOW, actor=ACTOR))
    assert Run.objects.get(pk=id).upstream_ready is False
    assert periods.commit() == 1
    assert ended.result(20) == 1
    assert Run.objects.get(pk=id).upstream_ready is True


def test_a_period_whose_run_is_being_judged_is_left_for_the_next_look(hold):
    _root, id = waits_for_both()
    ended = hold(lambda: accept_ended(NOW, actor=ACTOR))
    assert accept_periods(NOW, actor=ACTOR) == 0
    assert ended.commit() == 1
    assert Run.objects.get(pk=id).upstream_ready is False
    assert accept_periods(NOW, actor=ACTOR) == 1
    assert Run.objects.get(pk=id).upstream_ready is True


def test_two_dispatchers_settle_each_period_once(together):
    up, down = make_task(), make_task()
    TaskDependency.objects.create(upstream=up, downstream=down, period="day")
    ids = plan(down, 50, nominal_at=NOW)
    (other,) = plan(up, nominal_at=NOW)
    bring(other, RunState.SUCCEEDED)
    answers = together(*[lambda: accept_periods(NOW, actor=ACTOR)] * 3)
    assert sum(answers) == 50
    assert Run.objects.filter(pk__in=ids, upstream_ready=True).count() == 50
