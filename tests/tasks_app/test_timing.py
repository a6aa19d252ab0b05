"""One rule object for firing, previews and catch-up: every way to ask gives the same instants."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app import cron
from tasks_app.timing import Timing
from tests.tasks_app.clock import at, seconds_taken

START = at("2026-03-28T00:00:00Z")
MICROSECOND = timedelta(microseconds=1)


def by_cron(expression: str, zone: str = "Europe/Berlin", **bounds: datetime) -> Timing:
    return Timing("cron", cron=cron.parse(expression), time_zone=zone, **bounds)  # type: ignore[arg-type]


def by_interval(seconds: int, anchor: datetime = START, **bounds: datetime) -> Timing:
    return Timing("interval", interval=timedelta(seconds=seconds), anchor=anchor, **bounds)  # type: ignore[arg-type]


TIMINGS = [
    by_cron("*/5 * * * *"),
    by_cron("30 2 * * *"),
    by_cron("*/7 * 3 * * *"),
    by_cron("0 * * * *", start_at=START + timedelta(hours=7, minutes=30), end_at=START + timedelta(hours=40)),
    by_interval(1),
    by_interval(7200),
    by_interval(90, anchor=START + timedelta(hours=5), start_at=START + timedelta(hours=5)),
    by_interval(600, anchor=START - timedelta(days=3), end_at=START + timedelta(hours=9)),
    Timing("once", at=START + timedelta(hours=3)),
]


@settings(max_examples=60, deadline=None)
@given(
    timing=st.sampled_from(TIMINGS),
    minutes=st.integers(-600, 3000),
    length=st.sampled_from([0, 1, 59, 600, 6000, 30_000]),
    limit=st.integers(0, 40),
)
def test_every_question_gives_the_same_instants(timing: Timing, minutes: int, length: int, limit: int) -> None:
    after = START + timedelta(minutes=minutes)
    until = after + timedelta(seconds=length)
    walked, instant = [], timing.next_after(after)
    while instant is not None and instant <= until:
        walked.append(instant)
        instant = timing.next_after(instant)
    assert all(earlier < later for earlier, later in pairwise([after, *walked]))
    assert timing.count_between(after, until) == len(walked)
    assert timing.last_between(after, until) == (walked[-1] if walked else None)
    assert timing.first_between(after, until, limit) == walked[:limit]
    assert timing.last_few_between(after, until, limit) == walked[max(len(walked) - limit, 0) :]
    assert timing.upcoming(after, 3)[: len(walked[:3])] == walked[:3]


def test_an_interval_keeps_to_its_anchor() -> None:
    timing = by_interval(3600, anchor=START + timedelta(minutes=10))
    assert timing.next_after(START) == START + timedelta(minutes=10)
    assert timing.next_after(START + timedelta(minutes=10)) == START + timedelta(minutes=70)
    assert timing.next_after(START + timedelta(days=400)) == START + timedelta(days=400, minutes=10)


def test_start_and_end_are_inclusive() -> None:
    timing = by_cron("0 * * * *", "UTC", start_at=START, end_at=START + timedelta(hours=2))
    assert timing.upcoming(START - timedelta(days=9), 9) == [START + timedelta(hours=n) for n in range(3)]
    assert timing.next_after(START + timedelta(hours=2)) is None
    assert timing.next_after(START - MICROSECOND) == START


def test_an_instant_that_comes_once_does_not_come_again() -> None:
    timing = Timing("once", at=START)
    assert timing.next_after(START - MICROSECOND) == START
    assert timing.next_after(START) is None
    assert timing.upcoming(START - timedelta(days=1), 5) == [START]


def test_an_interval_near_the_end_of_the_calendar_ends() -> None:
    assert by_interval(3600).next_after(at("9999-12-31T23:30:00Z")) is None


@pytest.mark.parametrize("timing", TIMINGS[:3], ids=["minutes", "daily", "burst"])
def test_the_last_hundred_of_ten_years_are_found_at_once(timing: Timing) -> None:
    until = START + timedelta(days=3650)
    assert len(timing.last_few_between(START, until, 100)) == 100
    assert seconds_taken(lambda: timing.last_few_between(START, until, 100)) < 0.05
