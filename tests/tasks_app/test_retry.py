"""When a failed run is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks_app.retry import MAX_DELAY_SECONDS, next_attempt

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 3600), (400, 3600)])
def test_the_delay_doubles_up_to_an_hour(attempt, seconds):
    due = next_attempt(attempt=attempt, retry_count=1000, delay_seconds=10, now=NOW)
    assert due == NOW + timedelta(seconds=seconds)


def test_no_retry_is_left_after_as_many_as_allowed():
    assert next_attempt(attempt=1, retry_count=0, delay_seconds=10, now=NOW) is None
    assert next_attempt(attempt=3, retry_count=3, delay_seconds=0, now=NOW) == NOW
    assert next_attempt(attempt=4, retry_count=3, delay_seconds=0, now=NOW) is None


@pytest.mark.parametrize(("asked", "seconds"), [(0, 0), (7.5, 7.5), (-3, 0), (1e12, MAX_DELAY_SECONDS)])
def test_a_delay_that_the_run_asks_for_takes_the_place_of_the_other(asked, seconds):
    due = next_attempt(attempt=1, retry_count=1, delay_seconds=10, now=NOW, asked_delay=asked)
    assert due == NOW + timedelta(seconds=seconds)
