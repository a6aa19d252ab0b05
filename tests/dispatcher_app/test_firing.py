"""Due schedules become runs; every instant gets one answer; the next one lies ahead."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher_app import firing
from dispatcher_app.firing import next_due_at
from tasks_app import ledger
from tasks_app.catch_up import Stretch
from tasks_app.models import LedgerEntry, Run, Schedule
from tests.dispatcher_app.steps import (
    DAY,
    MINUTE,
    NOON,
    assert_ledger_is_complete,
    fire,
    fired_at,
    ledger_of,
    queries_of,
)
from tests.tasks_app.clock import at
from tests.tasks_app.making import depend, make_schedule, make_task

pytestmark = pytest.mark.django_db
VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "cron_vectors.json").read_text())


# One schedule


def test_a_due_schedule_gives_a_run_and_one_that_is_not_due_gives_none():
    due, not_due = make_schedule(after=NOON), make_schedule(after=NOON, expression="0 * * * *")
    off = make_schedule(after=NOON, enabled=False)
    now = NOON + timedelta(seconds=61)
    assert fire(now) == firing.Fired(1, 1)
    run = Run.objects.get()
    assert (run.schedule_id, run.nominal_at, run.due_at, run.created_at) == (due.pk, NOON + MINUTE, NOON + MINUTE, now)
    assert (run.run_type, run.state, run.task_id) == ("scheduled", "waiting", due.task_id)
    assert not fired_at(not_due) and not fired_at(off)
    due.refresh_from_db()
    assert (due.fired_until, due.next_fire_at) == (now, NOON + 2 * MINUTE)


def test_firing_again_at_once_gives_nothing():
    schedule = make_schedule(after=NOON)
    assert fire(NOON + MINUTE).runs == 1
    assert fire(NOON + MINUTE) == firing.Fired(0, 0)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=NOON + MINUTE, fired_until=NOON)
    assert fire(NOON + MINUTE) == firing.Fired(1, 0)
    assert fired_at(schedule) == [NOON + MINUTE]


def test_an_entry_grows_by_what_follows_it_and_not_by_what_lies_before_or_in_it():
    """As with a clock that was set back, and a rule that was edited then: its newest entry lies in the future."""
    schedule = make_schedule(after=NOON)

    def record(first: int, last: int) -> None:
        stretch = Stretch(NOON + first * MINUTE, NOON + last * MINUTE, last - first + 1, "skipped", "paused")
        ledger.record([(schedule.pk, stretch)])

    record(10, 12)
    record(13, 14)
    record(3, 3)
    record(12, 12)
    rows = LedgerEntry.objects.order_by("first_at").values_list("first_at", "last_at", "count")
    assert [((first - NOON) // MINUTE, (last - NOON) // MINUTE, count) for first, last, count in rows] == [
        (3, 3, 1),
        (10, 14, 5),
        (12, 12, 1),
    ]


def test_time_that_is_answered_again_further_than_before_leaves_no_instant_without_an_answer():
    """As with a clock that was set back and forward again, and a rule that was edited in between."""
    again, other = make_schedule(after=NOON, catch_up="last"), make_schedule(after=NOON, catch_up="last")
    fire(NOON + 5 * MINUTE)
    for minutes, last in ((10, 9), (8, 9)):
        Schedule.objects.filter(pk=again.pk).update(next_fire_at=NOON + MINUTE, fired_until=NOON)
        fire(NOON + minutes * MINUTE)
        stretches = LedgerEntry.objects.filter(schedule=again).values_list("first_at", "last_at")
        assert (NOON + MINUTE, NOON + last * MINUTE) in stretches
    first = LedgerEntry.objects.filter(schedule=other).earliest("first_at")
    assert (first.first_at, first.last_at, first.count) == (NOON + MINUTE, NOON + 4 * MINUTE, 4)


def test_the_downstream_is_planned_with_the_run():
    up, down = make_task(), make_task()
    depend(up, down)
    make_schedule(up, after=NOON)
    assert fire(NOON + MINUTE).runs == 1
    assert set(Run.objects.values_list("task", "nominal_at")) == {(up.pk, NOON + MINUTE), (down.pk, NOON + MINUTE)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "interval", "interval_seconds": 1200}, ["12:20", "12:40", "13:00"]),
        ({"kind": "interval", "interval_seconds": 1200, "start_at": NOON + 5 * MINUTE}, ["12:05", "12:25", "12:45"]),
        ({"kind": "once", "at": NOON + 30 * MINUTE}, ["12:30"]),
        ({"expression": "*/20 * * * *", "end_at": NOON + 45 * MINUTE}, ["12:20", "12:40"]),
        ({"expression": "*/20 * * * *", "start_at": NOON + 25 * MINUTE}, ["12:40", "13:00"]),
    ],
    ids=["interval", "interval from a start", "once", "until an end", "from a start"],
)
def test_a_schedule_of_any_kind_fires_at_its_instants(fields, expected):
    schedule = make_schedule(after=NOON, **fields)
    for minute in range(61):
        fire(NOON + minute * MINUTE)
    assert [f"{fire:%H:%M}" for fire in fired_at(schedule)] == expected
    assert ledger_of(schedule) == []
    schedule.refresh_from_db()
    over = fields.get("kind") == "once" or "end_at" in fields
    assert (schedule.next_fire_at is None) is over


@pytest.mark.parametrize(
    ("fields", "day", "expected"),
    [
        ({"expression": "30 2 * * *"}, "2026-03-29", ["01:00"]),
        ({"expression": "30 2 * * *", "dst_gap": "skip"}, "2026-03-29", []),
        ({"expression": "30 2 * * *"}, "2026-10-25", ["00:30"]),
        ({"expression": "30 2 * * *", "dst_repeat": "both"}, "2026-10-25", ["00:30", "01:30"]),
        ({"expression": "30 * * * *"}, "2026-10-25", [f"{hour:02}:30" for hour in range(24)]),
    ],
)
def test_clock_changes_follow_the_policy_of_the_schedule(fields, day, expected):
    start = at(f"{day}T00:00:00Z") - timedelta(seconds=1)
    schedule = make_schedule(after=start, time_zone="Europe/Berlin", **fields)
    for step in range(24 * 4):
        fire(start + step * timedelta(minutes=15) + timedelta(seconds=1))
    assert [f"{fire:%H:%M}" for fire in fired_at(schedule)] == expected


# Catching up


@pytest.mark.parametrize("vector", VECTORS["missed_run"], ids=lambda vector: vector["note"][:40])
@pytest.mark.parametrize("policy", ["none", "last", "all"])
def test_missed_instants_are_answered_as_recorded(vector, policy):
    after, now = at(vector["last_known"]), at(vector["now"])
    schedule = make_schedule(
        after=after,
        expression=vector["expr"],
        time_zone=vector["tz"],
        catch_up=policy,
        catch_up_window_seconds=30 * 86_400,
    )
    fire(now)
    count = vector.get("due_count", len(vector.get("due", [])))
    fresh = 1 if vector.get("due") and now - at(vector["due"][-1]) <= MINUTE else 0
    if vector.get("due_count"):
        fresh = 1
    runs = {"none": fresh, "last": min(count, 1), "all": min(count, 100)}[policy]
    assert len(fired_at(schedule)) == runs
    if vector.get("due"):
        assert fired_at(schedule) == [at(text) for text in vector["due"]][len(vector["due"]) - runs :]
    assert sum(entry[0] for entry in ledger_of(schedule)) == count - runs
    assert_ledger_is_complete(schedule, after, now)
    schedule.refresh_from_db()
    assert schedule.next_fire_at is not None and schedule.next_fire_at > now


@pytest.mark.parametrize(
    ("policy", "runs", "ledger"),
    [
        ("none", 1, [(14_340, "missed", "catch_up_window"), (59, "missed", "catch_up_none")]),
        ("last", 1, [(14_340, "missed", "catch_up_window"), (59, "coalesced", "catch_up_last")]),
        ("all", 60, [(14_340, "missed", "catch_up_window")]),
    ],
)
def test_ten_days_without_a_dispatcher_are_answered_in_a_handful_of_statements(policy, runs, ledger):
    schedule = make_schedule(after=NOON, catch_up=policy)
    now = NOON + 10 * DAY
    assert queries_of(now) <= 16
    assert (len(fired_at(schedule)), ledger_of(schedule)) == (runs, ledger)
    assert_ledger_is_complete(schedule, NOON, now)


def test_a_wide_window_is_bounded_by_the_most_to_catch_up():
    schedule = make_schedule(after=NOON, catch_up="all", catch_up_window_seconds=20 * 86_400)
    now = NOON + 10 * DAY
    fire(now)
    assert fired_at(schedule) == [now - n * MINUTE for n in reversed(range(100))]
    assert ledger_of(schedule) == [(14_300, "coalesced", "max_catch_up")]


def test_a_paused_task_has_one_growing_entry():
    paused, active = make_schedule(after=NOON), make_schedule(after=NOON)
    paused.task.paused = True
    paused.task.save(update_fields=["paused"])
    for minute in range(1, 8):
        fire(NOON + minute * MINUTE)
    assert (fired_at(paused), ledger_of(paused)) == ([], [(7, "skipped", "paused")])
    assert (len(fired_at(active)), ledger_of(active)) == (7, [])
    paused.task.paused = False
    paused.task.save(update_fields=["paused"])
    fire(NOON + 8 * MINUTE)
    assert fired_at(paused) == [NOON + 8 * MINUTE]
    paused.task.paused = True
    paused.task.save(update_fields=["paused"])
    fire(NOON + 9 * MINUTE)
    fire(NOON + 10 * MINUTE)
    # A run lies between: the entry of the first pause must not seem to cover it.
    assert ledger_of(paused) == [(7, "skipped", "paused"), (2, "skipped", "paused")]
    assert_ledger_is_complete(paused, NOON, NOON + 10 * MINUTE)


def test_the_ledger_stays_complete_through_outages_and_pauses():
    schedules = [
        make_schedule(after=NOON, expression=expression, catch_up=policy, max_catch_up=3)
        for expression in ("* * * * *", "*/7 * * * *", "0 * * * *")
        for policy in ("none", "last", "all")
    ]
    now = NOON
    for step, gap in enumerate((1, 1, 95, 1, 600, 2, 1, 4000, 1, 30)):
        now += gap * MINUTE
        for schedule in schedules:
            type(schedule.task).objects.filter(pk=schedule.task_id).update(paused=step in (3, 4, 7))
        fire(now)
        for schedule in schedules:
            assert_ledger_is_complete(schedule, NOON, now)


# Broken and edited rows


def test_a_schedule_that_cannot_be_read_is_set_aside_while_the_rest_fires():
    broken = [{"expression": "not a cron"}, {"time_zone": "Nowhere/City"}, {"dst_gap": "jump"}]
    sound = make_schedule(after=NOON)
    rows = [make_schedule(after=NOON) for _ in broken]
    for row, values in zip(rows, broken, strict=True):
        Schedule.objects.filter(pk=row.pk).update(**values)
    without_version = make_schedule(after=NOON)
    type(without_version.task).objects.filter(pk=without_version.task_id).update(version=None)
    fired = fire(NOON + MINUTE)
    assert fired == firing.Fired(5, 1)
    assert fired_at(sound) == [NOON + MINUTE]
    for row in [*rows, without_version]:
        row.refresh_from_db()
        assert row.next_fire_at is None and row.error
        assert not fired_at(row)
    assert fire(NOON + 2 * MINUTE) == firing.Fired(1, 1)


def test_next_due_at_is_the_earliest_of_the_enabled():
    assert next_due_at() is None
    make_schedule(after=NOON, expression="30 * * * *")
    make_schedule(after=NOON, expression="10 * * * *", enabled=False)
    make_schedule(after=NOON, expression="20 * * * *")
    assert next_due_at() == NOON + 20 * MINUTE
