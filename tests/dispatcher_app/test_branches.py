"""Edges with a condition: a branch is taken or not by what came of its upstream run."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app.acceptance import accept_ended
from tasks_app import transitions
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run, RunDependency, Task, TaskDependency
from tasks_app.moves import Outcome
from tasks_app.states import TERMINAL, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, bring, end, make_task, member, plan, start, state_of

pytestmark = pytest.mark.django_db
OF_VERDICT = {Verdict.SKIP: RunState.SKIPPED, Verdict.UPSTREAM_FAILED: RunState.UPSTREAM_FAILED}


def join(upstream: Task, downstream: Task, condition: str = "") -> None:
    TaskDependency.objects.create(upstream=upstream, downstream=downstream, condition=condition)


def accept() -> None:
    while accept_ended(NOW, actor=ACTOR):
        pass


def seen(id: int) -> tuple[str, bool]:
    run = Run.objects.get(pk=id)
    return run.state, run.upstream_ready


def test_the_output_of_a_run_chooses_the_branch_below_it():
    check, many, few, always = make_task(), make_task(), make_task(), make_task()
    join(check, many, "output.rows > 100")
    join(check, few, "output.rows <= 100")
    join(check, always)
    root, other = plan(check, 2)
    start(root, other)
    end(root, output={"rows": 500})
    accept()
    assert seen(member(root, many).pk) == (RunState.WAITING, True)
    assert seen(member(root, few).pk) == (RunState.SKIPPED, False)
    assert "This condition did not hold: output.rows <= 100" in member(root, few).reason_detail
    assert seen(member(root, always).pk) == (RunState.WAITING, True)
    # The other firing has not ended, and nothing is known of its branches.
    assert {seen(member(other, task).pk) for task in (many, few, always)} == {(RunState.WAITING, False)}
    end(other, output={"rows": 5})
    accept()
    assert [state_of(member(other, task).pk) for task in (many, few)] == [RunState.SKIPPED, RunState.WAITING]


def test_a_branch_that_is_not_taken_is_skipped_to_its_end_and_joined_by_a_rule_that_allows_it():
    check, left, right, join_task = make_task(), make_task(), make_task(), make_task()
    join_task.trigger_rule = "none_failed_min_one_success"
    join_task.save()
    join(check, left, "output.side == 'left'")
    join(check, right, "output.side == 'right'")
    join(left, join_task)
    join(right, join_task)
    (root,) = plan(check)
    start(root)
    end(root, output={"side": "left"})
    accept()
    assert state_of(member(root, right).pk) == RunState.SKIPPED
    assert seen(member(root, join_task).pk) == (RunState.WAITING, False)
    bring(member(root, left).pk, RunState.SUCCEEDED)
    accept()
    assert seen(member(root, join_task).pk) == (RunState.WAITING, True)


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("rule", sorted(TriggerRule))
def test_an_edge_counts_with_its_real_state_where_the_condition_holds_and_as_skipped_where_not(rule, state, holds):
    up, down = make_task(), make_task(trigger_rule=rule)
    join(up, down, f"state {'==' if holds else '!='} '{state}'")
    (root,) = plan(up)
    below = member(root, down).pk
    bring(root, state)
    accept()
    verdict = decide(rule, [state if holds else RunState.SKIPPED])
    assert seen(below) == (OF_VERDICT.get(verdict, RunState.WAITING), verdict == Verdict.START)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("exit_code == 3 and reason == 'exit_code'", True),
        ("attempt == 1", True),
        ("output.kind == 'partial'", True),
        ("params.region == 'us' and params.limit == 5", True),
        ("params.region == 'eu'", False),
        ("output.missing > 0", False),
    ],
)
def test_a_condition_sees_the_outcome_and_the_parameters_of_the_run(condition, holds):
    up = make_task(params={"region": "eu", "limit": 5})
    down = make_task(trigger_rule="one_failed")
    join(up, down, condition)
    (root,) = plan(up, params={"region": "us"})
    start(root)
    end(root, RunState.FAILED, reason="exit_code", exit_code=3, output={"kind": "partial"})
    accept()
    assert seen(member(root, down).pk) == ((RunState.WAITING, True) if holds else (RunState.SKIPPED, False))


def test_a_condition_is_frozen_when_the_run_is_planned():
    up, down = make_task(), make_task()
    join(up, down, "output.ok")
    (root,) = plan(up)
    TaskDependency.objects.update(condition="not output.ok")
    (later_root,) = plan(up)
    start(root, later_root)
    for id in (root, later_root):
        end(id, output={"ok": True})
    accept()
    assert state_of(member(root, down).pk) == RunState.WAITING
    assert state_of(member(later_root, down).pk) == RunState.SKIPPED


def test_a_condition_that_cannot_be_read_is_not_taken_and_ends_no_loop():
    up, down, other = make_task(), make_task(), make_task()
    join(up, down, "output.ok")
    join(up, other)
    (root,) = plan(up)
    RunDependency.objects.filter(downstream__task=down).update(condition="output.ok ==")
    bring(root, RunState.SUCCEEDED)
    accept()
    assert state_of(member(root, down).pk) == RunState.SKIPPED
    assert seen(member(root, other).pk) == (RunState.WAITING, True)


def statements(tasks: list[Task], number: int) -> int:
    roots = plan(tasks[0], number)
    start(*roots)
    outcomes = [Outcome(id, 1, RunState.SUCCEEDED, output={"rows": id % 2}) for id in roots]
    transitions.finish(outcomes, worker_id=ANSWERED, now=NOW, actor=ACTOR)
    with CaptureQueriesContext(connection) as captured:
        while accept_ended(NOW, actor=ACTOR, limit=10_000):
            pass
    skipped = Run.objects.filter(root__in=roots, task=tasks[1], state=RunState.SKIPPED).count()
    assert skipped == len([id for id in roots if id % 2 == 0])
    return len(captured)


def test_five_thousand_ended_runs_with_conditions_take_as_many_statements_as_two():
    tasks: list[Any] = [make_task() for _ in range(3)]
    join(tasks[0], tasks[1], "output.rows > 0")
    join(tasks[0], tasks[2])
    assert statements(tasks, 5000) == statements(tasks, 2)


def test_outputs_are_read_only_for_edges_with_a_condition():
    plain = [make_task(), make_task()]
    join(plain[0], plain[1])
    (root,) = plan(plain[0])
    bring(root, RunState.SUCCEEDED)
    with CaptureQueriesContext(connection) as captured:
        accept()
    assert not [query for query in captured if '"output"' in query["sql"]]
