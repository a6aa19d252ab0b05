"""Deleting runs that are over: what their instants answered stays in the fire ledger.

An instant that a run had answered would else read as one that nobody has answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from tasks_app import ledger, run_output
from tasks_app.catch_up import Stretch
from tasks_app.fire_answers import answer_of
from tasks_app.fires import Rule
from tasks_app.models import Run, RunDependency, RunPeriod, Schedule
from tasks_app.models.run import RunType
from tasks_app.models.schedule import ScheduleKind


def forget(run_ids: Collection[int]) -> int:
    """Delete those of the runs that are over and that nothing refers to which is not over. Returns how many.

    Any number may do this at once, beside dispatchers and workers. Give it some thousand runs at a time: they are
    deleted in one transaction, with their events, output and edges; output in a store is removed after it.
    """
    with transaction.atomic():
        rows = _forgettable().filter(pk__in=run_ids).order_by("pk").select_for_update(of=("self",))
        runs = [_Gone(*row) for row in rows.values_list(*_Gone._fields)]
        _keep_answers([run for run in runs if run.run_type == RunType.SCHEDULED and run.schedule_id is not None])
        gone = [run.pk for run in runs]
        run_output.remove_objects_of(gone)
        Run.objects.filter(pk__in=gone).delete()
    return len(runs)


class _Gone(NamedTuple):
    pk: int
    schedule_id: int | None
    nominal_at: datetime
    run_type: str
    state: str
    reason: str


def _forgettable() -> QuerySet[Run]:
    """Runs that are over and have told so to all who wait for it, and that no live run and no rule looks back at."""
    below = RunDependency.objects.filter(upstream=OuterRef("pk"), downstream__finished_at=None)
    members = Run.objects.filter(finished_at=None, root=OuterRef("pk"))
    within = {"start__lte": OuterRef("nominal_at"), "end__gt": OuterRef("nominal_at")}
    awaited = RunPeriod.objects.filter(settled=False, upstream_task=OuterRef("task"), **within)
    reruns = Run.objects.filter(finished_at=None, rerun_of=OuterRef("pk"))
    parts = Run.objects.filter(finished_at=None, shard_of=OuterRef("pk"))
    # A fixed delay counts from the end of the newest run.
    delayed = Schedule.objects.filter(pk=OuterRef("schedule"), kind=ScheduleKind.FIXED_DELAY)
    newer = Run.objects.filter(schedule=OuterRef("schedule"), nominal_at__gt=OuterRef("nominal_at"))
    rows = Run.objects.filter(finished_at__isnull=False, tell_downstream=False, tell_limits=False)
    rows = rows.filter(~Exists(below), ~Exists(awaited), ~Exists(members), ~Exists(reruns), ~Exists(parts))
    return rows.filter(~Exists(delayed) | Exists(newer))


def _keep_answers(runs: Sequence[_Gone]) -> None:
    """Write what the runs answered into the ledger. Instants of an earlier rule are counted by nobody any more: those
    are forgotten with their runs."""
    of_schedule: dict[int | None, list[_Gone]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.nominal_at):
        of_schedule[run.schedule_id].append(run)
    schedules = Schedule.objects.filter(pk__in=list(of_schedule)).select_related("task") if of_schedule else ()
    rules = [Rule.of(schedule) for schedule in schedules]
    ledger.fill([(rule, stretch) for rule in rules for stretch in _stretches(rule, of_schedule[rule.schedule.pk])])


def _stretches(rule: Rule, runs: Iterable[_Gone]) -> Iterator[Stretch]:
    """The answers of consecutive instants, where they are the same, as one."""
    last: Stretch | None = None
    for run in runs:
        if not rule.holds_at(run.nominal_at):
            continue
        answer, reason = answer_of(run.state, run.reason, held=False, paused=False)
        fresh = Stretch(run.nominal_at, run.nominal_at, 1, answer, reason)
        if last is not None and rule.continues(last, fresh):
            last = replace(last, last_at=fresh.last_at, count=last.count + 1)
            continue
        if last is not None:
            yield last
        last = fresh
    if last is not None:
        yield last
