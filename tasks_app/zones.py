"""Where the clocks of a time zone change, and the instants of its wall times. Pure."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tasks_app.cron import EARLIEST, LATEST, zone

_SECOND = timedelta(seconds=1)
# No zone has ever changed its clock twice within a week of each other and back again.
_SAMPLE = timedelta(days=7)


def wall_time(zone_name: str, at: datetime) -> datetime:
    """What the clocks of the zone show at `at`, naive."""
    return at.astimezone(zone(zone_name)).replace(tzinfo=None)


def next_change(zone_name: str, at: datetime) -> datetime:
    """The next change of the zone's clocks strictly after `at`, in UTC; if none comes within the year after that of
    `at`, the end of that year, up to which the offset from UTC stays what it is at `at`."""
    year = at.astimezone(UTC).year
    for candidate in (year, year + 1):
        changes = _changes(zone_name, candidate)
        if (position := bisect_right(changes, at)) < len(changes):
            return changes[position]
    return _start_of(year + 2)


def last_change(zone_name: str, at: datetime) -> datetime:
    """The last change of the zone's clocks at or before `at`, in UTC; if none came since the year before that of
    `at` began, that beginning."""
    year = at.astimezone(UTC).year
    for candidate in (year, year - 1):
        changes = _changes(zone_name, candidate)
        if position := bisect_right(changes, at):
            return changes[position - 1]
    return _start_of(year - 1)


def first_instant_of(zone_name: str, wall: datetime) -> datetime:
    """The first instant, in UTC, at which the zone's clocks show the naive `wall`; if they skip it, that at which they
    skip it."""
    local = wall.replace(tzinfo=zone(zone_name))
    early, late = sorted((local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)))
    if early == late or wall_time(zone_name, early) == wall:
        return early
    return last_change(zone_name, late)


def _start_of(year: int) -> datetime:
    if year <= EARLIEST.year:
        return EARLIEST
    return datetime(year, 1, 1, tzinfo=UTC) if year <= LATEST.year else LATEST


@lru_cache(maxsize=4096)
def _changes(zone_name: str, year: int) -> tuple[datetime, ...]:
    """Every change of the offset from UTC in a year of UTC, to the second."""
    start, end = _start_of(year) - _SECOND, _start_of(year + 1) - _SECOND
    found = []
    while start < end:
        stop = min(start + _SAMPLE, end)
        if _offset(zone_name, start) != _offset(zone_name, stop):
            found.append(_first_with_offset_of(zone_name, stop, start))
        start = stop
    return tuple(found)


def _first_with_offset_of(zone_name: str, late: datetime, early: datetime) -> datetime:
    offset = _offset(zone_name, late)
    while late - early > _SECOND:
        middle = early + (late - early) // _SECOND // 2 * _SECOND
        if _offset(zone_name, middle) == offset:
            late = middle
        else:
            early = middle
    return late


def _offset(zone_name: str, at: datetime) -> timedelta:
    offset = at.astimezone(zone(zone_name)).utcoffset()
    assert offset is not None
    return offset
