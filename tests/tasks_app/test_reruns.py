"""A firing is run again from where it failed: what is kept, what comes anew, and where its edges lead."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor, user_actor
from access_app.models import AuditEntry
from access_app.roles import grant
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.errors import NotFound, PermissionRefused, WrongState
from tasks_app.models import Project, Run, RunDependency, RunPeriod, Task, TaskDependency, TaskVersion
from tasks_app.services import reruns
from tasks_app.states import TERMINAL, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, bring, depend, end, later, make_task, plan, start, state_of

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
OK, BAD, SKIPPED = RunState.SUCCEEDED, RunState.FAILED, RunState.SKIPPED


def tick() -> list[int]:
    accept_periods(NOW, actor=ACTOR)
    while accept_ended(NOW, actor=ACTOR):
        pass
    return [run.id for run in release_ready(NOW, actor=ACTOR)]


def firing(*edges: tuple[str, str], tasks: dict[str, Task] | None = None, **states: RunState) -> dict[str, Run]:
    """The runs of one firing by the names of their tasks, in these states; the first name of all is the root."""
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    made = tasks or {}
    made |= {name: make_task(name) for name in names if name not in made}
    for up, down in edges:
        TaskDependency.objects.create(upstream=made[up], downstream=made[down])
    (root,) = plan(made[names[0]], nominal_at=later(hours=-1), params={"x": 1}, priority=90)
    runs = {run.task.name: run for run in Run.objects.filter(pk=root) | Run.objects.filter(root=root)}
    for name in names:
        if name in states:
            bring(runs[name].pk, states[name])
    # What had ended was told before anybody asks for it to be run again.
    Run.objects.update(tell_downstream=False)
    return {name: Run.objects.select_related("task").get(pk=run.pk) for name, run in runs.items()}


def rerun(run: Run) -> dict[str, Run]:
    """The new runs by the names of their tasks."""
    root = reruns.rerun_failed(SYSTEM, run, now=NOW)
    assert root.root_id is None
    return {one.task.name: one for one in reruns.firing_of(root).select_related("task")}


def refused(run: Run) -> WrongState:
    before = Run.objects.count()
    with pytest.raises(WrongState) as caught:
        reruns.rerun_failed(SYSTEM, run, now=NOW)
    assert Run.objects.count() == before
    return caught.value


def upstream_of(run: Run) -> set[int]:
    return set(RunDependency.objects.filter(downstream=run).values_list("upstream_id", flat=True))


CHAIN = (("a", "b"), ("b", "c"), ("c", "d"))


@pytest.mark.parametrize("state", sorted(TERMINAL - {OK, SKIPPED}))
def test_what_failed_and_all_below_comes_anew_below_what_succeeded(state):
    old = firing(*CHAIN, a=OK, b=state, c=RunState.UPSTREAM_FAILED, d=RunState.UPSTREAM_FAILED)
    other = firing(("e", "f"), e=OK, f=BAD)
    new = rerun(old["d"])
    assert new.keys() == {"b", "c", "d"}
    assert new["b"].root_id is None and {new["c"].root_id, new["d"].root_id} == {new["b"].pk}
    for name, run in new.items():
        was = old[name]
        assert (run.rerun_of_id, run.run_type, run.state) == (was.pk, "rerun", RunState.WAITING)
        kept = ("nominal_at", "params", "priority", "trigger_rule", "task_id")
        assert [getattr(run, field) for field in kept] == [getattr(was, field) for field in kept]
        assert (run.due_at, run.schedule_id, run.upstream_ready) == (NOW, None, False)
    assert upstream_of(new["b"]) == {old["a"].pk}
    assert upstream_of(new["c"]) == {new["b"].pk} and upstream_of(new["d"]) == {new["c"].pk}
    for name in "bcd":
        assert tick() == [new[name].pk]
        start_and_end(new[name])
    assert tick() == []
    assert {state_of(run.pk) for run in new.values()} == {OK}
    assert [state_of(old[name].pk) for name in "abc"] == [OK, state, RunState.UPSTREAM_FAILED]
    assert Run.objects.filter(rerun_of=other["f"]).count() == 0


def start_and_end(run: Run, state: RunState = OK) -> None:
    """queued -> running -> ended"""
    assert transitions.claim([(run.pk, 1)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
    end(run.pk, state)


def test_a_root_that_failed_is_run_again_with_everything():
    old = firing(*CHAIN, a=BAD, b=RunState.UPSTREAM_FAILED, c=RunState.UPSTREAM_FAILED, d=RunState.UPSTREAM_FAILED)
    new = rerun(old["a"])
    assert new.keys() == set("abcd")
    assert new["a"].root_id is None and new["a"].upstream_ready
    assert (new["a"].params, new["a"].priority) == ({"x": 1}, 90)
    assert tick() == [new["a"].pk]


def test_two_branches_that_failed_come_anew_and_each_waits_for_its_own():
    edges = (("a", "b"), ("a", "c"), ("b", "d"), ("c", "e"), ("a", "f"))
    gone = RunState.UPSTREAM_FAILED
    old = firing(*edges, a=OK, b=BAD, c=RunState.LOST, d=gone, e=gone, f=OK)
    new = rerun(old["f"])
    assert new.keys() == set("bcde")
    assert sorted(tick()) == sorted([new["b"].pk, new["c"].pk])
    start_and_end(new["b"])
    assert tick() == [new["d"].pk]


def test_what_was_skipped_is_kept_unless_it_lies_below_what_is_run_again():
    edges = (("a", "b"), ("a", "c"), ("c", "d"), ("a", "s"), ("s", "d"))
    rule = make_task("d", trigger_rule="none_failed")
    old = firing(*edges, tasks={"d": rule}, a=OK, b=SKIPPED, c=BAD, s=SKIPPED, d=RunState.UPSTREAM_FAILED)
    new = rerun(old["c"])
    assert new.keys() == {"c", "d"}
    assert upstream_of(new["d"]) == {new["c"].pk, old["s"].pk}
    assert tick() == [new["c"].pk]
    start_and_end(new["c"])
    assert tick() == [new["d"].pk]
    below = firing(("a2", "b2"), ("b2", "c2"), a2=OK, b2=BAD, c2=SKIPPED)
    assert rerun(below["a2"]).keys() == {"b2", "c2"}


def test_what_answered_the_failure_comes_anew_with_it():
    handler = make_task("handler", trigger_rule="one_failed")
    old = firing(("a", "b"), ("b", "handler"), tasks={"handler": handler}, a=OK, b=BAD, handler=OK)
    new = rerun(old["a"])
    assert new.keys() == {"b", "handler"}
    tick()
    start_and_end(new["b"])
    tick()
    assert state_of(new["handler"].pk) == SKIPPED


def test_a_run_whose_upstreams_are_all_kept_starts_by_itself_by_its_frozen_condition():
    a, b = make_task("a"), make_task("b")
    TaskDependency.objects.create(upstream=a, downstream=b, condition="output.ok")
    for ok in (True, False):
        (root,) = plan(a)
        start(root)
        end(root, output={"ok": ok})
        below = Run.objects.get(root=root)
        bring(below.pk, BAD)
        Run.objects.update(tell_downstream=False)
        TaskDependency.objects.update(condition="")
        new = rerun(Run.objects.select_related("task").get(pk=root))["b"]
        assert RunDependency.objects.get(downstream=new).condition == "output.ok"
        assert tick() == ([new.pk] if ok else [])
        assert state_of(new.pk) == (RunState.QUEUED if ok else SKIPPED)
        TaskDependency.objects.update(condition="output.ok")


def test_a_rule_of_always_is_ready_at_once():
    old = firing(("a", "b"), tasks={"b": make_task("b", trigger_rule="always")}, a=OK, b=BAD)
    assert rerun(old["a"])["b"].upstream_ready is True


def test_new_runs_wait_for_the_same_periods():
    up, down = make_task("up"), make_task("down")
    TaskDependency.objects.create(upstream=up, downstream=down, period="day", period_policy="fail")
    old = firing(("a", "down"), tasks={"down": down}, a=OK)
    assert tick() == []
    assert state_of(old["down"].pk) == RunState.UPSTREAM_FAILED
    TaskDependency.objects.filter(period="day").update(period="month")
    new = rerun(old["a"])["down"]
    window = RunPeriod.objects.get(run=new)
    was = RunPeriod.objects.get(run=old["down"])
    assert (window.start, window.end, window.policy, window.settled) == (was.start, was.end, "fail", False)
    bring(plan(up, nominal_at=later(hours=-1))[0], OK)
    assert tick() == [new.pk]


def test_the_current_version_is_run_and_a_later_edge_is_not():
    old = firing(("a", "b"), ("b", "c"), a=OK, b=BAD, c=RunState.UPSTREAM_FAILED)
    task = old["b"].task
    task.version = TaskVersion.objects.create(task=task, number=2, executor="shell", command="true")
    task.save()
    depend(task, make_task("late"))
    new = rerun(old["a"])
    assert new.keys() == {"b", "c"}
    assert new["b"].version_id == task.version_id != old["b"].version_id


def test_a_rerun_that_fails_is_run_again_below_what_the_first_firing_kept():
    old = firing(*CHAIN, a=OK, b=BAD, c=RunState.UPSTREAM_FAILED, d=RunState.UPSTREAM_FAILED)
    second = rerun(old["a"])
    tick()
    start_and_end(second["b"])
    tick()
    start_and_end(second["c"], BAD)
    tick()
    third = rerun(Run.objects.select_related("task").get(pk=second["c"].pk))
    assert third.keys() == {"c", "d"}
    assert upstream_of(third["c"]) == {second["b"].pk}
    assert tick() == [third["c"].pk]


# Refusals


def test_it_is_refused_while_a_run_is_not_over():
    old = firing(*CHAIN, a=OK, b=BAD)
    assert f"Run #{old['c'].pk} of it is waiting" in refused(old["b"]).message
    assert not reruns.has_failed_point(old["b"])


@pytest.mark.parametrize("state", [OK, SKIPPED])
def test_it_is_refused_where_nothing_failed(state):
    old = firing(("a", "b"), a=OK, b=state)
    assert "Nothing of it has failed" in refused(old["a"]).message
    assert not reruns.has_failed_point(old["a"])


def test_it_is_refused_while_it_is_being_run_again_and_allowed_when_that_is_over():
    old = firing(("a", "b"), a=OK, b=BAD)
    assert reruns.has_failed_point(old["a"]) and reruns.has_failed_point(old["b"])
    new = rerun(old["a"])["b"]
    error = refused(old["b"])
    assert error.details["run"] == new.pk and f"#{new.pk}" in error.message
    bring(new.pk, RunState.CANCELLED)
    assert rerun(old["b"]).keys() == {"b"}


def test_a_single_run_that_failed_is_its_own_firing():
    (id,) = plan(make_task("alone"))
    bring(id, BAD)
    run = Run.objects.select_related("task").get(pk=id)
    assert rerun(run)["alone"].rerun_of_id == id
    assert not reruns.has_failed_point(run)


def test_who_may_not_run_all_of_it_runs_nothing(bob, charlie, project):
    foreign = make_task("b", project=Project.objects.create(name="foreign"))
    old = firing(("a", "b"), tasks={"a": make_task("a", project=project), "b": foreign}, a=OK, b=BAD)
    with pytest.raises(PermissionRefused):
        reruns.rerun_failed(user_actor(bob), old["a"], now=NOW)
    with pytest.raises(NotFound):
        reruns.rerun_failed(user_actor(charlie), old["a"], now=NOW)
    assert not Run.objects.filter(run_type="rerun").exists()
    grant(bob, "operator", foreign.project)
    again = reruns.rerun_failed(user_actor(bob), old["a"], now=NOW)
    entry = AuditEntry.objects.latest("pk")
    assert (entry.verb, entry.after) == ("rerun", {"scope": "failed", "root": again.pk, "runs": [again.pk]})


def test_a_wide_firing_takes_as_many_statements_as_a_small_one():
    def statements(width: int) -> int:
        root, tasks = make_task(), [make_task() for _ in range(width)]
        for task in tasks:
            depend(root, task)
        (id,) = plan(root)
        bring(id, OK)
        for run in Run.objects.filter(root=id):
            bring(run.pk, BAD)
        run = Run.objects.select_related("task").get(pk=id)
        with CaptureQueriesContext(connection) as captured:
            reruns.rerun_failed(SYSTEM, run, now=NOW)
        return len(captured)

    assert statements(20) == statements(2)


def test_the_answer_of_a_missing_firing_is_not_found():
    (id,) = plan(make_task())
    bring(id, BAD)
    run: Any = Run.objects.select_related("task").get(pk=id)
    Run.objects.filter(pk=id).delete()
    with pytest.raises(NotFound):
        reruns.rerun_failed(SYSTEM, run, now=NOW)
