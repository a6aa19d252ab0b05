"""Routes read from the rows: a few queries for any number of tasks and runs, none where no task asks for any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any, Protocol
from uuid import UUID

from django.db import connection
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from dispatcher_app.routing import Routable, Route, Server, Turn, assign
from tasks_app import rowset
from tasks_app.label_expressions import LabelError, Requirement, parse
from tasks_app.models import Run, Task, TaskVersion
from tasks_app.routing import Routing
from tasks_app.states import RunState
from workers_app.models import Worker, WorkerState

_random = Random()  # noqa: S311  (nothing secret)


class Planned(Routable, Protocol):
    @property
    def version_id(self) -> int: ...


def load(task_ids: Collection[int]) -> dict[int, Route]:
    """The route of each of the tasks, with the workers of its pool as they are now: two queries."""
    if not task_ids:
        return {}
    columns = ("pk", "pool_id", "pool__name", "routing", "required_labels", "routing_key", "routing_workers", "shards")
    tasks = Task.objects.filter(pk__in=task_ids).order_by("pk")
    rows = list(tasks.values_list(*columns, "version__executor"))
    servers = online_servers({pool_id for _pk, pool_id, *_ in rows})
    return {
        task_id: Route(
            task_id,
            pool,
            strategy,
            requirement=_requirement(expression),
            expression=expression,
            key_parameter=key,
            names=names,
            shards=shards,
            executor=executor or "",
            servers=servers[pool_id],
        )
        for task_id, pool_id, pool, strategy, expression, key, names, shards, executor in rows
    }


def online_servers(pool_ids: Collection[int]) -> Mapping[int, list[Server]]:
    """The workers of the pools that take runs, by pool, each with what it has to do."""
    running = Run.objects.filter(state=RunState.RUNNING, worker_id=OuterRef("pk"))
    queued = Run.objects.filter(state=RunState.QUEUED, target_id=OuterRef("pk"))
    workers = Worker.objects.filter(state=WorkerState.ONLINE, pool_id__in=pool_ids).order_by("name", "pk")
    rows = workers.annotate(running=_number(running, "worker_id"), queued=_number(queued, "target_id"))
    columns = ("pk", "name", "labels", "slots", "running", "queued", "cpu_percent", "executors")
    found: dict[int, list[Server]] = defaultdict(list)
    for pool_id, pk, name, labels, slots, here, to_come, cpu, executors in rows.values_list("pool_id", *columns):
        found[pool_id].append(Server(pk, name, labels, slots, here, to_come, cpu or 0.0, executors))
    return found


def targets_of(runs: Sequence[Planned], routes: Mapping[int, Route], *, random: Random = _random) -> dict[int, UUID]:
    """{run id: id of its worker} for the runs of tasks with a route; runs without a target are left out."""
    known = [run for run in runs if run.task_id in routes]
    if not known:
        return {}
    # Each part of a broadcast has had its worker from the start.
    fixed = [run.id for run in known if routes[run.task_id].strategy == Routing.BROADCAST]
    routed = [run for run in known if routes[run.task_id].strategy != Routing.BROADCAST]
    hashed = [run.id for run in routed if routes[run.task_id].strategy == Routing.CONSISTENT_HASH]
    by_turns = [route for route in routes.values() if route.strategy == Routing.ROUND_ROBIN]
    keys, last_turns = _keys(hashed, routes), _last_turns(by_turns)
    found: dict[int, UUID] = {}
    for executor, group in _by_executor(routed, routes).items():
        own = routes if executor is None else {task_id: route.of(executor) for task_id, route in routes.items()}
        found |= assign(group, own, keys=keys, last_turns=last_turns, random=random)
    if fixed:
        rows = Run.objects.filter(pk__in=fixed, target_id__isnull=False).order_by()
        found |= {pk: target for pk, target in rows.values_list("pk", "target_id") if target is not None}
    return found


def executors_of(runs: Iterable[Planned], routes: Mapping[int, Route]) -> dict[int, str]:
    """{version id: executor} where it matters, that is of tasks in whose pool there are agents."""
    asked = {run.version_id for run in runs if run.task_id in routes and routes[run.task_id].has_agents}
    return dict(TaskVersion.objects.filter(pk__in=asked).values_list("pk", "executor")) if asked else {}


def _by_executor(runs: Sequence[Planned], routes: Mapping[int, Route]) -> dict[str | None, list[Planned]]:
    """The runs by the executor of the version that planned them; None where all workers can do whatever it is."""
    executors = executors_of(runs, routes)
    groups: dict[str | None, list[Planned]] = defaultdict(list)
    for run in runs:
        groups[executors.get(run.version_id)].append(run)
    return groups


def _requirement(expression: str) -> Requirement:
    try:
        return parse(expression)
    except LabelError:
        # Written past the services: better no worker than any.
        return Requirement(((expression, lambda _labels: False),))


def _number(rows: QuerySet[Run], column: str) -> Coalesce:
    counted = rows.order_by().values(column).annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def _keys(run_ids: Sequence[int], routes: Mapping[int, Route]) -> dict[int, str]:
    """By the parameter that the task names, else by the concurrency key."""
    if not run_ids:
        return {}
    rows = Run.objects.filter(pk__in=run_ids).order_by()
    columns = ("pk", "task_id", "concurrency_key", "params", "version__params")
    return {
        pk: _key(routes[task_id].key_parameter, {**defaults, **params}, concurrency_key)
        for pk, task_id, concurrency_key, params, defaults in rows.values_list(*columns)
    }


def _key(parameter: str, params: Mapping[str, Any], concurrency_key: str) -> str:
    return str(params.get(parameter, "")) if parameter else concurrency_key


def _last_turns(routes: Iterable[Route]) -> dict[Turn, datetime]:
    """When each worker was last given a run of each task."""
    wanted = [{"task": route.task_id, "worker": server.id} for route in routes for server in route.targets]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT k.task, k.worker, (SELECT max(run.queued_at) FROM tasks_app_run AS run
                WHERE run.task_id = k.task AND run.target_id = k.worker AND run.queued_at IS NOT NULL)
            FROM {rowset.table("k", {"task": "bigint", "worker": "uuid"})}""",
            [rowset.encode(wanted)],
        )
        return {
            (task, UUID(str(worker))): rowset.instant(at) for task, worker, at in cursor.fetchall() if at is not None
        }
