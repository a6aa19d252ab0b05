"""Every trigger rule against every state of two upstream runs, pending ones too: rows and rule say the same."""

from __future__ import annotations

from itertools import product

import pytest

from dispatcher_app.acceptance import accept_ended
from tasks_app import transitions
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run
from tasks_app.moves import Outcome
from tasks_app.states import TERMINAL, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, depend, enqueue, make_task, plan, start

PENDING = sorted(set(RunState) - TERMINAL)
FROM_WAITING = (RunState.SKIPPED, RunState.UPSTREAM_FAILED, RunState.EXPIRED)
SEEN = {
    Verdict.START: (RunState.WAITING, True),
    Verdict.WAIT: (RunState.WAITING, False),
    Verdict.SKIP: (RunState.SKIPPED, False),
    Verdict.UPSTREAM_FAILED: (RunState.UPSTREAM_FAILED, False),
}


def bring_all(ids: list[int], state: RunState) -> None:
    """As making.bring, in sets."""
    if state is RunState.QUEUED:
        enqueue(*ids)
    elif state is RunState.CANCELLED:
        assert len(transitions.cancel_unstarted(ids, now=NOW, actor=ACTOR)) == len(ids)
    elif state in FROM_WAITING:
        assert len(transitions.settle(dict.fromkeys(ids, (state, "", "")), now=NOW, actor=ACTOR)) == len(ids)
    elif state is not RunState.WAITING:
        start(*ids)
        if state in TERMINAL:
            outcomes = [Outcome(id, 1, state) for id in ids]
            assert len(transitions.finish(outcomes, worker_id=ANSWERED, now=NOW, actor=ACTOR)) == len(ids)


@pytest.mark.django_db
@pytest.mark.parametrize("rule", sorted(TriggerRule))
def test_two_upstream_runs_in_any_two_states_are_judged_as_the_rule_says(rule):
    source, left, right, below = make_task(), make_task(), make_task(), make_task(trigger_rule=rule)
    depend(source, left, below)
    depend(source, right, below)
    pairs = list(product(sorted(RunState), repeat=2))
    roots = plan(source, len(pairs))
    members = {(run.root_id, run.task_id): run.pk for run in Run.objects.filter(root__in=roots)}
    states = dict(zip(roots, pairs, strict=True))
    for state in sorted(RunState):
        ids = [members[root, left.pk] for root, (first, _second) in states.items() if first is state]
        ids += [members[root, right.pk] for root, (_first, second) in states.items() if second is state]
        bring_all(ids, state)
    while accept_ended(NOW, actor=ACTOR):
        pass
    found = {root: (state, ready) for root, state, ready in _seen(below.pk)}
    for root, pair in states.items():
        expected = SEEN[decide(rule, pair)]
        if all(state in PENDING for state in pair) and rule != TriggerRule.ALWAYS:
            assert expected == (RunState.WAITING, False), pair
        assert found[root] == expected, pair


def _seen(task_id: int) -> list[tuple[int, str, bool]]:
    return list(Run.objects.filter(task=task_id).values_list("root_id", "state", "upstream_ready"))
