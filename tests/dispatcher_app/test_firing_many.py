"""Many schedules cost little more than a few, and one dispatcher takes no more of them than it should."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dispatcher_app import firing
from dispatcher_app.firing import fire_due
from tasks_app import catch_up
from tasks_app.models import Run, Schedule
from tests.dispatcher_app.steps import HOUR, MINUTE, NOON, assert_ledger_is_complete, fire, queries_of
from tests.tasks_app.making import ACTOR, make_schedule

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


def test_an_early_clock_gives_no_second_run():
    schedule = make_schedule(after=NOON)
    ahead, behind = NOON + HOUR, NOON + 2 * MINUTE
    fire(ahead)
    assert fire_due(behind, actor=ACTOR) == firing.Fired(0, 0)
    fire(ahead + MINUTE)
    assert_ledger_is_complete(schedule, NOON, ahead + MINUTE)
