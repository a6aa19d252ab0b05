"""Running a whole firing again from where it failed; services.runs has the rerun of a single run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, holds, require
from access_app.second_person import held
from tasks_app import transitions
from tasks_app.dependencies import TriggerRule, closure
from tasks_app.errors import NotFound, PermissionRefused, WrongState
from tasks_app.models import Run, RunDependency, RunPeriod
from tasks_app.models.run import RunType
from tasks_app.planning import Firing, freeze_edges, run_row
from tasks_app.run_limits import RunLimits
from tasks_app.services import places
from tasks_app.states import TERMINAL, RunState
from tasks_app.wakeup import nudge

FAILED = TERMINAL - {RunState.SUCCEEDED, RunState.SKIPPED}


def firing_of(run: Run) -> QuerySet[Run]:
    """The runs that were planned together with this one: their root and its members, and the parts of these."""
    root = _root_of(run)
    members = list(Run.objects.filter(Q(pk=root) | Q(root_id=root)).order_by().values_list("pk", flat=True))
    return Run.objects.filter(Q(pk__in=members) | Q(shard_of__in=members))


def same_part(run: Run) -> dict[str, Any]:
    """What makes a new run the same part as this one, for the same worker; nothing for a run that stands alone."""
    if run.shard_total is None:
        return {}
    return {"shard_index": run.shard_index, "shard_total": run.shard_total, "target_id": run.target_id}


def _root_of(run: Run) -> int:
    if run.shard_of_id is not None:
        run = Run.objects.filter(pk=run.shard_of_id).first() or run
    return run.root_id or run.pk


def has_failed_point(run: Run) -> bool:
    """Whether the firing of the run has several runs, all over, some of them not as they should."""
    states = set(firing_of(run).values_list("pk", "state"))
    found = {state for _pk, state in states}
    return len(states) > 1 and found <= TERMINAL and not found.isdisjoint(FAILED)


@held(Kind.RUN, "runs.rerun_failed", places.of_firing)
def rerun_failed(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Run the firing that the run belongs to again from where it failed; returns the first new run, the new root.

    New runs, of the current versions with the old parameters, come of every run that failed (or was cancelled, lost,
    expired …) and of everything downstream of these. Runs that succeeded are kept: the new runs hang below them by
    the frozen edges of the old ones, and wait for the same periods.

    Raises WrongState while a run of the firing is not over, where none has failed and while it is being run again
    already; PermissionRefused where the actor may not run one of the tasks.
    """
    require(actor, Verb.RUN, run.task.project_id)
    with transaction.atomic():
        old = _locked_firing(run)
        edges = list(RunDependency.objects.filter(downstream__in=old).order_by("pk"))
        again = _to_run_again(old, edges)
        _require_all(actor, [old[pk] for pk in again])
        _refuse_second(again, old)
        new_of = _create(old, again, edges, now=now, actor=actor)
        root = new_of[again[0]]
        after = {"scope": "failed", "root": root, "runs": sorted(new_of.values())[:100]}
        audit.append(actor, "rerun", run, now=now, after=after)
        nudge()
    return Run.objects.select_related("task", "version").get(pk=root)


def _locked_firing(run: Run) -> dict[int, Run]:
    """Every run of the firing by id, once nobody else is running it again. Raises WrongState, NotFound."""
    # The root stands for the firing: of two that ask at once, the second sees the new runs of the first.
    list(Run.objects.filter(pk=_root_of(run)).select_for_update(no_key=True).values_list("pk"))
    old = {row.pk: row for row in firing_of(run).select_related("task__project").order_by("pk")}
    if run.pk not in old:
        raise NotFound
    for row in old.values():
        if row.state not in TERMINAL:
            words = {"id": row.pk, "state": row.state}
            raise WrongState(_("Run #%(id)d of it is %(state)s; wait until all are over, or cancel it.") % words)
    return old


def _to_run_again(old: dict[int, Run], edges: Collection[RunDependency]) -> list[int]:
    """Ids of the runs to run again, the one that becomes the root first. Raises WrongState where nothing failed."""
    failed = {pk for pk, row in old.items() if row.state in FAILED}
    if not failed:
        raise WrongState(_("Nothing of it has failed: there is no failed run to start again from."))
    downstream_of: dict[int, set[int]] = defaultdict(set)
    for edge in edges:
        downstream_of[edge.upstream_id].add(edge.downstream_id)
    again = failed.union(closure(failed, downstream_of))
    below = {edge.downstream_id for edge in edges if edge.upstream_id in again}
    root = min(again - below)
    return [root, *sorted(again - {root})]


def _require_all(actor: Actor, runs: Collection[Run]) -> None:
    for project in {row.task.project_id for row in runs}:
        if not holds(actor, Verb.RUN, project):
            raise PermissionRefused(_("It holds tasks of other projects that your role does not let you run."))


def _refuse_second(again: Collection[int], old: dict[int, Run]) -> None:
    # By task and id, which are indexed: rerun_of alone would be a search through every run there is.
    rows = Run.objects.filter(task__in={old[pk].task_id for pk in again}, pk__gt=min(again), rerun_of__in=again)
    live = rows.exclude(state__in=sorted(TERMINAL)).order_by("pk").first()
    if live is not None:
        raise WrongState(_("It is being run again already, see run #%(id)d.") % {"id": live.pk}, run=live.pk)


def _create(
    old: dict[int, Run], again: list[int], edges: Collection[RunDependency], *, now: datetime, actor: Actor
) -> dict[int, int]:
    """Plan the new runs with their edges and periods: {old run: new run}."""
    chosen = set(again)
    above = {edge.downstream_id for edge in edges}
    below = {edge.upstream_id for edge in edges if edge.downstream_id in chosen}
    windows = list(RunPeriod.objects.filter(run__in=again, upstream_task__isnull=False).order_by("pk"))
    waiting = {window.run_id for window in windows}
    root_schedule = next((row.schedule_id for row in old.values() if row.root_id is None), None)
    limits = RunLimits.of([old[pk].task for pk in again], {root_schedule})

    def row_of(pk: int, root: int | None) -> dict[str, Any]:
        run = old[pk]
        key = limits.key(run.task, params=run.params, nominal_at=run.nominal_at or now, schedule_id=root_schedule)
        firing = Firing(
            run.task,
            RunType.RERUN,
            now,
            nominal_at=run.nominal_at,
            params=run.params,
            priority=run.priority,
            rerun_of_id=pk,
            concurrency_key=key,
        )
        ready = pk not in waiting and (pk not in above or run.trigger_rule == TriggerRule.ALWAYS)
        row = run_row(firing, limits, ready=ready, tells=pk in below)
        return row | {"root_id": root, "trigger_rule": run.trigger_rule} | same_part(run)

    (created,) = _insert([row_of(again[0], None)], now, actor)
    new_of = {again[0]: created}
    # A firing has one member of each task: of parts the first that is run again, and the others are beside it.
    first: dict[int, int] = {}
    for pk in again:
        first.setdefault(old[pk].shard_of_id or pk, pk)
    members = [pk for pk in first.values() if pk != again[0]]
    new_of |= zip(members, _insert([row_of(pk, created) for pk in members], now, actor), strict=True)
    beside = {pk: new_of[first[old[pk].shard_of_id or pk]] for pk in again if pk not in new_of}
    rows = [row_of(pk, None) | {"shard_of_id": whole} for pk, whole in beside.items()]
    new_of |= zip(beside, _insert(rows, now, actor), strict=True)
    copied = [edge for edge in edges if edge.downstream_id in chosen]
    if copied:
        freeze_edges((new_of.get(e.upstream_id, e.upstream_id), new_of[e.downstream_id], e.condition) for e in copied)
    _wait_for_periods(windows, new_of)
    # What was kept has been told long ago; the dispatcher tells it once more, now to the new runs below it.
    kept = {edge.upstream_id for edge in copied} - chosen
    Run.objects.filter(pk__in=kept).update(tell_downstream=True)
    return new_of


def _insert(rows: Sequence[Mapping[str, Any]], now: datetime, actor: Actor) -> list[int]:
    """The ids of the new runs, which come back in the order of the rows."""
    if not rows:
        return []
    made = transitions.create(rows, now=now, actor=actor.name, columns=transitions.PART_COLUMNS)
    return [run.id for run in made]


def _wait_for_periods(windows: Collection[RunPeriod], new_of: dict[int, int]) -> None:
    RunPeriod.objects.bulk_create(
        RunPeriod(
            run_id=new_of[window.run_id],
            upstream_task_id=window.upstream_task_id,
            start=window.start,
            end=window.end,
            policy=window.policy,
        )
        for window in windows
    )
