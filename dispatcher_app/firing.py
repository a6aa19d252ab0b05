"""Step 1: due schedules become runs, with an answer in the ledger for every instant that does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, Min, OuterRef, Q, Subquery

from tasks_app import calendar_rows, catch_up, ledger, rowset
from tasks_app.allowance import Allowance, latest_start
from tasks_app.calendar_rows import Found
from tasks_app.catch_up import Answer, Policy
from tasks_app.jitter import jittered
from tasks_app.models import Run, Schedule
from tasks_app.models.run import RunType
from tasks_app.models.schedule import ScheduleKind
from tasks_app.pauses import pause_at
from tasks_app.planning import Firing, plan_runs
from tasks_app.services.schedule_rules import FIELDS, delayed, timing_of
from tasks_app.texts import clipped
from tasks_app.timing import Timing

log = structlog.get_logger(__name__)
BATCH = 5000
# Schedules that catch up give many runs each; beyond this number the rest of them is left to the next tick.
MOST_RUNS = 20_000
# So is the rest after this many seconds of computing, as after days without a dispatcher: the rows are locked
# meanwhile, and PostgreSQL ends a session that is idle in its transaction for longer (scheduler_site/env.py).
MOST_SECONDS = 3.0
_TICK = timedelta(microseconds=1)
# What firing reads of a schedule and of its task: thousands of rows come at once, each with texts of people.
_DUE_COLUMNS = (
    "task_id",
    *(name for name in FIELDS if name != "note"),
    "next_fire_at",
    "task__name",
    "task__version_id",
    "task__pool_id",
    "task__priority",
    "task__weight",
    "task__concurrency_key",
    "task__auto_pause_after",
    "task__start_deadline_seconds",
    "task__paused",
    "task__pause_mode",
    "task__paused_until",
)
_DELAY_COLUMNS = ("interval_seconds", "start_at", "end_at", "fired_until", "calendar_id")


@dataclass(frozen=True, slots=True)
class Fired:
    """`schedules` were due; they gave `runs` new runs (downstream ones not counted)."""

    schedules: int
    runs: int


def fire_due(now: datetime, *, actor: str, limit: int = BATCH) -> Fired:
    """Answer every instant up to `now` of up to `limit` due schedules, in one transaction and a handful of statements.

    Any number of dispatchers may do this at once: each takes schedules that no other holds. The unique key (schedule,
    nominal time) would refuse a second run even so.
    """
    with transaction.atomic():
        due = _lock_due(now, limit)
        if not due:
            return Fired(0, 0)
        answers, broken = _answer_all(due, now)
        firings = [firing for schedule, shared in answers for firing in shared.firings_of(schedule)]
        plan = plan_runs(firings, now=now, actor=actor)
        ledger.record([(schedule.pk, stretch) for schedule, shared in answers for stretch in shared.answer.stretches])
        _advance(answers, now)
        _quarantine(broken)
    return Fired(len(answers) + len(broken), sum(id is not None for id in plan.run_ids))


def rearm(now: datetime, *, limit: int = BATCH) -> int:
    """Arm schedules of a fixed delay whose newest run is over, or gone: one delay after its end. Returns how many.

    A run that will be tried again is not over. Two statements where there is something to do, else one.
    """
    newest = Run.objects.filter(schedule=OuterRef("pk")).order_by("-nominal_at")
    with transaction.atomic():
        rows = Schedule.objects.filter(kind=ScheduleKind.FIXED_DELAY, enabled=True, next_fire_at=None, error="")
        rows = rows.filter(Q(end_at=None) | Q(end_at__gte=now))
        rows = rows.annotate(newest=Subquery(newest.values("pk")[:1]), ended=Subquery(newest.values("finished_at")[:1]))
        # With all its parts, where it was made into several.
        parts = Run.objects.filter(shard_of=OuterRef("newest")).order_by("-finished_at")
        rows = rows.annotate(last_part=Subquery(parts.values("finished_at")[:1]))
        rows = rows.filter(Q(newest=None) | Q(ended__isnull=False), ~Exists(parts.filter(finished_at=None)))
        rows = rows.order_by("pk").only(*_DELAY_COLUMNS)
        ended = list(rows.select_for_update(skip_locked=True, of=("self",))[:limit])
        if not ended:
            return 0
        calendars = calendar_rows.load(schedule.calendar_id for schedule in ended)
        armed: list[dict[str, Any]] = []
        started = time.monotonic()
        for schedule in ended:
            ends = [at for at in (schedule.ended, schedule.last_part) if at is not None]
            at = delayed(schedule, max(ends, default=None))
            run_at, looked = calendars.look_ahead(schedule.calendar_id, at) if at is not None else (None, None)
            armed.append({"id": schedule.pk, "next_at": at, "run_at": run_at, "looked": looked})
            if time.monotonic() - started >= MOST_SECONDS:
                break
        with connection.cursor() as cursor:
            cursor.execute(
                f"""UPDATE tasks_app_schedule AS schedule SET {_SET_NEXT}
                FROM {rowset.table("k", _NEXT)} WHERE schedule.id = k.id""",
                [rowset.encode(armed)],
            )
        return sum(row["next_at"] is not None for row in armed)


def next_due_at() -> datetime | None:
    """The earliest instant of any schedule; the dispatcher sleeps no longer than that."""
    earliest: datetime | None = Schedule.objects.filter(enabled=True, next_fire_at__isnull=False).aggregate(
        at=Min("next_fire_at")
    )["at"]
    return earliest


def _lock_due(now: datetime, limit: int) -> list[Schedule]:
    rows = Schedule.objects.filter(enabled=True, next_fire_at__lte=now).select_related("task").only(*_DUE_COLUMNS)
    rows = rows.order_by("next_fire_at", "pk").select_for_update(skip_locked=True, of=("self",))
    return list(rows[:limit])


@dataclass(slots=True)
class _Shared:
    """An answer with the rule that it is of: what all schedules of one rule, calendar and policy have in common."""

    timing: Timing
    allowance: Allowance
    answer: Answer
    _limits: list[datetime | None] | None = None

    def firings_of(self, schedule: Schedule) -> list[Firing]:
        """The runs to plan of one of these schedules, spread by its jitter."""
        due = [fire.due_at for fire in self.answer.runs]
        if schedule.jitter_seconds:
            limits, seconds, key = self._latest_starts(), schedule.jitter_seconds, str(schedule.pk)
            due = [jittered(at, limit, seconds, key) for at, limit in zip(due, limits, strict=True)]
        return [
            Firing(
                schedule.task,
                RunType.SCHEDULED,
                due_at=at,
                schedule_id=schedule.pk,
                nominal_at=fire.nominal_at,
                start_deadline_seconds=schedule.start_deadline_seconds,
            )
            for fire, at in zip(self.answer.runs, due, strict=True)
        ]

    def _latest_starts(self) -> list[datetime | None]:
        if self._limits is None:
            self._limits = [latest_start(self.timing, self.allowance, fire) for fire in self.answer.runs]
        return self._limits


def _answer_all(
    due: Sequence[Schedule], now: datetime
) -> tuple[list[tuple[Schedule, _Shared]], list[tuple[Schedule, str]]]:
    """The answer for each schedule, computed once per distinct rule; and the schedules whose rule cannot be read."""
    calendars = calendar_rows.load(schedule.calendar_id for schedule in due)
    known: dict[Any, _Shared] = {}
    answers: list[tuple[Schedule, _Shared]] = []
    broken: list[tuple[Schedule, str]] = []
    runs, started = 0, time.monotonic()
    for schedule in due:
        try:
            shared = _answer(schedule, now, known, calendars)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with one schedule, the others must fire)
            broken.append((schedule, str(error) or type(error).__name__))
            continue
        answers.append((schedule, shared))
        runs += len(shared.answer.runs)
        if runs >= MOST_RUNS or time.monotonic() - started >= MOST_SECONDS:
            break
    return answers, broken


def _answer(schedule: Schedule, now: datetime, known: dict[Any, _Shared], calendars: Found) -> _Shared:
    task = schedule.task
    if task.version_id is None:
        raise ValueError("The task has no version.")
    timing = timing_of(schedule)
    allowance = Allowance(calendars.of(schedule.calendar_id), schedule.calendar_action)
    policy = _policy_of(schedule)
    assert schedule.next_fire_at is not None
    pause = (pause_at(task, now), task.pause_mode, task.paused_until) if task.paused else None
    # The first instant to answer, not the moment of the last answer: schedules of one rule then share one computation.
    key = (timing, allowance, policy, schedule.next_fire_at, pause)
    if key not in known:
        known[key] = _Shared(timing, allowance, _computed(schedule, timing, allowance, policy, now))
    return known[key]


def _policy_of(schedule: Schedule) -> Policy:
    deadline = schedule.start_deadline_seconds or schedule.task.start_deadline_seconds
    return Policy(
        schedule.catch_up,
        timedelta(seconds=schedule.catch_up_window_seconds),
        schedule.max_catch_up,
        timedelta(seconds=deadline) if deadline else None,
        timedelta(seconds=schedule.jitter_seconds if deadline else 0),
    )


def _computed(schedule: Schedule, timing: Timing, allowance: Allowance, policy: Policy, now: datetime) -> Answer:
    task = schedule.task
    assert schedule.next_fire_at is not None
    after = schedule.next_fire_at - _TICK
    reason = {"drop": "paused", "drain": "draining"}.get(task.pause_mode) if task.paused else None
    if reason is None:
        return catch_up.answer(timing, policy, after=after, now=now, allowance=allowance)
    if pause_at(task, now) is not None:
        return catch_up.skip_all(timing, after=after, now=now, answer="skipped", reason=reason, allowance=allowance)
    # The pause ended by itself while nobody fired: what fell into it is skipped, what came later is not.
    assert task.paused_until is not None
    over = max(task.paused_until - _TICK, after)
    if timing.kind == ScheduleKind.FIXED_DELAY and schedule.next_fire_at <= over:
        over = now
    skipped = catch_up.skip_all(timing, after=after, now=over, answer="skipped", reason=reason, allowance=allowance)
    if over == now:
        return skipped
    return catch_up.joined(skipped, catch_up.answer(timing, policy, after=over, now=now, allowance=allowance))


def _advance(answers: Sequence[tuple[Schedule, _Shared]], now: datetime) -> None:
    rows = (
        {"id": schedule.pk, "next_at": one.next_at, "run_at": one.next_run_at, "looked": one.looked_until}
        for schedule, one in ((schedule, shared.answer) for schedule, shared in answers)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE tasks_app_schedule AS schedule SET fired_until = %s, {_SET_NEXT}
            FROM {rowset.table("k", _NEXT)} WHERE schedule.id = k.id""",
            [rowset.moment(now), rowset.encode(rows)],
        )


_NEXT = {"id": "bigint", "next_at": "timestamptz", "run_at": "timestamptz", "looked": "timestamptz"}
_SET_NEXT = "next_fire_at = k.next_at, next_run_at = k.run_at, looked_until = k.looked"


def _quarantine(broken: Sequence[tuple[Schedule, str]]) -> None:
    for schedule, problem in broken:
        log.error(
            "schedule cannot be read and is set aside", schedule=schedule.pk, task=schedule.task_id, error=problem
        )
        schedule.error = clipped(problem, 500)
        schedule.next_fire_at = schedule.next_run_at = schedule.looked_until = None
        schedule.save(update_fields=["error", "next_fire_at", "next_run_at", "looked_until"])
