"""Reading the fire ledger: one answer for each instant that is due, whatever it became."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from tasks_app import fires
from tasks_app.errors import InvalidInput
from tasks_app.fire_counts import day_bounds, owed_in, summary
from tasks_app.models import LedgerEntry, Run, Schedule, Task
from tasks_app.services import schedules
from tasks_app.states import RunState
from tests.dispatcher_app.steps import DAY, HOUR, MINUTE, NOON, fire
from tests.tasks_app.clock import at
from tests.tasks_app.making import bring, make_schedule

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
MIDNIGHT = at("2026-03-02T00:00:00Z")


def read(task: Task, start: Any = NOON, end: Any = NOON + HOUR, *, now: Any = None, **options: Any) -> list[fires.Fire]:
    """The fires of the task, read at the moment when it was fired last where no other is given."""
    now = now or max(schedule.fired_until for schedule in task.schedules.all())
    return fires.read(fires.of_task(task), start, end, now=now, **{"limit": 1000, **options}).fires


def answers(found: list[fires.Fire]) -> list[tuple[str, str, str]]:
    return [(f"{fire.nominal_at:%H:%M}", fire.answer, fire.reason) for fire in found]


def run_at(schedule: Schedule, minute: int) -> int:
    return Run.objects.values_list("pk", flat=True).get(schedule=schedule, nominal_at=NOON + minute * MINUTE)


def fire_each_minute(minutes: int, start: int = 1) -> None:
    for minute in range(start, start + minutes):
        fire(NOON + minute * MINUTE)


def settle(run: int, state: RunState, reason: str) -> None:
    bring(run, state)
    Run.objects.filter(pk=run).update(reason=reason)


# Each instant


def test_each_instant_tells_what_became_of_it():
    schedule, other = make_schedule(after=NOON), make_schedule(after=NOON)
    fire_each_minute(7)
    settle(run_at(schedule, 2), RunState.SKIPPED, "overlap")
    settle(run_at(schedule, 3), RunState.EXPIRED, "start_deadline")
    settle(run_at(schedule, 4), RunState.UPSTREAM_FAILED, "upstream")
    bring(run_at(schedule, 5), RunState.FAILED)
    bring(run_at(schedule, 6), RunState.RUNNING)
    Run.objects.filter(pk=run_at(schedule, 7)).update(held=True)
    found = read(schedule.task, now=NOON + 7 * MINUTE)
    assert answers(found) == [
        ("12:01", "run", ""),
        ("12:02", "skipped", "overlap"),
        ("12:03", "expired", "start_deadline"),
        ("12:04", "skipped", "upstream"),
        ("12:05", "run", ""),
        ("12:06", "run", ""),
        ("12:07", "held", "held"),
    ]
    assert [fire.run_id for fire in found] == [run_at(schedule, minute) for minute in range(1, 8)]
    assert [fire.state for fire in found][4:] == ["failed", "running", "waiting"]
    assert [fire.answer for fire in read(other.task)] == ["run"] * 7


@pytest.mark.parametrize(("mode", "answer"), [("queue", "held"), ("drop", "held"), ("drain", "run")])
def test_the_waiting_runs_of_a_paused_task_are_held_unless_it_drains(mode, answer):
    schedule = make_schedule(after=NOON)
    fire_each_minute(2)
    bring(run_at(schedule, 1), RunState.SUCCEEDED)
    Task.objects.filter(pk=schedule.task_id).update(paused=True, pause_mode=mode)
    schedule.task.refresh_from_db()
    assert [fire.answer for fire in read(schedule.task, now=NOON + 2 * MINUTE)] == ["run", answer]


def test_a_stretch_of_the_ledger_is_told_instant_by_instant_and_clipped():
    schedule = make_schedule(after=NOON, catch_up="none")
    fire(NOON + 30 * MINUTE)
    found = read(schedule.task, NOON + 10 * MINUTE, NOON + 13 * MINUTE)
    assert answers(found) == [(f"12:{minute}", "missed", "catch_up_none") for minute in (10, 11, 12)]
    assert LedgerEntry.objects.count() == 1 and {fire.count for fire in found} == {1}
    assert answers(read(schedule.task))[-2:] == [("12:29", "missed", "catch_up_none"), ("12:30", "run", "")]


def test_what_nobody_answered_is_found_by_the_rule_in_the_past_and_now():
    schedule = make_schedule(after=NOON)
    fire_each_minute(5)
    Run.objects.filter(pk=run_at(schedule, 3)).delete()
    found = read(schedule.task, now=NOON + 7 * MINUTE + timedelta(seconds=4))
    assert [fire.answer for fire in found] == ["run", "run", "unanswered", "run", "run", "unanswered"]
    assert found[2].run_id is None and found[5].nominal_at == NOON + 6 * MINUTE


def test_what_is_not_due_and_what_no_rule_expected_is_not_there():
    schedule, off = make_schedule(after=NOON), make_schedule(after=NOON, enabled=False)
    fire_each_minute(1)
    assert len(read(schedule.task, NOON - HOUR, NOON + DAY, now=NOON + MINUTE)) == 1
    assert read(off.task, NOON - HOUR, NOON + DAY) == []


def test_runs_that_no_schedule_fired_are_not_in_the_ledger():
    schedule = make_schedule(after=NOON)
    fire_each_minute(1)
    scheduled = Run.objects.get()
    for kind in ("manual", "rerun", "upstream"):
        Run.objects.create(
            task=schedule.task,
            version=scheduled.version,
            pool=scheduled.pool,
            run_type=kind,
            priority=1,
            nominal_at=NOON + MINUTE,
            due_at=NOON,
            created_at=NOON,
        )
    assert len(read(schedule.task)) == 1


def test_a_deleted_schedule_leaves_its_runs_to_the_task():
    schedule = make_schedule(after=NOON)
    kept = make_schedule(schedule.task, after=NOON, expression="*/2 * * * *")
    fire_each_minute(2)
    schedules.delete(SYSTEM, schedule, now=NOON + 2 * MINUTE)
    found = read(schedule.task, now=NOON + 2 * MINUTE)
    assert [(f"{fire.nominal_at:%M}", fire.schedule_id) for fire in found] == [
        ("01", None),
        ("02", None),
        ("02", kept.pk),
    ]
    only = fires.read(fires.of_schedule(kept), NOON, NOON + HOUR, now=NOON + 2 * MINUTE, limit=10).fires
    assert [fire.schedule_id for fire in only] == [kept.pk]


# An edited rule


def pause(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(paused=True)


def test_instants_of_an_earlier_rule_that_the_new_one_does_not_tell_are_one_row_with_their_count():
    schedule = make_schedule(after=NOON)
    fire_each_minute(2)
    pause(schedule.task)
    fire_each_minute(8, start=3)
    schedules.update(SYSTEM, schedule, {"expression": "*/7 * * * *"}, now=NOON + 10 * MINUTE)
    fire(NOON + 14 * MINUTE)
    now = NOON + 20 * MINUTE
    found = read(schedule.task, now=now)
    assert answers(found) == [
        ("12:01", "run", ""),
        ("12:02", "run", ""),
        ("12:03", "skipped", "paused"),
        ("12:14", "skipped", "paused"),
    ]
    assert (found[2].count, found[2].last_at) == (8, NOON + 10 * MINUTE)
    # Where it began earlier it stands at the beginning, once, on whatever page.
    clipped = [fire.count for fire in read(schedule.task, NOON + 5 * MINUTE, now, now=now)]
    assert clipped == [8, 1]
    pages, place = [], None
    for _ in range(4):
        page = fires.read(fires.of_task(schedule.task), NOON + 5 * MINUTE, now, now=now, limit=1, after=place)
        pages += page.fires
        place = page.after
        if place is None:
            break
    assert [fire.count for fire in pages] == [8, 1]


def test_an_edit_that_leaves_the_instants_alone_leaves_them_told_one_by_one():
    schedule = make_schedule(after=NOON)
    pause(schedule.task)
    fire_each_minute(4)
    schedules.update(SYSTEM, schedule, {"enabled": False}, now=NOON + 4 * MINUTE)
    found = read(schedule.task)
    assert [fire.count for fire in found] == [1] * 4


def test_a_pause_over_an_edit_is_two_entries_each_of_one_rule():
    schedule = make_schedule(after=NOON)
    pause(schedule.task)
    fire_each_minute(4)
    schedules.update(SYSTEM, schedule, {"expression": "*/2 * * * *"}, now=NOON + 4 * MINUTE)
    fire(NOON + 6 * MINUTE)
    fire(NOON + 8 * MINUTE)
    assert list(LedgerEntry.objects.order_by("first_at").values_list("count", flat=True)) == [4, 2]


def test_a_rule_that_cannot_be_read_still_shows_its_rows():
    schedule = make_schedule(after=NOON)
    fire_each_minute(2)
    Schedule.objects.filter(pk=schedule.pk).update(expression="nonsense", error="")
    assert [fire.answer for fire in read(schedule.task)] == ["run", "run"]


# Pages


@pytest.mark.parametrize("limit", [1, 7, 64, 500])
def test_pages_hold_every_fire_once_in_order(limit):
    schedule = make_schedule(after=NOON, catch_up="none")
    second = make_schedule(schedule.task, after=NOON, expression="*/3 * * * *")
    fire_each_minute(20)
    fire(NOON + 50 * MINUTE)
    fire(NOON + 51 * MINUTE)
    scope, found, place = fires.of_task(schedule.task), [], None
    while True:
        page = fires.read(scope, NOON, NOON + HOUR, now=NOON + 52 * MINUTE, limit=limit, after=place)
        assert len(page.fires) <= limit
        found += page.fires
        place = page.after
        if place is None:
            break
    keys = [(fire.nominal_at, fire.schedule_id) for fire in found]
    assert keys == sorted(keys) and len(set(keys)) == len(keys) == 51 + 17
    assert {fire.schedule_id for fire in found} == {schedule.pk, second.pk}


def test_a_page_of_one_answer_holds_no_other():
    schedule = make_schedule(after=NOON, catch_up="none")
    fire(NOON + 20 * MINUTE)
    found = read(schedule.task, answers={"missed"})
    assert len(found) == 19 and {fire.answer for fire in found} == {"missed"}


def test_a_page_of_a_rare_answer_ends_when_it_has_looked_at_enough(monkeypatch):
    monkeypatch.setattr(fires, "MOST_INSTANTS", 10)
    schedule = make_schedule(after=NOON, catch_up="none")
    fire(NOON + 30 * MINUTE)
    scope = fires.of_task(schedule.task)
    page = fires.read(scope, NOON, NOON + HOUR, now=NOON + DAY, limit=5, answers={"run"})
    assert page.fires == [] and page.after == (NOON + 10 * MINUTE, schedule.pk)


def test_a_month_is_the_most_and_the_end_lies_after_the_start():
    task = make_schedule(after=NOON).task
    for start, end in ((NOON, NOON + 32 * DAY), (NOON, NOON)):
        with pytest.raises(InvalidInput):
            read(task, start, end)


def test_a_page_of_a_busy_month_costs_a_handful_of_statements():
    schedule = make_schedule(after=NOON - 31 * DAY, catch_up="none")
    fire(NOON)
    with CaptureQueriesContext(connection) as captured:
        assert len(read(schedule.task, NOON - 31 * DAY, NOON, limit=500)) == 500
    assert len(captured) <= 6


# Days in numbers


def test_a_day_adds_up_to_what_was_expected():
    schedule = make_schedule(after=MIDNIGHT - MINUTE, catch_up="none")
    other = make_schedule(after=MIDNIGHT - MINUTE)
    fire(MIDNIGHT + timedelta(minutes=100))
    for minute in range(101, 111):
        fire(MIDNIGHT + minute * MINUTE)
    settle(Run.objects.filter(schedule=schedule).latest("nominal_at").pk, RunState.SKIPPED, "overlap")
    Run.objects.filter(schedule=schedule).earliest("nominal_at").delete()
    now = MIDNIGHT + timedelta(minutes=110)
    with CaptureQueriesContext(connection) as captured:
        scope = fires.of_task(schedule.task)
        found = summary(scope, date(2026, 3, 2), "UTC", now=now)
    assert dict(found.counts) == {
        ("run", ""): 9,
        ("skipped", "overlap"): 1,
        ("missed", "catch_up_none"): 59,
        ("missed", "catch_up_window"): 41,
        ("unanswered", ""): 1,
    }
    assert (found.expected, found.to_come, found.of("missed")) == (111, 1440 - 111, 100)
    assert len(found.hours) == 24 and found.hours[0].counts.total() == 60 and found.hours[1].counts.total() == 51
    assert found.hours[1].of("unanswered") == 1 and found.stretches == []
    assert len(captured) <= 7
    assert summary(fires.of_task(other.task), date(2026, 3, 2), "UTC", now=now).of("run") > 0


def test_the_day_is_that_of_the_zone_with_as_many_hours_as_it_has():
    assert [len(day_bounds(day, "Europe/Berlin")) - 1 for day in (date(2026, 3, 29), date(2026, 10, 25))] == [23, 25]
    assert day_bounds(date(2026, 3, 2), "Asia/Kolkata")[0] == at("2026-03-01T18:30:00Z")
    schedule = make_schedule(after=at("2026-03-01T00:00:00Z"), expression="0 * * * *", time_zone="Asia/Kolkata")
    for hour in range(60):
        fire(at("2026-03-01T00:30:00Z") + hour * HOUR)
    found = summary(fires.of_schedule(schedule), date(2026, 3, 2), "Asia/Kolkata", now=at("2026-03-05T00:00:00Z"))
    assert found.of("run") == 24 and [hour.expected for hour in found.hours] == [1] * 24


def test_a_stretch_of_an_earlier_rule_counts_on_the_day_that_holds_it_whole():
    schedule = make_schedule(after=MIDNIGHT - 10 * MINUTE)
    pause(schedule.task)
    fire(MIDNIGHT + 10 * MINUTE)
    schedules.update(SYSTEM, schedule, {"expression": "0 4 * * *"}, now=MIDNIGHT + 10 * MINUTE)
    found = summary(fires.of_task(schedule.task), date(2026, 3, 2), "UTC", now=MIDNIGHT + HOUR)
    assert (found.expected, [stretch.count for stretch in found.stretches]) == (0, [20])
    Schedule.objects.filter(pk=schedule.pk).update(rule_since=None)
    LedgerEntry.objects.update(first_at=MIDNIGHT + MINUTE, count=10)
    found = summary(fires.of_task(schedule.task), date(2026, 3, 2), "UTC", now=MIDNIGHT + HOUR)
    assert (found.expected, found.stretches) == (10, [])


def test_what_many_schedules_owe_is_counted_in_two_statements():
    rows = [make_schedule(after=NOON, catch_up=("none", "last", "all")[n % 3]) for n in range(12)]
    fire(NOON + 90 * MINUTE)
    Run.objects.filter(schedule=rows[2]).earliest("nominal_at").delete()
    LedgerEntry.objects.filter(schedule=rows[3]).latest("first_at").delete()
    windows = [(fires.Rule.of(row), NOON + 5 * MINUTE, NOON + 90 * MINUTE) for row in rows]
    with CaptureQueriesContext(connection) as captured:
        owed = owed_in(windows)
    assert len(captured) == 2
    assert {one.expected for one in owed} == {85}
    assert {one.schedule_id: one.missing for one in owed if one.missing} == {rows[2].pk: 1, rows[3].pk: 59}
