"""Periods of a zone tile the time line, and the verdict of a dependency by period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.dependencies import Verdict
from tasks_app.periods import PeriodPolicy, Unit, decide, period_of, upstream_window
from tasks_app.states import LIVE, TERMINAL, RunState
from tests.tasks_app.clock import at

BERLIN = "Europe/Berlin"
ZONES = [
    "UTC",
    BERLIN,
    "America/Sao_Paulo",
    "America/Havana",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
]
INSTANTS = st.datetimes(at("1990-01-01"), at("2035-01-01"), timezones=st.just(UTC))
# Midnights and half hours at which the clocks of some of these zones change.
NEAR_CHANGES = st.builds(
    lambda start, minutes: at(start) + timedelta(minutes=minutes),
    st.sampled_from(
        [
            "2018-02-18T02:00Z",
            "2018-11-04T03:00Z",
            "2026-03-08T05:00Z",
            "2026-11-01T05:00Z",
            "2010-11-07T02:31Z",
            "2026-03-28T22:00Z",
            "2026-10-24T21:00Z",
            "2026-04-04T15:00Z",
            "2026-10-03T15:30Z",
            "2011-12-30T10:00Z",
        ]
    ),
    st.integers(-180, 180),
)


@pytest.mark.parametrize(
    ("unit", "zone", "nominal", "start", "end"),
    [
        (Unit.HOUR, BERLIN, "2026-03-02T10:59:59Z", "2026-03-02T10:00Z", "2026-03-02T11:00Z"),
        (Unit.HOUR, "Asia/Kathmandu", "2026-03-02T10:14Z", "2026-03-02T09:15Z", "2026-03-02T10:15Z"),
        (Unit.HOUR, BERLIN, "2026-10-25T01:30Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"),
        (Unit.HOUR, "Australia/Lord_Howe", "2026-04-04T15:10Z", "2026-04-04T15:00Z", "2026-04-04T15:30Z"),
        (Unit.DAY, BERLIN, "2026-03-02T23:00Z", "2026-03-02T23:00Z", "2026-03-03T23:00Z"),
        (Unit.DAY, BERLIN, "2026-03-29T10:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        (Unit.DAY, BERLIN, "2026-10-25T10:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        (Unit.DAY, "America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
        (Unit.DAY, "Pacific/Apia", "2011-12-30T09:00Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        (Unit.WEEK, BERLIN, "2026-03-01T22:59Z", "2026-02-22T23:00Z", "2026-03-01T23:00Z"),
        (Unit.WEEK, BERLIN, "2026-03-01T23:00Z", "2026-03-01T23:00Z", "2026-03-08T23:00Z"),
        (Unit.MONTH, BERLIN, "2026-12-31T22:59Z", "2026-11-30T23:00Z", "2026-12-31T23:00Z"),
        (Unit.MONTH, "UTC", "2028-02-29T10:00Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
    ],
)
def test_a_period_follows_the_clocks_of_its_zone(unit, zone, nominal, start, end):
    assert period_of(at(nominal), unit, zone) == (at(start), at(end))


@settings(max_examples=400, deadline=None)
@given(nominal=st.one_of(INSTANTS, NEAR_CHANGES), unit=st.sampled_from(Unit), zone=st.sampled_from(ZONES))
def test_periods_follow_each_other_without_gap_or_overlap(nominal: datetime, unit: Unit, zone: str) -> None:
    start, end = period_of(nominal, unit, zone)
    tick = timedelta(microseconds=1)
    assert start <= nominal < end
    assert period_of(start, unit, zone) == period_of(end - tick, unit, zone) == (start, end)
    assert period_of(end, unit, zone)[0] == end
    assert period_of(start - tick, unit, zone)[1] == start


@given(nominal=INSTANTS, unit=st.sampled_from(Unit), back=st.integers(0, 5))
@settings(deadline=None)
def test_the_window_counts_back_whole_periods(nominal: datetime, unit: Unit, back: int) -> None:
    window = upstream_window(nominal, unit, BERLIN, back=back)
    assert upstream_window(nominal, unit, BERLIN) == period_of(nominal, unit, BERLIN)
    assert upstream_window(nominal, unit, BERLIN, back=back + 1)[1] == window[0]


@pytest.mark.parametrize("policy", PeriodPolicy)
@pytest.mark.parametrize("state", [None, *RunState])
def test_every_state_of_the_upstream_has_its_verdict(policy, state):
    verdict = decide(policy, state)
    if state is RunState.SUCCEEDED:
        assert verdict is Verdict.START
    elif state in LIVE or state is RunState.WAITING:
        assert verdict is Verdict.WAIT
    else:
        assert state is None or state in TERMINAL
        assert verdict is (Verdict.WAIT if policy is PeriodPolicy.WAIT else Verdict.UPSTREAM_FAILED)
