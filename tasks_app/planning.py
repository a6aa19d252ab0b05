"""plan_runs: the run of each firing, with the runs of everything downstream and frozen edges between them.

The one way in for schedules, triggers, reruns and backfills.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from tasks_app import moves, rowset, transitions
from tasks_app.dependencies import TriggerRule, closure
from tasks_app.models import Task, TaskDependency
from tasks_app.models.run import RunType
from tasks_app.period_edges import PeriodEdge, freeze
from tasks_app.run_limits import RunLimits


@dataclass(slots=True)
class Firing:
    """One run that is wanted: by a schedule (schedule and nominal time given) or by a person or program."""

    task: Task
    run_type: str
    due_at: datetime
    schedule_id: int | None = None
    nominal_at: datetime | None = None
    params: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    idempotency_key: str | None = None
    rerun_of_id: int | None = None
    backfill_id: int | None = None
    # Where whoever asked has worked it out already, to refuse what has none.
    concurrency_key: str | None = None
    # Of the schedule, in place of the task's own.
    start_deadline_seconds: int | None = None
    # In place of that of the task version.
    memory_limit_mb: int | None = None
    # With no other run on the same worker.
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What came of the firings: for each, in order, the id of its new run, or None where it had been planned before."""

    run_ids: list[int | None]
    downstream: int


def plan_runs(firings: Sequence[Firing], *, now: datetime, actor: str) -> Plan:
    """Insert the runs of the firings and of their downstream tasks, in a handful of statements for any number.

    Needs no transaction of its own around it, but makes one: either a firing is planned with its whole downstream or
    not at all.
    """
    if not firings:
        return Plan([], 0)
    with transaction.atomic():
        graph = _Graph.around({firing.task.pk for firing in firings})
        tasks = [*(firing.task for firing in firings), *graph.tasks.values()]
        limits = RunLimits.of(tasks, {firing.schedule_id for firing in firings})
        created = transitions.create(
            [run_row(firing, limits, **graph.place_of(firing.task)) for firing in firings],
            now=now,
            actor=actor,
        )
        run_ids = _match(firings, created)
        planned = [(firing, id) for firing, id in zip(firings, run_ids, strict=True) if id is not None]
        run_of = _plan_downstream(planned, graph, limits, now=now, actor=actor)
        nominal = {root_id: firing.nominal_at or now for firing, root_id in planned}
        freeze(graph.periods_into, [(run, task, nominal[root]) for (root, task), run in run_of.items()])
        return Plan(run_ids, len(run_of) - len(planned))


@dataclass(slots=True)
class _Graph:
    """The part of the task graph below some tasks, and the dependencies by period into it."""

    # {upstream task: {downstream task: condition of the edge}}
    downstream_of: dict[int, dict[int, str]]
    tasks: dict[int, Task]
    periods_into: dict[int, list[PeriodEdge]]

    @classmethod
    def around(cls, task_ids: Iterable[int]) -> _Graph:
        """Read the edges level by level: one query a level, none beyond the first for tasks without downstream."""
        downstream_of: dict[int, dict[int, str]] = defaultdict(dict)
        periods_into: dict[int, list[PeriodEdge]] = defaultdict(list)
        frontier = set(task_ids)
        seen = set(frontier)
        while frontier:
            edges = TaskDependency.objects.filter(
                Q(upstream_id__in=frontier, period="") | Q(downstream_id__in=frontier, period__gt="")
            )
            frontier = set()
            for edge in edges.order_by("pk"):
                if edge.period:
                    window = PeriodEdge(edge.upstream_id, edge.period, edge.period_back, edge.period_policy)
                    periods_into[edge.downstream_id].append(window)
                    continue
                downstream_of[edge.upstream_id][edge.downstream_id] = edge.condition
                if edge.downstream_id not in seen:
                    frontier.add(edge.downstream_id)
            seen |= frontier
        below = {task for tasks in downstream_of.values() for task in tasks}
        # A task that is being deleted has lost its version already; its part of the graph is not planned any more.
        tasks = Task.objects.filter(version__isnull=False).in_bulk(below) if below else {}
        kept = {
            upstream: {task: condition for task, condition in edges.items() if task in tasks}
            for upstream, edges in downstream_of.items()
        }
        return cls(kept, tasks, dict(periods_into))

    def place_of(self, task: Task) -> dict[str, bool]:
        """What a run of the task is told and tells, were it the root."""
        return {"ready": task.pk not in self.periods_into, "tells": bool(self.downstream_of.get(task.pk))}


def run_row(firing: Firing, limits: RunLimits, *, ready: bool, tells: bool) -> dict[str, Any]:
    """The row for `transitions.create`: `ready` where it waits for no other run, `tells` where others wait for it."""
    task = firing.task
    key = firing.concurrency_key
    if key is None:
        asked_at = firing.nominal_at or firing.due_at
        key = limits.key(task, params=firing.params, nominal_at=asked_at, schedule_id=firing.schedule_id)
    return {
        "task_id": task.pk,
        "version_id": task.version_id,
        "schedule_id": firing.schedule_id,
        "pool_id": task.pool_id,
        "root_id": None,
        "rerun_of_id": firing.rerun_of_id,
        "run_type": firing.run_type,
        "priority": task.priority if firing.priority is None else firing.priority,
        "trigger_rule": "",
        "weight": task.weight,
        "concurrency_key": key,
        "backfill_id": firing.backfill_id,
        "upstream_ready": ready,
        "tell_downstream": tells,
        "tell_limits": task.pk in limits.telling,
        "nominal_at": firing.nominal_at,
        "due_at": firing.due_at,
        "expires_at": _expires_at(firing),
        "params": firing.params,
        "idempotency_key": firing.idempotency_key,
        "memory_limit_mb": firing.memory_limit_mb,
        "alone": firing.alone,
    }


def _expires_at(firing: Firing) -> datetime | None:
    """When the run has expired that still waits, or None where it may wait for ever, as all of a backfill may."""
    if firing.backfill_id is not None:
        return None
    seconds = firing.start_deadline_seconds or firing.task.start_deadline_seconds
    return firing.due_at + timedelta(seconds=seconds) if seconds else None


def _match(firings: Sequence[Firing], created: Sequence[moves.Created]) -> list[int | None]:
    """Find the new id of each firing: by instant, by idempotency key, else by order of insertion."""
    by_instant = {(run.schedule_id, run.nominal_at): run.id for run in created if run.schedule_id is not None}
    by_key = {(run.task_id, run.idempotency_key): run.id for run in created if run.idempotency_key is not None}
    in_order = iter([run.id for run in created if run.schedule_id is None and run.idempotency_key is None])
    ids: list[int | None] = []
    for firing in firings:
        if firing.schedule_id is not None:
            ids.append(by_instant.get((firing.schedule_id, firing.nominal_at)))
        elif firing.idempotency_key is not None:
            ids.append(by_key.get((firing.task.pk, firing.idempotency_key)))
        else:
            ids.append(next(in_order))
    return ids


def _plan_downstream(
    planned: list[tuple[Firing, int]], graph: _Graph, limits: RunLimits, *, now: datetime, actor: str
) -> dict[tuple[int, int], int]:
    """Plan the members and their edges; {(root run, task): run} with the roots themselves."""
    rows: list[dict[str, Any]] = []
    run_of: dict[tuple[int, int], int] = {}
    for firing, root_id in planned:
        run_of[root_id, firing.task.pk] = root_id
        below = closure([firing.task.pk], graph.downstream_of)
        rows += [_member_row(firing, root_id, graph.tasks[task_id], graph, limits) for task_id in below]
    if not rows:
        return run_of
    for run in transitions.create(rows, now=now, actor=actor):
        assert run.root_id is not None
        run_of[run.root_id, run.task_id] = run.id
    freeze_edges(
        (run_id, run_of[root_id, downstream], condition)
        for (root_id, task_id), run_id in run_of.items()
        for downstream, condition in sorted(graph.downstream_of.get(task_id, {}).items())
        if (root_id, downstream) in run_of and downstream != task_id
    )
    return run_of


def freeze_edges(edges: Iterable[tuple[int, int, str]]) -> None:
    """Write edges between runs (upstream, downstream, condition) in one statement."""
    columns = {"upstream": "bigint", "downstream": "bigint", "condition": "text"}
    rows = rowset.encode(dict(zip(columns, edge, strict=True)) for edge in edges)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO tasks_app_rundependency (upstream_id, downstream_id, condition)
            SELECT upstream, downstream, condition FROM {rowset.table("k", columns)}""",
            [rows],
        )


def _member_row(firing: Firing, root_id: int, task: Task, graph: _Graph, limits: RunLimits) -> dict[str, Any]:
    asked_at = firing.nominal_at or firing.due_at
    key = limits.key(task, params={}, nominal_at=asked_at, schedule_id=firing.schedule_id)
    member = Firing(task, RunType.UPSTREAM, firing.due_at, nominal_at=firing.nominal_at, concurrency_key=key)
    row = run_row(member, limits, **graph.place_of(task))
    ready = row["upstream_ready"] and task.trigger_rule == TriggerRule.ALWAYS
    if firing.backfill_id is not None:
        row |= {"priority": firing.priority, "expires_at": None}
    return row | {"root_id": root_id, "trigger_rule": task.trigger_rule, "upstream_ready": ready}
