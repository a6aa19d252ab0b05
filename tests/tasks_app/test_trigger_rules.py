"""Every trigger rule is defined for every state of its upstream runs, and never takes an answer back."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise, permutations, product

import pytest

from tasks_app.dependencies import TriggerRule, Verdict, closure, cycle_path, decide
from tasks_app.states import TERMINAL, RunState

START, SKIP, FAIL, WAIT = Verdict.START, Verdict.SKIP, Verdict.UPSTREAM_FAILED, Verdict.WAIT
OK, SKIPPED, RUNNING = RunState.SUCCEEDED, RunState.SKIPPED, RunState.RUNNING
BAD = sorted(TERMINAL - {OK, SKIPPED})
PENDING = sorted(set(RunState) - TERMINAL)

# What a rule says of one upstream run that succeeded, was skipped, or ended in any other way.
OF_ONE = {
    TriggerRule.ALL_SUCCESS: (START, SKIP, FAIL),
    TriggerRule.ALL_FAILED: (SKIP, SKIP, START),
    TriggerRule.ALL_DONE: (START, START, START),
    TriggerRule.ONE_FAILED: (SKIP, SKIP, START),
    TriggerRule.ONE_SUCCESS: (START, SKIP, FAIL),
    TriggerRule.ONE_DONE: (START, SKIP, START),
    TriggerRule.NONE_FAILED: (START, START, FAIL),
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: (START, SKIP, FAIL),
    TriggerRule.NONE_SKIPPED: (START, SKIP, START),
    TriggerRule.ALL_SKIPPED: (SKIP, START, SKIP),
    TriggerRule.ALWAYS: (START, START, START),
}
# Of (succeeded and skipped), (succeeded and bad), (skipped and bad), (all three).
OF_MANY = {
    TriggerRule.ALL_SUCCESS: (SKIP, FAIL, FAIL, FAIL),
    TriggerRule.ALL_FAILED: (SKIP, SKIP, SKIP, SKIP),
    TriggerRule.ALL_DONE: (START, START, START, START),
    TriggerRule.ONE_FAILED: (SKIP, START, START, START),
    TriggerRule.ONE_SUCCESS: (START, START, FAIL, START),
    TriggerRule.ONE_DONE: (START, START, START, START),
    TriggerRule.NONE_FAILED: (START, FAIL, FAIL, FAIL),
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: (START, FAIL, FAIL, FAIL),
    TriggerRule.NONE_SKIPPED: (SKIP, START, SKIP, SKIP),
    TriggerRule.ALL_SKIPPED: (SKIP, SKIP, SKIP, SKIP),
    TriggerRule.ALWAYS: (START, START, START, START),
}


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("rule", list(TriggerRule))
def test_a_rule_judges_a_single_upstream_run(rule, state):
    succeeded, skipped, bad = OF_ONE[rule]
    expected = succeeded if state == OK else skipped if state == SKIPPED else bad
    assert decide(rule, [state]) == expected
    assert decide(rule, [state] * 3) == expected


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("rule", list(TriggerRule))
def test_a_rule_judges_a_mixture(rule, bad):
    mixtures = ([OK, SKIPPED], [OK, bad], [SKIPPED, bad], [OK, SKIPPED, bad])
    for mixture, expected in zip(mixtures, OF_MANY[rule], strict=True):
        for states in permutations(mixture):
            assert decide(rule, states) == expected, states


@pytest.mark.parametrize("state", PENDING)
@pytest.mark.parametrize("rule", sorted(set(TriggerRule) - {TriggerRule.ALWAYS}))
def test_nothing_is_settled_while_the_only_upstream_run_is_pending(rule, state):
    assert decide(rule, [state]) == WAIT


@pytest.mark.parametrize("rule", sorted(TriggerRule))
def test_every_pending_state_counts_the_same(rule):
    for known in product(sorted(TERMINAL), repeat=2):
        for size in range(3):
            verdicts = {decide(rule, [*known[:size], pending]) for pending in PENDING}
            assert len(verdicts) == 1, known[:size]


@pytest.mark.parametrize("rule", sorted(TriggerRule))
def test_the_order_of_upstream_runs_changes_nothing(rule):
    for first, second in product(sorted(RunState), repeat=2):
        assert decide(rule, [first, second]) == decide(rule, [second, first])


@pytest.mark.parametrize("rule", list(TriggerRule))
def test_an_answer_is_never_taken_back(rule):
    """Two dispatchers may judge at different times: whatever the pending runs become, the early answer stands."""
    kinds = (OK, SKIPPED, RunState.FAILED)
    for known in (n for size in range(3) for n in combinations_with_replacement(kinds, size)):
        for pending in (1, 2):
            early = decide(rule, [*known, *[RUNNING] * pending])
            if early != WAIT:
                late = {decide(rule, [*known, *rest]) for rest in product(kinds, repeat=pending)}
                assert late == {early}, known


@pytest.mark.parametrize("rule", list(TriggerRule))
def test_an_answer_comes_as_soon_as_it_is_certain(rule):
    kinds = (OK, SKIPPED, RunState.FAILED)
    for known in kinds:
        late = {decide(rule, [known, rest]) for rest in kinds}
        if len(late) == 1:
            assert {decide(rule, [known, RUNNING])} <= late | ({WAIT} if rule == TriggerRule.ALL_DONE else set())


@pytest.mark.parametrize("rule", list(TriggerRule))
def test_a_run_without_upstream_starts(rule):
    assert decide(rule, []) == START


def test_a_cycle_is_named_by_its_path():
    assert cycle_path([(1, 2), (2, 3), (1, 3)]) is None
    path = cycle_path([(1, 2), (2, 3), (3, 2), (5, 6)])
    assert path in ([2, 3, 2], [3, 2, 3])
    assert cycle_path([(7, 7)]) == [7, 7]
    assert cycle_path([]) is None
    order = cycle_path([(1, 2), (2, 3), (3, 4), (4, 1)])
    assert order is not None
    assert all((a, b) in {(1, 2), (2, 3), (3, 4), (4, 1)} for a, b in pairwise(order))


def test_a_closure_holds_each_node_once_without_the_roots():
    edges = {1: {2, 3}, 2: {4}, 3: {4}, 4: {5}}
    assert closure([1], edges) == [2, 3, 4, 5]
    assert closure([2, 3], edges) == [4, 5]
    assert closure([5], edges) == []
