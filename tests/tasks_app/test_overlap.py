"""The six overlap policies, for one run and for many at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.overlap import Action, Overlapping, OverlapPolicy, decide

START, WAIT, REPLACE, SKIP = Action.START, Action.WAIT, Action.WAIT_REPLACE, Action.SKIP
CANCEL, TERMINATE = Action.CANCEL_RUNNING_THEN_START, Action.TERMINATE_RUNNING_THEN_START
P = OverlapPolicy


@pytest.mark.parametrize("policy", OverlapPolicy)
def test_without_another_run_every_policy_starts(policy):
    assert decide(policy, new=1) == Overlapping((START,))
    assert decide(policy, new=2, live=[1], limit=3) == Overlapping((START, START))


@pytest.mark.parametrize("policy", OverlapPolicy)
def test_without_a_new_run_nothing_changes(policy):
    assert decide(policy, new=0, live=[1, 2, 3], waiting=[4, 5]) == Overlapping(())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (P.ALLOW, Overlapping((START,))),
        (P.QUEUE_ALL, Overlapping((WAIT,))),
        (P.QUEUE_ONE, Overlapping((WAIT,))),
        (P.SKIP, Overlapping((SKIP,))),
        (P.CANCEL_RUNNING, Overlapping((CANCEL,), cancel=(1,))),
        (P.TERMINATE_RUNNING, Overlapping((TERMINATE,), terminate=(1,))),
    ],
)
def test_beside_a_live_run(policy, expected):
    assert decide(policy, new=1, live=[1]) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (P.ALLOW, Overlapping((WAIT, WAIT))),
        (P.QUEUE_ALL, Overlapping((WAIT, WAIT))),
        (P.QUEUE_ONE, Overlapping((SKIP, REPLACE), skip_waiting=(3,))),
        (P.SKIP, Overlapping((SKIP, SKIP))),
        (P.CANCEL_RUNNING, Overlapping((CANCEL, CANCEL), skip_waiting=(3,), cancel=(1, 2))),
        (P.TERMINATE_RUNNING, Overlapping((TERMINATE, TERMINATE), skip_waiting=(3,), terminate=(1, 2))),
    ],
)
def test_beside_two_live_runs_and_one_that_waits_with_a_limit_of_two(policy, expected):
    assert decide(policy, new=2, live=[1, 2], waiting=[3], limit=2) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (P.QUEUE_ALL, (START, WAIT, WAIT)),
        (P.QUEUE_ONE, (START, SKIP, WAIT)),
        (P.SKIP, (START, SKIP, SKIP)),
        (P.CANCEL_RUNNING, (SKIP, SKIP, START)),
        (P.TERMINATE_RUNNING, (SKIP, SKIP, START)),
    ],
)
def test_three_at_once_with_one_slot(policy, expected):
    assert decide(policy, new=3) == Overlapping(expected)


def test_a_waiting_run_that_has_a_slot_already_is_not_replaced():
    assert decide(P.QUEUE_ONE, new=1, waiting=[1]) == Overlapping((WAIT,))
    assert decide(P.QUEUE_ONE, new=1, waiting=[1, 2]) == Overlapping((REPLACE,), skip_waiting=(2,))


def test_no_more_live_runs_are_ended_than_it_takes():
    assert decide(P.CANCEL_RUNNING, new=1, live=[1, 2, 3], limit=3) == Overlapping((CANCEL,), cancel=(1,))
    assert decide(P.CANCEL_RUNNING, new=1, live=[1, 2], limit=3) == Overlapping((START,))
    assert decide(P.TERMINATE_RUNNING, new=1, live=[1, 2, 3], waiting=[4], limit=3) == Overlapping(
        (TERMINATE,), terminate=(1, 2)
    )


def test_a_limit_that_was_lowered_is_held():
    assert decide(P.CANCEL_RUNNING, new=1, live=[1, 2, 3], limit=1) == Overlapping((CANCEL,), cancel=(1, 2, 3))
    assert decide(P.SKIP, new=1, live=[1, 2, 3], limit=1) == Overlapping((SKIP,))


@settings(deadline=None)
@given(
    policy=st.sampled_from(OverlapPolicy),
    new=st.integers(0, 6),
    live=st.integers(0, 6),
    waiting=st.integers(0, 6),
    limit=st.one_of(st.none(), st.integers(1, 5)),
)
def test_every_run_is_answered_and_no_limit_is_broken(
    policy: OverlapPolicy, new: int, live: int, waiting: int, limit: int | None
) -> None:
    lives, waits = list(range(live)), list(range(100, 100 + waiting))
    found = decide(policy, new=new, live=lives, waiting=waits, limit=limit)
    ended = (*found.cancel, *found.terminate)
    assert len(found.actions) == new
    assert set(ended) <= set(lives) and set(found.skip_waiting) <= set(waits)
    assert list(ended) == lives[: len(ended)], "the oldest go first"
    placed = sum(action in (START, CANCEL, TERMINATE) for action in found.actions)
    if placed and not (policy is P.ALLOW and limit is None):
        assert live - len(ended) + waiting - len(found.skip_waiting) + placed <= (limit or 1)
    if new:
        newest = found.actions[-1]
        assert newest is not SKIP or policy is P.SKIP, "only `skip` turns the newest away"
    if policy is P.QUEUE_ONE and new:
        queue = waiting - len(found.skip_waiting) + sum(action in (WAIT, REPLACE) for action in found.actions)
        assert queue <= max((limit or 1) - live, 0) + 1
    if policy in (P.ALLOW, P.QUEUE_ALL):
        assert SKIP not in found.actions and not ended and not found.skip_waiting
