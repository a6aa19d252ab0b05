"""Jitter and start deadlines: when a run is due, until when it may wait, and who gets no run any more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from access_app.actors import system_actor
from tasks_app.jitter import jittered
from tasks_app.models import Run
from tasks_app.services.runs import Request, trigger
from tests.dispatcher_app.steps import DAY, HOUR, MINUTE, NOON, assert_ledger_is_complete, fire, fired_at, ledger_of
from tests.tasks_app.making import depend, later, make_schedule, make_task

pytestmark = pytest.mark.django_db


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# Jitter


def test_jitter_moves_the_due_time_and_leaves_the_nominal_one():
    spread = [make_schedule(after=NOON, jitter_seconds=30) for _ in range(20)]
    plain = make_schedule(after=NOON)
    fire(NOON + MINUTE)
    runs = Run.objects.filter(schedule__in=spread)
    assert {run.nominal_at for run in runs} == {NOON + MINUTE}
    for run in runs:
        assert run.due_at == jittered(NOON + MINUTE, NOON + 2 * MINUTE, 30, str(run.schedule_id))
    assert len({run.due_at for run in runs}) > 15
    assert Run.objects.get(schedule=plain).due_at == NOON + MINUTE


def test_jitter_never_reaches_the_next_instant():
    spread = [make_schedule(after=NOON, jitter_seconds=86_400) for _ in range(20)]
    fire(NOON + MINUTE)
    due = list(Run.objects.filter(schedule__in=spread).values_list("due_at", flat=True))
    assert NOON + MINUTE <= min(due) < max(due) < NOON + 2 * MINUTE


def test_the_downstream_is_due_with_its_root():
    up, down = make_task(), make_task()
    depend(up, down)
    make_schedule(up, after=NOON, jitter_seconds=30)
    fire(NOON + MINUTE)
    assert len(set(Run.objects.values_list("due_at", flat=True))) == 1


# Start deadlines


def test_the_deadline_of_the_schedule_goes_before_that_of_the_task():
    task = make_task(start_deadline_seconds=300)
    own, of_task = make_schedule(task, after=NOON, start_deadline_seconds=60), make_schedule(task, after=NOON)
    none = make_schedule(after=NOON)
    fire(NOON + MINUTE)
    assert Run.objects.get(schedule=own).expires_at == NOON + 2 * MINUTE
    assert Run.objects.get(schedule=of_task).expires_at == NOON + 6 * MINUTE
    assert Run.objects.get(schedule=none).expires_at is None


def test_the_deadline_counts_from_the_due_time():
    make_schedule(after=NOON, start_deadline_seconds=60, jitter_seconds=50)
    fire(NOON + MINUTE)
    run = Run.objects.get()
    assert run.due_at > NOON + MINUTE and run.expires_at == run.due_at + MINUTE


def test_a_triggered_run_has_the_deadline_of_its_task():
    task = make_task(start_deadline_seconds=60)
    run, _new = trigger(system_actor(), task, Request(not_before=later(hours=1)), now=NOON)
    assert run.expires_at == run.due_at + MINUTE


def test_the_downstream_has_the_deadline_of_its_own_task():
    up, down = make_task(start_deadline_seconds=60), make_task(start_deadline_seconds=3600)
    depend(up, down)
    make_schedule(up, after=NOON, start_deadline_seconds=10)
    fire(NOON + MINUTE)
    assert Run.objects.get(task=down).expires_at == NOON + MINUTE + HOUR


@pytest.mark.parametrize(
    ("policy", "runs", "rest"),
    [
        ("none", 1, [(30, "missed", "catch_up_none")]),
        ("last", 1, [(30, "coalesced", "catch_up_last")]),
        ("all", 31, []),
    ],
)
def test_what_is_past_its_deadline_gets_no_run(policy, runs, rest):
    schedule = make_schedule(after=NOON, catch_up=policy, start_deadline_seconds=31 * 60)
    now = NOON + 10 * DAY
    fire(now)
    too_late = [(14_340, "missed", "catch_up_window"), (29, "missed", "start_deadline")]
    assert ledger_of(schedule) == too_late + rest
    assert fired_at(schedule) == [now - n * MINUTE for n in reversed(range(runs))]
    assert_ledger_is_complete(schedule, NOON, now)


def test_even_an_instant_of_just_now_may_be_past_its_deadline():
    schedule = make_schedule(after=NOON, start_deadline_seconds=5)
    fire(NOON + MINUTE + seconds(5))
    assert (fired_at(schedule), ledger_of(schedule)) == ([], [(1, "missed", "start_deadline")])
    fire(NOON + 2 * MINUTE + seconds(4))
    assert fired_at(schedule) == [NOON + 2 * MINUTE]


def test_jitter_may_still_bring_a_run_into_its_deadline():
    rows = [make_schedule(after=NOON, start_deadline_seconds=5, jitter_seconds=40) for _ in range(20)]
    now = NOON + MINUTE + seconds(20)
    fire(now)
    assert Run.objects.filter(schedule__in=rows, expires_at__gt=now).exists()
    assert not any(ledger_of(row) for row in rows)
