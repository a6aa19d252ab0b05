"""Instants outside the calendar of a schedule: skipped, or moved to the next allowed time; with outages, too."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due
from tasks_app import catch_up
from tasks_app.allowance import outlook
from tasks_app.models import Calendar, Run, Schedule
from tasks_app.services import schedules
from tasks_app.services.schedule_rules import allowance_of
from tasks_app.timing import Timing
from tests.dispatcher_app.steps import DAY, HOUR, MINUTE, NOON, assert_ledger_is_complete, fire, fired_at, ledger_of
from tests.tasks_app.clock import at
from tests.tasks_app.making import ACTOR, make_schedule

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
# NOON is on a Monday.
OFFICE = {"allowed": [{"kind": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}]}
LUNCH = {"blackout": [{"kind": "weekly", "from": "12:10", "to": "12:30"}]}
MIDNIGHT = at("2026-03-02T00:00:00Z")


def calendar(document: dict[str, Any], **fields: Any) -> Calendar:
    return Calendar.objects.create(name=f"c{Calendar.objects.count()}", document=document, **fields)


def scheduled(document: dict[str, Any], *, after: datetime = NOON, **fields: Any) -> Schedule:
    return make_schedule(after=after, calendar=calendar(document), **fields)


def walk(until: datetime, *, after: datetime = NOON, step: timedelta = MINUTE) -> None:
    now = after
    while now < until:
        now += step
        fire(now)


def due_at(schedule: Schedule) -> dict[str, str]:
    rows = Run.objects.filter(schedule=schedule).order_by("nominal_at").values_list("nominal_at", "due_at")
    return {f"{nominal:%H:%M}": f"{due:%H:%M}" for nominal, due in rows if nominal is not None}


def test_blocked_instants_are_skipped_into_one_entry():
    schedule, other = scheduled(LUNCH), make_schedule(after=NOON)
    walk(NOON + 40 * MINUTE)
    assert len(fired_at(schedule)) == 20 and len(fired_at(other)) == 40
    assert ledger_of(schedule) == [(20, "skipped", "calendar")]
    assert_ledger_is_complete(schedule, NOON, NOON + 40 * MINUTE)


def test_an_opening_that_is_an_instant_itself_takes_the_place_of_all_before():
    schedule = scheduled(LUNCH, calendar_action="next_allowed")
    walk(NOON + 40 * MINUTE)
    assert due_at(schedule)["12:30"] == "12:30"
    assert ledger_of(schedule) == [(20, "coalesced", "calendar")]
    assert_ledger_is_complete(schedule, NOON, NOON + 40 * MINUTE)


def test_the_last_of_the_blocked_instants_runs_at_the_opening():
    schedule = scheduled(LUNCH, expression="4/7 * * * *", calendar_action="next_allowed")
    walk(NOON + 35 * MINUTE)
    assert due_at(schedule) == {"12:04": "12:04", "12:25": "12:30", "12:32": "12:32"}
    assert ledger_of(schedule) == [(2, "coalesced", "calendar")]


def test_one_blocked_instant_alone_is_moved():
    schedule = scheduled(LUNCH, expression="20 * * * *", calendar_action="next_allowed")
    walk(NOON + HOUR)
    assert (due_at(schedule), ledger_of(schedule)) == ({"12:20": "12:30"}, [])


def test_an_instant_is_not_moved_beyond_the_end_of_its_schedule():
    schedule = scheduled(LUNCH, expression="20 * * * *", calendar_action="next_allowed", end_at=NOON + 25 * MINUTE)
    walk(NOON + HOUR)
    assert (due_at(schedule), ledger_of(schedule)) == ({}, [(1, "skipped", "calendar")])


@pytest.mark.parametrize("action", ["skip", "next_allowed"])
def test_a_calendar_that_never_opens_skips_everything(action):
    schedule = scheduled({"blackout": [{"kind": "weekly"}]}, calendar_action=action)
    walk(NOON + 5 * MINUTE)
    assert (fired_at(schedule), ledger_of(schedule)) == ([], [(5, "skipped", "calendar")])
    fresh = Schedule.objects.get()
    assert fresh.next_fire_at == NOON + 6 * MINUTE and fresh.shown_next_at is None
    assert fresh.looked_until is not None and fresh.looked_until > NOON + 3650 * DAY


def test_where_no_next_fire_is_in_sight_it_says_how_far_it_was_looked_ahead_each_time():
    nightly = scheduled(OFFICE, expression="0 3 * * *")
    fires = scheduled(OFFICE, expression="0 13 * * *")
    before = nightly.looked_until
    assert before is not None
    assert (nightly.shown_next_at, before) == (None, MIDNIGHT + 561 * DAY + 3 * HOUR)
    assert (fires.shown_next_at, fires.looked_until) == (NOON + HOUR, None)
    fire(NOON + DAY)
    nightly.refresh_from_db()
    assert nightly.looked_until == before + DAY
    schedules.update(SYSTEM, nightly, {"expression": "0 3,13 * * *"}, now=NOON + DAY)
    nightly.refresh_from_db()
    assert nightly.shown_next_at == NOON + DAY + HOUR
    assert nightly.looked_until is None


def test_the_next_fire_that_is_shown_is_the_next_that_runs():
    skipping = scheduled(LUNCH, expression="*/20 * * * *")
    moving = scheduled(LUNCH, expression="15 * * * *", calendar_action="next_allowed")
    assert skipping.next_fire_at == NOON + 20 * MINUTE
    assert skipping.shown_next_at == NOON + 40 * MINUTE
    assert moving.shown_next_at == NOON + 30 * MINUTE
    fire(NOON + 20 * MINUTE)
    moving.refresh_from_db()
    assert moving.next_fire_at == moving.shown_next_at == NOON + 75 * MINUTE


def test_jitter_stays_inside_the_allowed_time():
    rows = [scheduled(LUNCH, expression="9 * * * *", jitter_seconds=3600) for _ in range(20)]
    fire(NOON + 9 * MINUTE)
    due = list(Run.objects.filter(schedule__in=rows).values_list("due_at", flat=True))
    assert len(due) == 20 and max(due) < NOON + 10 * MINUTE


def test_what_a_calendar_includes_counts():
    own = calendar({})
    own.includes.add(calendar(LUNCH))
    schedule = make_schedule(after=NOON, calendar=own)
    walk(NOON + 15 * MINUTE)
    assert ledger_of(schedule) == [(6, "skipped", "calendar")]


def test_a_calendar_that_cannot_be_read_sets_its_schedules_aside_alone():
    broken, sound = scheduled(LUNCH), scheduled(OFFICE)
    assert broken.calendar is not None
    broken.calendar.document = {"allowed": "nonsense"}
    broken.calendar.save()
    assert fire_due(NOON + MINUTE, actor=ACTOR).runs == 1
    broken.refresh_from_db()
    assert "allowed" in broken.error and broken.next_fire_at is None
    assert fired_at(sound) == [NOON + MINUTE]


def test_a_fixed_delay_comes_back_when_the_calendar_opens():
    skipping = scheduled(LUNCH, after=NOON + 15 * MINUTE, kind="fixed_delay", interval_seconds=60)
    moving = scheduled(
        LUNCH, after=NOON + 15 * MINUTE, kind="fixed_delay", interval_seconds=60, calendar_action="next_allowed"
    )
    fire(NOON + 15 * MINUTE)
    skipping.refresh_from_db()
    assert (skipping.next_fire_at, skipping.shown_next_at) == (NOON + 30 * MINUTE, NOON + 30 * MINUTE)
    assert ledger_of(skipping) == [(1, "skipped", "calendar")]
    assert due_at(moving) == {"12:15": "12:30"}
    fire(NOON + 30 * MINUTE)
    assert due_at(skipping) == {"12:30": "12:30"}


# Outages


@pytest.mark.parametrize(
    ("action", "policy", "runs", "last"),
    [
        # The ten days end on a Thursday at noon: seven office days and the halves of two, that is eight.
        ("skip", "none", 1, (59, "missed", "catch_up_none")),
        ("skip", "last", 1, (59, "coalesced", "catch_up_last")),
        ("skip", "all", 60, None),
        ("next_allowed", "none", 1, (59, "missed", "catch_up_none")),
        ("next_allowed", "last", 1, (59, "coalesced", "catch_up_last")),
        ("next_allowed", "all", 60, None),
    ],
)
def test_ten_days_of_minutes_with_a_calendar(action, policy, runs, last, monkeypatch):
    asked = []
    original = Timing.next_after

    def counting(timing: Timing, after: datetime) -> datetime | None:
        asked.append(after)
        return original(timing, after)

    schedule = scheduled(OFFICE, calendar_action=action, catch_up=policy)
    now = NOON + 10 * DAY
    monkeypatch.setattr(Timing, "next_after", counting)
    with CaptureQueriesContext(connection) as captured:
        fire(now)
    monkeypatch.undo()
    assert len(captured) <= 20
    assert len(asked) < 400
    outside = "skipped" if action == "skip" else "coalesced"
    found = ledger_of(schedule)
    assert len(fired_at(schedule)) == runs
    assert sum(entry[0] for entry in found if entry[1:] == (outside, "calendar")) == 14_400 - 8 * 480
    assert last is None or last in found
    assert len(found) < 30
    assert_ledger_is_complete(schedule, NOON, now)


def test_an_outage_over_the_opening_catches_up_with_what_was_moved():
    schedule = scheduled(
        OFFICE,
        after=MIDNIGHT,
        expression="30 3 * * *",
        calendar_action="next_allowed",
        catch_up="last",
        catch_up_window_seconds=3 * 3600,
    )
    fire(MIDNIGHT + 11 * HOUR)
    # Three hours back from eleven lies nine, when it was due, though not half past three, when it fired.
    assert (due_at(schedule), ledger_of(schedule)) == ({"03:30": "09:00"}, [])


def test_a_run_that_was_moved_to_a_time_that_is_still_to_come_is_not_late():
    schedule = scheduled(
        OFFICE, after=MIDNIGHT, expression="30 3 * * *", calendar_action="next_allowed", catch_up="none"
    )
    fire(MIDNIGHT + 8 * HOUR)
    assert (due_at(schedule), ledger_of(schedule)) == ({"03:30": "09:00"}, [])


def test_the_newest_allowed_instant_is_caught_up_with_after_closing_time():
    schedule = scheduled(OFFICE, catch_up="last", catch_up_window_seconds=86_400)
    fire(NOON + 8 * HOUR)
    assert fired_at(schedule) == [NOON + 5 * HOUR - MINUTE]
    assert ledger_of(schedule) == [(298, "coalesced", "catch_up_last"), (181, "skipped", "calendar")]


def test_a_calendar_of_very_many_edges_costs_bounded_work():
    seconds = [
        {"kind": "weekly", "from": f"{hour:02}:{minute:02}", "to": f"{hour:02}:{minute:02}:30"}
        for hour in range(24)
        for minute in range(0, 60, 15)
    ]
    schedule = scheduled({"blackout": seconds}, expression="*/5 * * * * *", catch_up="all", max_catch_up=10)
    now = NOON + 365 * DAY
    began = time.process_time()
    fire(now)
    assert time.process_time() - began < 2
    assert len(fired_at(schedule)) == 10
    assert_ledger_is_complete(schedule, NOON, now)


# Many


def many(number: int) -> None:
    template = scheduled(OFFICE, jitter_seconds=30)
    second = calendar(LUNCH)
    rows = [
        Schedule(
            task=template.task,
            expression=template.expression,
            fired_until=NOON,
            next_fire_at=template.next_fire_at,
            jitter_seconds=30,
            calendar=(template.calendar, second)[place % 2],
        )
        for place in range(number)
    ]
    template.delete()
    Schedule.objects.bulk_create(rows)


def test_two_thousand_with_jitter_and_calendars_take_as_many_statements_as_two_and_as_many_computations(monkeypatch):
    calls = []
    original = catch_up.answer

    def counting(timing: Any, policy: Any, **options: Any) -> catch_up.Answer:
        calls.append(timing)
        return original(timing, policy, **options)

    monkeypatch.setattr(catch_up, "answer", counting)

    def statements(number: int) -> tuple[int, int]:
        many(number)
        calls.clear()
        with CaptureQueriesContext(connection) as captured:
            assert fire(NOON + MINUTE).runs == number
        Schedule.objects.all().delete()
        return len(captured), len(calls)

    assert statements(2) == statements(2000)


# Previews


@pytest.mark.parametrize("action", ["skip", "next_allowed"])
@pytest.mark.parametrize("expression", ["*/7 * * * *", "20 * * * *", "0 8,12,20 * * *", "30 12 * * *"])
def test_a_preview_names_the_times_at_which_it_then_runs(action, expression):
    both = calendar(LUNCH)
    both.includes.add(calendar(OFFICE))
    fields = {"expression": expression, "calendar": both, "calendar_action": action}
    shown = schedules.preview(fields, after=NOON, count=6)["fires"]
    schedule = make_schedule(
        after=NOON, catch_up="all", catch_up_window_seconds=30 * 86_400, max_catch_up=2000, **fields
    )
    fire(NOON + 8 * DAY)
    runs = Run.objects.filter(schedule=schedule).order_by("nominal_at").values_list("nominal_at", "due_at")[:6]
    assert [(one.get("nominal_at", one["at"]), one["at"]) for one in shown] == list(runs)
    coming = outlook(schedules.timing_of(schedule), allowance_of(schedule), NOON, 6)
    assert [fire.due_at for fire in coming.fires] == [one["at"] for one in shown]
