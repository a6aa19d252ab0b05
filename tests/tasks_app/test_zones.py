"""Changes of clocks, and the instants of wall times, judged by looking at every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.zones import first_instant_of, last_change, next_change, wall_time
from tests.tasks_app.clock import at

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("zone", "before", "change"),
    [
        ("Europe/Berlin", "2026-01-01T00:00Z", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29T00:59:59.9Z", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29T01:00Z", "2026-10-25T01:00Z"),
        ("Europe/Berlin", "2026-12-01T00:00Z", "2027-03-28T01:00Z"),
        ("Australia/Lord_Howe", "2026-03-01T00:00Z", "2026-04-04T15:00Z"),
        ("Pacific/Apia", "2011-12-01T00:00Z", "2011-12-30T10:00Z"),
        ("Asia/Shanghai", "2026-03-01T00:00Z", "2028-01-01T00:00Z"),
    ],
)
def test_the_next_change_is_found_to_the_second(zone, before, change):
    assert next_change(zone, at(before)) == at(change)


def test_the_last_change_counts_at_its_own_instant():
    change = at("2026-03-29T01:00Z")
    assert last_change("Europe/Berlin", change) == change
    assert last_change("Europe/Berlin", change - timedelta(microseconds=1)) == at("2025-10-26T01:00Z")
    assert last_change("Asia/Shanghai", change) == at("2025-01-01T00:00Z")


@pytest.mark.parametrize(
    ("zone", "wall", "instant"),
    [
        ("Europe/Berlin", "2026-03-29T01:59", "2026-03-29T00:59Z"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30Z"),
        ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00Z"),
        ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00Z"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00Z"),
    ],
)
def test_a_wall_time_is_read_the_first_time_it_comes_or_where_it_is_skipped(zone, wall, instant):
    assert first_instant_of(zone, datetime.fromisoformat(wall)) == at(instant)


@settings(max_examples=200, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    instant=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_between_two_changes_the_offset_stays(zone: str, instant: datetime) -> None:
    last, following = last_change(zone, instant), next_change(zone, instant)
    assert last <= instant < following
    offset = wall_time(zone, instant) - instant.replace(tzinfo=None)
    for moment in (last, instant, following - timedelta(seconds=1)):
        assert wall_time(zone, moment) - moment.replace(tzinfo=None) == offset


@pytest.mark.parametrize("year", [1, 9999])
def test_the_ends_of_the_calendar_raise_nothing(year):
    moment = datetime(year, 6, 1, tzinfo=UTC)
    assert last_change("Europe/Berlin", moment) <= moment < next_change("Europe/Berlin", moment)
