"""Ended runs are told to their downstream runs, which then start, or end, by their trigger rules."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app.acceptance import accept_ended
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run
from tasks_app.moves import Outcome
from tasks_app.states import TERMINAL, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, bring, depend, end, make_task, member, plan, start, state_of

pytestmark = pytest.mark.django_db
OF_VERDICT = {Verdict.SKIP: RunState.SKIPPED, Verdict.UPSTREAM_FAILED: RunState.UPSTREAM_FAILED}


def accept() -> int:
    told = 0
    while some := accept_ended(NOW, actor=ACTOR):
        told += some
    return told


def release() -> list[int]:
    return [run.id for run in release_ready(NOW, actor=ACTOR)]


def chain(number: int, **fields: Any) -> list[int]:
    """Ids of the runs of one firing of tasks that each wait for the one before."""
    tasks = [make_task(**fields) for _ in range(number)]
    depend(*tasks)
    (root,) = plan(tasks[0])
    return [root, *(member(root, task).pk for task in tasks[1:])]


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("rule", sorted(set(TriggerRule) - {TriggerRule.ALWAYS}))
def test_a_downstream_run_follows_its_rule(rule, state):
    up, down = chain(2, trigger_rule=rule)
    other_up, other_down = chain(2, trigger_rule=rule)
    bring(up, state)
    assert accept() == 1
    verdict = decide(rule, [state])
    run = Run.objects.get(pk=down)
    assert run.state == OF_VERDICT.get(verdict, RunState.WAITING)
    assert run.upstream_ready is (verdict == Verdict.START)
    if verdict in OF_VERDICT:
        assert (run.reason, run.finished_at) == ("upstream", NOW)
        assert str(rule) in run.reason_detail
    assert (state_of(other_up), state_of(other_down)) == (RunState.WAITING, RunState.WAITING)
    assert release() == ([down, other_up] if verdict == Verdict.START else [other_up])


def test_a_chain_runs_one_after_the_other():
    a, b, c = chain(3)
    for id in (a, b, c):
        assert release() == [id]
        worker = Run.objects.get(pk=id)

        assert transitions.claim([(id, worker.attempt)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
        assert accept() == 0
        end(id)
        accept()
    assert release() == []


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (RunState.FAILED, RunState.UPSTREAM_FAILED),
        (RunState.CANCELLED, RunState.UPSTREAM_FAILED),
        (RunState.LOST, RunState.UPSTREAM_FAILED),
        (RunState.SKIPPED, RunState.SKIPPED),
    ],
)
def test_what_cannot_run_any_more_ends_down_the_whole_chain_in_one_tick(first, rest):
    a, *below = chain(5)
    bring(a, first)
    accept()
    assert {state_of(id) for id in below} == {rest}
    assert not Run.objects.filter(tell_downstream=True).exists()


def test_a_failure_is_answered_below_by_a_task_that_waits_for_it():
    load, clean_up, report = make_task(), make_task(trigger_rule="one_failed"), make_task()
    depend(load, clean_up)
    depend(load, report)
    (root,) = plan(load)
    bring(root, RunState.FAILED)
    accept()
    assert release() == [member(root, clean_up).pk]
    assert member(root, report).state == RunState.UPSTREAM_FAILED


def diamond(rule: str = "all_success") -> tuple[int, int, int, int]:
    a, b, c, d = make_task(), make_task(), make_task(), make_task(trigger_rule=rule)
    depend(a, b, d)
    depend(a, c, d)
    (root,) = plan(a)
    bring(root, RunState.SUCCEEDED)
    accept()
    return root, member(root, b).pk, member(root, c).pk, member(root, d).pk


def test_a_run_below_two_waits_for_both():
    _root, b, c, d = diamond()
    bring(b, RunState.SUCCEEDED)
    assert accept() == 1
    assert Run.objects.get(pk=d).upstream_ready is False
    bring(c, RunState.SUCCEEDED)
    assert accept() == 1
    assert release() == [d]


KINDS = (RunState.SKIPPED, RunState.FAILED, RunState.SUCCEEDED)


@pytest.mark.parametrize(("first", "second"), [*product(KINDS, repeat=2)])
def test_the_order_in_which_upstream_runs_end_changes_nothing(first, second):
    results = []
    for told_apart in (True, False):
        _root, b, c, d = diamond()
        bring(b, first)
        if told_apart:
            accept()
        bring(c, second)
        accept()
        results.append((state_of(d), Run.objects.get(pk=d).upstream_ready))
    assert results[0] == results[1]
    verdict = decide(TriggerRule.ALL_SUCCESS, [first, second])
    assert results[0][0] == OF_VERDICT.get(verdict, RunState.WAITING)


def test_a_run_that_waits_for_a_retry_has_not_ended():
    a, b = chain(2)
    start(a)
    end(a, RunState.WAITING)
    assert accept() == 0
    assert Run.objects.get(pk=b).upstream_ready is False


def test_a_downstream_run_that_was_cancelled_stays_cancelled():
    a, b = chain(2)
    bring(b, RunState.CANCELLED)
    bring(a, RunState.SUCCEEDED)
    assert accept() == 1
    assert state_of(b) == RunState.CANCELLED
    assert release() == []


def test_ended_runs_are_told_in_parts_and_each_once():
    tasks = [make_task(), make_task()]
    depend(*tasks)
    roots = plan(tasks[0], 5)
    for root in roots:
        bring(root, RunState.SUCCEEDED)
    assert [accept_ended(NOW, actor=ACTOR, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert len(release()) == 5


def test_a_thousand_ended_runs_take_as_many_statements_as_two():
    tasks = [make_task(), make_task(), make_task(trigger_rule="all_failed")]
    depend(*tasks[:2])
    depend(tasks[0], tasks[2])

    def statements(number: int) -> int:
        roots = plan(tasks[0], number)
        start(*roots)

        outcomes = [Outcome(id, 1, RunState.SUCCEEDED) for id in roots]
        transitions.finish(outcomes, worker_id=ANSWERED, now=NOW, actor=ACTOR)
        with CaptureQueriesContext(connection) as captured:
            assert accept_ended(NOW, actor=ACTOR) == number
        return len(captured)

    assert statements(1000) == statements(2)
