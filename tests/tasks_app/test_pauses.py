"""Pauses: until when, what happens meanwhile, and how they end."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Run, Task
from tasks_app.services import runs, tasks
from tasks_app.services.pauses import resume_due
from tasks_app.states import RunState
from tests.tasks_app.making import NOW, bring, later, make_task, plan

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def columns(task: Task) -> tuple[Any, ...]:
    names = ("paused", "paused_reason", "pause_mode", "paused_until")
    return tuple(Task.objects.values_list(*names).get(pk=task.pk))


def test_a_pause_keeps_reason_mode_and_end_and_a_resume_clears_them_with_the_failures():
    task, other = make_task(failures_in_a_row=7), make_task()
    tasks.pause(SYSTEM, task, now=NOW, reason="disk full", until=later(hours=1), mode="queue")
    assert columns(task) == (True, "disk full", "queue", later(hours=1))
    tasks.resume(SYSTEM, task, now=later(minutes=1))
    assert columns(task) == columns(other) == (False, "", "drop", None)
    assert Task.objects.get(pk=task.pk).failures_in_a_row == 0
    paused, resumed = AuditEntry.objects.order_by("id")
    assert paused.after == {"reason": "disk full", "mode": "queue", "until": "2026-03-02T13:00:30+00:00"}
    assert (paused.verb, resumed.verb) == ("pause", "resume")


def test_a_pause_takes_the_place_of_the_one_that_stands():
    task = make_task()
    tasks.pause(SYSTEM, task, now=NOW, reason="first", until=later(hours=1), mode="drain")
    tasks.pause(SYSTEM, task, now=NOW, reason="second")
    assert columns(task) == (True, "second", "drop", None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mode": "stop"}, "mode"),
        ({"until": NOW}, "until"),
        ({"until": later(seconds=-1)}, "until"),
        ({"until": later(days=4000)}, "until"),
        ({"reason": "a\x00b"}, "reason"),
    ],
)
def test_what_makes_no_pause_is_refused_at_its_field(fields, field):
    task = make_task()
    with pytest.raises(InvalidInput) as caught:
        tasks.pause(SYSTEM, task, now=NOW, **fields)
    assert caught.value.errors.keys() == {field}
    assert columns(task)[0] is False


# Drain


def test_a_task_that_is_drained_takes_no_new_run_by_any_door():
    task, other = make_task(), make_task()
    (over,) = plan(task)
    bring(over, RunState.FAILED)
    run = Run.objects.select_related("task").get(pk=over)
    tasks.pause(SYSTEM, task, now=NOW, mode="drain", until=later(hours=1))
    run.task.refresh_from_db()
    task.refresh_from_db()
    for call in (
        lambda: runs.trigger(SYSTEM, task, runs.Request(), now=NOW),
        lambda: runs.trigger_batch(SYSTEM, task, [runs.Request()], now=NOW),
        lambda: runs.rerun(SYSTEM, run, now=NOW),
    ):
        with pytest.raises(WrongState, match="drained"):
            call()
    assert Run.objects.count() == 1
    assert runs.trigger(SYSTEM, other, runs.Request(), now=NOW)[1]
    assert runs.trigger(SYSTEM, task, runs.Request(), now=later(hours=1))[1], "the pause is over by the clock"


@pytest.mark.parametrize("mode", ["drop", "queue"])
def test_a_task_that_is_paused_otherwise_takes_runs_that_wait(mode):
    task = tasks.pause(SYSTEM, make_task(), now=NOW, mode=mode)
    assert runs.trigger(SYSTEM, task, runs.Request(), now=NOW)[1]


def test_a_known_key_still_answers_its_run_while_the_task_is_drained():
    task = make_task()
    run, _new = runs.trigger(SYSTEM, task, runs.Request(idempotency_key="k"), now=NOW)
    task = tasks.pause(SYSTEM, task, now=NOW, mode="drain")
    again, new = runs.trigger(SYSTEM, task, runs.Request(idempotency_key="k"), now=NOW)
    assert (again.pk, new) == (run.pk, False)
    with pytest.raises(WrongState):
        runs.trigger_batch(SYSTEM, task, [runs.Request(idempotency_key=key) for key in ("k", "new")], now=NOW)
    assert Run.objects.count() == 1


# The clock


def test_pauses_that_are_over_by_the_clock_are_cleared_and_audited_and_no_other():
    over, endless, later_on, _running = (make_task(name) for name in ("over", "endless", "later", "running"))
    tasks.pause(SYSTEM, over, now=NOW, reason="lunch", until=later(minutes=1))
    tasks.pause(SYSTEM, endless, now=NOW)
    tasks.pause(SYSTEM, later_on, now=NOW, until=later(minutes=2))
    Task.objects.update(failures_in_a_row=3)
    before = AuditEntry.objects.latest("pk").pk
    assert resume_due(later(seconds=59)) == 0
    assert resume_due(later(minutes=1)) == 1
    assert resume_due(later(minutes=1)) == 0
    paused = dict(Task.objects.values_list("name", "paused"))
    assert paused == {"over": False, "endless": True, "later": True, "running": False}
    assert columns(over) == (False, "", "drop", None)
    assert dict(Task.objects.values_list("name", "failures_in_a_row")) == {
        "over": 0, "endless": 3, "later": 3, "running": 3,
    }  # fmt: skip
    entry = AuditEntry.objects.get(pk__gt=before)
    assert (entry.actor, entry.verb, entry.object_name) == ("system", "resume", "over")


@pytest.mark.postgresql  # Django gives SQLite at most 999 values a statement.
def test_clearing_many_pauses_takes_as_many_statements_as_clearing_two():
    def prepared(count: int) -> None:
        for _ in range(count):
            make_task(paused=True, paused_until=later(minutes=1))

    counts = []
    for number in (2, 100):
        prepared(number)
        with CaptureQueriesContext(connection) as captured:
            assert resume_due(later(minutes=1)) == number
        counts.append(len(captured))
    assert counts[0] == counts[1]
