"""A fixed delay counts from the end of the schedule's last run, and is never left unarmed."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due, rearm
from tasks_app import transitions
from tasks_app.models import Calendar, Run, Schedule, Task
from tasks_app.models.run import RunType
from tasks_app.moves import Outcome
from tasks_app.planning import Firing, plan_runs
from tasks_app.services import schedules
from tasks_app.states import RunState
from tests.dispatcher_app.steps import DAY, HOUR, MINUTE, NOON, fired_at, ledger_of
from tests.tasks_app.making import ACTOR, end, make_schedule, make_task, start
from tests.tasks_app.plans import indexes, plans_of, scanned_tables

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
WORKER = UUID(int=7)


def delayed(task: Task | None = None, *, after: datetime = NOON, **fields: object) -> Schedule:
    return make_schedule(task, after=after, **{"kind": "fixed_delay", "interval_seconds": 60, **fields})


def tick(now: datetime) -> int:
    rearm(now)
    runs = fire_due(now, actor=ACTOR).runs
    assert_never_unarmed()
    return runs


def assert_never_unarmed() -> None:
    """I11: without a next instant only while a run of it is under way."""
    for schedule in Schedule.objects.filter(kind="fixed_delay", enabled=True, next_fire_at=None):
        assert Run.objects.filter(schedule=schedule, finished_at=None).exists()


def next_of(schedule: Schedule) -> datetime | None:
    return Schedule.objects.values_list("next_fire_at", flat=True).get(pk=schedule.pk)


def newest(schedule: Schedule) -> int:
    return Run.objects.filter(schedule=schedule).order_by("-nominal_at").values_list("pk", flat=True)[0]


def test_it_fires_at_once_and_then_a_delay_after_each_end():
    schedule = delayed()
    assert next_of(schedule) == NOON
    assert tick(NOON) == 1
    assert (next_of(schedule), tick(NOON + HOUR)) == (None, 0)
    start(newest(schedule), now=NOON + HOUR)
    assert tick(NOON + HOUR + MINUTE) == 0
    end(newest(schedule), now=NOON + HOUR + 10 * SECOND)
    assert tick(NOON + HOUR + 20 * SECOND) == 0
    assert next_of(schedule) == NOON + HOUR + 70 * SECOND
    assert tick(NOON + HOUR + 70 * SECOND) == 1
    assert fired_at(schedule) == [NOON, NOON + HOUR + 70 * SECOND]
    assert ledger_of(schedule) == []


def test_it_fires_first_at_its_start():
    schedule = delayed(start_at=NOON + DAY)
    assert (next_of(schedule), tick(NOON)) == (NOON + DAY, 0)
    assert tick(NOON + DAY) == 1


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED, RunState.LOST])
def test_every_way_to_end_is_an_end(state):
    schedule, other = delayed(), delayed()
    tick(NOON)
    start(newest(schedule), now=NOON)
    end(newest(schedule), state, now=NOON + SECOND)
    rearm(NOON + 2 * SECOND)
    assert (next_of(schedule), next_of(other)) == (NOON + 61 * SECOND, None)


def test_a_run_that_is_cancelled_before_it_starts_has_ended():
    schedule = delayed()
    tick(NOON)
    transitions.cancel_unstarted([newest(schedule)], now=NOON + SECOND, actor=ACTOR)
    rearm(NOON + 2 * SECOND)
    assert next_of(schedule) == NOON + 61 * SECOND


def test_a_run_that_will_be_tried_again_is_not_over():
    schedule = delayed()
    tick(NOON)
    start(newest(schedule), worker_id=WORKER, now=NOON)
    again = Outcome(newest(schedule), 1, RunState.WAITING, "retry", retry_at=NOON + HOUR)
    transitions.finish([again], worker_id=WORKER, now=NOON + SECOND, actor=ACTOR)
    assert rearm(NOON + MINUTE) == 0
    assert next_of(schedule) is None


def test_an_end_of_the_schedule_is_kept():
    schedule = delayed(end_at=NOON + 90 * SECOND)
    tick(NOON)
    start(newest(schedule), now=NOON)
    end(newest(schedule), now=NOON + 40 * SECOND)
    for now in (NOON + 45 * SECOND, NOON + 100 * SECOND, NOON + DAY):
        rearm(now)
        assert fire_due(now, actor=ACTOR).runs == 0
    assert next_of(schedule) is None


@pytest.mark.parametrize("change", [{"interval_seconds": 600}, {"note": "new"}, {"time_zone": "Asia/Tokyo"}])
def test_an_edit_while_a_run_is_under_way_loses_nothing_and_adds_nothing(change):
    schedule = delayed()
    tick(NOON)
    start(newest(schedule), now=NOON)
    edited = schedules.update(system_actor(), Schedule.objects.get(), change, now=NOON + 10 * SECOND)
    assert edited.next_fire_at is None
    assert tick(NOON + 20 * SECOND) == 0
    end(newest(schedule), now=NOON + 30 * SECOND)
    rearm(NOON + 31 * SECOND)
    assert next_of(schedule) == NOON + timedelta(seconds=30 + change.get("interval_seconds", 60))


def test_an_edit_between_two_runs_counts_the_new_delay_from_the_last_end():
    schedule = delayed()
    tick(NOON)
    start(newest(schedule), now=NOON)
    end(newest(schedule), now=NOON + SECOND)
    rearm(NOON + SECOND)
    longer = schedules.update(system_actor(), Schedule.objects.get(), {"interval_seconds": 600}, now=NOON + 2 * SECOND)
    assert longer.next_fire_at == NOON + 601 * SECOND
    overdue = schedules.update(system_actor(), Schedule.objects.get(), {"interval_seconds": 1}, now=NOON + MINUTE)
    assert overdue.next_fire_at == NOON + MINUTE
    assert tick(NOON + MINUTE) == 1


def test_a_deleted_run_leaves_it_armed():
    schedule = delayed()
    tick(NOON)
    Run.objects.all().delete()
    assert rearm(NOON + SECOND) == 1
    assert next_of(schedule) == NOON + MINUTE
    assert tick(NOON + MINUTE) == 1


def test_switched_off_under_way_and_on_again_it_goes_on():
    schedule = delayed()
    tick(NOON)
    start(newest(schedule), now=NOON)
    schedules.update(system_actor(), Schedule.objects.get(), {"enabled": False}, now=NOON + SECOND)
    end(newest(schedule), now=NOON + 2 * SECOND)
    assert rearm(NOON + HOUR) == 0
    schedules.update(system_actor(), Schedule.objects.get(), {"enabled": True}, now=NOON + HOUR)
    assert tick(NOON + HOUR) == 1


def test_a_paused_task_skips_whole_delays_into_one_entry():
    task = make_task(paused=True)
    schedule = delayed(task)
    for minute in range(5):
        assert tick(NOON + minute * MINUTE) == 0
    assert ledger_of(schedule) == [(5, "skipped", "paused")]
    assert tick(NOON + DAY) == 0
    assert next_of(schedule) == NOON + DAY + MINUTE
    Task.objects.update(paused=False)
    assert tick(NOON + DAY + MINUTE) == 1


def test_after_an_outage_it_runs_once():
    schedule = delayed(catch_up="all", catch_up_window_seconds=30 * 86_400)
    assert tick(NOON + 10 * DAY) == 1
    assert (fired_at(schedule), ledger_of(schedule)) == ([NOON], [])


def test_an_instant_that_is_not_caught_up_with_leaves_it_armed():
    schedule = delayed(catch_up="none")
    assert tick(NOON + 10 * DAY + SECOND) == 0
    assert ledger_of(schedule) == [(1, "missed", "catch_up_window")]
    assert next_of(schedule) == NOON + 10 * DAY + MINUTE


def test_a_clock_that_was_set_back_gives_no_instant_twice():
    schedule = delayed()
    tick(NOON)
    start(newest(schedule), now=NOON)
    end(newest(schedule), now=NOON - HOUR)
    rearm(NOON - HOUR)
    assert next_of(schedule) == NOON + MINUTE
    edited = schedules.update(system_actor(), Schedule.objects.get(), {"interval_seconds": 30}, now=NOON - HOUR)
    assert edited.next_fire_at == NOON + 30 * SECOND
    assert tick(NOON + 30 * SECOND) == 1


def test_only_ended_ones_are_armed_and_no_more_than_the_limit(django_assert_num_queries):
    schedules_ = [delayed() for _ in range(5)]
    every_minute = make_schedule(after=NOON)
    tick(NOON)
    for schedule in schedules_[:4]:
        start(newest(schedule), now=NOON)
        end(newest(schedule), now=NOON)
    assert rearm(NOON, limit=3) == 3
    assert rearm(NOON) == 1
    with django_assert_num_queries(3):
        assert rearm(NOON) == 0
    assert next_of(schedules_[4]) is None and next_of(every_minute) == NOON + MINUTE


def test_fifty_are_armed_in_as_many_statements_as_two():
    task = make_task()
    calendar = Calendar.objects.create(name="always", document={})

    def statements(number: int) -> int:
        for _ in range(number):
            delayed(task, calendar=calendar)
        fire_due(NOON, actor=ACTOR)
        ids = list(Run.objects.filter(finished_at=None).values_list("pk", flat=True))
        transitions.cancel_unstarted(ids, now=NOON, actor=ACTOR)
        with CaptureQueriesContext(connection) as captured:
            assert rearm(NOON + SECOND) == number
        return len(captured)

    assert statements(50) == statements(2)


@pytest.mark.postgresql
def test_what_is_to_be_armed_and_its_newest_run_are_found_by_their_indexes_among_many():
    task = make_task()
    waits, busy = delayed(task), make_schedule(task, after=NOON)
    tick(NOON)
    transitions.cancel_unstarted([newest(waits)], now=NOON + SECOND, actor=ACTOR)
    instants = [NOON - n * SECOND for n in range(1, 3000)]
    fired = [
        Firing(task, RunType.SCHEDULED, at, schedule_id=s.pk, nominal_at=at) for s in (waits, busy) for at in instants
    ]
    plan_runs(fired, now=NOON, actor=ACTOR)
    armed = {"kind": "fixed_delay", "interval_seconds": 60, "fired_until": NOON, "next_fire_at": NOON + DAY}
    Schedule.objects.bulk_create(Schedule(task=task, **armed) for _ in range(3000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_run, tasks_app_schedule")
    (plan,) = plans_of(lambda: rearm(NOON + SECOND))
    assert next_of(waits) == NOON + 61 * SECOND
    assert indexes(plan) == {"schedule_to_rearm", "run_once_per_instant", "run_part_of"}
    assert not scanned_tables(plan)
