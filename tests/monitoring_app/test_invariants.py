"""The checker of the invariants: nothing on a busy sound database, and exactly the one that a hand has broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app import audit
from access_app.actors import system_actor
from dispatcher_app.acceptance import accept_ended
from dispatcher_app.firing import fire_due
from monitoring_app.history import first_since
from monitoring_app.invariants import CHECKS, check_invariants
from tasks_app.models import Backfill, LedgerEntry, Resource, Run, RunEvent, RunPeriod, Schedule, Task, TaskResource
from tasks_app.rowset import database_now
from tasks_app.services import backfills, runs
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    bring,
    depend,
    end,
    make_pool,
    make_schedule,
    make_task,
    make_worker,
    member,
    plan,
    start,
)

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
MINUTE = timedelta(minutes=1)
LATER = NOW + 10 * MINUTE


@pytest.fixture
def busy() -> None:
    """Runs in every state, a graph, limits that are just full, a backfill, ten minutes of fires and a paused task."""
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    start(root)
    end(root)
    accept_ended(NOW, actor=ACTOR)
    start(member(root, down).pk, now=NOW)
    for state in RunState:
        bring(plan(make_task())[0], state, now=LATER if state is RunState.RUNNING else NOW)
    narrow = make_task(max_concurrent=2, pool=make_pool("small", slots=2), concurrency_key="k")
    Task.objects.filter(pk=narrow.pk).update(max_concurrent_per_key=2)
    for run in plan(narrow, 2):
        start(run, now=LATER)
    Run.objects.filter(task=narrow).update(concurrency_key="k")
    TaskResource.objects.create(task=narrow, resource=Resource.objects.create(name="db", capacity=4), amount=2)
    schedule = make_schedule(after=NOW, catch_up="none")
    fixed = make_schedule(after=NOW, kind="fixed_delay", interval_seconds=60, expression="")
    off = make_schedule(after=NOW, enabled=False)
    Task.objects.filter(pk=make_schedule(after=NOW).task_id).update(paused=True)
    for minute in (1, 2, 5, 10):
        fire_due(NOW + minute * MINUTE, actor=ACTOR)
    assert Run.objects.filter(schedule=fixed).count() == 1 and off.next_fire_at and schedule.ledger.count() == 2
    old = make_schedule(after=LATER)
    filled = backfills.plan(SYSTEM, old.task, backfills.Wish(NOW, LATER, max_concurrent=2), now=LATER)
    start(*backfills.runs_of(filled).values_list("pk", flat=True)[:2], now=LATER)


def found(now: Any = LATER, **options: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.invariant, one.ids) for one in check_invariants(now, **{"since": None, **options})]


def names(now: Any = LATER, **options: Any) -> set[str]:
    return {invariant for invariant, _ids in found(now, **options)}


def test_a_sound_database_has_no_violation_in_any_window(busy):
    assert found() == []
    assert found(since=NOW - MINUTE) == [] == found(since=LATER)


def test_an_empty_one_neither():
    assert found() == []


@contextmanager
def without(constraint: str, table: str) -> Iterator[None]:
    """Rows that the database itself would refuse: its guard is taken away inside the test's transaction."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Foreign keys are checked at the end; a table with checks to come is not altered.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")
            cursor.execute(f"DROP INDEX IF EXISTS {constraint}")
            yield
        else:
            cursor.execute(f"DROP INDEX IF EXISTS {constraint}")
            cursor.execute("PRAGMA ignore_check_constraints = ON")
            try:
                yield
            finally:
                cursor.execute("PRAGMA ignore_check_constraints = OFF")


def started(**task: Any) -> int:
    (run,) = plan(make_task(**task))
    start(run, now=LATER)
    return run


def event(run: int, before: str, after: str, **fields: Any) -> None:
    values = {"at": LATER, "attempt": 1, **fields}
    RunEvent.objects.create(run_id=run, from_state=before, to_state=after, **values)


def test_i1_two_runs_of_one_instant(busy):
    schedule = Schedule.objects.filter(kind="cron", enabled=True).earliest("pk")
    twin = Run.objects.filter(schedule=schedule).earliest("pk")
    LedgerEntry.objects.filter(schedule=schedule).delete()
    Schedule.objects.filter(pk=schedule.pk).update(rule_since=None)
    with without("run_once_per_instant", "tasks_app_run"):
        twin.pk = None
        twin.save(force_insert=True)
        event(twin.pk, "", "waiting")
        assert found() == [("I1", (schedule.pk,))]


@pytest.mark.parametrize("gone", [Run, LedgerEntry])
def test_i2_an_instant_without_an_answer(busy, gone):
    schedule = Schedule.objects.filter(kind="cron", enabled=True).earliest("pk")
    gone.objects.filter(schedule=schedule).earliest("pk").delete()
    assert found() == [("I2", (schedule.pk,))]
    (violation,) = check_invariants(LATER, since=None)
    assert "for 10 instants" in violation.detail


def test_i2_an_instant_that_is_answered_twice(busy):
    entry = LedgerEntry.objects.earliest("pk")
    LedgerEntry.objects.filter(pk=entry.pk).update(count=entry.count + 1)
    assert found() == [("I2", (entry.schedule_id,))]


def test_i2_a_due_instant_is_not_owed_before_the_grace_is_over():
    schedule = make_schedule(after=NOW)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=NOW + 3 * MINUTE)
    due = NOW.replace(second=0) + MINUTE
    assert found(due + timedelta(seconds=4)) == []
    assert found(due + timedelta(seconds=6)) == [("I2", (schedule.pk,))]


def test_i3_an_attempt_that_was_started_twice(busy):
    run = started()
    event(run, "queued", "running")
    assert ("I3", (run,)) in found() and names() == {"I3", "I7"}


def test_i3_an_attempt_that_nobody_started(busy):
    run = started()
    Run.objects.filter(pk=run).update(attempt=3)
    assert found() == [("I3", (run,))]


def test_i4_a_run_that_was_over_and_came_back(busy):
    (run,) = plan(make_task())
    start(run)
    end(run, RunState.FAILED)
    with without("run_event_is_an_allowed_move", "tasks_app_runevent"):
        event(run, "failed", "succeeded")
        connection.cursor().execute("UPDATE tasks_app_run SET state = 'succeeded' WHERE id = %s", [run])
        assert found() == [("I4", (run,))]


def test_i5_a_run_that_outlives_its_limit_of_time(busy):
    run, beside = started(timeout_seconds=60), started(timeout_seconds=120)
    Run.objects.filter(pk__in=(run, beside)).update(started_at=LATER - 4 * MINUTE)
    assert found() == [("I5", (run,))]


def over_task(busy_task: Any) -> tuple[str, int]:
    task = make_task(max_concurrent=1)
    for run in plan(task, 2):
        start(run, now=LATER)
    return "task", task.pk


def over_overlap(_: Any) -> tuple[str, int]:
    task = make_task(overlap="skip")
    for run in plan(task, 2):
        start(run, now=LATER)
    return "task", task.pk


def over_key(_: Any) -> tuple[str, int]:
    task = make_task(concurrency_key="k")
    for run in plan(task, 3):
        start(run, now=LATER)
    first, *others = Run.objects.filter(task=task).values_list("pk", flat=True)
    Run.objects.filter(pk__in=others).update(concurrency_key="k")
    Run.objects.filter(pk=first).update(concurrency_key="other")
    return "task", task.pk


def over_pool(_: Any) -> tuple[str, int]:
    pool = make_pool("tiny", slots=3)
    for run in plan(make_task(pool=pool), 2):
        start(run, now=LATER)
    Run.objects.filter(pool=pool).update(weight=2)
    return "pool", pool.pk


def over_resource(_: Any) -> tuple[str, int]:
    resource, free = (Resource.objects.create(name=name, capacity=3) for name in ("api", "free"))
    task, other = make_task(), make_task()
    TaskResource.objects.create(task=task, resource=resource, amount=2)
    TaskResource.objects.create(task=task, resource=free, amount=1)
    TaskResource.objects.create(task=other, resource=resource, amount=2)
    for one in (task, other):
        start(*plan(one), now=LATER)
    return "resource", resource.pk


def over_backfill(_: Any) -> tuple[str, int]:
    schedule = make_schedule(after=LATER)
    made = backfills.plan(SYSTEM, schedule.task, backfills.Wish(NOW, LATER, max_concurrent=2), now=LATER)
    start(*backfills.runs_of(made).values_list("pk", flat=True)[:3], now=LATER)
    return "backfill", made.pk


EXCEEDED: list[Callable[[Any], tuple[str, int]]] = [
    over_task,
    over_overlap,
    over_key,
    over_pool,
    over_resource,
    over_backfill,
]


@pytest.mark.parametrize("exceed", EXCEEDED, ids=lambda function: function.__name__)
def test_i6_more_live_runs_than_a_limit_allows_unless_it_was_lowered_since(busy, exceed):
    kind, pk = exceed(None)
    assert found() == [("I6", (pk,))]
    models: dict[str, Any] = {"task": Task, "pool": type(make_pool("x")), "resource": Resource, "backfill": Backfill}
    row: Any = models[kind].objects.get(pk=pk)
    audit.append(SYSTEM, "update", row, now=LATER - MINUTE)
    assert names() == {"I6"}
    audit.append(SYSTEM, "update", row, now=LATER + MINUTE)
    assert found() == []


def test_i7_a_state_without_its_event(busy):
    (run,) = plan(make_task())
    bring(run, RunState.QUEUED)
    RunEvent.objects.filter(run=run).latest("pk").delete()
    assert found() == [("I7", (run,))]


def test_i7_an_event_that_does_not_follow_the_one_before(busy):
    (run,) = plan(make_task())
    bring(run, RunState.FAILED)
    RunEvent.objects.filter(run=run, to_state="queued").delete()
    assert found() == [("I7", (run,))]


def test_i8_a_queued_run_that_is_overlooked_while_slots_are_free(busy):
    (run,) = plan(make_task())
    bring(run, RunState.QUEUED)
    late = LATER + 5 * MINUTE
    Run.objects.filter(state=RunState.QUEUED).exclude(pk=run).update(queued_at=late, sweep_at=late)
    Schedule.objects.update(enabled=False)
    Run.objects.filter(state=RunState.RUNNING).update(started_at=late)
    assert found(late) == []
    full = make_worker(slots=1, lease_until=late + MINUTE)
    Run.objects.filter(pk=started()).update(worker_id=full.pk, started_at=late)
    assert found(late) == []
    make_worker(slots=1, lease_until=late + MINUTE)
    assert found(late) == [("I8", (run,))]


def test_i9_a_run_that_was_asked_to_end_and_waits_for_a_start(busy):
    (run,) = plan(make_task())
    Run.objects.filter(pk=run).update(cancel_requested_at=NOW)
    assert found() == [("I9", (run,))]


def test_i9_a_start_after_a_cancel(busy):
    run, beside = started(), started()
    Run.objects.filter(pk=run).update(cancel_requested_at=LATER - timedelta(seconds=6))
    Run.objects.filter(pk=beside).update(cancel_requested_at=LATER - timedelta(seconds=4))
    assert found() == [("I9", (run,))]


def below(rule: str, state: RunState) -> int:
    """A started run below one in that state, whose rule should have kept it."""
    up, down = make_task(), make_task(trigger_rule=rule)
    depend(up, down)
    (root,) = plan(up)
    bring(root, state)
    run = member(root, down).pk
    start(run, now=LATER)
    Run.objects.filter(pk=root).update(tell_downstream=False)
    return run


@pytest.mark.parametrize(
    ("rule", "state", "is_wrong"),
    [
        ("all_success", RunState.FAILED, True),
        ("all_success", RunState.WAITING, True),
        ("all_success", RunState.SUCCEEDED, False),
        ("all_done", RunState.QUEUED, True),
        ("all_done", RunState.FAILED, False),
        ("one_failed", RunState.QUEUED, False),
        ("always", RunState.WAITING, False),
    ],
)
def test_i10_a_start_that_its_trigger_rule_does_not_allow(busy, rule, state, is_wrong):
    run = below(rule, state)
    assert found() == ([("I10", (run,))] if is_wrong else [])


def test_i10_a_start_before_the_upstream_run_was_over(busy):
    run = below("all_done", RunState.SUCCEEDED)
    Run.objects.filter(downstream_edges__downstream=run).update(finished_at=LATER + MINUTE)
    assert found() == [("I10", (run,))]


def test_i10_a_release_before_its_period(busy):
    run = started()
    RunPeriod.objects.create(run_id=run, upstream_task=make_task(), start=NOW, end=LATER, policy="wait")
    assert found() == [("I10", (run,))]


def test_i11_an_active_schedule_that_looks_back(busy):
    schedule = make_schedule(after=LATER)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=LATER - timedelta(seconds=6))
    assert found() == [("I11", (schedule.pk,))]


def test_i11_an_active_schedule_that_nobody_armed(busy):
    schedule, over = make_schedule(after=LATER), make_schedule(after=LATER, end_at=LATER + 5 * MINUTE)
    Schedule.objects.filter(pk=over.pk).update(end_at=LATER - MINUTE, next_fire_at=None)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=None)
    assert found() == [("I11", (schedule.pk,))]


def test_i11_a_fixed_delay_is_not_armed_while_its_run_is_under_way_and_soon_after(busy):
    schedule = Schedule.objects.get(kind="fixed_delay")
    assert schedule.next_fire_at is None
    run = Run.objects.filter(schedule=schedule).latest("pk").pk
    start(run, now=LATER)
    end(run, now=LATER)
    soon, late = LATER + timedelta(seconds=9), LATER + timedelta(seconds=11)
    assert found(soon) == []
    assert found(late) == [("I11", (schedule.pk,))]


def test_i12_a_schedule_that_cannot_be_read_and_is_still_armed(busy):
    schedule = make_schedule(after=LATER)
    Schedule.objects.filter(pk=schedule.pk).update(error="unreadable", next_fire_at=LATER)
    assert found() == [("I12", (schedule.pk,))]


# The window, the cost, the command


def test_history_before_the_window_is_not_read(busy):
    run = started()
    Run.objects.filter(pk=run).update(attempt=3)
    for hours in (1, 2, 3):
        runs.trigger(SYSTEM, make_task(), runs.Request(), now=LATER + timedelta(hours=hours))
    assert found(since=LATER + MINUTE) == []
    assert found(since=NOW) == [("I3", (run,))]


@pytest.mark.parametrize("minutes", [-1, 0, 1, 30, 31])
def test_the_window_begins_at_the_first_run_that_is_not_older(minutes):
    task = make_task()
    ids = [plan(task, now=NOW + minute * MINUTE)[0] for minute in (0, 0, 1, 5, 30)]
    Run.objects.filter(pk=ids[3]).delete()
    since = NOW + minutes * MINUTE
    kept = list(Run.objects.filter(created_at__gte=since).values_list("pk", flat=True))
    assert sorted(
        Run.objects.filter(pk__gte=first_since(Run, "created_at", since)).values_list("pk", flat=True)
    ) == sorted(kept)


def test_the_check_costs_the_same_for_many_runs_as_for_few(busy):
    costs = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            assert found() == []
        costs.append(len(captured))
        plan(make_task(), 300)
        for _more in range(20):
            make_schedule(after=LATER)
    assert costs[0] == costs[1] <= 40


def test_the_command_says_how_many_were_checked_and_fails_on_a_violation(capsys):
    call_command("check_invariants", "--json")
    assert json.loads(capsys.readouterr().out) == {"checked": 12, "violations": []} and len(CHECKS) == 12
    (run,) = plan(make_task(), now=database_now())
    Run.objects.filter(pk=run).update(attempt=7)
    with pytest.raises(CommandError) as failed:
        call_command("check_invariants", "--json", "--all")
    assert failed.value.returncode == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["checked"] == 12 and answer["violations"][0]["invariant"] == "I3"
    assert answer["violations"][0]["ids"] == [run]
    with pytest.raises(CommandError):
        call_command("check_invariants")
    assert f"I3  The attempt is neither that of the last start nor the next one.  ({run})" in capsys.readouterr().out
    with pytest.raises(CommandError) as refused:
        call_command("check_invariants", "--hours", "0")
    assert refused.value.returncode == 2
