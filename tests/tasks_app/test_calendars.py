"""Allowed and blackout times across zones and clock changes, judged by looking at every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.calendar_documents import DAY_NAMES, parse
from tasks_app.calendars import Calendar, Rule, union
from tests.tasks_app.clock import at, seconds_taken

BERLIN = "Europe/Berlin"
WEEKDAYS = list(DAY_NAMES[:5])
MINUTE = timedelta(minutes=1)


def weekly(start: str = "09:00", end: str = "17:00", days: list[str] = WEEKDAYS) -> dict[str, Any]:
    return {"kind": "weekly", "days": days, "from": start, "to": end, "name": f"{start} to {end}"}


def calendar(
    zone: str = BERLIN, *, allowed: list[dict[str, Any]] | None = None, blackout: list[dict[str, Any]] | None = None
) -> Calendar:
    return parse({"time_zone": zone, "allowed": allowed or [], "blackout": blackout or []})


# What is allowed


def test_a_calendar_without_rules_allows_every_time():
    assert calendar().allows(at("2026-03-29T01:30Z"))
    assert calendar().next_allowed(at("2026-03-29T01:30:00.5Z")) == at("2026-03-29T01:30:00.5Z")
    assert calendar().reason(at("2026-03-29T01:30Z")) == ""


@pytest.mark.parametrize(
    ("instant", "allowed"),
    [
        ("2026-03-02T08:00Z", True),
        ("2026-03-02T07:59:59.999999Z", False),
        ("2026-03-02T15:59:59.999999Z", True),
        ("2026-03-02T16:00Z", False),
        ("2026-03-07T10:00Z", False),
        ("2026-07-06T07:00Z", True),
    ],
)
def test_weekly_hours_follow_the_wall_clock_and_leave_out_their_end(instant, allowed):
    assert calendar(allowed=[weekly()]).allows(at(instant)) is allowed


def test_hours_across_midnight_belong_to_the_day_on_which_they_begin():
    nights = calendar(allowed=[weekly("22:00", "06:00", ["sun"])])
    assert nights.allows(at("2026-03-01T21:00Z"))
    assert nights.allows(at("2026-03-02T04:59Z"))
    assert not nights.allows(at("2026-03-01T04:00Z"))
    assert not nights.allows(at("2026-03-02T21:00Z"))


def test_a_blackout_wins_over_what_is_allowed():
    both = calendar(allowed=[weekly()], blackout=[{"kind": "dates", "dates": ["2026-03-02"], "name": "Founders' day"}])
    monday = at("2026-03-02T10:00Z")
    assert not both.allows(monday)
    assert both.next_allowed(monday) == at("2026-03-03T08:00Z")
    assert both.reason(monday) == '2026-03-02 11:00:00 (Europe/Berlin) is blacked out by "Founders\' day".'


def test_the_reason_names_the_times_that_are_allowed():
    reason = calendar(allowed=[weekly()]).reason(at("2026-03-07T10:00Z"))
    assert reason == '2026-03-07 11:00:00 (Europe/Berlin) is outside the allowed times: "09:00 to 17:00".'


def test_a_range_of_dates_holds_its_last_day_and_a_range_of_times_ends_at_its_end():
    days = calendar(blackout=[{"kind": "range", "from": "2026-12-24", "to": "2026-12-26"}])
    assert not days.allows(at("2026-12-26T22:59Z"))
    assert days.next_allowed(at("2026-12-24T00:00Z")) == at("2026-12-26T23:00Z")
    times = calendar(blackout=[{"kind": "range", "from": "2026-12-24T12:00", "to": "2026-12-24T18:00:30"}])
    assert times.allows(at("2026-12-24T10:59:59Z"))
    assert times.next_allowed(at("2026-12-24T11:00Z")) == at("2026-12-24T17:00:30Z")


def test_a_worked_weekend_is_allowed_beside_the_weekdays():
    worked = {"kind": "dates", "dates": ["2026-02-14"], "from": "09:00", "to": "17:00"}
    china = calendar("Asia/Shanghai", allowed=[weekly(), worked])
    assert china.next_allowed(at("2026-02-13T12:00Z")) == at("2026-02-14T01:00Z")
    assert china.next_allowed(at("2026-02-14T12:00Z")) == at("2026-02-16T01:00Z")


# Clock changes


def test_hours_that_the_clock_skips_open_at_the_change():
    early = calendar(allowed=[weekly("02:30", "05:00", ["sun"])])
    assert early.next_allowed(at("2026-03-28T23:00Z")) == at("2026-03-29T01:00Z")
    gone = calendar(allowed=[weekly("02:00", "03:00", ["sun"])])
    assert gone.next_allowed(at("2026-03-28T23:00Z")) == at("2026-04-05T00:00Z")


def test_hours_in_a_repeated_hour_hold_both_times():
    half = calendar(allowed=[weekly("02:00", "02:30", ["sun"])])
    assert half.next_allowed(at("2026-10-25T00:30Z")) == at("2026-10-25T01:00Z")
    assert half.next_allowed(at("2026-10-25T01:30Z")) == at("2026-11-01T01:00Z")


def test_a_blackout_that_begins_in_a_repeated_hour_is_lifted_when_the_clock_is_set_back():
    long = calendar(blackout=[{"kind": "range", "from": "2026-10-25T02:30", "to": "2030-01-01"}])
    assert long.next_allowed(at("2026-10-25T00:45Z")) == at("2026-10-25T01:00Z")
    assert long.next_allowed(at("2026-10-25T01:30Z")) == at("2030-01-01T23:00Z")


def test_a_single_span_shows_again_when_the_clock_is_set_back():
    once = calendar(allowed=[{"kind": "range", "from": "2026-10-25T02:10", "to": "2026-10-25T02:20"}])
    assert once.next_allowed(at("2026-10-25T00:30Z")) == at("2026-10-25T01:10Z")
    assert once.next_allowed(at("2026-10-25T01:20Z")) is None


# Composition


def test_a_union_adds_what_is_allowed_and_takes_away_what_any_part_blacks_out():
    office = calendar("Asia/Shanghai", allowed=[weekly()])
    other = calendar("America/New_York", allowed=[weekly()])
    holidays = calendar(blackout=[{"kind": "dates", "dates": ["2026-03-02"]}])
    all_three = union([office, other, holidays])
    assert all_three.allows(at("2026-03-03T02:00Z"))
    assert all_three.allows(at("2026-03-03T15:00Z"))
    assert not all_three.allows(at("2026-03-03T11:00Z"))
    assert not all_three.allows(at("2026-03-02T15:00Z"))
    assert union([holidays]).allows(at("2026-03-07T15:00Z"))
    assert union([]) == Calendar()


def test_equal_rules_make_equal_calendars_with_equal_hashes():
    assert calendar(allowed=[weekly()]) == calendar(allowed=[weekly()])
    assert len({calendar(allowed=[weekly()]), calendar(allowed=[weekly()]), calendar(blackout=[weekly()])}) == 2


# Bounds


@pytest.mark.parametrize(
    "never",
    [
        calendar(allowed=[weekly()], blackout=[weekly("08:00", "18:00", list(DAY_NAMES))]),
        calendar(blackout=[weekly("00:00", "24:00", list(DAY_NAMES))]),
        calendar(allowed=[{"kind": "dates", "dates": ["2020-01-01"]}]),
        calendar(allowed=[{"kind": "range", "from": "2040-01-01", "to": "2041-01-01"}]),
        calendar(blackout=[{"kind": "range", "from": "2020-01-01", "to": "2900-01-01"}]),
    ],
)
def test_a_calendar_that_allows_nothing_within_ten_years_says_none_quickly(never):
    assert never.next_allowed(at("2026-03-02T10:00Z")) is None
    assert seconds_taken(lambda: never.next_allowed(at("2026-03-02T10:00Z"))) < 0.5


def test_many_tiny_windows_that_are_never_free_do_not_hold_up_a_tick():
    tiny = [
        weekly(f"{hour:02}:{minute:02}", f"{hour:02}:{minute + 1:02}") for hour in range(24) for minute in (0, 20, 40)
    ]
    hostile = calendar(allowed=tiny, blackout=[weekly("00:00", "24:00"), weekly("00:00", "23:59", ["sat", "sun"])])
    assert seconds_taken(lambda: hostile.next_allowed(at("2026-03-02T10:00Z"))) < 1


def test_a_typical_question_takes_far_less_than_a_millisecond():
    office = calendar(allowed=[weekly()], blackout=[{"kind": "dates", "dates": ["2026-12-24", "2026-12-25"]}])
    assert seconds_taken(lambda: office.next_allowed(at("2026-12-23T17:00Z"))) < 0.001
    assert office.next_allowed(at("2026-12-23T17:00Z")) == at("2026-12-28T08:00Z")


@pytest.mark.parametrize("instant", [datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 28, tzinfo=UTC)])
def test_the_ends_of_the_calendar_raise_nothing(instant):
    office = calendar(allowed=[weekly("09:00", "09:01", ["mon"])])
    found = office.next_allowed(instant)
    assert found is None or found >= instant


# Random calendars

CLOCKS = st.integers(0, 47).map(lambda half: f"{half // 2:02}:{half % 2 * 30:02}")
DAYS = st.lists(st.sampled_from(DAY_NAMES), min_size=1, max_size=7)
WEEKLY = st.builds(weekly, CLOCKS, CLOCKS, DAYS).filter(lambda rule: rule["from"] != rule["to"])
WALLS = st.integers(0, 6 * 48).map(lambda half: datetime(2026, 3, 27, tzinfo=UTC) + timedelta(minutes=30 * half))
RANGES = (
    st.tuples(WALLS, WALLS)
    .filter(lambda ends: ends[0] != ends[1])
    .map(lambda ends: {"kind": "range", "from": f"{min(ends):%FT%R}", "to": f"{max(ends):%FT%R}"})
)
RULES = st.lists(st.one_of(WEEKLY, RANGES), max_size=3)
CALENDARS = st.builds(
    lambda zone, allowed, blackout: calendar(zone, allowed=allowed, blackout=blackout),
    st.sampled_from([BERLIN, "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Shanghai"]),
    RULES,
    RULES,
)
# Berlin's clocks change on 29 March, Lord Howe's on 5 April of 2026.
INSTANTS = st.integers(0, 10 * 24 * 6).map(lambda tens: at("2026-03-27T00:07Z") + timedelta(minutes=10 * tens))


def by_rules(whole: Calendar, moment: datetime) -> bool:
    covered = any(rule.covers(moment) for rule in whole.allowed) or not whole.allowed
    return covered and not any(rule.covers(moment) for rule in whole.blackout)


@settings(max_examples=150, deadline=None)
@given(whole=st.lists(CALENDARS, min_size=1, max_size=2).map(union), instant=INSTANTS)
def test_the_next_allowed_time_is_the_first_that_a_look_at_the_clock_finds(whole: Calendar, instant: datetime) -> None:
    found = whole.next_allowed(instant)
    assert whole.allows(instant) is by_rules(whole, instant) is (found == instant) is (whole.reason(instant) == "")
    # Every edge lies on a half hour, of UTC and of each of these zones.
    moment = instant
    for _ in range(8 * 48):
        if by_rules(whole, moment):
            assert found == moment
            return
        moment += timedelta(minutes=30) - (timedelta(minutes=7) if moment == instant else timedelta())
        moment = moment.replace(minute=moment.minute // 30 * 30)
    assert found is None or found >= moment


@given(whole=CALENDARS, instant=INSTANTS)
@settings(deadline=None)
def test_what_is_found_is_allowed_and_the_moment_before_it_is_not(whole: Calendar, instant: datetime) -> None:
    found = whole.next_allowed(instant)
    if found is not None and found != instant:
        assert by_rules(whole, found)
        assert not by_rules(whole, found - timedelta(microseconds=1))


def test_a_rule_without_spans_covers_nothing():
    assert not Rule("empty", "UTC").covers(at("2026-03-02T10:00Z"))
    assert Calendar(allowed=(Rule("empty", "UTC"),)).next_allowed(at("2026-03-02T10:00Z")) is None
