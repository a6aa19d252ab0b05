"""Counting the fire ledger without reading its instants: a day of a task, and what whole installations owe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from tasks_app import cron, fires, rowset
from tasks_app.fire_answers import answer_of
from tasks_app.fires import Fire, Rule, Scope
from tasks_app.models import LedgerEntry, Schedule
from tasks_app.timing import Timing

_TICK = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_BATCH = 5000


@dataclass(slots=True)
class Tally:
    """How many instants of a time got which (answer, reason), and how many are still to come."""

    start: datetime
    end: datetime
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    to_come: int = 0

    @property
    def expected(self) -> int:
        """All that are due: answered or not."""
        return self.counts.total()

    def of(self, answer: str) -> int:
        return sum(n for (one, _reason), n in self.counts.items() if one == answer)


@dataclass(slots=True)
class Summary(Tally):
    """A day: its hours, and the stretches of an earlier rule that reach beyond it and so are in no count."""

    hours: list[Tally] = field(default_factory=list)
    stretches: list[Fire] = field(default_factory=list)


def summary(scope: Scope, day: date, time_zone: str, *, now: datetime) -> Summary:
    """The day of the calendar of `time_zone`, hour by hour (23 to 25 of them), in four statements."""
    bounds = day_bounds(day, time_zone)
    hours = [Tally(start, end) for start, end in pairwise(bounds)]
    found = Summary(bounds[0], bounds[-1], hours=hours)
    paused = fires.is_held_by_pause(scope.task, now)
    for place, schedule_id, state, reason, held, n in _run_counts(scope, hours):
        if scope.orphans or schedule_id in scope.rule_of:
            hours[place].counts[answer_of(state, reason, held=bool(held), paused=paused)] += n
    for entry in fires.entries_between(scope.rule_of, found.start, found.end):
        _add_entry(found, entry, scope.rule_of[entry.schedule_id].tells(entry))
    _add_unanswered(found, scope, now)
    for rule in scope.rules:
        if rule.timing is not None and rule.schedule.enabled:
            for hour in hours:
                hour.to_come += rule.timing.count_between(max(hour.start - _TICK, now), hour.end - _TICK)
    found.counts = sum((hour.counts for hour in hours), Counter())
    found.to_come = sum(hour.to_come for hour in hours)
    return found


def day_bounds(day: date, time_zone: str) -> list[datetime]:
    """The first instant of the day in that zone, each full hour after it, and the first instant of the next day."""
    zone = cron.zone(time_zone)
    start, end = (datetime.combine(day + timedelta(days=n), time(), zone).astimezone(UTC) for n in (0, 1))
    return [*(start + _HOUR * n for n in range(-(-(end - start) // _HOUR))), end]


def day_of(moment: datetime, time_zone: str) -> date:
    """The day of the calendar of that zone."""
    return moment.astimezone(cron.zone(time_zone)).date()


def _run_counts(scope: Scope, hours: Sequence[Tally]) -> list[tuple[Any, ...]]:
    """(hour, schedule, state, reason, held, count)."""
    columns = {"place": "int", "first": "timestamptz", "until": "timestamptz"}
    rows = rowset.encode({"place": n, "first": hour.start, "until": hour.end} for n, hour in enumerate(hours))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT k.place, run.schedule_id, run.state, run.reason, run.held, count(*)
            FROM {rowset.table("k", columns)} JOIN tasks_app_run AS run
            ON run.task_id = %s AND run.nominal_at >= k.first AND run.nominal_at < k.until
            WHERE run.run_type = 'scheduled' GROUP BY 1, 2, 3, 4, 5""",
            [rows, scope.task.pk],
        )
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def _add_entry(found: Summary, entry: LedgerEntry, timing: Timing | None) -> None:
    key = (entry.answer, entry.reason)
    if timing is None and not (found.start <= entry.first_at and entry.last_at < found.end):
        task_id = entry.schedule.task_id
        stretch = Fire(task_id, entry.schedule_id, entry.first_at, *key, count=entry.count, last_at=entry.last_at)
        found.stretches.append(stretch)
        return
    for hour in found.hours:
        if entry.first_at >= hour.end or entry.last_at < hour.start:
            continue
        if timing is None:
            # Which of its hours each instant lies in, nobody knows any more.
            hour.counts[key] += entry.count
            return
        hour.counts[key] += count_of(entry, timing, hour.start - _TICK, hour.end - _TICK)


def count_of(entry: LedgerEntry, timing: Timing, after: datetime, until: datetime) -> int:
    """How many instants of the entry, all of which the rule tells, lie in (after, until]."""
    if after < entry.first_at and entry.last_at <= until:
        return entry.count
    return timing.count_between(max(entry.first_at - _TICK, after), min(entry.last_at, until))


def _add_unanswered(found: Summary, scope: Scope, now: datetime) -> None:
    windows = [(rule, *rule.checked(found.start - _TICK, found.end - _TICK, now)) for rule in scope.rules]
    for owed in owed_in(windows):
        if owed.missing > 0:
            one = Scope(scope.task, [scope.rule_of[owed.schedule_id]], orphans=False)
            for fire in fires.unanswered(one, owed.after + _TICK, owed.until + _TICK, now=now):
                hour = next(hour for hour in found.hours if fire.nominal_at < hour.end)
                hour.counts[fire.answer, ""] += 1


@dataclass(frozen=True, slots=True)
class Owed:
    """What the present rule of a schedule expects in (after, until], and how many answers there are."""

    schedule_id: int
    after: datetime
    until: datetime
    expected: int
    answered: int

    @property
    def missing(self) -> int:
        """Instants without an answer; negative: more answers than instants."""
        return self.expected - self.answered


Window = tuple[Rule, datetime, datetime]


def all_owed(schedules: QuerySet[Schedule], *, since: datetime, now: datetime) -> Iterator[Owed]:
    """Expected and answered instants of the schedules from `since` until now, as far as their present rule reaches."""
    rows = schedules.filter(rule_since__isnull=False).select_related("task").order_by("pk")
    last = 0
    while batch := list(rows.filter(pk__gt=last)[:_BATCH]):
        last = batch[-1].pk
        yield from owed_in([(rule, *rule.checked(since, now, now)) for rule in map(Rule.of, batch)])


def owed_in(windows: Iterable[Window]) -> list[Owed]:
    """Expected and answered instants in each (rule, after, until]; empty windows are left out. Two statements.

    Schedules of one rule and window share one computation.
    """
    asked = {rule.schedule.pk: (rule, after, until) for rule, after, until in windows if after < until}
    if not asked:
        return []
    keys = rowset.encode({"id": id, "after": after, "until": until} for id, (_, after, until) in asked.items())
    answered = Counter(dict(_select(_RUNS_IN, keys)))
    for id, whole, count, first_at, last_at in _select(_ENTRIES_IN, keys):
        rule, after, until = asked[id]
        if whole:
            answered[id] += count
        elif rule.timing is not None:
            first, last = rowset.instant(first_at), rowset.instant(last_at)
            answered[id] += rule.timing.count_between(max(first - _TICK, after), min(last, until))
    known: dict[Any, int] = {}
    found = []
    for id, (rule, after, until) in asked.items():
        if rule.timing is None:
            continue
        key = (rule.timing, after, until)
        if key not in known:
            known[key] = rule.timing.count_between(after, until)
        found.append(Owed(id, after, until, known[key], answered[id]))
    return found


_WINDOW = {"id": "bigint", "after": "timestamptz", "until": "timestamptz"}
# One walk of the index for each window: a join would be planned, on a guess of the number of windows, as a look at all
# runs there are.
_RUNS_IN = """SELECT k.id, (SELECT count(*) FROM tasks_app_run AS run WHERE run.schedule_id = k.id
    AND run.nominal_at > k.after AND run.nominal_at <= k.until) FROM {windows}"""
# Stretches of one schedule do not overlap: but for the last one that begins before a window, none can reach into it.
# Those that lie within are summed up, those that reach beyond (two for a window at most) come one by one.
_ENTRIES_IN = """SELECT w.id, entry.first_at > w.after AND entry.last_at <= w.until, sum(entry.count),
    min(entry.first_at), max(entry.last_at)
    FROM (SELECT k.id, k.after, k.until, coalesce((SELECT max(before.first_at) FROM tasks_app_ledgerentry AS before
        WHERE before.schedule_id = k.id AND before.first_at <= k.after), k.after) AS floor FROM {windows}) AS w
    JOIN tasks_app_ledgerentry AS entry ON entry.schedule_id = w.id
    AND entry.first_at >= w.floor AND entry.first_at <= w.until AND entry.last_at > w.after
    GROUP BY w.id, 2, CASE WHEN entry.first_at > w.after AND entry.last_at <= w.until THEN 0 ELSE entry.id END"""


def _select(sql: str, keys: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql.format(windows=rowset.table("k", _WINDOW)), [keys])
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
