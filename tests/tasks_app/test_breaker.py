"""The circuit breaker: what opens it, what a probe and each wave decide, what changes nothing."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.breaker import Breaker, BreakerPolicy, BreakerState, Decision, ask, record, reset, trip
from tests.tasks_app.clock import at

NOW = at("2026-03-02T10:00Z")
SECOND = timedelta(seconds=1)
POLICY = BreakerPolicy(consecutive_failures=3, capacity=4)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def after(
    outcomes: str, breaker: Breaker | None = None, policy: BreakerPolicy = POLICY, now: datetime = NOW
) -> Breaker:
    breaker = breaker or Breaker()
    for outcome in outcomes:
        breaker = record(breaker, policy, succeeded=outcome == "s", released_at=now, now=now)
    return breaker


def half_open(policy: BreakerPolicy = POLICY) -> Breaker:
    opened = trip(Breaker(), policy, now=NOW - timedelta(hours=1))
    found, decision = ask(opened, live=0, now=NOW)
    assert (found.state, decision) == (HALF_OPEN, Decision(1))
    return found


# Closed


@pytest.mark.parametrize(
    ("outcomes", "state"), [("", CLOSED), ("ffsffsff", CLOSED), ("fff", OPEN), ("sssfff", OPEN), ("ffffff", OPEN)]
)
def test_failures_in_a_row_open_it(outcomes, state):
    assert after(outcomes).state is state


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("fff", CLOSED),
        ("sfsf", OPEN),
        ("fsfs", CLOSED),
        ("ssssssssf", CLOSED),
        ("ffsssssssff", CLOSED),
        ("sssssfsffsf", OPEN),
    ],
)
def test_a_share_of_failures_in_the_last_outcomes_opens_it(outcomes, state):
    policy = BreakerPolicy(consecutive_failures=None, failure_ratio=0.5, window=6, minimum=4)
    assert after(outcomes, policy=policy).state is state


def test_without_rules_nothing_opens_it():
    policy = BreakerPolicy(consecutive_failures=None)
    found = after("f" * 500, policy=policy)
    assert found.state is CLOSED and len(found.outcomes) == policy.window


def test_closed_it_sets_no_limit():
    assert ask(Breaker(), live=1000, now=NOW) == (Breaker(), Decision(None))


# Open


def test_open_it_lets_nothing_through_until_its_time_is_up():
    opened = after("fff")
    assert opened.open_until == NOW + timedelta(seconds=30)
    just_before = NOW + timedelta(seconds=30) - timedelta(microseconds=1)
    assert ask(opened, live=0, now=just_before) == (opened, Decision(0, opened.open_until))
    found, decision = ask(opened, live=7, now=NOW + timedelta(seconds=30))
    assert (found.state, found.wave, decision) == (HALF_OPEN, 1, Decision(1))


def test_runs_that_end_while_it_is_open_change_nothing():
    opened = after("fff")
    assert after("sfs", opened) == opened
    assert after("sfs", opened, now=NOW + SECOND) == opened


def test_it_stays_open_twice_as_long_each_time_up_to_the_most():
    breaker, now, lengths = Breaker(), NOW, []
    for _ in range(9):
        breaker = trip(breaker, POLICY, now=now)
        assert breaker.open_until is not None
        lengths.append((breaker.open_until - now).total_seconds())
        now = breaker.open_until
        breaker, _decision = ask(breaker, live=0, now=now)
    assert lengths == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    opened = trip(replace(breaker, openings=10_000), POLICY, now=now)
    assert opened.open_until == now + timedelta(minutes=30)


# Half open


def test_one_probe_goes_alone():
    probing = half_open()
    assert ask(probing, live=1, now=NOW) == (probing, Decision(0))
    assert ask(probing, live=0, now=NOW) == (probing, Decision(1)), "a lost probe makes room for the next"


def test_half_open_a_clock_that_was_set_back_lets_no_second_probe_through():
    back = NOW - timedelta(hours=1)
    began, decision = ask(half_open(), live=0, now=back)
    assert (began.changed_at, decision) == (back, Decision(1)), "the wave begins anew: its probe counts by its release"
    assert ask(began, live=1, now=back + SECOND) == (began, Decision(0))
    again, decision = ask(half_open(), live=1, now=back)
    assert (again, decision) == (began, Decision(0)), "a probe from before the clock was set back counts as well"


def test_a_failed_probe_opens_it_again_for_longer():
    opened = after("f", half_open())
    assert (opened.state, opened.open_until) == (OPEN, NOW + timedelta(seconds=60))


def test_it_reopens_in_waves_up_to_the_capacity():
    breaker, allowed = half_open(), []
    while breaker.state is HALF_OPEN:
        breaker, decision = ask(breaker, live=0, now=NOW)
        assert decision.allowed is not None
        allowed.append(decision.allowed)
        breaker = after("s" * decision.allowed, breaker)
    assert allowed == [1, 2, 4]
    assert breaker == Breaker(changed_at=NOW)


def test_a_wave_waits_for_all_its_runs():
    second = after("s", half_open())
    assert ask(second, live=0, now=NOW)[1] == Decision(2)
    one_done = after("s", second)
    assert ask(one_done, live=1, now=NOW)[1] == Decision(0)
    assert ask(one_done, live=0, now=NOW)[1] == Decision(1)
    assert ask(after("s", one_done), live=0, now=NOW)[1] == Decision(4)


@pytest.mark.parametrize(("capacity", "successes"), [(1, 1), (2, 3), (5, 7), (None, 31)])
def test_it_closes_after_the_last_wave_that_the_capacity_holds(capacity, successes):
    policy = replace(POLICY, capacity=capacity)
    assert after("s" * (successes - 1), half_open(policy), policy).state is HALF_OPEN
    assert after("s" * successes, half_open(policy), policy).state is CLOSED


@pytest.mark.parametrize("outcome", [True, False])
def test_runs_from_before_a_change_of_state_prove_nothing(outcome):
    early = NOW - SECOND
    for breaker in (half_open(), after("fff"), after("s" * 7, half_open())):
        assert breaker.changed_at == NOW
        assert record(breaker, POLICY, succeeded=outcome, released_at=early, now=NOW + SECOND) == breaker


def test_closing_forgets_how_often_it_opened():
    closed = after("s" * 7, half_open())
    assert after("fff", closed).open_until == NOW + timedelta(seconds=30)


# By hand


def test_it_is_reset_and_tripped_by_hand():
    assert reset(after("fff"), now=NOW + SECOND) == Breaker(changed_at=NOW + SECOND)
    assert reset(after("ff"), now=NOW) == Breaker()
    assert trip(Breaker(), POLICY, now=NOW).state is OPEN


# Random histories

EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "end", "lose", "trip", "reset"]), st.booleans(), st.integers(0, 40)), max_size=120
)


@settings(max_examples=200, deadline=None)
@given(events=EVENTS, capacity=st.sampled_from([None, 1, 3, 4]), ratio=st.sampled_from([None, 0.5]))
def test_in_any_history_no_more_runs_go_than_the_wave_and_it_always_comes_back(
    events: list[tuple[str, bool, int]], capacity: int | None, ratio: float | None
) -> None:
    policy = BreakerPolicy(consecutive_failures=3, failure_ratio=ratio, window=8, minimum=4, capacity=capacity)
    breaker, now = Breaker(), NOW
    live: list[datetime] = []
    for event, succeeded, seconds in events:
        now += timedelta(seconds=seconds)
        match event:
            case "ask":
                since = breaker.changed_at or NOW
                breaker, decision = ask(breaker, live=sum(start >= since for start in live), now=now)
                live += [now] * (3 if decision.allowed is None else decision.allowed)
            case "end" if live:
                breaker = record(breaker, policy, succeeded=succeeded, released_at=live.pop(0), now=now)
            case "lose" if live:
                live.pop()
            case "trip":
                breaker = trip(breaker, policy, now=now)
            case "reset":
                breaker = reset(breaker, now=now)
        assert Breaker(*astuple(breaker)) == breaker
        assert (breaker.open_until is not None) is (breaker.state is OPEN)
        if breaker.state is HALF_OPEN:
            assert breaker.changed_at is not None
            probes = sum(start >= breaker.changed_at for start in live)
            assert probes + breaker.wave_successes <= breaker.wave <= max(capacity or 16, 1)
    for _ in range(200):
        now += timedelta(minutes=30)
        breaker, decision = ask(breaker, live=0, now=now)
        if decision.allowed is None:
            return
        breaker = after("s" * decision.allowed, breaker, policy, now)
    raise AssertionError("a target that answers again is never let back in")
