"""Instants that fall into a pause, by its mode and its end."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app.models import Task
from tasks_app.services.pauses import resume_due
from tests.dispatcher_app.steps import HOUR, MINUTE, NOON, assert_ledger_is_complete, fire, fired_at, ledger_of
from tests.tasks_app.making import make_schedule

pytestmark = pytest.mark.django_db


def paused(**fields: Any) -> Any:
    schedule = make_schedule(after=NOON, catch_up="all", catch_up_window_seconds=86_400)
    Task.objects.filter(pk=schedule.task_id).update(paused=True, **fields)
    return schedule


@pytest.mark.parametrize(
    ("mode", "runs", "ledger"),
    [("drop", 0, [(3, "skipped", "paused")]), ("drain", 0, [(3, "skipped", "draining")]), ("queue", 3, [])],
)
def test_the_mode_of_the_pause_says_what_becomes_of_an_instant(mode, runs, ledger):
    schedule, active = paused(pause_mode=mode), make_schedule(after=NOON)
    for minute in (1, 2, 3):
        fire(NOON + minute * MINUTE)
    assert (len(fired_at(schedule)), ledger_of(schedule)) == (runs, ledger)
    assert (len(fired_at(active)), ledger_of(active)) == (3, [])


def test_a_pause_whose_end_has_come_skips_no_more():
    schedule = paused(paused_until=NOON + 2 * MINUTE)
    for minute in (1, 2, 3):
        fire(NOON + minute * MINUTE)
    assert fired_at(schedule) == [NOON + 2 * MINUTE, NOON + 3 * MINUTE]
    assert ledger_of(schedule) == [(1, "skipped", "paused")]


@pytest.mark.parametrize(
    ("mode", "skipped"),
    [("drop", [(29, "skipped", "paused")]), ("drain", [(29, "skipped", "draining")]), ("queue", [])],
)
def test_a_dispatcher_that_was_away_over_the_end_catches_up_with_what_came_later(mode, skipped):
    schedule = paused(pause_mode=mode, paused_until=NOON + 30 * MINUTE)
    fire(NOON + HOUR)
    first = 30 if skipped else 1
    assert fired_at(schedule) == [NOON + minute * MINUTE for minute in range(first, 61)]
    assert ledger_of(schedule) == skipped
    assert_ledger_is_complete(schedule, NOON, NOON + HOUR)


def test_a_pause_that_ended_before_the_first_instant_skips_nothing():
    schedule = paused(paused_until=NOON)
    fire(NOON + HOUR)
    assert (len(fired_at(schedule)), ledger_of(schedule)) == (60, [])


def test_a_pause_that_is_over_is_not_cleared_before_what_fell_into_it_is_answered():
    schedule, other = paused(paused_until=NOON + 30 * MINUTE), make_schedule(after=NOON + HOUR)
    Task.objects.filter(pk=other.task_id).update(paused=True, paused_until=NOON + 30 * MINUTE)
    assert resume_due(NOON + HOUR) == 1
    assert list(Task.objects.filter(paused=True)) == [schedule.task]
    fire(NOON + HOUR)
    assert resume_due(NOON + HOUR) == 1
    assert ledger_of(schedule) == [(29, "skipped", "paused")]
