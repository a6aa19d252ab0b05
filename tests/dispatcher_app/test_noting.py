"""What ended attempts tell: breakers open and close by them, and a task that keeps failing is paused."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.models import AuditEntry
from dispatcher_app import noting
from dispatcher_app.noting import note_ended
from tasks_app import transitions
from tasks_app.models import Resource, Run, Task, TaskResource
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, bring, end, later, make_task, plan, start
from tests.tasks_app.plans import indexes, plans_of

pytestmark = pytest.mark.django_db


def make_resource(*tasks: Task, name: str = "api", **fields: Any) -> Resource:
    resource = Resource.objects.create(name=name, **{"breaker_failures": 3, **fields})
    for task in tasks:
        TaskResource.objects.create(task=task, resource=resource)
    return resource


def run_ends(task: Task, *states: RunState, reason: str = Reason.EXIT_CODE) -> list[int]:
    ids = plan(task, len(states))
    start(*ids)
    for id, state in zip(ids, states, strict=True):
        end(id, state, reason="" if state is RunState.SUCCEEDED else reason)
    return ids


def retried(id: int, reason: str = Reason.EXIT_CODE) -> None:
    attempt = Run.objects.get(pk=id).attempt
    outcome = Outcome(id, attempt, RunState.WAITING, reason, retry_at=NOW)
    assert transitions.finish([outcome], worker_id=ANSWERED, now=NOW, actor=ACTOR)


def note() -> None:
    while note_ended(later(seconds=1)):
        pass


def in_a_row(task: Task) -> int:
    return Task.objects.get(pk=task.pk).failures_in_a_row


F, S = RunState.FAILED, RunState.SUCCEEDED


# Breakers


def test_failed_runs_open_the_breaker_of_what_their_task_uses_and_no_other():
    task, other = make_task(), make_task()
    api, disk = make_resource(task), make_resource(other, name="disk")
    unguarded = make_resource(task, name="unguarded", breaker_failures=None)
    run_ends(task, F, F, F)
    run_ends(other, S, F, F)
    note()
    for resource in (api, disk, unguarded):
        resource.refresh_from_db()
    assert (api.breaker_state, api.breaker_changed_at, api.breaker_open_until) == (
        "open",
        later(seconds=1),
        later(seconds=31),
    )
    assert (disk.breaker_state, disk.breaker_failures_in_a_row, disk.breaker_outcomes) == ("closed", 2, "sff")
    assert (unguarded.breaker_state, unguarded.breaker_outcomes) == ("closed", "")


def test_each_attempt_counts_once_whenever_it_is_noted():
    task = make_task()
    resource = make_resource(task, breaker_failures=9)
    (id,) = plan(task)
    for place in range(3):
        start(id)
        retried(id)
        if place != 1:
            note()
    start(id)
    end(id, S)
    note()
    note()
    resource.refresh_from_db()
    assert resource.breaker_outcomes == "fffs"
    run = Run.objects.get()
    assert (run.told_attempt, run.tell_limits) == (4, False)


def test_a_run_that_goes_on_is_told_up_to_the_attempt_that_ended():
    task = make_task()
    make_resource(task)
    (id,) = plan(task)
    start(id)
    assert note_ended(NOW) == 0
    retried(id)
    assert note_ended(NOW) == 1
    run = Run.objects.get()
    assert (run.told_attempt, run.tell_limits, run.state) == (1, True, "waiting")
    assert note_ended(NOW) == 0


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        (Reason.EXIT_CODE, True),
        (Reason.EXCEPTION, True),
        (Reason.TIMEOUT, True),
        (Reason.CONNECTION, True),
        (Reason.UNEXPECTED_STATUS, True),
        (Reason.INVALID_PARAMETERS, False),
        (Reason.INVALID_MACRO, False),
        (Reason.SCRIPT_MISSING, False),
        (Reason.COMMAND_NOT_FOUND, False),
        (Reason.ADDRESS_REFUSED, False),
        (Reason.WORKER_LOST, False),
        (Reason.WORKER_STOPPED, False),
        (Reason.INTERNAL, False),
    ],
)
def test_only_what_speaks_of_the_target_reaches_its_breaker(reason, counts):
    task = make_task()
    resource = make_resource(task, breaker_failures=9)
    run_ends(task, F, reason=reason)
    (id,) = plan(task)
    start(id)
    retried(id, reason)
    note()
    resource.refresh_from_db()
    assert resource.breaker_outcomes == ("ff" if counts else "")
    assert not Run.objects.filter(told_attempt=0).exists()


@pytest.mark.parametrize(
    "state", [RunState.CANCELLED, RunState.SKIPPED, RunState.UPSTREAM_FAILED, RunState.EXPIRED, RunState.LOST]
)
def test_runs_that_never_ran_or_were_cancelled_or_lost_say_nothing_of_the_target(state):
    task = make_task()
    resource = make_resource(task)
    (id,) = plan(task)
    bring(id, state)
    note()
    resource.refresh_from_db()
    assert resource.breaker_outcomes == ""
    assert not Run.objects.filter(tell_limits=True).exists()


def test_runs_released_before_the_breaker_opened_do_not_open_it_again():
    task = make_task()
    resource = make_resource(task)
    early = plan(task, 2)
    start(*early)
    run_ends(task, F, F, F)
    note()
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("open", 1)
    Resource.objects.update(breaker_state="half_open", breaker_changed_at=later(minutes=1), breaker_wave=1)
    end(early[0], F)
    note()
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("half_open", 1)
    (probe,) = plan(task)
    start(probe, now=later(minutes=2))
    end(probe, F, now=later(minutes=2))
    note()
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("open", 2)


def test_a_run_tells_every_resource_of_its_task():
    task = make_task()
    first, second = make_resource(task, name="first"), make_resource(task, name="second", breaker_failures=1)
    run_ends(task, F)
    note()
    assert dict(Resource.objects.values_list("pk", "breaker_state")) == {first.pk: "closed", second.pk: "open"}


# Failures in a row


def test_a_task_that_fails_too_often_in_a_row_is_paused_with_the_reason():
    task, patient, plain = make_task(auto_pause_after=3), make_task(auto_pause_after=4), make_task()
    for one in (task, patient, plain):
        run_ends(one, F, F, F)
    note()
    task.refresh_from_db()
    assert (task.paused, task.pause_mode, task.paused_until) == (True, "drop", None)
    assert task.paused_reason == "3 runs in a row have failed."
    assert [(t.paused, t.failures_in_a_row) for t in Task.objects.order_by("pk")] == [(True, 3), (False, 3), (False, 0)]
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.verb, entry.object_id) == ("system", "pause", str(task.pk))
    assert entry.after == {"reason": "3 runs in a row have failed.", "mode": "drop", "until": None}


def test_a_success_between_two_failures_starts_the_count_anew():
    task = make_task(auto_pause_after=3)
    run_ends(task, F, F, S, F)
    note()
    assert in_a_row(task) == 1
    run_ends(task, F)
    note()
    assert in_a_row(task) == 2 and not Task.objects.get().paused


def test_an_attempt_that_is_tried_again_is_no_failed_run():
    task = make_task(auto_pause_after=1)
    (id,) = plan(task)
    start(id)
    retried(id)
    note()
    assert (in_a_row(task), Task.objects.get().paused) == (0, False)


@pytest.mark.parametrize(
    ("state", "reason", "failures"),
    [
        (F, Reason.EXIT_CODE, 2),
        (F, Reason.COMMAND_NOT_FOUND, 2),
        (RunState.TIMED_OUT, Reason.TIMEOUT, 2),
        (RunState.LOST, Reason.WORKER_LOST, 2),
        (RunState.LOST, Reason.WORKER_STOPPED, 1),
        (RunState.QUARANTINED, Reason.POISON, 2),
        (RunState.CANCELLED, Reason.CANCEL_REQUESTED, 1),
        (S, "", 0),
    ],
)
def test_what_counts_as_a_failed_run(state, reason, failures):
    task = make_task(auto_pause_after=9, failures_in_a_row=1)
    run_ends(task, state, reason=reason)
    note()
    assert in_a_row(task) == failures


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.SKIPPED, RunState.UPSTREAM_FAILED, RunState.EXPIRED])
def test_a_run_that_never_ran_is_no_failed_run(state):
    task = make_task(auto_pause_after=9, failures_in_a_row=1)
    (id,) = plan(task)
    bring(id, state)
    note()
    assert in_a_row(task) == 1


def test_a_pause_by_a_person_keeps_its_reason():
    task = make_task(auto_pause_after=1)
    run_ends(task, F)
    Task.objects.update(paused=True, paused_reason="moving house", pause_mode="queue", paused_until=later(days=1))
    note()
    task.refresh_from_db()
    assert (task.paused_reason, task.pause_mode, task.failures_in_a_row) == ("moving house", "queue", 1)


# Sets, locks, crashes


@pytest.mark.postgresql  # Django gives SQLite at most 999 values a statement.
def test_two_hundred_runs_take_as_many_statements_as_two():
    def prepared(count: int) -> None:
        for _ in range(count):
            task = make_task(auto_pause_after=1)
            make_resource(task, name=f"r{task.pk}", breaker_failures=1)
            run_ends(task, F)

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            note_ended(NOW)
        return len(captured)

    prepared(2)
    few = statements()
    prepared(200)
    many = statements()
    assert many == few
    assert Task.objects.filter(paused=True).count() == Resource.objects.filter(breaker_state="open").count() == 202


def test_where_nothing_has_ended_one_look_is_all(django_assert_num_queries):
    task = make_task(auto_pause_after=1)
    start(*plan(task, 3))
    with django_assert_num_queries(1):
        assert note_ended(NOW) == 0


def test_more_than_a_batch_takes_several_turns(monkeypatch):
    task = make_task(auto_pause_after=100)
    run_ends(task, *[F] * 5)
    assert [note_ended(NOW, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert in_a_row(task) == 5


def test_what_breaks_in_the_middle_is_told_whole_the_next_time(monkeypatch):
    task = make_task(auto_pause_after=9)
    resource = make_resource(task)
    run_ends(task, F, F)

    def broken(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(noting, "_mark_told", broken)
        with pytest.raises(RuntimeError):
            note_ended(NOW)
    note()
    resource.refresh_from_db()
    assert (resource.breaker_outcomes, in_a_row(task)) == ("ff", 2)


@pytest.mark.postgresql
def test_runs_to_note_are_found_by_their_index_among_many():
    plain, told = make_task(), make_task(auto_pause_after=5)
    plan(plain, 3000)
    run_ends(told, F)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_run")
    plans = plans_of(lambda: note_ended(NOW))
    assert all("run_to_note" in indexes(plan) for plan in plans[:2])
