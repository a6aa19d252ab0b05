"""Dependencies by period: the hour, day, week or month of a time zone that a nominal time lies in. Pure.

The periods of a unit follow each other without gap or overlap, whatever clocks do: a day has 23 or 25 hours where they
change, and an hour that comes twice is two hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from tasks_app.dependencies import Verdict
from tasks_app.states import TERMINAL, RunState
from tasks_app.zones import first_instant_of, last_change, next_change, wall_time

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Unit(StrEnum):
    """How long a period is. A week begins on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class PeriodPolicy(StrEnum):
    """What a run does when no run of its upstream has succeeded in the period."""

    FAIL = "fail"
    WAIT = "wait"


def period_of(nominal_at: datetime, unit: Unit, zone: str) -> tuple[datetime, datetime]:
    """The period that `nominal_at` (aware) lies in: its start and, not included, its end, in UTC."""
    nominal_at = nominal_at.astimezone(UTC)
    if unit is Unit.HOUR:
        return _hour_of(nominal_at, zone)
    first = _first_day(wall_time(zone, nominal_at).date(), unit)
    start, end = _midnight(first, zone), _midnight(_next_first_day(first, unit), zone)
    # Clocks set back at midnight show the evening of the day before once more.
    if nominal_at >= end:
        first = _next_first_day(first, unit)
        start, end = end, _midnight(_next_first_day(first, unit), zone)
    elif nominal_at < start:
        start, end = _midnight(_first_day(first - DAY, unit), zone), start
    return start, end


def upstream_window(nominal_at: datetime, unit: Unit, zone: str, *, back: int = 0) -> tuple[datetime, datetime]:
    """The period in which the upstream's last run has its nominal time, for a downstream run of `nominal_at`.

    `back` counts periods back in time: 0 is the period of `nominal_at` itself, 1 the one before. UTC, end not included.
    """
    start, end = period_of(nominal_at, unit, zone)
    for _ in range(back):
        start, end = period_of(start - timedelta(microseconds=1), unit, zone)
    return start, end


def decide(policy: PeriodPolicy, last: RunState | None) -> Verdict:
    """The verdict of a dependency by period, `last` being the state of the upstream's last run in the window, if any.

    A run that is still under way is waited for under both policies.
    """
    if last is RunState.SUCCEEDED:
        return Verdict.START
    if policy is PeriodPolicy.WAIT or (last is not None and last not in TERMINAL):
        return Verdict.WAIT
    return Verdict.UPSTREAM_FAILED


def _hour_of(at: datetime, zone: str) -> tuple[datetime, datetime]:
    wall = wall_time(zone, at)
    start = at - timedelta(minutes=wall.minute, seconds=wall.second, microseconds=wall.microsecond)
    # Where clocks change by half an hour, the change ends one period and begins the next.
    return max(start, last_change(zone, at)), min(start + HOUR, next_change(zone, at))


def _first_day(day: date, unit: Unit) -> date:
    if unit is Unit.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit is Unit.MONTH else day


def _next_first_day(first: date, unit: Unit) -> date:
    if unit is Unit.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if unit is Unit.WEEK else 1)


def _midnight(day: date, zone: str) -> datetime:
    return first_instant_of(zone, datetime.combine(day, time()))
