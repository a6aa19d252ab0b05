"""No window of time holds more starts than the rate allows, and none is refused without need."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rates import Allowance, Rate, allowance, allowance_by_count
from tests.tasks_app.clock import at

NOW = at("2026-03-02T10:00Z")
MINUTE = timedelta(minutes=1)


def ago(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=value) for value in seconds]


@pytest.mark.parametrize(
    ("limit", "starts", "expected"),
    [
        (3, ago(), Allowance(3, NOW)),
        (3, ago(10, 59.9), Allowance(1, NOW)),
        (3, ago(10, 20, 60), Allowance(1, NOW)),
        (3, ago(10, 50, 20), Allowance(0, NOW + timedelta(seconds=10))),
        (3, ago(10, 20, 30, 40, 50), Allowance(0, NOW + timedelta(seconds=30))),
        (1, ago(-5), Allowance(0, NOW + timedelta(seconds=65))),
        (0, ago(), Allowance(0, None)),
        (0, ago(1), Allowance(0, None)),
    ],
)
def test_the_window_slides(limit, starts, expected):
    assert allowance(Rate(limit, MINUTE), starts, NOW) == expected


@pytest.mark.parametrize(
    ("limit", "count", "oldest", "expected"),
    [
        (3, 0, None, Allowance(3, NOW)),
        (3, 2, 50, Allowance(1, NOW)),
        (3, 3, 50, Allowance(0, NOW + timedelta(seconds=10))),
        (3, 5, 50, Allowance(0, NOW + timedelta(seconds=10))),
        (0, 0, None, Allowance(0, None)),
        (0, 2, 50, Allowance(0, None)),
    ],
)
def test_a_count_and_the_oldest_start_are_enough(limit, count, oldest, expected):
    moment = None if oldest is None else NOW - timedelta(seconds=oldest)
    assert allowance_by_count(Rate(limit, MINUTE), count, moment, NOW) == expected


@settings(deadline=None)
@given(
    limit=st.integers(1, 5),
    waits=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    wanted=st.lists(st.integers(1, 4), min_size=60, max_size=60),
)
def test_no_window_holds_more_than_the_limit(limit: int, waits: list[int], wanted: list[int]) -> None:
    rate, starts, now = Rate(limit, MINUTE), list[datetime](), NOW
    for wait, many in zip(waits, wanted, strict=False):
        now += timedelta(seconds=wait)
        starts += [now] * min(allowance(rate, starts, now).count, many)
    for end in starts:
        assert sum(end - MINUTE < start <= end for start in starts) <= limit


@settings(deadline=None)
@given(limit=st.integers(1, 5), seconds=st.lists(st.integers(0, 90), max_size=12))
def test_the_next_time_is_the_first_at_which_one_may_start(limit: int, seconds: list[int]) -> None:
    rate, starts = Rate(limit, MINUTE), ago(*seconds)
    found = allowance(rate, starts, NOW)
    assert found.next_at is not None
    assert allowance(rate, starts, found.next_at).count > 0
    assert found.next_at == NOW or allowance(rate, starts, found.next_at - timedelta(microseconds=1)).count == 0
    counted = [start for start in starts if start > NOW - MINUTE]
    if len(counted) <= limit:
        assert allowance_by_count(rate, len(counted), min(counted, default=None), NOW) == found
