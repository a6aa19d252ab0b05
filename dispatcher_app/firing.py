"""Step 1: due schedules become runs, with an answer in the ledger for every instant that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Min

from tasks_app import catch_up, ledger, rowset
from tasks_app.catch_up import Answer, Policy
from tasks_app.models import Schedule
from tasks_app.models.run import RunType
from tasks_app.planning import Firing, plan_runs
from tasks_app.services.schedules import timing_of
from tasks_app.texts import clipped

log = structlog.get_logger(__name__)
BATCH = 5000
# Schedules that catch up give many runs each; beyond this number the rest of them is left to the next tick.
MOST_RUNS = 20_000
_TICK = timedelta(microseconds=1)


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
        firings = [
            Firing(
                schedule.task,
                RunType.SCHEDULED,
                due_at=at,
                schedule_id=schedule.pk,
                nominal_at=at,
            )
            for schedule, answer in answers
            for at in answer.runs
        ]
        plan = plan_runs(firings, now=now, actor=actor)
        ledger.record([(schedule.pk, stretch) for schedule, answer in answers for stretch in answer.stretches])
        _advance(answers, now)
        _quarantine(broken)
    return Fired(len(answers) + len(broken), sum(id is not None for id in plan.run_ids))


def next_due_at() -> datetime | None:
    """The earliest instant of any schedule; the dispatcher sleeps no longer than that."""
    earliest: datetime | None = Schedule.objects.filter(enabled=True, next_fire_at__isnull=False).aggregate(
        at=Min("next_fire_at")
    )["at"]
    return earliest


def _lock_due(now: datetime, limit: int) -> list[Schedule]:
    rows = Schedule.objects.filter(enabled=True, next_fire_at__lte=now).select_related("task")
    rows = rows.order_by("next_fire_at", "pk").select_for_update(skip_locked=True, of=("self",))
    return list(rows[:limit])


def _answer_all(
    due: Sequence[Schedule], now: datetime
) -> tuple[list[tuple[Schedule, Answer]], list[tuple[Schedule, str]]]:
    """The answer for each schedule, computed once per distinct rule; and the schedules whose rule cannot be read."""
    known: dict[Any, Answer] = {}
    answers: list[tuple[Schedule, Answer]] = []
    broken: list[tuple[Schedule, str]] = []
    runs = 0
    for schedule in due:
        try:
            answer = _answer(schedule, now, known)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with one schedule, the others must fire)
            broken.append((schedule, str(error) or type(error).__name__))
            continue
        answers.append((schedule, answer))
        runs += len(answer.runs)
        if runs >= MOST_RUNS:
            break
    return answers, broken


def _answer(schedule: Schedule, now: datetime, known: dict[Any, Answer]) -> Answer:
    if schedule.task.version_id is None:
        raise ValueError("The task has no version.")
    timing = timing_of(schedule)
    policy = Policy(schedule.catch_up, timedelta(seconds=schedule.catch_up_window_seconds), schedule.max_catch_up)
    assert schedule.next_fire_at is not None
    # The first instant to answer, not the moment of the last answer: schedules of one rule then share one computation.
    key = (timing, policy, schedule.next_fire_at, schedule.task.paused)
    if key not in known:
        after = schedule.next_fire_at - _TICK
        if schedule.task.paused:
            known[key] = catch_up.skip_all(timing, after=after, now=now, answer="skipped", reason="paused")
        else:
            known[key] = catch_up.answer(timing, policy, after=after, now=now)
    return known[key]


def _advance(answers: Sequence[tuple[Schedule, Answer]], now: datetime) -> None:
    columns = {"id": "bigint", "next_at": "timestamptz"}
    rows = rowset.encode({"id": schedule.pk, "next_at": answer.next_at} for schedule, answer in answers)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE tasks_app_schedule AS schedule SET fired_until = %s, next_fire_at = k.next_at
            FROM {rowset.table("k", columns)} WHERE schedule.id = k.id""",
            [rowset.moment(now), rows],
        )


def _quarantine(broken: Sequence[tuple[Schedule, str]]) -> None:
    for schedule, problem in broken:
        log.error(
            "schedule cannot be read and is set aside", schedule=schedule.pk, task=schedule.task_id, error=problem
        )
        schedule.error = clipped(problem, 500)
        schedule.next_fire_at = None
        schedule.save(update_fields=["error", "next_fire_at"])
