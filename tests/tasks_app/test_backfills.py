"""Backfills: which instants they run, in what order, at what cost, and how they are stopped."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor, user_actor
from access_app.errors import PermissionRefused
from access_app.models import AuditEntry
from access_app.roles import Role, grant
from dispatcher_app.acceptance import accept_ended
from dispatcher_app.release import release_ready
from tasks_app import fires, transitions
from tasks_app.errors import InvalidInput, NotFound, WrongState
from tasks_app.models import Backfill, Calendar, Run, Schedule, Task
from tasks_app.models.run import RunType
from tasks_app.services import backfills, runs
from tasks_app.services.backfills import Wish
from tasks_app.states import RunState
from tests.dispatcher_app.steps import DAY, HOUR, MINUTE, NOON, fire
from tests.tasks_app.making import ACTOR, ANSWERED, bring, depend, end, make_schedule, make_task, plan, start, state_of
from tests.tasks_app.making import NOW as MAKING_NOW

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
NOW = NOON + 30 * DAY


@pytest.fixture
def schedule() -> Schedule:
    """Hourly; nothing has ever fired it."""
    return make_schedule(after=NOW, expression="0 * * * *")


def hours(first: int, last: int, **options: Any) -> Wish:
    return Wish(NOON + first * HOUR, NOON + last * HOUR, **options)


def backfill(task: Task, wish: Wish, now: Any = NOW) -> Backfill:
    return backfills.plan(SYSTEM, task, wish, now=now)


def preview(task: Task, wish: Wish) -> list[tuple[int, str, str]]:
    """(hour, state of the newest run, why it is not planned)."""
    found = backfills.preview(SYSTEM, task, wish, now=NOW)
    return [(int((one.nominal_at - NOON) / HOUR), one.state, one.why_not) for one in found]


def hours_of(made: Backfill) -> list[int]:
    """The hours of its runs in the order of their ids."""
    instants = backfills.runs_of(made).order_by("pk").values_list("nominal_at", flat=True)
    return [int((at - NOON) / HOUR) for at in instants if at is not None]


def run_of(made: Backfill, hour: int) -> int:
    return backfills.runs_of(made).get(nominal_at=NOON + hour * HOUR).pk


# What is planned


def test_each_instant_from_the_start_to_the_end_gets_one_run_of_low_priority_that_is_due_now(schedule):
    made = backfill(schedule.task, hours(1, 4, params={"x": 1}, max_concurrent=2))
    assert hours_of(made) == [1, 2, 3, 4]
    run = Run.objects.order_by("pk")[0]
    assert (run.run_type, run.schedule_id, run.backfill_id, run.state) == ("backfill", None, made.pk, "waiting")
    assert (run.due_at, run.priority, run.params, run.version_id) == (NOW, 10, {"x": 1}, schedule.task.version_id)
    assert (made.total, made.max_concurrent, made.schedule_id, made.state) == (4, 2, schedule.pk, "active")


def test_the_newest_first_is_planned_from_the_end(schedule):
    assert hours_of(backfill(schedule.task, hours(1, 4, newest_first=True))) == [4, 3, 2, 1]


def test_the_downstream_is_planned_with_each_run_and_does_not_count_against_the_backfill(schedule):
    below = make_task(priority=90)
    depend(schedule.task, below)
    made = backfill(schedule.task, hours(1, 3))
    members = Run.objects.filter(task=below)
    assert [(run.backfill_id, run.priority, run.expires_at) for run in members] == [(None, 10, None)] * 3
    assert backfills.progress(made).kept == 3


def test_a_run_that_has_to_wait_for_its_turn_has_no_start_deadline(schedule):
    Task.objects.filter(pk=schedule.task_id).update(start_deadline_seconds=60)
    backfill(schedule.task, hours(1, 3))
    (fired,) = plan(Task.objects.get(pk=schedule.task_id))
    assert Run.objects.get(pk=fired).expires_at == MAKING_NOW + MINUTE
    assert not Run.objects.filter(run_type=RunType.BACKFILL, expires_at__isnull=False).exists()


def test_the_calendar_of_the_schedule_holds_for_a_backfill(schedule):
    document = {"blackout": [{"kind": "weekly", "from": "14:00", "to": "17:30"}]}
    Schedule.objects.filter(pk=schedule.pk).update(calendar=Calendar.objects.create(name="lunch", document=document))
    assert [row[0] for row in preview(schedule.task, hours(1, 7))] == [1, 6, 7]
    Schedule.objects.filter(pk=schedule.pk).update(calendar_action="next_allowed")
    assert [row[0] for row in preview(schedule.task, hours(1, 7))] == [1, 5, 6, 7]


def test_a_dry_run_shows_what_there_is_of_each_instant_and_stores_nothing(schedule):
    fired = make_schedule(schedule.task, after=NOON, expression="0 * * * *", catch_up="none")
    fire(NOON + 3 * HOUR)
    fire(NOON + 4 * HOUR)
    fire(NOON + 5 * HOUR)
    done, bad, _waits = Run.objects.filter(schedule=fired).order_by("nominal_at").values_list("pk", flat=True)
    bring(done, RunState.SUCCEEDED)
    bring(bad, RunState.FAILED)
    before = Run.objects.count(), Backfill.objects.count(), AuditEntry.objects.count()
    now = NOON + 5 * HOUR
    found = backfills.preview(SYSTEM, schedule.task, hours(1, 5, schedule=fired), now=now)
    assert [(one.run_id, one.state, one.answer, one.why_not) for one in found] == [
        (None, "", "missed", ""),
        (None, "", "missed", ""),
        (done, "succeeded", "", "has_run"),
        (bad, "failed", "", "has_run"),
        (_waits, "waiting", "", "under_way"),
    ]
    assert (Run.objects.count(), Backfill.objects.count(), AuditEntry.objects.count()) == before


def some_runs(schedule: Schedule) -> None:
    """Instants 1 to 4 of a first backfill: succeeded, failed, expired, running; 5 has never had a run."""
    made = backfill(schedule.task, hours(1, 4))
    for hour, state in enumerate((RunState.SUCCEEDED, RunState.FAILED, RunState.EXPIRED, RunState.RUNNING), start=1):
        bring(run_of(made, hour), state)


@pytest.mark.parametrize(("reprocess", "planned"), [("none", [5]), ("failed", [2, 3, 5]), ("all", [1, 2, 3, 5])])
def test_reprocessing_picks_the_instants_by_their_newest_run(schedule, reprocess, planned):
    some_runs(schedule)
    # A backfill that is not done keeps its instants; a cancelled one does not.
    assert [row[0] for row in preview(schedule.task, hours(1, 5, reprocess=reprocess)) if not row[2]] == [5]
    backfills.cancel(SYSTEM, Backfill.objects.get(), now=NOW)
    made = backfill(schedule.task, hours(1, 5, reprocess=reprocess))
    assert hours_of(made) == planned


def test_an_instant_that_ran_well_again_has_not_failed(schedule):
    first = backfill(schedule.task, hours(1, 2))
    for hour in (1, 2):
        bring(run_of(first, hour), RunState.FAILED)
    again = runs.rerun(SYSTEM, Run.objects.get(pk=run_of(first, 1)), now=NOW)
    bring(again.pk, RunState.SUCCEEDED)
    assert preview(schedule.task, hours(1, 2, reprocess="failed")) == [(1, "succeeded", "has_run"), (2, "failed", "")]


def test_an_active_backfill_keeps_its_instants_from_the_next_one(schedule):
    first = backfill(schedule.task, hours(2, 4))
    bring(run_of(first, 2), RunState.SUCCEEDED)
    second = backfill(schedule.task, hours(1, 6, reprocess="all"))
    assert hours_of(second) == [1, 5, 6]
    with pytest.raises(InvalidInput) as refused:
        backfill(schedule.task, hours(2, 4, reprocess="all"))
    assert "from" in refused.value.errors


def test_runs_of_other_schedules_and_tasks_are_not_those_of_an_instant(schedule):
    other = make_schedule(schedule.task, after=NOON, expression="0 * * * *")
    make_schedule(after=NOON, expression="0 * * * *")
    fire(NOON + HOUR)
    filled = make_schedule(after=NOW, expression="0 * * * *")
    backfill(filled.task, hours(2, 3))
    plan(schedule.task, nominal_at=NOON + 2 * HOUR)
    assert other.task_id == schedule.task_id and Run.objects.count() == 5
    assert preview(schedule.task, hours(1, 3, schedule=schedule)) == [(1, "", ""), (2, "", ""), (3, "", "")]


def test_what_the_dispatcher_is_still_going_to_fire_is_left_to_it(schedule):
    late = make_schedule(after=NOON + 2 * HOUR + MINUTE, expression="0 * * * *")
    found = [(row[0], row[2]) for row in preview(late.task, hours(1, 4))]
    assert found == [(1, ""), (2, ""), (3, "to_be_fired"), (4, "to_be_fired")]


def test_ten_thousand_instants_are_planned_in_as_many_statements_as_ten():
    schedule = make_schedule(after=NOW, expression="* * * * *")
    counts = []
    for minutes in (10, 9_999):
        wish = Wish(NOON + MINUTE, NOON + minutes * MINUTE)
        with CaptureQueriesContext(connection) as captured:
            made = backfill(schedule.task, wish)
        counts.append(len(captured))
        assert made.total == Run.objects.filter(backfill=made).count()
    assert Run.objects.count() == 9_999 and counts[0] == counts[1] <= 21


# What is refused


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish(NOON, NOON), "to"),
        (Wish(NOON + HOUR, NOON), "to"),
        (Wish(NOON, NOW + MINUTE), "to"),
        (hours(1, 2, reprocess="some"), "reprocess"),
        (hours(1, 2, max_concurrent=0), "max_concurrent"),
        (hours(1, 2, params=[1]), "params"),
        (Wish(NOON + MINUTE, NOON + 2 * MINUTE), "from"),
    ],
)
def test_what_cannot_be_wished_for_is_refused_at_its_field(schedule, wish, field):
    with pytest.raises(InvalidInput) as refused:
        backfill(schedule.task, wish)
    assert field in refused.value.errors
    assert Backfill.objects.count() == 0 == Run.objects.count()


def test_more_than_ten_thousand_instants_are_refused_with_their_number():
    schedule = make_schedule(after=NOW, expression="* * * * *")
    with pytest.raises(InvalidInput, match="10001"):
        backfill(schedule.task, Wish(NOON, NOON + 10_000 * MINUTE))


def test_so_are_too_many_downstream_runs(monkeypatch, schedule):
    monkeypatch.setattr(backfills, "MOST_RUNS", 11)
    depend(schedule.task, make_task(), make_task())
    with pytest.raises(InvalidInput, match="12"):
        backfill(schedule.task, hours(1, 4))
    assert backfill(schedule.task, hours(1, 3)).total == 3


def test_without_a_schedule_or_with_several_one_must_be_named(schedule):
    with pytest.raises(InvalidInput) as refused:
        backfill(make_task(), hours(1, 2))
    assert "schedule" in refused.value.errors
    make_schedule(schedule.task, after=NOW)
    with pytest.raises(InvalidInput, match="several"):
        backfill(schedule.task, hours(1, 2))


def test_who_may_run_the_task_may_backfill_it(schedule, alice, charlie, project):
    Task.objects.filter(pk=schedule.task_id).update(project=project)
    task = Task.objects.get(pk=schedule.task_id)
    with pytest.raises(NotFound):
        backfills.plan(user_actor(charlie), task, hours(1, 2), now=NOW)
    grant(charlie, Role.VIEWER, project)
    with pytest.raises(PermissionRefused):
        backfills.preview(user_actor(charlie), task, hours(1, 2), now=NOW)
    made = backfills.plan(user_actor(alice), task, hours(1, 2), now=NOW)
    assert made.created_by == alice
    entry = AuditEntry.objects.get(verb="backfill")
    assert (entry.object_id, entry.after) == (str(task.pk), {"backfill": made.pk, "runs": 2})


# Under way


def test_progress_counts_its_runs_by_state_until_all_are_over(schedule):
    made, other = backfill(schedule.task, hours(1, 3)), backfill(schedule.task, hours(4, 5))
    bring(run_of(made, 1), RunState.SUCCEEDED)
    bring(run_of(made, 2), RunState.RUNNING)
    found = backfills.progress_of([made, other])
    assert {state: n for state, n in found[made.pk].counts.items() if n} == {
        "succeeded": 1,
        "running": 1,
        "waiting": 1,
    }
    assert (found[made.pk].over, found[made.pk].done, found[other.pk].kept) == (1, False, 2)
    end(run_of(made, 2), RunState.FAILED)
    bring(run_of(made, 3), RunState.SUCCEEDED)
    assert backfills.shown_state(made, backfills.progress(made)) == "done"


def test_a_pause_and_its_end_are_audited_once(schedule):
    made, other = backfill(schedule.task, hours(1, 2)), backfill(schedule.task, hours(3, 4))
    for _ in range(2):
        assert backfills.pause(SYSTEM, made, now=NOW).state == "paused"
    assert backfills.resume(SYSTEM, made, now=NOW).state == "active"
    assert list(AuditEntry.objects.order_by("pk").values_list("verb", flat=True))[-2:] == ["pause", "resume"]
    other.refresh_from_db()
    assert other.state == "active"


def test_a_cancel_takes_what_has_not_started_downstream_too_and_lets_the_rest_end(schedule):
    below = make_task()
    depend(schedule.task, below)
    made, other = backfill(schedule.task, hours(1, 4)), backfill(schedule.task, hours(5, 5 + 1))
    bring(run_of(made, 1), RunState.SUCCEEDED)
    bring(run_of(made, 2), RunState.RUNNING)
    bring(run_of(made, 3), RunState.QUEUED)
    backfills.cancel(SYSTEM, made, now=NOW)
    assert [state_of(run_of(made, hour)) for hour in range(1, 5)] == ["succeeded", "running", "cancelled", "cancelled"]
    members = Run.objects.filter(root__backfill=made)
    assert set(members.values_list("state", flat=True)) == {"cancelled"}
    assert Run.objects.get(pk=run_of(made, 2)).cancel_requested_at is None
    assert set(backfills.runs_of(other).values_list("state", flat=True)) == {"waiting"}
    for verb in (backfills.pause, backfills.resume, backfills.cancel):
        with pytest.raises(WrongState):
            verb(SYSTEM, made, now=NOW)


def test_a_cancel_with_running_asks_those_under_way_to_end(schedule):
    made = backfill(schedule.task, hours(1, 2))
    bring(run_of(made, 1), RunState.RUNNING)
    (foreign,) = plan(schedule.task)
    start(foreign)
    backfills.cancel(SYSTEM, made, now=NOW, running=True)
    assert Run.objects.get(pk=run_of(made, 1)).cancel_requested_at == NOW
    assert Run.objects.get(pk=foreign).cancel_requested_at is None


def test_a_run_that_comes_back_for_another_attempt_after_the_cancel_is_cancelled_too(schedule):
    made, other = backfill(schedule.task, hours(1, 1 + 1)), backfill(schedule.task, hours(3, 4))
    bring(run_of(made, 1), RunState.RUNNING)
    backfills.cancel(SYSTEM, made, now=NOW)
    end(run_of(made, 1), RunState.WAITING, retry_at=NOW)
    assert backfills.cancel_leftovers(NOW, actor=ACTOR) == 1
    assert state_of(run_of(made, 1)) == "cancelled" and state_of(run_of(other, 3)) == "waiting"
    assert backfills.cancel_leftovers(NOW, actor=ACTOR) == 0


def test_a_cancel_costs_the_same_for_many_runs_as_for_few(schedule):
    counts = []
    for first, last in ((1, 3), (10, 300)):
        made = backfill(schedule.task, hours(first, last))
        with CaptureQueriesContext(connection) as captured:
            backfills.cancel(SYSTEM, made, now=NOW)
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_the_ledger_keeps_its_answer_and_names_the_run_that_filled_it_in():
    schedule = make_schedule(after=NOON, expression="0 * * * *", catch_up="none")
    fire(NOON + 4 * HOUR)
    now = NOON + 4 * HOUR
    made = backfill(schedule.task, hours(2, 3), now)
    found = fires.read(fires.of_task(schedule.task), NOON, now + MINUTE, now=now, limit=10).fires
    assert [(one.answer, one.backfill_run_id) for one in found] == [
        ("missed", None),
        ("missed", run_of(made, 2)),
        ("missed", run_of(made, 3)),
        ("run", None),
    ]
    assert set(Run.objects.filter(run_type=RunType.BACKFILL).values_list("schedule", flat=True)) == {None}


# Together with release


def released(now: Any = NOW) -> list[int]:
    return [one.id for one in release_ready(now, actor=ACTOR)]


def test_release_starts_as_many_at_once_as_the_backfill_says_in_its_order(schedule):
    made = backfill(schedule.task, hours(1, 5, max_concurrent=2, newest_first=True))
    (other,) = plan(schedule.task, now=NOW)
    assert sorted(released()) == sorted([run_of(made, 5), run_of(made, 4), other])
    assert released() == []
    start_queued(run_of(made, 5))
    assert released() == []
    end(run_of(made, 5), now=NOW)
    assert released() == [run_of(made, 3)]


def test_release_starts_nothing_of_a_paused_backfill_until_it_is_resumed(schedule):
    made = backfill(schedule.task, hours(1, 3))
    beside = backfill(schedule.task, hours(5, 6))
    backfills.pause(SYSTEM, made, now=NOW)
    assert released() == [run_of(beside, 5)]
    backfills.resume(SYSTEM, made, now=NOW)
    assert released() == [run_of(made, 1)]


def test_downstream_runs_start_beside_the_limit_of_the_backfill(schedule):
    below = make_task()
    depend(schedule.task, below)
    made = backfill(schedule.task, hours(1, 2))
    assert released() == [run_of(made, 1)]
    start_queued(run_of(made, 1))
    end(run_of(made, 1), now=NOW)
    accept_ended(NOW, actor=ACTOR)
    assert sorted(released()) == sorted([run_of(made, 2), Run.objects.get(root_id=run_of(made, 1)).pk])


def start_queued(run: int) -> None:
    assert transitions.claim([(run, 1)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
