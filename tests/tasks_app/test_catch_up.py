"""What becomes of the instants that passed: each has exactly one answer."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app import catch_up, cron
from tasks_app.allowance import Fire
from tasks_app.catch_up import Policy, Stretch
from tasks_app.timing import Timing
from tests.tasks_app.clock import at, seconds_taken

HOURLY = Timing("cron", cron=cron.parse("0 * * * *"))
MINUTELY = Timing("cron", cron=cron.parse("* * * * *"))
SECONDLY = Timing("interval", interval=timedelta(seconds=1), anchor=at("2026-01-01T00:00:00Z"))
NOON = at("2026-03-02T12:00:00Z")


def policy(what: str, *, window: timedelta = timedelta(hours=1), most: int = 100) -> Policy:
    return Policy(what, window, most)


def answered(timing: Timing, what: Policy, after: datetime, now: datetime) -> tuple[list[str], list[tuple[int, str]]]:
    """(times of the runs, (count, reason) of the stretches)."""
    answer = catch_up.answer(timing, what, after=after, now=now)
    return [f"{run.nominal_at:%H:%M}" for run in answer.runs], [(s.count, s.reason) for s in answer.stretches]


@pytest.mark.parametrize("what", ["none", "last", "all"])
@pytest.mark.parametrize("late", [0, 1, 59])
def test_an_instant_answered_within_a_minute_runs_whatever_the_policy(what, late):
    now = NOON + timedelta(seconds=late)
    assert answered(HOURLY, policy(what), NOON - timedelta(minutes=30), now) == (["12:00"], [])


@pytest.mark.parametrize(
    ("what", "runs", "stretches"),
    [
        ("none", [], [(5, "catch_up_window"), (2, "catch_up_none")]),
        ("last", ["12:00"], [(5, "catch_up_window"), (1, "catch_up_last")]),
        ("all", ["11:00", "12:00"], [(5, "catch_up_window")]),
    ],
)
def test_an_outage_is_caught_up_by_the_policy_within_the_window(what, runs, stretches):
    # 06:00 to 10:00 lie before the window of 90 minutes that ends at 12:10.
    now = NOON + timedelta(minutes=10)
    after = NOON - timedelta(hours=6, minutes=30)
    assert answered(HOURLY, policy(what, window=timedelta(minutes=90)), after, now) == (runs, stretches)


@pytest.mark.parametrize(
    ("what", "runs", "stretches"),
    [
        ("none", ["12:00"], [(3, "catch_up_none")]),
        ("last", ["12:00"], [(3, "catch_up_last")]),
        ("all", ["09:00", "10:00", "11:00", "12:00"], []),
    ],
)
def test_a_fresh_instant_after_an_outage_runs_on_its_own(what, runs, stretches):
    now, after = NOON + timedelta(seconds=5), NOON - timedelta(hours=3, minutes=30)
    assert answered(HOURLY, policy(what, window=timedelta(days=1)), after, now) == (runs, stretches)


def test_more_than_the_most_are_coalesced_and_the_newest_run():
    what = policy("all", window=timedelta(days=1), most=2)
    now, after = NOON + timedelta(minutes=10), NOON - timedelta(hours=5, minutes=30)
    assert answered(HOURLY, what, after, now) == (["11:00", "12:00"], [(4, "max_catch_up")])


def test_a_stretch_names_its_first_and_last_instant():
    answer = catch_up.answer(HOURLY, policy("none"), after=NOON - timedelta(hours=3), now=NOON + timedelta(minutes=30))
    old, new = answer.stretches
    assert old == Stretch(NOON - timedelta(hours=2), NOON - timedelta(hours=1), 2, "missed", "catch_up_window")
    assert new == Stretch(NOON, NOON, 1, "missed", "catch_up_none")
    assert answer.next_at == NOON + timedelta(hours=1)


def test_a_rule_that_is_over_has_no_next_instant():
    once = Timing("once", at=NOON)
    answer = catch_up.answer(once, policy("last"), after=NOON - timedelta(hours=1), now=NOON)
    assert (answer.runs, answer.stretches, answer.next_at) == ([Fire(NOON, NOON)], [], None)


def test_skipping_answers_everything_with_one_stretch():
    answer = catch_up.skip_all(MINUTELY, after=NOON, now=NOON + timedelta(hours=1), answer="skipped", reason="paused")
    hour = timedelta(hours=1)
    assert answer.stretches == [Stretch(NOON + timedelta(minutes=1), NOON + hour, 60, "skipped", "paused")]
    assert (answer.runs, answer.next_at) == ([], NOON + hour + timedelta(minutes=1))
    nothing = catch_up.skip_all(HOURLY, after=NOON, now=NOON + timedelta(minutes=5), answer="skipped", reason="paused")
    assert nothing.stretches == []


@settings(max_examples=150, deadline=None)
@given(
    timing=st.sampled_from([HOURLY, MINUTELY, SECONDLY]),
    what=st.sampled_from(["none", "last", "all"]),
    window=st.sampled_from([0, 30, 60, 3600, 86_400]),
    most=st.sampled_from([0, 1, 7, 100]),
    outage=st.integers(0, 9000),
    offset=st.integers(0, 3600),
)
def test_every_instant_has_exactly_one_answer(timing, what, window, most, outage, offset):
    now = NOON + timedelta(seconds=offset)
    after = now - timedelta(seconds=outage)
    answer = catch_up.answer(timing, policy(what, window=timedelta(seconds=window), most=most), after=after, now=now)
    expected = timing.first_between(after, now, 100_000)
    told = [run.nominal_at for run in answer.runs]
    assert told == sorted(told) and all(run.due_at == run.nominal_at for run in answer.runs)
    for stretch in answer.stretches:
        inside = [fire for fire in expected if stretch.first_at <= fire <= stretch.last_at]
        assert (inside[0], inside[-1], len(inside)) == (stretch.first_at, stretch.last_at, stretch.count)
        told += inside
    assert sorted(told) == expected
    assert answer.next_at is not None and answer.next_at > now
    assert len(answer.runs) <= max(most, 1)


def test_ten_days_of_minutes_cost_little():
    now = NOON + timedelta(days=10)
    what = policy("all", window=timedelta(days=30))
    answer = catch_up.answer(MINUTELY, what, after=NOON, now=now)
    assert (len(answer.runs), [(s.count, s.answer) for s in answer.stretches]) == (100, [(14_300, "coalesced")])
    assert seconds_taken(lambda: catch_up.answer(MINUTELY, what, after=NOON, now=now)) < 0.1
