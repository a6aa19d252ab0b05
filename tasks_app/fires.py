"""Reading the fire ledger: every instant of a schedule that is due, with its answer.

Runs and ledger entries are rows. An entry stands for a stretch of instants, which the schedule's own rule tells one by
one; an instant of that rule which has neither row is unanswered. What an earlier rule left behind and the present one
cannot tell apart stays one row with its count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from tasks_app.catch_up import Stretch
from tasks_app.errors import InvalidInput
from tasks_app.fire_answers import Answer, answer_of
from tasks_app.models import LedgerEntry, Run, Schedule, Task
from tasks_app.models.run import RunType
from tasks_app.models.schedule import ScheduleKind
from tasks_app.models.task import PauseMode
from tasks_app.pauses import pause_at
from tasks_app.services.schedule_rules import timing_of
from tasks_app.timing import Timing

LONGEST = timedelta(days=31)
# Instants that one page looks at; a page that gets so far ends there, however few of them it shows.
MOST_INSTANTS = 50_000
# An instant that is due for less than this is about to be answered.
GRACE = timedelta(seconds=5)
# A stretch of an earlier rule is compared with the present one only when it is no longer than this.
LONGEST_COMPARED = timedelta(days=800)
_RUN_COLUMNS = ("pk", "schedule_id", "nominal_at", "state", "reason", "held", "run_type", "backfill__schedule_id")
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Fire:
    """One instant with its answer; or, with `count` above 1, a stretch of them up to `last_at`.

    `run_id` is the run that the instant became, `state` that run's; `backfill_run_id` the newest run of a backfill for
    the same instant, which leaves the answer as it was.
    """

    task_id: int
    schedule_id: int | None
    nominal_at: datetime
    answer: str
    reason: str = ""
    run_id: int | None = None
    state: str = ""
    count: int = 1
    last_at: datetime | None = None
    backfill_run_id: int | None = None


# The place of a fire in the order of a page: its time, then its schedule.
Place = tuple[datetime, int]


@dataclass(slots=True)
class Page:
    """Some fires, oldest first, and the place after which the next page begins; None at the end."""

    fires: list[Fire]
    after: Place | None = None


@dataclass(slots=True)
class Rule:
    """A schedule with the rule that it has now, None where it has none that tells instants: it cannot be read, or each
    instant hangs on the end of the run before."""

    schedule: Schedule
    timing: Timing | None

    @classmethod
    def of(cls, schedule: Schedule) -> Rule:
        if schedule.error or schedule.kind == ScheduleKind.FIXED_DELAY:
            return cls(schedule, None)
        try:
            return cls(schedule, timing_of(schedule))
        except Exception:  # noqa: BLE001  (whatever is wrong with one rule, its rows can still be read)
            return cls(schedule, None)

    def checked(self, after: datetime, until: datetime, now: datetime) -> tuple[datetime, datetime]:
        """The part of (after, until] in which each instant of the rule must have its answer by now; empty where the
        second is not after the first."""
        schedule = self.schedule
        if self.timing is None or schedule.rule_since is None:
            return until, until
        due = now - GRACE if schedule.enabled else schedule.fired_until
        return max(after, schedule.rule_since), min(until, due)

    def holds_at(self, at: datetime) -> bool:
        """Whether an instant that was answered is one of this rule, and not of an earlier one."""
        since = self.schedule.rule_since
        return self.timing is not None and since is not None and at > since

    def continues(self, before: Stretch | LedgerEntry, after: Stretch) -> bool:
        """Whether both are of this rule and say the same, and no instant of it lies between them."""
        same = (before.answer, before.reason) == (after.answer, after.reason)
        if not same or self.timing is None or not self.holds_at(before.first_at):
            return False
        return self.timing.next_after(before.last_at) == after.first_at

    def tells(self, entry: LedgerEntry) -> Timing | None:
        """The rule, where it tells the instants of the entry; None where they are those of an earlier one."""
        timing, since = self.timing, self.schedule.rule_since
        if timing is None or (since is not None and entry.first_at > since):
            return timing
        if entry.last_at - entry.first_at > LONGEST_COMPARED:
            return None
        before = entry.first_at - _TICK
        same = (
            timing.next_after(before) == entry.first_at and timing.count_between(before, entry.last_at) == entry.count
        )
        return timing if same and timing.last_between(before, entry.last_at) == entry.last_at else None


@dataclass(slots=True)
class Scope:
    """What is read: a task with some of its schedules. With `orphans` also runs whose schedule was deleted."""

    task: Task
    rules: list[Rule]
    orphans: bool = True
    rule_of: dict[int, Rule] = field(init=False)

    def __post_init__(self) -> None:
        self.rule_of = {rule.schedule.pk: rule for rule in self.rules}


def of_task(task: Task) -> Scope:
    """Everything that fired the task."""
    schedules = list(task.schedules.order_by("pk"))
    for schedule in schedules:
        schedule.task = task
    return Scope(task, [Rule.of(schedule) for schedule in schedules])


def of_schedule(schedule: Schedule) -> Scope:
    return Scope(schedule.task, [Rule.of(schedule)], orphans=False)


def check_stretch(start: datetime, end: datetime) -> None:
    """Raises InvalidInput when [start, end) cannot be read at once."""
    if end <= start:
        raise InvalidInput(to=_("The end must lie after the start."))
    if end - start > LONGEST:
        raise InvalidInput(to=_("Ask for at most %(days)d days at once.") % {"days": LONGEST.days})


def read(
    scope: Scope,
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    limit: int,
    answers: Collection[str] = (),
    after: Place | None = None,
) -> Page:
    """The fires in [start, end) that are due, oldest first: up to `limit` of those with one of `answers` (empty = any),
    beginning after the place `after`. Raises InvalidInput where the stretch is too long.

    Reads no more of the stretch than the page needs.
    """
    check_stretch(start, end)
    at = start if after is None else max(start, after[0])
    end = min(end, now + _TICK)
    page = Page([])
    window, seen = _first_window(scope, at, limit), 0
    while at < end:
        until = min(at + window, end)
        for fire in _between(scope, at, until, start, now):
            place = _place(fire, start)
            if after is not None and place <= after:
                continue
            seen += 1
            if not answers or fire.answer in answers:
                page.fires.append(fire)
            if len(page.fires) == limit or seen == MOST_INSTANTS:
                page.after = place
                return page
        at, window = until, window * 4
    return page


def unanswered(scope: Scope, start: datetime, end: datetime, *, now: datetime) -> list[Fire]:
    """The fires in [start, end) that nobody has answered; reads all of it."""
    return [fire for fire in _between(scope, start, end, start, now) if fire.answer == Answer.UNANSWERED]


def _first_window(scope: Scope, at: datetime, limit: int) -> timedelta:
    """A time in which about one page of instants lies."""
    timings = [rule.timing for rule in scope.rules if rule.timing is not None]
    a_day = sum(timing.count_between(at, at + _DAY) for timing in timings)
    return max(min(_DAY * 2 * limit / max(a_day, 1), LONGEST), timedelta(minutes=1))


def _place(fire: Fire, asked_from: datetime) -> Place:
    return max(fire.nominal_at, asked_from), fire.schedule_id or 0


def _between(scope: Scope, start: datetime, end: datetime, asked_from: datetime, now: datetime) -> list[Fire]:
    """All fires in [start, end) in order; a stretch that began before `asked_from` stands there."""
    paused = is_held_by_pause(scope.task, now)
    found: list[Fire] = []
    backfilled: dict[tuple[datetime, int | None], int] = {}
    for pk, schedule_id, nominal_at, state, reason, held, run_type, of_schedule in _runs(scope, start, end):
        if run_type == RunType.BACKFILL:
            backfilled[nominal_at, of_schedule] = pk
            continue
        answer, why = answer_of(state, reason, held=held, paused=paused)
        found.append(Fire(scope.task.pk, schedule_id, nominal_at, answer, why, pk, state))
    entries = list(entries_between(scope.rule_of, start, end))
    for entry in entries:
        begins_here = start <= max(entry.first_at, asked_from) < end
        found += _expanded(scope, entry, start, end, begins_here)
    for rule in scope.rules:
        answered = [fire for fire in found if fire.schedule_id == rule.schedule.pk]
        found += _unanswered(scope, rule, answered, start, end, now)
    found.sort(key=lambda fire: _place(fire, asked_from))
    return [_with_backfill(fire, backfilled) for fire in found] if backfilled else found


def is_held_by_pause(task: Task, now: datetime) -> bool:
    """Whether the waiting runs of the task may not start for a pause."""
    return pause_at(task, now) not in (None, PauseMode.DRAIN)


def _runs(scope: Scope, start: datetime, end: datetime) -> Iterable[tuple[Any, ...]]:
    runs = Run.objects.filter(task=scope.task, nominal_at__gte=start, nominal_at__lt=end)
    runs = runs.filter(run_type__in=(RunType.SCHEDULED, RunType.BACKFILL)).order_by("pk")
    if not scope.orphans:
        runs = runs.filter(Q(schedule__in=list(scope.rule_of)) | Q(run_type=RunType.BACKFILL))
    return runs.values_list(*_RUN_COLUMNS)


def entries_between(schedule_ids: Iterable[int], start: datetime, end: datetime) -> QuerySet[LedgerEntry]:
    """The entries of the schedules with an instant in [start, end)."""
    # Stretches of one schedule do not overlap: but for the last one that begins before, none can reach into it.
    before = LedgerEntry.objects.filter(schedule=OuterRef("schedule"), first_at__lte=start).order_by()
    last = before.values("schedule").annotate(at=Max("first_at")).values("at")
    entries = LedgerEntry.objects.filter(schedule__in=list(schedule_ids), first_at__lt=end, last_at__gte=start)
    return entries.annotate(floor=Coalesce(Subquery(last), start)).filter(first_at__gte=F("floor")).order_by("first_at")


def _expanded(scope: Scope, entry: LedgerEntry, start: datetime, end: datetime, begins_here: bool) -> Iterator[Fire]:
    whole = Fire(scope.task.pk, entry.schedule_id, entry.first_at, entry.answer, entry.reason)
    timing = scope.rule_of[entry.schedule_id].tells(entry)
    if timing is not None:
        after, until = max(entry.first_at, start) - _TICK, min(entry.last_at, end - _TICK)
        yield from (replace(whole, nominal_at=at) for at in timing.first_between(after, until, MOST_INSTANTS))
    elif begins_here:
        yield replace(whole, count=entry.count, last_at=entry.last_at if entry.count > 1 else None)


def _unanswered(
    scope: Scope, rule: Rule, answered: Sequence[Fire], start: datetime, end: datetime, now: datetime
) -> list[Fire]:
    after, until = rule.checked(start - _TICK, end - _TICK, now)
    if rule.timing is None or until <= after:
        return []
    known = {fire.nominal_at for fire in answered if after < fire.nominal_at <= until}
    if rule.timing.count_between(after, until) <= len(known):
        return []
    missing = (at for at in rule.timing.first_between(after, until, MOST_INSTANTS + len(known)) if at not in known)
    return [Fire(scope.task.pk, rule.schedule.pk, at, Answer.UNANSWERED) for at in missing]


def _with_backfill(fire: Fire, backfilled: dict[tuple[datetime, int | None], int]) -> Fire:
    run_id = backfilled.get((fire.nominal_at, fire.schedule_id))
    return fire if run_id is None or fire.count > 1 else replace(fire, backfill_run_id=run_id)
