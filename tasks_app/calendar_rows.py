"""Stored calendars as the pure ones that answer, each with the calendars that it includes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection

from tasks_app import calendars, rowset
from tasks_app.calendar_documents import CalendarError, parse
from tasks_app.calendars import Calendar
from tasks_app.models import Calendar as CalendarRow

# A row with the time of its last change: what was read of it holds as long as that stays.
_Version = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Found:
    """The calendars that were asked for, by id; a document that cannot be read is an error to whoever uses it."""

    known: dict[int, Calendar | CalendarError]

    def of(self, calendar_id: int | None) -> Calendar | None:
        """The calendar, or None for no id. Raises CalendarError when it cannot be read."""
        if calendar_id is None:
            return None
        found = self.known[calendar_id]
        if isinstance(found, CalendarError):
            raise found
        return found

    def look_ahead(self, calendar_id: int | None, at: datetime) -> tuple[datetime | None, datetime | None]:
        """As Calendar.look_ahead; nothing without a calendar, or where it cannot be read."""
        found = self.known.get(calendar_id) if calendar_id is not None else None
        return found.look_ahead(at) if isinstance(found, Calendar) else (None, None)


def load(ids: Iterable[int | None]) -> Found:
    """Read the calendars of these ids with what they include, in two queries at most; none where all ids are None."""
    wanted = sorted({id for id in ids if id is not None})
    versions: dict[int, list[_Version]] = {}
    for root, id, changed in _reached(wanted) if wanted else ():
        versions.setdefault(root, []).append((id, str(changed)))
    parts = _parts({version for found in versions.values() for version in found})
    return Found({root: _together(tuple(parts[version] for version in sorted(versions[root]))) for root in versions})


def calendar_of(ids: Iterable[int]) -> Calendar:
    """All calendars of these ids together, with what they include: see calendars.union. Raises CalendarError."""
    found = load(ids)
    return calendars.union(calendar for id in sorted(found.known) if (calendar := found.of(id)) is not None)


def including(ids: Iterable[int]) -> list[int]:
    """Ids of the calendars of these ids and of all that include one of them."""
    return sorted({root for root, _id, _changed in _reached(sorted(set(ids)), upwards=True)})


def read(document: Any, holiday_rules: Any) -> Calendar:
    """The calendar of one row, without what it includes. Raises CalendarError."""
    own = parse(document)
    return calendars.union((own, parse(holiday_rules))) if holiday_rules else own


def _reached(ids: list[int], *, upwards: bool = False) -> list[tuple[int, int, Any]]:
    """(root, id, updated_at) of each calendar that a root includes, itself first; upwards, the other way round."""
    start, end = ("to_calendar_id", "from_calendar_id") if upwards else ("from_calendar_id", "to_calendar_id")
    root = "reach.id" if upwards else "reach.root"
    # UNION, not UNION ALL: two edits at once may have closed a circle.
    sql = f"""WITH RECURSIVE reach(root, id) AS (
            SELECT k.id, k.id FROM {rowset.table("k", {"id": "bigint"})}
            UNION SELECT reach.root, edge.{end} FROM reach
            JOIN tasks_app_calendar_includes AS edge ON edge.{start} = reach.id)
        SELECT {root}, calendar.id, calendar.updated_at FROM reach
        JOIN tasks_app_calendar AS calendar ON calendar.id = reach.id"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [rowset.encode({"id": id} for id in ids)])
        return list(cursor.fetchall())


_read_before: dict[_Version, Calendar | CalendarError] = {}
_MOST_KEPT = 1000


def _parts(versions: set[_Version]) -> dict[_Version, Calendar | CalendarError]:
    parts = {version: _read_before[version] for version in versions if version in _read_before}
    fresh = {id: (id, changed) for id, changed in versions if (id, changed) not in parts}
    if fresh:
        rows = CalendarRow.objects.filter(pk__in=fresh).values_list("pk", "document", "holiday_rules")
        read_now = {fresh[id]: _read_or_error(document, rules) for id, document, rules in rows}
        if len(_read_before) > _MOST_KEPT:
            _read_before.clear()
        _read_before.update(read_now)
        gone = CalendarError("", "The calendar was deleted.")
        parts |= {version: read_now.get(version, gone) for version in fresh.values()}
    return parts


def _read_or_error(document: Any, holiday_rules: Any) -> Calendar | CalendarError:
    try:
        return read(document, holiday_rules)
    except CalendarError as error:
        return error


@lru_cache(maxsize=1000)
def _union(parts: tuple[Calendar, ...]) -> Calendar:
    return calendars.union(parts)


def _together(parts: tuple[Calendar | CalendarError, ...]) -> Calendar | CalendarError:
    error = next((part for part in parts if isinstance(part, CalendarError)), None)
    if error is not None:
        return error
    return _union(tuple(part for part in parts if isinstance(part, Calendar)))
