"""Which instants a schedule owes an answer for, by arithmetic: every rule of the machine is a whole number of seconds,
counted from the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tasks_app.models import LedgerEntry, Run, Schedule
from tasks_app.states import TERMINAL
from tests.dispatcher_app.machine.snapshot import Runs, Seen

RULES: dict[int, dict[str, object]] = {
    60: {"kind": "cron", "expression": "* * * * *"},
    300: {"kind": "cron", "expression": "*/5 * * * *"},
    3600: {"kind": "cron", "expression": "0 * * * *"},
    90: {"kind": "interval", "expression": "", "interval_seconds": 90},
}
DELAY_SECONDS = 45
ON_TIME_SECONDS = 60
# Five minutes of every twenty are closed.
_CLOSED = [(f"{hour:02}:{minute:02}", f"{hour:02}:{minute + 5:02}") for hour in range(24) for minute in (2, 22, 42)]
CALENDAR = {"blackout": [{"kind": "weekly", "from": start, "to": end} for start, end in _CLOSED]}


def is_closed(at: datetime) -> bool:
    return 2 <= at.minute % 20 < 7


def opening(at: datetime) -> datetime:
    """The end of the closed time that `at` lies in."""
    return at.replace(minute=at.minute - at.minute % 20 + 7, second=0, microsecond=0)


def between(period: int, after: datetime, until: datetime) -> list[datetime]:
    """The multiples of `period` seconds in (after, until]."""
    first, last = int(after.timestamp() // period) + 1, int(until.timestamp() // period)
    return [datetime.fromtimestamp(n * period, UTC) for n in range(first, last + 1)]


@dataclass(slots=True)
class Owed:
    """One schedule: by which rule since when, and what it owed under rules that it had before."""

    task: int
    period: int
    since: datetime
    answered_until: datetime
    enabled: bool = True
    jitter: int = 0
    deadline: int | None = None
    # What becomes of an instant at a closed time, "" without a calendar.
    calendar: str = ""
    # Whether each instant is owed once: an edit with the clock set back makes a rule look at the same time again.
    exact: bool = True
    closed: list[tuple[datetime, datetime, int]] = field(default_factory=list)

    def edited(self, now: datetime, period: int, enabled: bool) -> None:
        """Another rule from `now` on; what the old one owed until then stays owed."""
        until = max(self.answered_until, now)
        if self.enabled:
            self.closed.append((self.since, until, self.period))
        if until > now:
            self.exact = False
        self.period, self.enabled, self.since, self.answered_until = period, enabled, now, now

    def ticked(self, now: datetime) -> None:
        if self.enabled:
            self.answered_until = max(self.answered_until, now)

    def due(self) -> list[datetime]:
        """Every instant that must have an answer by now."""
        stretches = [*self.closed, (self.since, self.answered_until, self.period)] if self.enabled else self.closed
        return [at for after, until, period in stretches for at in between(period, after, until)]


def check(owed: dict[int, Owed], ticked_at: datetime | None = None) -> None:
    """I1, I2 for every schedule, and I11 after a tick, from the tables. Raises AssertionError."""
    runs: dict[int, list[datetime]] = {id: [] for id in owed}
    for schedule, at in Run.objects.filter(schedule__in=owed).values_list("schedule_id", "nominal_at"):
        assert at is not None
        runs[schedule].append(at)
    entries: dict[int, list[tuple[datetime, datetime, int]]] = {id: [] for id in owed}
    for entry in LedgerEntry.objects.filter(schedule__in=owed):
        entries[entry.schedule_id].append((entry.first_at, entry.last_at, entry.count))
    for id, rule in owed.items():
        assert len(set(runs[id])) == len(runs[id]), f"I1: schedule {id} has two runs of one instant"
        due = rule.due()
        ran = set(runs[id])
        silent = [at for at in due if at not in ran and not any(a <= at <= b for a, b, _n in entries[id])]
        assert not silent, f"I2: schedule {id} has no answer for {silent[:3]}"
        explained = sum(count for _first, _last, count in entries[id])
        if rule.exact:
            assert len(due) == len(ran) + explained, f"I2: schedule {id}: {len(due)} owed, {len(ran)} + {explained}"
    if ticked_at is not None:
        late = Schedule.objects.filter(pk__in=owed, enabled=True, next_fire_at__lte=ticked_at)
        assert not late.exists(), f"I11: {list(late.values_list('pk', 'next_fire_at'))} look back"


def must_have_run(rule: Owed, before: datetime, now: datetime) -> list[datetime]:
    """The instants that a tick at `now` finds fresh: no catch-up policy may pass over them."""
    seconds = min(ON_TIME_SECONDS, rule.deadline + rule.jitter) if rule.deadline else ON_TIME_SECONDS
    fresh_from = max(before, rule.since, now - timedelta(seconds=seconds))
    fresh = between(rule.period, fresh_from, now) if rule.enabled else []
    return [at for at in fresh if not (rule.calendar and is_closed(at))]


def check_planned(rule: Owed, run: Seen) -> None:
    """A run that its schedule has just fired is due when the rule, its calendar and its jitter say so."""
    assert run.nominal_at is not None
    due = run.nominal_at
    if rule.calendar and is_closed(due):
        assert rule.calendar == "next_allowed", f"{run} was fired at a closed time"
        due = opening(due)
    assert due <= run.due_at <= due + timedelta(seconds=rule.jitter), f"{run} is not due at {due}"
    following = run.nominal_at + timedelta(seconds=rule.period)
    assert run.due_at < following, f"{run} is due after the next instant, {following}"
    assert not (rule.calendar and is_closed(run.due_at)), f"{run} is due at a closed time"


def check_delayed(schedule: int, before: Runs, after: Runs, now: datetime) -> None:
    """After a tick: a schedule of a fixed delay fires one delay after its run is over, and is armed or under way."""
    runs = sorted((run.nominal_at, run.id) for run in after.values() if run.schedule_id == schedule and run.nominal_at)
    for (_at, earlier), (at, _later) in pairwise(runs):
        ended = after[earlier].finished_at
        assert ended is not None, f"{after[earlier]} is not over, and its schedule has fired again"
        assert at >= ended + timedelta(seconds=DELAY_SECONDS), f"fired at {at}, too soon after {after[earlier]}"
    next_at = Schedule.objects.values_list("next_fire_at", flat=True).get(pk=schedule)
    if next_at is not None:
        assert next_at > now, f"I11: a schedule of a fixed delay looks back to {next_at}"
        return
    newest = runs[-1][1] if runs else None
    under_way = newest is not None and (newest not in before or before[newest].state not in TERMINAL)
    assert under_way, f"I11: a schedule of a fixed delay is not armed after {newest}"
