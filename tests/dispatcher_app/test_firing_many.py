"""Many schedules cost little more than a few, and one dispatcher takes no more of them than it should."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app import firing
from dispatcher_app.firing import fire_due
from tasks_app import catch_up
from tasks_app.models import Calendar, Run, Schedule, Task
from tests.dispatcher_app.steps import HOUR, MINUTE, NOON, assert_ledger_is_complete, fire, queries_of
from tests.tasks_app.making import ACTOR, make_schedule, make_task

pytestmark = pytest.mark.django_db


def many(number: int, **fields: Any) -> None:
    rows = []
    template = make_schedule(after=NOON, **fields)
    for place in range(number):
        created = NOON - timedelta(seconds=place)
        rows.append(Schedule(task=template.task, fired_until=created, next_fire_at=template.next_fire_at))
        for name in ("kind", "expression", "time_zone", "catch_up"):
            setattr(rows[-1], name, getattr(template, name))
    template.delete()
    Schedule.objects.bulk_create(rows)


def test_a_thousand_schedules_take_as_many_statements_as_two():
    many(2)
    few = queries_of(NOON + MINUTE)
    Schedule.objects.all().delete()
    many(1000)
    assert queries_of(NOON + MINUTE) == few
    assert Run.objects.count() == 1002


def test_schedules_with_every_rule_there_is_take_as_many_statements_as_two():
    calendar = Calendar.objects.create(name="always", document={})

    def made(number: int) -> None:
        for _ in range(number):
            task = make_task(
                concurrency_key="{{ params.x }}",
                auto_pause_after=3,
                start_deadline_seconds=60,
                weight=2,
                params={"x": "k"},
            )
            rules = {"jitter_seconds": 5, "calendar": calendar, "start_deadline_seconds": 30, "catch_up": "all"}
            make_schedule(task, after=NOON, **rules)
            waits = make_schedule(after=NOON, kind="fixed_delay", interval_seconds=60, start_at=NOON + MINUTE)
            Task.objects.filter(pk=waits.task_id).update(paused=True, pause_mode="queue", paused_until=NOON + HOUR)

    made(2)
    few = queries_of(NOON + MINUTE)
    Schedule.objects.all().delete()
    made(50)
    assert queries_of(NOON + MINUTE) == few
    assert Run.objects.count() == 104
    assert set(Run.objects.values_list("concurrency_key", "tell_limits", "weight")) == {("k", True, 2), ("", False, 1)}


def test_texts_that_people_write_are_not_read_to_fire():
    make_schedule(make_task(description="a long story"), after=NOON, note="another")
    with CaptureQueriesContext(connection) as captured:
        assert fire_due(NOON + MINUTE, actor=ACTOR).runs == 1
    read = next(query["sql"] for query in captured if query["sql"].startswith('SELECT "tasks_app_schedule"'))
    assert '"expression"' in read and '"pause_mode"' in read
    assert not any(f'"{name}"' in read for name in ("note", "description", "paused_reason", "created_at"))


def test_each_distinct_rule_is_computed_once(monkeypatch):
    calls = []
    original = catch_up.answer

    def counting(timing: Any, policy: Any, **times: Any) -> catch_up.Answer:
        calls.append(timing)
        return original(timing, policy, **times)

    monkeypatch.setattr(catch_up, "answer", counting)
    # Made at different moments, as by people: that must not tell them apart.
    many(300)
    many(200, time_zone="Europe/Berlin")
    many(100, catch_up="all")
    assert fire(NOON + MINUTE).runs == 600
    assert len(calls) == 3


def test_no_more_schedules_than_the_limit_are_taken_at_once():
    many(5)
    assert fire_due(NOON + MINUTE, actor=ACTOR, limit=3) == firing.Fired(3, 3)
    assert fire_due(NOON + MINUTE, actor=ACTOR, limit=3) == firing.Fired(2, 2)


def test_what_would_be_too_many_runs_at_once_is_left_to_the_next_tick(monkeypatch):
    monkeypatch.setattr(firing, "MOST_RUNS", 100)
    many(4, catch_up="all")
    now = NOON + HOUR
    assert fire_due(now, actor=ACTOR) == firing.Fired(2, 120)
    assert fire_due(now, actor=ACTOR) == firing.Fired(2, 120)
    assert fire_due(now, actor=ACTOR) == firing.Fired(0, 0)


def test_rules_that_take_long_to_answer_are_left_to_the_next_tick_and_none_is_left_out(monkeypatch):
    monkeypatch.setattr(firing, "MOST_SECONDS", 0)
    for zone in ("UTC", "Europe/Berlin", "Asia/Tokyo"):
        make_schedule(after=NOON, time_zone=zone)
    waits = [make_schedule(after=NOON, kind="fixed_delay", interval_seconds=60, start_at=NOON + HOUR) for _ in range(2)]
    Schedule.objects.filter(pk__in=[one.pk for one in waits]).update(next_fire_at=None)
    assert [firing.rearm(NOON + MINUTE) for _ in range(3)] == [1, 1, 0]
    assert [fire_due(NOON + MINUTE, actor=ACTOR).runs for _ in range(4)] == [1, 1, 1, 0]


def test_an_early_clock_gives_no_second_run():
    schedule = make_schedule(after=NOON)
    ahead, behind = NOON + HOUR, NOON + 2 * MINUTE
    fire(ahead)
    assert fire_due(behind, actor=ACTOR) == firing.Fired(0, 0)
    fire(ahead + MINUTE)
    assert_ledger_is_complete(schedule, NOON, ahead + MINUTE)
