"""Calendars: at which times a schedule may fire. Pure: imports no model; holidays are dates stored beforehand.

A time is allowed when some allowed rule covers it (or there is none at all) and no blackout rule does. Rules speak of
the wall clock of their zone, each span from its start up to, not including, its end: a span in a repeated hour holds
in both passes, one in a skipped hour never.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from tasks_app.cron import LATEST
from tasks_app.zones import next_change, wall_time

__all__ = ["SEARCH", "Calendar", "Rule", "union"]

SEARCH = timedelta(days=3653)
# Against rules made to be searched for long: business hours use some 10,000 of these in ten years.
MOST_EDGES = 20_000
DAY = timedelta(days=1)
WEEK = timedelta(days=7)

# From and until, in wall time since Monday 00:00; until is at most a week.
WeekSpan = tuple[timedelta, timedelta]
# From and until, naive.
WallSpan = tuple[datetime, datetime]
Point = TypeVar("Point", timedelta, datetime)


@dataclass(frozen=True, slots=True)
class Rule:
    """A named set of spans of the wall clock of one zone: some come back each week, some come once."""

    name: str
    time_zone: str
    weekly: tuple[WeekSpan, ...] = ()
    spans: tuple[WallSpan, ...] = ()

    def covers(self, at: datetime) -> bool:
        """Whether `at` lies in one of the spans."""
        wall = wall_time(self.time_zone, at)
        since_monday = _since_monday(wall)
        return any(start <= since_monday < end for start, end in self.weekly) or any(
            start <= wall < end for start, end in self.spans
        )


@dataclass(frozen=True, slots=True)
class _Cover:
    """All spans of some rules in one zone, merged and in order, so that a question is a binary search."""

    time_zone: str
    week_starts: list[timedelta]
    week_ends: list[timedelta]
    starts: list[datetime]
    ends: list[datetime]

    def until(self, at: datetime) -> datetime | None:
        """An instant up to which `at` is covered without a break, or None when it is not covered."""
        wall = wall_time(self.time_zone, at)
        since_monday = _since_monday(wall)
        lefts = []
        if (found := bisect_right(self.week_starts, since_monday)) and self.week_ends[found - 1] > since_monday:
            lefts.append(self.week_ends[found - 1] - since_monday)
        if (found := bisect_right(self.starts, wall)) and self.ends[found - 1] > wall:
            lefts.append(self.ends[found - 1] - wall)
        return min(_later(at, max(lefts)), next_change(self.time_zone, at)) if lefts else None

    def begins(self, at: datetime) -> datetime | None:
        """For an uncovered `at`: an instant before which nothing is covered, or None when nothing ever will be."""
        wall = wall_time(self.time_zone, at)
        since_monday = _since_monday(wall)
        change = next_change(self.time_zone, at)
        waits = []
        if self.week_starts:
            found = bisect_right(self.week_starts, since_monday)
            later = self.week_starts[found] if found < len(self.week_starts) else self.week_starts[0] + WEEK
            waits.append(later - since_monday)
        if (found := bisect_right(self.starts, wall)) < len(self.starts):
            waits.append(self.starts[found] - wall)
        if waits:
            return min(_later(at, min(waits)), change)
        # Clocks set back soon may show a span again that is over.
        return change if change - at <= DAY else None


@dataclass(frozen=True, slots=True)
class Calendar:
    """Allowed and blackout rules. Hashable, equal by its rules."""

    allowed: tuple[Rule, ...] = ()
    blackout: tuple[Rule, ...] = ()
    _allowed: tuple[_Cover, ...] = field(init=False, compare=False, repr=False)
    _blackout: tuple[_Cover, ...] = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allowed", _covers(self.allowed))
        object.__setattr__(self, "_blackout", _covers(self.blackout))
        object.__setattr__(self, "_hash", hash((self.allowed, self.blackout)))

    def __hash__(self) -> int:
        return self._hash

    def allows(self, at: datetime) -> bool:
        """Whether a run may be fired at `at` (aware)."""
        at = at.astimezone(UTC)
        if any(cover.until(at) is not None for cover in self._blackout):
            return False
        return not self.allowed or any(cover.until(at) is not None for cover in self._allowed)

    def next_allowed(self, at: datetime) -> datetime | None:
        """The first allowed instant at or after `at` (aware), in UTC.

        None when there is none within ten years, or none before 20,000 edges of rules are passed.
        """
        opening, _looked_until = self.look_ahead(at)
        return opening

    def look_ahead(self, at: datetime) -> tuple[datetime | None, datetime | None]:
        """What `next_allowed` answers; and where that is None, the instant (UTC) before which nothing is allowed, None
        when nothing ever will be."""
        at = at.astimezone(UTC)
        limit = _later(at, SEARCH)
        for _ in range(MOST_EDGES):
            if at >= LATEST:
                return None, None
            if at > limit:
                break
            closed = [until for cover in self._blackout if (until := cover.until(at)) is not None]
            if closed:
                at = max(closed)
                continue
            if not self.allowed or any(cover.until(at) is not None for cover in self._allowed):
                return at, None
            opening = [begin for cover in self._allowed if (begin := cover.begins(at)) is not None]
            if not opening:
                return None, None
            at = min(opening)
        return None, at

    def next_blocked(self, at: datetime, until: datetime) -> datetime | None:
        """The first instant from `at` up to and including `until` (both aware) that is not allowed, in UTC.

        None when there is none, or none before 20,000 edges of rules are passed.
        """
        at, until = at.astimezone(UTC), until.astimezone(UTC)
        for _ in range(MOST_EDGES):
            if at > until:
                return None
            if any(cover.until(at) is not None for cover in self._blackout):
                return at
            edges = [begin for cover in self._blackout if (begin := cover.begins(at)) is not None]
            if self.allowed:
                ends = [end for cover in self._allowed if (end := cover.until(at)) is not None]
                if not ends:
                    return at
                edges.append(max(ends))
            if not edges or (found := min(edges)) >= LATEST:
                return None
            at = found
        return None

    def reason(self, at: datetime) -> str:
        """A sentence that says why `at` is not allowed; empty when it is."""
        for rule in self.blackout:
            if rule.covers(at):
                return f'{_shown(rule, at)} is blacked out by "{rule.name}".'
        if not self.allowed or any(rule.covers(at) for rule in self.allowed):
            return ""
        names = ", ".join(f'"{rule.name}"' for rule in self.allowed[:5]) + (", …" if len(self.allowed) > 5 else "")
        return f"{_shown(self.allowed[0], at)} is outside the allowed times: {names}."


def union(calendars: Iterable[Calendar]) -> Calendar:
    """All rules of several calendars together: allowed where one of them allows, and no blackout of any holds.

    A calendar of blackouts alone takes away from what the others allow; by itself it allows all the rest.
    """
    parts = list(calendars)
    return Calendar(
        tuple(dict.fromkeys(rule for part in parts for rule in part.allowed)),
        tuple(dict.fromkeys(rule for part in parts for rule in part.blackout)),
    )


def _covers(rules: tuple[Rule, ...]) -> tuple[_Cover, ...]:
    covers = []
    for zone in dict.fromkeys(rule.time_zone for rule in rules):
        mine = [rule for rule in rules if rule.time_zone == zone]
        weekly = _merged(span for rule in mine for span in rule.weekly)
        spans = _merged(span for rule in mine for span in rule.spans)
        week_starts, week_ends = [start for start, _ in weekly], [end for _, end in weekly]
        covers.append(_Cover(zone, week_starts, week_ends, [start for start, _ in spans], [end for _, end in spans]))
    return tuple(covers)


def _merged(spans: Iterable[tuple[Point, Point]]) -> list[tuple[Point, Point]]:
    merged: list[tuple[Point, Point]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged


def _since_monday(wall: datetime) -> timedelta:
    return timedelta(
        days=wall.weekday(), hours=wall.hour, minutes=wall.minute, seconds=wall.second, microseconds=wall.microsecond
    )


def _later(at: datetime, wait: timedelta) -> datetime:
    return at + wait if LATEST - at > wait else LATEST


def _shown(rule: Rule, at: datetime) -> str:
    return f"{wall_time(rule.time_zone, at).isoformat(' ', 'seconds')} ({rule.time_zone})"
