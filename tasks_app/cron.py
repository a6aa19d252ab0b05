"""When a cron expression fires in a time zone: pure, no database, no clock of its own."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from tasks_app.cron_fields import MONTH_NAMES, Cron, CronError, days_text, parse, values_text

__all__ = [
    "Cron",
    "CronError",
    "badges",
    "count_between",
    "describe",
    "fires_between",
    "last_fire",
    "next_fire",
    "parse",
    "upcoming",
    "zone",
]

Gap = Literal["run_after", "skip"]
Repeat = Literal["first", "both"]
# A chunk is (base, offsets): the instants base + offset, ascending.
Chunk = tuple[datetime, Sequence[timedelta]]

ZERO = timedelta(0)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
# Like crontab(5): a clock that jumps further than this is a clock set anew, not daylight saving.
LARGEST_HELPED_JUMP = timedelta(hours=3)
# Instants whose local time in any zone is still a date.
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(MAXYEAR, 12, 29, tzinfo=UTC)
LAST_WALL_TIME = LATEST.replace(tzinfo=None)

_ZONE_NAME = re.compile(r"[A-Za-z0-9+_-]{1,40}(?:/[A-Za-z0-9+_-]{1,40}){0,2}", re.ASCII)
_NO_PLACES = frozenset({"localtime", "posixrules", "Factory"})


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that exact name. Raises CronError for any other text."""
    if not _ZONE_NAME.fullmatch(name) or name not in _zone_names():
        shown = ascii(name if len(name) <= 60 else name[:57] + "...")
        raise CronError(f"The time zone {shown} is unknown; allowed are IANA names such as 'UTC' or 'Europe/Berlin'.")
    return ZoneInfo(name)


_zone = zone


def next_fire(
    cron: Cron, zone: str, after: datetime, *, gap: Gap = "run_after", repeat: Repeat = "first"
) -> datetime | None:
    """The first instant strictly after `after` (aware), in UTC; None only at the end of the calendar.

    `gap` says what a fixed-time job does when the clock skips its time, `repeat` whether it fires in both passes of
    a repeated hour. Raises CronError for an unknown zone and ValueError for a naive `after`.
    """
    return next(_fires(cron, zone, after, gap, repeat), None)


def upcoming(
    cron: Cron, zone: str, after: datetime, count: int, *, gap: Gap = "run_after", repeat: Repeat = "first"
) -> list[datetime]:
    """The first `count` instants strictly after `after`, in UTC."""
    return list(islice(_fires(cron, zone, after, gap, repeat), count))


def fires_between(
    cron: Cron,
    zone: str,
    after: datetime,
    until: datetime,
    *,
    limit: int,
    gap: Gap = "run_after",
    repeat: Repeat = "first",
) -> list[datetime]:
    """The instants in (after, until], in UTC, the earliest `limit` of them."""
    until = _in_utc(until)
    fires = takewhile(lambda fire: fire <= until, _fires(cron, zone, after, gap, repeat))
    return list(islice(fires, limit))


def count_between(
    cron: Cron, zone: str, after: datetime, until: datetime, *, gap: Gap = "run_after", repeat: Repeat = "first"
) -> int:
    """How many instants lie in (after, until]; the work grows with the hours that fire, not with the fires."""
    until = _in_utc(until)
    count = 0
    for base, offsets in _chunks(cron, _zone(zone), after, gap, repeat):
        if base + offsets[-1] > until:
            return count + bisect_right(offsets, until - base)
        count += len(offsets)
    return count


def last_fire(
    cron: Cron,
    zone: str,
    until: datetime,
    *,
    since: datetime | None = None,
    gap: Gap = "run_after",
    repeat: Repeat = "first",
) -> datetime | None:
    """The last instant in (since, until], in UTC, or None; without `since`, the last one at all up to `until`.

    Looks back over windows that widen, then halves: some 40 calls of `next_fire` whatever the distance.
    """
    until = _in_utc(until)
    floor = _in_utc(since) if since is not None else EARLIEST
    window = HOUR
    while True:
        start = until - window if until - floor > window else floor
        found = next_fire(cron, zone, start, gap=gap, repeat=repeat)
        if found is not None and found <= until:
            break
        if start == floor:
            return None
        window *= 8
    late = until
    while late - found >= SECOND:
        middle = found + (late - found) / 2
        fire = next_fire(cron, zone, middle, gap=gap, repeat=repeat)
        if fire is not None and fire <= until:
            found = fire
        else:
            late = middle
    return found


def badges(
    cron: Cron,
    zone: str,
    fire: datetime,
    *,
    gap: Gap = "run_after",
    repeat: Repeat = "first",  # noqa: ARG001
) -> list[str]:
    """Why clock changes matter to this fire: `dst_gap` (moved here out of skipped local time),
    `dst_repeat_first` / `dst_repeat_second` (its local time comes twice on that day).
    Takes the whole policy as every question does, though `repeat` changes no badge.
    """
    fire = _in_utc(fire)
    local_zone = _zone(zone)
    local = fire.astimezone(local_zone)
    wall = local.replace(tzinfo=None)
    jump = _offset(local_zone, fire) - _offset(local_zone, fire - SECOND)
    helped = cron.fixed_time and gap == "run_after" and ZERO < jump <= LARGEST_HELPED_JUMP
    codes = ["dst_gap"] if helped and _has_wall_time(cron, wall - jump, wall) else []
    first, second = _both_offsets(wall, local_zone)
    if first > second:
        codes.append("dst_repeat_second" if local.fold else "dst_repeat_first")
    return codes


def describe(cron: Cron, zone: str) -> str:
    """The expression spelled out, everything expanded: `minute 0, hour 2, every day (Europe/Berlin)`."""
    parts = [values_text("second", cron.seconds, range(60))] if cron.has_seconds else []
    parts += [values_text("minute", cron.minutes, range(60)), values_text("hour", cron.hours, range(24))]
    parts.append(days_text(cron))
    if len(cron.months) < 12:
        parts.append("in " + ", ".join(MONTH_NAMES[month - 1] for month in cron.months))
    return f"{', '.join(parts)} ({_zone(zone).key})"


def _fires(cron: Cron, zone: str, after: datetime, gap: Gap, repeat: Repeat) -> Iterator[datetime]:
    for base, offsets in _chunks(cron, _zone(zone), after, gap, repeat):
        for offset in offsets:
            yield base + offset


def _chunks(cron: Cron, zone: ZoneInfo, after: datetime, gap: Gap, repeat: Repeat) -> Iterator[Chunk]:
    """The instants strictly after `after` in ascending chunks, none empty."""
    _require_policy(gap, repeat)
    after = _in_utc(after)
    for base, offsets in _ordered_chunks(cron, zone, after, gap, repeat):
        if base <= after:
            left = offsets[bisect_right(offsets, after - base) :]
            if left:
                yield base, left
        else:
            yield base, offsets


def _ordered_chunks(cron: Cron, zone: ZoneInfo, after: datetime, gap: Gap, repeat: Repeat) -> Iterator[Chunk]:
    pending: set[datetime] = set()
    for wall in _matching_hours(cron, _first_wall_time(zone, after)):
        offsets = {*_both_offsets(wall, zone), *_both_offsets(wall + HOUR - SECOND, zone)}
        if not pending and len(offsets) == 1:
            yield (wall - offsets.pop()).replace(tzinfo=UTC), cron.ticks
            continue
        # A repeated hour may lie behind later wall times (around midnight too): hold what is not yet in order.
        pending.update(_around_a_change(cron, zone, wall, gap, repeat))
        bound = (wall + HOUR - max(_both_offsets(wall + HOUR, zone))).replace(tzinfo=UTC)
        ready = sorted(instant for instant in pending if instant < bound)
        if ready:
            pending.difference_update(ready)
            yield ready[0], [instant - ready[0] for instant in ready]
    if pending:
        ready = sorted(pending)
        yield ready[0], [instant - ready[0] for instant in ready]


def _around_a_change(cron: Cron, zone: ZoneInfo, hour: datetime, gap: Gap, repeat: Repeat) -> Iterator[datetime]:
    """The fires of one wall-clock hour, each of its times read both ways (PEP 495)."""
    gap_end: datetime | None = None
    for tick in cron.ticks:
        wall = hour + tick
        before, after = _both_offsets(wall, zone)
        early, late = sorted(((wall - before).replace(tzinfo=UTC), (wall - after).replace(tzinfo=UTC)))
        helped = cron.fixed_time and late - early <= LARGEST_HELPED_JUMP
        if before >= after:
            yield early
            if before > after and (not helped or repeat == "both"):
                yield late
        elif helped and gap == "run_after":
            if gap_end is None or not early < gap_end <= late:
                gap_end = _first_instant_of(zone, after, early, late)
            yield gap_end


def _first_instant_of(zone: ZoneInfo, offset: timedelta, before: datetime, within: datetime) -> datetime:
    while within - before > SECOND:
        middle = before + (within - before) // SECOND // 2 * SECOND
        if _offset(zone, middle) == offset:
            within = middle
        else:
            before = middle
    return within


def _first_wall_time(zone: ZoneInfo, after: datetime) -> datetime:
    """The earliest wall time that an instant after `after` can show: clocks may soon be set back."""
    offset = _offset(zone, after)
    return after.replace(tzinfo=None) + min(offset, _offset(zone, after + DAY))


def _matching_hours(cron: Cron, start: datetime) -> Iterator[datetime]:
    """The naive starts of the hours that fire, from the hour of `start` on to the end of the calendar."""
    start = start.replace(minute=0, second=0, microsecond=0)
    for year in range(start.year, MAXYEAR + 1):
        for month in cron.months:
            if (year, month) < (start.year, start.month):
                continue
            for day in cron.days_of(year, month):
                if (year, month, day) < (start.year, start.month, start.day):
                    continue
                for hour in cron.hours:
                    wall = datetime(year, month, day, hour)
                    if wall >= LAST_WALL_TIME:
                        return
                    if wall >= start:
                        yield wall


def _has_wall_time(cron: Cron, start: datetime, end: datetime) -> bool:
    """Whether a local time in [start, end) matches the expression."""
    hours = takewhile(lambda hour: hour < end, _matching_hours(cron, start))
    return any(start <= hour + tick < end for hour in hours for tick in cron.ticks)


def _both_offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    local = wall.replace(tzinfo=zone, fold=0)
    return local.utcoffset() or ZERO, local.replace(fold=1).utcoffset() or ZERO


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or ZERO


def _in_utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError("a naive datetime has no place on the time line; give one with a time zone")
    return min(max(instant, EARLIEST), LATEST).astimezone(UTC)


def _require_policy(gap: str, repeat: str) -> None:
    if gap not in ("run_after", "skip") or repeat not in ("first", "both"):
        raise ValueError(f"unknown policy gap={gap!r} repeat={repeat!r}")
