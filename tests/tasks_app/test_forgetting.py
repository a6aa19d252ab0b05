"""Runs that are over can be deleted: their instants stay answered, and nothing that goes on loses what it needs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.firing import fire_due, rearm
from monitoring_app.invariants import check_invariants
from tasks_app import fires
from tasks_app.fire_counts import summary
from tasks_app.fire_words import equation
from tasks_app.forgetting import forget
from tasks_app.models import LedgerEntry, Run, RunEvent, RunOutput, Schedule, Task, TaskDependency
from tasks_app.services import backfills, runs, schedules
from tasks_app.states import RunState
from tests.dispatcher_app.steps import DAY, MINUTE, NOON
from tests.tasks_app.making import ACTOR, bring, depend, end, make_schedule, make_task, member, plan, start

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def fired(minutes: int, **fields: Any) -> Schedule:
    """A schedule of every minute whose runs have all succeeded."""
    schedule = make_schedule(after=NOON, **fields)
    for minute in range(1, minutes + 1):
        fire_due(NOON + minute * MINUTE, actor=ACTOR)
    for id in ids_of(schedule):
        bring(id, RunState.SUCCEEDED, now=NOON)
    return schedule


def ids_of(schedule: Schedule) -> list[int]:
    return list(Run.objects.filter(schedule=schedule).order_by("nominal_at").values_list("pk", flat=True))


def entries(schedule: Schedule) -> list[tuple[str, str, int]]:
    rows = LedgerEntry.objects.filter(schedule=schedule).order_by("first_at")
    return list(rows.values_list("answer", "reason", "count"))


def unanswered(minutes: int) -> list[Any]:
    return [one for one in check_invariants(NOON + minutes * MINUTE, since=None) if one.invariant == "I2"]


def day_of(schedule: Schedule, minutes: int) -> str:
    scope = fires.of_task(schedule.task)
    return equation(summary(scope, NOON.date(), "UTC", now=NOON + minutes * MINUTE)).split(";")[0]


def test_what_a_deleted_run_answered_stays_answered_and_a_thousand_cost_one_row():
    schedule, other = fired(20), fired(20)
    before = day_of(schedule, 20)
    assert forget(ids_of(schedule)[:15]) == 15
    assert (len(ids_of(schedule)), len(ids_of(other))) == (5, 20)
    assert entries(schedule) == [("run", "", 15)] and entries(other) == []
    assert unanswered(20) == []
    assert day_of(schedule, 20) == before == "20 expected = 20 ran"
    page = fires.read(fires.of_task(schedule.task), NOON, NOON + DAY, now=NOON + 20 * MINUTE, limit=100).fires
    assert [fire.answer for fire in page] == ["run"] * 20
    assert [fire.run_id is None for fire in page] == [True] * 15 + [False] * 5


def test_whatever_parts_they_go_in_the_answers_are_the_same():
    schedule = fired(12)
    ids = ids_of(schedule)
    for part in (ids[:3], ids[3:5], ids[8:10], ids[5:8]):
        assert forget(part) == len(part)
    assert entries(schedule) == [("run", "", 8), ("run", "", 2)]
    assert unanswered(12) == [] and day_of(schedule, 12) == "12 expected = 12 ran"


def test_other_answers_among_them_are_kept_apart():
    schedule = make_schedule(after=NOON)
    for minute in range(1, 9):
        Task.objects.filter(pk=schedule.task_id).update(paused=minute in (4, 5))
        fire_due(NOON + minute * MINUTE, actor=ACTOR)
    first, second, third, sixth, seventh, eighth = ids_of(schedule)
    for id, state in ((first, "succeeded"), (second, "failed"), (sixth, "succeeded"), (eighth, "succeeded")):
        bring(id, RunState(state), now=NOON)
    bring(third, RunState.EXPIRED, now=NOON)
    before = day_of(schedule, 8)
    assert forget(ids_of(schedule)) == 5, "one still waits"
    assert entries(schedule) == [
        ("run", "", 2),
        ("expired", "start_deadline", 1),
        ("skipped", "paused", 2),
        ("run", "", 1),
        ("run", "", 1),
    ]
    assert ids_of(schedule) == [seventh]
    assert unanswered(8) == [] and day_of(schedule, 8) == before


def test_a_pause_goes_on_behind_what_was_forgotten():
    schedule = fired(3)
    forget(ids_of(schedule))
    Task.objects.filter(pk=schedule.task_id).update(paused=True)
    for minute in (4, 5):
        fire_due(NOON + minute * MINUTE, actor=ACTOR)
    assert entries(schedule) == [("run", "", 3), ("skipped", "paused", 2)]
    assert unanswered(5) == []


def test_what_nobody_has_answered_is_still_seen():
    schedule = fired(9)
    ids = ids_of(schedule)
    Run.objects.filter(pk=ids[4]).delete()
    forget(ids)
    assert entries(schedule) == [("run", "", 4), ("run", "", 4)]
    (violation,) = unanswered(10)
    assert violation.ids == (schedule.pk,) and "8 answers for 9 instants" in violation.detail


def test_instants_of_an_earlier_rule_go_with_their_runs_and_are_missed_by_nobody():
    schedule = fired(4)
    old = ids_of(schedule)
    schedules.update(SYSTEM, schedule, {"expression": "*/2 * * * *"}, now=NOON + 4 * MINUTE)
    for minute in (6, 8):
        fire_due(NOON + minute * MINUTE, actor=ACTOR)
    for id in ids_of(schedule)[4:]:
        bring(id, RunState.SUCCEEDED, now=NOON)
    assert forget([*old, *ids_of(schedule)]) == 6
    assert entries(schedule) == [("run", "", 2)]
    assert unanswered(8) == []


def test_events_output_and_edges_go_with_the_run_and_a_rerun_stays():
    task = make_task()
    (old, kept) = plan(task, 2)
    for id in (old, kept):
        bring(id, RunState.SUCCEEDED)
        RunOutput.objects.create(run_id=id, attempt=1, first_line=0, line_count=1, lines=[])
    again = runs.rerun(SYSTEM, Run.objects.get(pk=old), now=NOON)
    assert forget([old]) == 0, "the rerun may still look up what it repeats"
    bring(again.pk, RunState.SUCCEEDED)
    assert forget([old]) == 1
    assert set(Run.objects.values_list("pk", "rerun_of")) == {(kept, None), (again.pk, None)}
    assert set(RunEvent.objects.values_list("run", flat=True)) == {kept, again.pk}
    assert set(RunOutput.objects.values_list("run", flat=True)) == {kept}


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.QUEUED, RunState.RUNNING])
def test_what_is_not_over_is_kept(state):
    (id,) = plan(make_task())
    bring(id, state)
    assert forget([id]) == 0 and Run.objects.exists()


def test_a_run_is_kept_while_one_below_it_or_planned_with_it_is_not_over():
    up, middle, down = make_task(), make_task(), make_task()
    depend(up, middle, down)
    (root,) = plan(up)
    bring(root, RunState.SUCCEEDED)
    second, third = member(root, middle).pk, member(root, down).pk
    assert forget([root]) == 0, "nobody was told of its end"
    accept_ended(NOON, actor=ACTOR)
    start(second)
    assert forget([root]) == 0, "one below it runs"
    end(second)
    accept_ended(NOON, actor=ACTOR)
    assert forget([root, second]) == 0, "the last one was planned with it"
    start(third)
    end(third)
    assert forget([root, second, third]) == 3


def test_a_run_is_kept_while_another_waits_for_its_period():
    load, report = make_task(), make_task()
    TaskDependency.objects.create(upstream=load, downstream=report, period="day")
    (waits,) = plan(report, nominal_at=NOON)
    (awaited,), (before,) = plan(load, nominal_at=NOON), plan(load, nominal_at=NOON - DAY)
    for id in (awaited, before):
        bring(id, RunState.SUCCEEDED)
    assert forget([awaited, before]) == 1
    assert set(Run.objects.values_list("pk", flat=True)) == {waits, awaited}
    assert accept_periods(NOON, actor=ACTOR) == 1
    assert forget([awaited]) == 1


def test_the_newest_run_of_a_fixed_delay_is_kept_because_the_next_counts_from_its_end():
    schedule = make_schedule(after=NOON, kind="fixed_delay", interval_seconds=60, expression="")
    for minute in (0, 2, 4):
        now = NOON + minute * MINUTE
        fire_due(now, actor=ACTOR)
        start(ids_of(schedule)[-1], now=now)
        end(ids_of(schedule)[-1], now=now + MINUTE)
        rearm(now + MINUTE)
    newest = ids_of(schedule)[-1]
    assert forget(ids_of(schedule)) == 2
    assert ids_of(schedule) == [newest] and entries(schedule) == []


def test_a_run_that_has_news_for_a_breaker_or_a_count_of_failures_is_kept():
    (id,) = plan(make_task(auto_pause_after=3))
    bring(id, RunState.FAILED)
    assert forget([id]) == 0


def test_a_backfill_takes_a_forgotten_run_for_one_that_ran():
    schedule = fired(2)
    ids = ids_of(schedule)
    fire_due(NOON + 3 * MINUTE, actor=ACTOR)
    failed = ids_of(schedule)[-1]
    start(failed)
    end(failed, RunState.FAILED, reason="exit_code")
    forget([*ids, failed])
    assert entries(schedule) == [("run", "", 2), ("run", "exit_code", 1)]
    for reprocess, planned in (("none", 0), ("failed", 1), ("all", 3)):
        wish = backfills.Wish(NOON + MINUTE, NOON + 3 * MINUTE, reprocess=reprocess)
        found = backfills.preview(SYSTEM, schedule.task, wish, now=NOON + 5 * MINUTE)
        assert sum(one.planned for one in found) == planned


def test_fifty_schedules_take_as_many_statements_as_two():
    def statements(number: int) -> int:
        made = [fired(1) for _ in range(number)]
        ids = [id for schedule in made for id in ids_of(schedule)]
        with CaptureQueriesContext(connection) as captured:
            assert forget(ids) == number
        return len(captured)

    assert statements(50) == statements(2)
