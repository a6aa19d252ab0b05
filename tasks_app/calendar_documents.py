"""The JSON document of a calendar, checked and read. Pure: imports no model.

    {"time_zone": "Europe/Berlin",
     "allowed": [{"kind": "weekly", "days": ["mon", "fri"], "from": "22:00", "to": "06:00", "name": "Nights"}],
     "blackout": [{"kind": "range", "from": "2026-12-24", "to": "2027-01-02"},
                  {"kind": "range", "from": "2026-03-01T18:00", "to": "2026-03-02T06:00"},
                  {"kind": "dates", "dates": ["2026-12-25"], "from": "00:00", "to": "24:00"}]}

Weekly hours and dates: `from` defaults to 00:00 and `to` to 24:00; a `to` before its `from` is on the next day. A range
of dates holds its last day, a range of times ends where its `to` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from tasks_app.calendars import Calendar, Rule
from tasks_app.cron import CronError, zone

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_RULES = 100
MAX_DATES = 5000
MAX_NAME = 100
MIDNIGHT = timedelta(0)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
FIRST_YEAR, LAST_YEAR = 1900, 2999

_CLOCK = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WALL_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", re.ASCII)


class CalendarError(ValueError):
    """A document that is refused: `path` names the place (`blackout[2].from`), `message` is a sentence for people."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


def parse(document: Any) -> Calendar:
    """The calendar that a JSON document describes. Raises CalendarError at the first fault."""
    fields = _object(document, "", {"time_zone", "allowed", "blackout"})
    time_zone = fields.get("time_zone", "UTC")
    if not isinstance(time_zone, str):
        raise CalendarError("time_zone", "Give the name of an IANA time zone.")
    try:
        zone(time_zone)
    except CronError as error:
        raise CalendarError("time_zone", error.message) from None
    return Calendar(_rules(fields, "allowed", time_zone), _rules(fields, "blackout", time_zone))


def _rules(fields: Mapping[str, Any], key: str, time_zone: str) -> tuple[Rule, ...]:
    found = _list(fields.get(key, []), key, MAX_RULES)
    return tuple(_rule(rule, f"{key}[{number}]", time_zone) for number, rule in enumerate(found))


def _rule(document: Any, path: str, time_zone: str) -> Rule:
    kind = _object(document, path, None).get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CalendarError(f"{path}.kind", f"Give one of {', '.join(_KINDS)}.")
    known, read = _KINDS[kind]
    return read(_object(document, path, known | {"kind", "name"}), path, _name(document, path, kind), time_zone)


def _name(fields: Mapping[str, Any], path: str, kind: str) -> str:
    name = fields.get("name", kind)
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise CalendarError(f"{path}.name", f"Give one line of 1 to {MAX_NAME} printable characters.")
    return name


def _weekly(fields: Mapping[str, Any], path: str, name: str, time_zone: str) -> Rule:
    days = []
    for number, day in enumerate(_list(fields.get("days", list(DAY_NAMES)), f"{path}.days", 7, least=1)):
        if not isinstance(day, str) or day not in DAY_NAMES:
            raise CalendarError(f"{path}.days[{number}]", f"Give one of {', '.join(DAY_NAMES)}.")
        days.append(DAY_NAMES.index(day))
    start, end = _hours(fields, path)
    weekly = []
    for day in sorted(set(days)):
        begin, until = timedelta(days=day) + start, timedelta(days=day) + end
        weekly.append((begin, min(until, WEEK)))
        if until > WEEK:
            weekly.append((MIDNIGHT, until - WEEK))
    return Rule(name, time_zone, weekly=tuple(weekly))


def _dates(fields: Mapping[str, Any], path: str, name: str, time_zone: str) -> Rule:
    start, end = _hours(fields, path)
    found = _list(fields.get("dates"), f"{path}.dates", MAX_DATES, least=1)
    days = {_date(text, f"{path}.dates[{number}]") for number, text in enumerate(found)}
    midnights = [datetime.combine(day, time()) for day in sorted(days)]
    return Rule(name, time_zone, spans=tuple((midnight + start, midnight + end) for midnight in midnights))


def _range(fields: Mapping[str, Any], path: str, name: str, time_zone: str) -> Rule:
    start = _moment(fields.get("from"), f"{path}.from", MIDNIGHT)
    end = _moment(fields.get("to"), f"{path}.to", DAY)
    if end <= start:
        raise CalendarError(f"{path}.to", "The end must lie after the start.")
    return Rule(name, time_zone, spans=((start, end),))


_KINDS: dict[str, tuple[set[str], Callable[[Mapping[str, Any], str, str, str], Rule]]] = {
    "weekly": ({"days", "from", "to"}, _weekly),
    "range": ({"from", "to"}, _range),
    "dates": ({"dates", "from", "to"}, _dates),
}


def _hours(fields: Mapping[str, Any], path: str) -> tuple[timedelta, timedelta]:
    """Start and end since midnight; the end lies on the next day when the span crosses midnight."""
    start = _clock(fields.get("from", "00:00"), f"{path}.from")
    end = _clock(fields.get("to", "24:00"), f"{path}.to")
    if start == DAY:
        raise CalendarError(f"{path}.from", "Give a time before 24:00.")
    if start == end:
        raise CalendarError(f"{path}.to", "The end must differ from the start; a whole day is 00:00 to 24:00.")
    return start, end if end > start else end + DAY


def _clock(text: Any, path: str) -> timedelta:
    found = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if found:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        if (hours < 24 and minutes < 60 and seconds < 60) or (hours == 24 and minutes == seconds == 0):
            return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    raise CalendarError(path, "Give a time of the day from 00:00 to 24:00, as in 09:30.")


def _date(text: Any, path: str) -> date:
    try:
        if isinstance(text, str) and _DATE.fullmatch(text):
            return _in_range(date.fromisoformat(text), path)
    except ValueError as error:
        if isinstance(error, CalendarError):
            raise
    raise CalendarError(path, "Give a date, as in 2026-12-24.")


def _moment(text: Any, path: str, after_date: timedelta) -> datetime:
    if isinstance(text, str) and _WALL_TIME.fullmatch(text):
        try:
            wall = datetime.fromisoformat(text)
        except ValueError:
            raise CalendarError(path, "There is no such date or time.") from None
        _in_range(wall.date(), path)
        return wall
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        raise CalendarError(
            path, "Give a date (2026-12-24) or a local time of the calendar's zone (2026-12-24T18:00), without offset."
        )
    return datetime.combine(_date(text, path), time()) + after_date


def _in_range(day: date, path: str) -> date:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise CalendarError(path, f"Give a year from {FIRST_YEAR} to {LAST_YEAR}.")
    return day


def _object(value: Any, path: str, known: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CalendarError(path, "Give an object.")
    unknown = sorted(str(key) for key in value if known is not None and key not in known)
    if unknown:
        here = f"{path}." if path else ""
        raise CalendarError(f"{here}{unknown[0][:50]}", f"Unknown; allowed are {', '.join(sorted(known or ()))}.")
    return value


def _list(value: Any, path: str, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise CalendarError(path, f"Give a list of {least} to {most} items.")
    return value
