"""What a calendar makes of the instants of a rule: fires and pieces say the same, and leave no instant out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app import allowance, catch_up, cron
from tasks_app.allowance import Allowance, Fire, Outlook
from tasks_app.calendar_documents import parse
from tasks_app.catch_up import Policy
from tasks_app.timing import Timing
from tests.tasks_app.clock import at, seconds_taken

START = at("2026-03-27T12:00:00Z")
BERLIN = "Europe/Berlin"
TIMINGS = [
    Timing("cron", cron=cron.parse("*/7 * * * *"), time_zone=BERLIN),
    Timing("cron", cron=cron.parse("30 2 * * *"), time_zone=BERLIN),
    Timing("interval", interval=timedelta(minutes=45), anchor=START, end_at=START + timedelta(days=3)),
    Timing("once", at=START + timedelta(hours=30)),
]
CALENDARS = [
    parse(
        {"time_zone": BERLIN, "allowed": [{"kind": "weekly", "days": ["mon", "fri"], "from": "09:00", "to": "17:00"}]}
    ),
    parse({"time_zone": BERLIN, "blackout": [{"kind": "weekly", "from": "01:30", "to": "03:10"}]}),
    parse({"blackout": [{"kind": "range", "from": "2026-03-28", "to": "2026-03-29"}]}),
    parse({"blackout": [{"kind": "weekly"}]}),
]


@settings(max_examples=100, deadline=None)
@given(
    timing=st.sampled_from(TIMINGS),
    calendar=st.sampled_from(CALENDARS),
    action=st.sampled_from(["skip", "next_allowed"]),
    start=st.integers(0, 3000),
    length=st.integers(0, 6000),
)
def test_firing_minute_by_minute_and_all_at_once_and_the_preview_agree(timing, calendar, action, start, length):
    rule = Allowance(calendar, action)
    after, until = START + timedelta(minutes=start), START + timedelta(minutes=start + length)
    policy = Policy("all", timedelta(days=30), 10_000)
    whole = catch_up.answer(timing, policy, after=after, now=until, allowance=rule)
    expected = timing.first_between(after, until, 100_000)
    told = [run.nominal_at for run in whole.runs]
    for stretch in whole.stretches:
        inside = [fire for fire in expected if stretch.first_at <= fire <= stretch.last_at]
        assert (inside[0], inside[-1], len(inside)) == (stretch.first_at, stretch.last_at, stretch.count)
        told += inside
    assert sorted(told) == expected
    one_by_one: list[Fire] = []
    for instant in expected:
        step = catch_up.answer(timing, policy, after=instant - timedelta(microseconds=1), now=instant, allowance=rule)
        one_by_one += step.runs
    assert one_by_one == whole.runs
    assert allowance.outlook(timing, rule, after, len(whole.runs)) == Outlook(whole.runs)
    assert all(calendar.allows(run.due_at) for run in whole.runs)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_the_next_blocked_instant_is_the_first_that_is_not_allowed(calendar):
    step = timedelta(minutes=5)
    for offset in range(0, 4 * 288, 7):
        moment = START + step * offset
        walked = moment
        while calendar.allows(walked) and walked <= moment + timedelta(days=2):
            walked += step
        found = calendar.next_blocked(moment, moment + timedelta(days=2))
        assert found == (walked if walked <= moment + timedelta(days=2) else None)


def test_a_schedule_that_never_meets_its_calendar_is_given_up_soon():
    rule = Allowance(CALENDARS[0], "skip")
    nightly = Timing("cron", cron=cron.parse("0 3 * * *"))
    found = allowance.outlook(nightly, rule, START)
    assert found.fires == [] and found.looked_until is not None
    assert nightly.count_between(START, found.looked_until) >= allowance.MOST_CLOSED
    assert seconds_taken(lambda: allowance.outlook(nightly, rule, START)) < 0.2


def test_it_tells_what_never_comes_again_from_what_is_only_not_in_sight():
    rule, day = Allowance(CALENDARS[0], "skip"), timedelta(days=1)
    nightly = Timing("cron", cron=cron.parse("0 3 * * *"), end_at=START + 30 * day)
    assert allowance.outlook(nightly, rule, START) == Outlook([])
    hourly = Timing("interval", interval=timedelta(hours=1), anchor=START, end_at=START + day)
    assert len(allowance.outlook(hourly, Allowance(), START - day, 100).fires) == 25
    assert allowance.outlook(hourly, Allowance(), START - day, 100).looked_until is None
    some = allowance.outlook(Timing("cron", cron=cron.parse("0 3,12 * * *")), rule, START, 3)
    assert (len(some.fires), some.looked_until) == (3, None)
