"""A run may wait for the last run of another task in a period: hour, day, week or month of its nominal time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.firing import fire_due
from dispatcher_app.release import release_ready
from tasks_app.models import Run, RunPeriod, Task, TaskDependency
from tasks_app.periods import PeriodPolicy, decide
from tasks_app.services import tasks
from tasks_app.states import RunState
from tests.tasks_app.clock import at
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    bring,
    depend,
    end,
    later,
    make_schedule,
    make_task,
    member,
    plan,
    state_of,
)
from tests.tasks_app.plans import indexes, plans_of

pytestmark = pytest.mark.django_db
DAY = (at("2026-03-02T00:00Z"), at("2026-03-03T00:00Z"))


def wait_for(upstream: Task, downstream: Task, unit: str = "day", *, back: int = 0, policy: str = "wait") -> None:
    TaskDependency.objects.create(
        upstream=upstream, downstream=downstream, period=unit, period_back=back, period_policy=policy
    )


def pair(unit: str = "day", **edge: Any) -> tuple[Task, Task]:
    up, down = make_task("load"), make_task("report")
    wait_for(up, down, unit, **edge)
    return up, down


def run_of(task: Task, nominal_at: datetime = NOW, state: RunState = RunState.WAITING) -> int:
    (id,) = plan(task, nominal_at=nominal_at)
    bring(id, state)
    return id


def accept() -> int:
    settled = accept_periods(NOW, actor=ACTOR)
    while accept_ended(NOW, actor=ACTOR):
        pass
    return settled


def ready(id: int) -> bool:
    return bool(Run.objects.get(pk=id).upstream_ready)


def windows(id: int) -> list[tuple[datetime, datetime]]:
    return list(RunPeriod.objects.filter(run=id).order_by("pk").values_list("start", "end"))


# Planning


def test_the_upstreams_firing_plans_nothing_below_it_and_tells_nobody():
    up, down = pair()
    (id,) = plan(up)
    assert not Run.objects.filter(task=down).exists()
    assert Run.objects.get(pk=id).tell_downstream is False
    assert ready(id)


@pytest.mark.parametrize(
    ("unit", "back", "start", "end"),
    [
        ("hour", 0, "2026-03-02T12:00Z", "2026-03-02T13:00Z"),
        ("day", 0, "2026-03-02T00:00Z", "2026-03-03T00:00Z"),
        ("day", 1, "2026-03-01T00:00Z", "2026-03-02T00:00Z"),
        ("week", 1, "2026-02-23T00:00Z", "2026-03-02T00:00Z"),
        ("month", 2, "2026-01-01T00:00Z", "2026-02-01T00:00Z"),
    ],
)
def test_the_window_of_the_nominal_time_is_frozen_with_the_run(unit, back, start, end):
    _up, down = pair(unit, back=back)
    (by_nominal,) = plan(down, nominal_at=NOW, now=later(days=90))
    (by_hand,) = plan(down)
    TaskDependency.objects.update(period="month", period_back=0)
    assert windows(by_nominal) == windows(by_hand) == [(at(start), at(end))]
    assert not ready(by_nominal) and not ready(by_hand)


def test_periods_are_those_of_the_installation(settings):
    settings.SCHEDULER_TIME_ZONE = "Asia/Shanghai"
    _up, down = pair()
    assert windows(run_of(down, at("2026-03-02T17:00Z"))) == [(at("2026-03-02T16:00Z"), at("2026-03-03T16:00Z"))]


def test_members_of_a_firing_wait_for_their_periods_too():
    up, down = pair()
    above = make_task()
    depend(above, down)
    root, other = plan(above, 2, nominal_at=NOW)
    below = member(root, down).pk
    assert windows(below) == windows(member(other, down).pk) == [DAY]
    assert windows(root) == []
    bring(root, RunState.SUCCEEDED)
    accept()
    assert not ready(below)
    run_of(up, later(hours=-1), RunState.SUCCEEDED)
    accept()
    assert ready(below)
    assert not ready(member(other, down).pk)


def test_a_schedule_plans_what_its_runs_wait_for():
    _up, down = pair()
    make_schedule(down, after=NOW - timedelta(minutes=1))
    assert fire_due(NOW, actor=ACTOR).runs == 1
    run = Run.objects.get(task=down)
    assert windows(run.pk) == [DAY] and not run.upstream_ready


def test_ten_thousand_runs_with_periods_take_as_many_statements_as_two():
    _up, down = pair()

    def statements(number: int) -> int:
        with CaptureQueriesContext(connection) as captured:
            plan(down, number)
        return len(captured)

    assert statements(10_000) == statements(2)
    assert RunPeriod.objects.count() == 10_002


# Judging


@pytest.mark.parametrize("policy", PeriodPolicy)
@pytest.mark.parametrize("state", [None, *sorted(RunState)])
def test_a_run_follows_the_last_run_of_its_period_by_the_policy(policy, state):
    up, down = pair(policy=policy)
    # Beside the period: one of the day before, one of the day after, one without a nominal time.
    run_of(up, DAY[0] - timedelta(seconds=1), RunState.SUCCEEDED)
    run_of(up, DAY[1], RunState.SUCCEEDED)
    bring(plan(up)[0], RunState.SUCCEEDED)
    if state is not None:
        run_of(up, later(hours=-5), state)
    id = run_of(down)
    accept()
    verdict = decide(policy, state)
    expected = {"start": ("waiting", True), "wait": ("waiting", False), "upstream_failed": ("upstream_failed", False)}
    assert (state_of(id), ready(id)) == expected[verdict]
    assert RunPeriod.objects.get(run=id).settled is (verdict != "wait")
    if verdict == "upstream_failed":
        run = Run.objects.get(pk=id)
        assert run.reason == "upstream"
        assert "load" in run.reason_detail and "2026-03-02 00:00 to 2026-03-03 00:00 UTC" in run.reason_detail
        assert (str(state) if state else "no run") in run.reason_detail


def test_the_last_run_counts_by_nominal_time_then_by_id():
    up, down = pair()
    id = run_of(down)
    run_of(up, later(hours=-1), RunState.FAILED)
    run_of(up, later(hours=-2), RunState.SUCCEEDED)
    accept()
    assert not ready(id)
    # The failed one is run again for the same nominal time.
    run_of(up, later(hours=-1), RunState.SUCCEEDED)
    accept()
    assert ready(id)


def test_a_failure_is_waited_out_until_a_rerun_or_a_backfill_succeeds():
    up, down = pair(policy="wait")
    id = run_of(down)
    run_of(up, NOW, RunState.FAILED)
    accept()
    assert (state_of(id), ready(id)) == ("waiting", False)
    again = run_of(up, NOW, RunState.RUNNING)
    accept()
    assert not ready(id)
    end(again)
    accept()
    assert ready(id)
    assert [run.id for run in release_ready(NOW, actor=ACTOR)] == [id]


def test_a_run_waits_for_all_of_its_periods_and_its_rule():
    first, second, above, down = make_task(), make_task(), make_task(), make_task()
    wait_for(first, down)
    wait_for(second, down, "hour")
    depend(above, down)
    (root,) = plan(above, nominal_at=NOW)
    id = member(root, down).pk
    run_of(first, NOW, RunState.SUCCEEDED)
    assert accept() == 1
    assert not ready(id)
    run_of(second, NOW, RunState.SUCCEEDED)
    assert accept() == 1
    assert not ready(id)
    bring(root, RunState.SUCCEEDED)
    accept()
    assert ready(id)


def test_a_rule_of_always_waits_for_periods_all_the_same():
    up, down, above = make_task(), make_task(trigger_rule="always"), make_task()
    wait_for(up, down)
    depend(above, down)
    (root,) = plan(above, nominal_at=NOW)
    id = member(root, down).pk
    accept()
    assert not ready(id)
    run_of(up, NOW, RunState.SUCCEEDED)
    accept()
    assert ready(id) and state_of(root) == "waiting"


def test_a_rule_that_cannot_hold_any_more_ends_a_run_that_still_waits_for_a_period():
    up, down, above = make_task(), make_task(), make_task()
    wait_for(up, down)
    depend(above, down)
    (root,) = plan(above, nominal_at=NOW)
    id = member(root, down).pk
    bring(root, RunState.FAILED)
    accept()
    assert state_of(id) == "upstream_failed"
    accept()
    assert RunPeriod.objects.get(run=id).settled


def test_what_a_failed_period_ends_is_told_downstream():
    _up, down = pair(policy="fail")
    below = make_task()
    depend(down, below)
    id = run_of(down)
    accept()
    assert (state_of(id), member(id, below).state) == ("upstream_failed", "upstream_failed")


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.SKIPPED, RunState.EXPIRED, RunState.UPSTREAM_FAILED])
def test_periods_of_a_run_that_has_ended_are_closed(state):
    _up, down = pair()
    id, other = run_of(down), run_of(down)
    bring(id, state)
    accept()
    assert RunPeriod.objects.get(run=id).settled and not RunPeriod.objects.get(run=other).settled


@pytest.mark.parametrize("policy", PeriodPolicy)
def test_a_run_whose_upstream_task_is_deleted_does_not_wait_for_ever(policy):
    up, down = pair(policy=policy)
    id = run_of(down)
    tasks.delete(system_actor(), up, now=NOW)
    accept()
    assert state_of(id) == "upstream_failed"
    assert "deleted" in Run.objects.get(pk=id).reason_detail


def test_a_thousand_periods_take_as_many_statements_as_two_and_are_settled_in_parts():
    def statements(number: int) -> int:
        up, down, failing = make_task(), make_task(), make_task()
        wait_for(up, down)
        wait_for(make_task(), failing, policy="fail")
        ids = plan(down, number, nominal_at=NOW)
        plan(failing, number, nominal_at=NOW)
        run_of(up, NOW, RunState.SUCCEEDED)
        with CaptureQueriesContext(connection) as captured:
            assert accept_periods(NOW, actor=ACTOR, limit=10_000) == 2 * number
        assert Run.objects.filter(pk__in=ids, upstream_ready=True).count() == number
        return len(captured)

    assert statements(1000) == statements(2)
    up, down = pair()
    plan(down, 5, nominal_at=NOW)
    run_of(up, NOW, RunState.SUCCEEDED)
    assert [accept_periods(NOW, actor=ACTOR, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.postgresql
def test_the_last_run_of_a_period_is_found_by_the_index_of_instants():
    up, down = pair()
    plan(down, 50, nominal_at=NOW)
    for n in range(40):
        plan(up, 50, nominal_at=later(days=-n))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_run")
        cursor.execute("ANALYZE tasks_app_runperiod")
    found = plans_of(lambda: accept_periods(NOW, actor=ACTOR))
    assert any("run_of_instant" in indexes(plan) for plan in found)
