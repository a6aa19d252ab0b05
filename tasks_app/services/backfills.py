"""Backfills: plan runs for instants of the past, watch them, pause, resume and cancel them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app import executors, transitions
from tasks_app.backfill_instants import Instant, considered
from tasks_app.dependencies import closure
from tasks_app.ending import UNSTARTED, ask_to_end
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Backfill, Run, Schedule, Task, TaskDependency, TaskVersion
from tasks_app.models.backfill import BackfillState, Reprocess
from tasks_app.models.run import RunType
from tasks_app.models.schedule import ScheduleKind
from tasks_app.planning import Firing, plan_runs
from tasks_app.queries import get_visible
from tasks_app.services import places, secrets
from tasks_app.states import TERMINAL, RunState
from tasks_app.wakeup import nudge

# Runs of one backfill, its downstream runs among them.
MOST_RUNS = 100_000
MOST_CONCURRENT = 10_000


@dataclass(slots=True)
class Wish:
    """What somebody wants to have run again: the instants of `schedule` from `start` to `end`, both inclusive.

    Without a schedule the only one of the task is meant. `max_concurrent` of its runs may be live at once.
    """

    start: datetime
    end: datetime
    schedule: Schedule | None = None
    reprocess: str = Reprocess.NONE.value
    newest_first: bool = False
    max_concurrent: int = 1
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Number of its runs (not of the downstream ones) in each state; it is done when all of them are over."""

    counts: dict[str, int]

    @property
    def over(self) -> int:
        return sum(self.counts[state] for state in TERMINAL)

    @property
    def kept(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> bool:
        return self.over == self.kept


def preview(actor: Actor, task: Task, wish: Wish, *, now: datetime) -> list[Instant]:
    """Every instant of the wish in the order in which it would run, with what there is of it and whether it would be
    planned: the dry run, which stores nothing. Raises InvalidInput at what cannot be wished for."""
    require(actor, Verb.RUN, task.project_id)
    return _ordered(considered(task, _checked(task, wish, now), wish.start, wish.end, wish.reprocess), wish)


@held(Kind.RUN, "backfills.plan", places.of_task, data=(Wish,))
def plan(actor: Actor, task: Task, wish: Wish, *, now: datetime) -> Backfill:
    """Plan a run for each instant that `preview` would, with its downstream runs, in a number of statements that does
    not grow with them. Raises InvalidInput, also when no instant would be planned."""
    require(actor, Verb.RUN, task.project_id)
    with transaction.atomic():
        # Two backfills of one task look at each other's runs only one after the other.
        task = get_visible(Task.objects.select_for_update(no_key=True), task.pk)
        schedule = _checked(task, wish, now)
        found = considered(task, schedule, wish.start, wish.end, wish.reprocess)
        wanted = [instant for instant in _ordered(found, wish) if instant.planned]
        if not wanted:
            raise InvalidInput(**{"from": _none_wanted(found)})
        _refuse_too_many(task, len(wanted))
        backfill = Backfill.objects.create(
            task=task,
            schedule=schedule,
            start_at=wish.start,
            end_at=wish.end,
            reprocess=wish.reprocess,
            newest_first=wish.newest_first,
            max_concurrent=wish.max_concurrent,
            params=wish.params,
            total=len(wanted),
            created_at=now,
            created_by=actor.user,
        )
        plan_runs(_firings(backfill, task, wanted, now), now=now, actor=actor.name)
        audit.append(actor, "backfill", task, now=now, after={"backfill": backfill.pk, "runs": backfill.total})
        nudge()
    return backfill


def pause(actor: Actor, backfill: Backfill, *, now: datetime) -> Backfill:
    """Start no more of its runs until it is resumed; those under way go on. Raises WrongState when it is over."""
    return _move(actor, backfill, Verb.PAUSE, BackfillState.PAUSED, now)


def resume(actor: Actor, backfill: Backfill, *, now: datetime) -> Backfill:
    """Let a paused backfill go on. Raises WrongState when it is over."""
    return _move(actor, backfill, Verb.PAUSE, BackfillState.ACTIVE, now)


def cancel(actor: Actor, backfill: Backfill, *, now: datetime, running: bool = False) -> Backfill:
    """Cancel what has not started, downstream runs too; with `running` ask those under way to end as well.

    Raises WrongState when it is over.
    """
    return _move(actor, backfill, Verb.CANCEL, BackfillState.CANCELLED, now, running=running)


def cancel_leftovers(now: datetime, *, actor: str, limit: int = 2000) -> int:
    """Cancel runs of cancelled backfills that wait again, for another attempt. Returns how many.

    Their gate is closed for good: they would wait for ever.
    """
    rows = Run.objects.filter(state=RunState.WAITING, backfill__state=BackfillState.CANCELLED)
    ids = list(rows.order_by().values_list("pk", flat=True)[:limit])
    return len(transitions.cancel_unstarted(ids, now=now, actor=actor, detail=_CANCELLED)) if ids else 0


_CANCELLED = "The backfill was cancelled."


def runs_of(backfill: Backfill) -> QuerySet[Run]:
    """Its runs without the downstream ones, which belong to these by their root."""
    return Run.objects.filter(backfill=backfill)


def progress(backfill: Backfill) -> Progress:
    """How far it has come."""
    return progress_of([backfill])[backfill.pk]


def progress_of(backfills: Iterable[Backfill]) -> dict[int, Progress]:
    """{id: progress} of several, in one query."""
    counts = {backfill.pk: dict.fromkeys((state.value for state in RunState), 0) for backfill in backfills}
    runs = Run.objects.filter(backfill__in=list(counts)).order_by()
    for id, state, n in runs.values_list("backfill_id", "state").annotate(n=Count("pk")):
        counts[id or 0][state] = n
    return {id: Progress(found) for id, found in counts.items()}


def shown_state(backfill: Backfill, found: Progress) -> str:
    """`active`, `paused` or `cancelled`; `done` where all its runs are over without that."""
    return "done" if found.done and backfill.state != BackfillState.CANCELLED else backfill.state


def _move(
    actor: Actor, backfill: Backfill, verb: Verb, to: BackfillState, now: datetime, *, running: bool = False
) -> Backfill:
    require(actor, verb, backfill.task.project_id)
    with transaction.atomic():
        rows = Backfill.objects.select_for_update(of=("self",), no_key=True).select_related("task")
        backfill = get_visible(rows, backfill.pk)
        state = shown_state(backfill, progress(backfill))
        if state in ("done", BackfillState.CANCELLED):
            raise WrongState(_("The backfill is %(state)s already.") % {"state": state}, state=state)
        moved = Backfill.objects.filter(pk=backfill.pk).exclude(state=to).update(state=to)
        if to is BackfillState.CANCELLED:
            _cancel_runs(backfill, actor, now, running)
        if moved:
            names = {BackfillState.PAUSED: "pause", BackfillState.ACTIVE: "resume", BackfillState.CANCELLED: "cancel"}
            audit.append(actor, names[to], backfill, now=now)
        nudge()
    backfill.refresh_from_db()
    return backfill


def _cancel_runs(backfill: Backfill, actor: Actor, now: datetime, running: bool) -> None:
    mine = Run.objects.filter(Q(backfill=backfill) | Q(root__backfill=backfill))
    wanted = mine if running else mine.filter(state__in=UNSTARTED)
    ask_to_end(wanted, now=now, actor=actor.name, detail=_CANCELLED)


def _checked(task: Task, wish: Wish, now: datetime) -> Schedule:
    """The schedule that is meant. Raises InvalidInput at what cannot be wished for."""
    if wish.end <= wish.start:
        raise InvalidInput(to=_("The end must lie after the start."))
    if wish.end > now:
        raise InvalidInput(to=_("A backfill is of the past: the end must not lie ahead."))
    if wish.reprocess not in Reprocess.values:
        raise InvalidInput(reprocess=_("Choose one of: %(choices)s.") % {"choices": ", ".join(Reprocess.values)})
    if not 1 <= wish.max_concurrent <= MOST_CONCURRENT:
        raise InvalidInput(max_concurrent=_("Give a number from 1 to %(most)d.") % {"most": MOST_CONCURRENT})
    if not isinstance(wish.params, dict):
        raise InvalidInput(params=_("Parameters are an object of names and values."))
    version = task.version
    if not isinstance(version, TaskVersion):
        raise WrongState(_("The task is being deleted."))
    executors.check_params(version.executor, {**version.params, **wish.params})
    secrets.check_run(wish.params)
    schedule = _schedule(task, wish)
    schedule.task = task
    if schedule.kind == ScheduleKind.FIXED_DELAY:
        raise InvalidInput(schedule=_("The instants of a fixed delay hang on its runs; there are none to fill in."))
    return schedule


def _schedule(task: Task, wish: Wish) -> Schedule:
    """As it is now: what it will still fire itself is read before the runs that there are."""
    schedules = list(task.schedules.order_by("pk"))
    if wish.schedule is not None:
        schedules = [schedule for schedule in schedules if schedule == wish.schedule]
    if not schedules:
        raise InvalidInput(schedule=_("The task has no schedule that would tell its instants."))
    if len(schedules) > 1:
        raise InvalidInput(schedule=_("The task has several schedules: say which."))
    return schedules[0]


def _none_wanted(found: Sequence[Instant]) -> str:
    if not found:
        return _("No instant of the schedule lies in this time.")
    return _("Each of the %(n)d instants has a run already; a dry run shows them.") % {"n": len(found)}


def _refuse_too_many(task: Task, roots: int) -> None:
    """Raises InvalidInput when these runs with their downstream runs were more than one transaction should hold."""
    edges = TaskDependency.objects.filter(period="").values_list("upstream_id", "downstream_id")
    if not edges.filter(upstream=task).exists():
        return
    below: dict[int, set[int]] = {}
    for upstream, downstream in edges:
        below.setdefault(upstream, set()).add(downstream)
    total = roots * (1 + len(set(closure([task.pk], below))))
    if total > MOST_RUNS:
        words = {"total": total, "most": MOST_RUNS}
        raise InvalidInput(
            to=_("With downstream runs these are %(total)d; one backfill makes at most %(most)d.") % words
        )


def _ordered(found: list[Instant], wish: Wish) -> list[Instant]:
    return found[::-1] if wish.newest_first else found


def _firings(backfill: Backfill, task: Task, wanted: Sequence[Instant], now: datetime) -> list[Firing]:
    # All are due now, and runs of one priority and time start in the order in which they were planned.
    return [
        Firing(
            task,
            RunType.BACKFILL,
            due_at=now,
            nominal_at=instant.nominal_at,
            params=backfill.params,
            priority=backfill.priority,
            backfill_id=backfill.pk,
        )
        for instant in wanted
    ]
