"""Routes read from the rows: a few queries for any number of tasks and runs, none where no task asks for any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from dispatcher_app.routing import Routable, Route, Server, Turn, assign
from tasks_app import rowset
from tasks_app.label_expressions import LabelError, Requirement, parse
from tasks_app.models import Run, Task
from tasks_app.routing import Routing
from tasks_app.states import RunState
from workers_app.models import Worker, WorkerState

_random = Random()  # noqa: S311  (nothing secret)


def load(task_ids: Collection[int]) -> dict[int, Route]:
    """The route of each of the tasks, with the workers of its pool as they are now: two queries."""
    if not task_ids:
        return {}
    columns = ("pk", "pool_id", "pool__name", "routing", "required_labels", "routing_key", "routing_workers", "shards")
    rows = list(Task.objects.filter(pk__in=task_ids).order_by("pk").values_list(*columns))
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
            online=servers[pool_id],
        )
        for task_id, pool_id, pool, strategy, expression, key, names, shards in rows
    }


def online_servers(pool_ids: Collection[int]) -> Mapping[int, list[Server]]:
    """The workers of the pools that take runs, by pool, each with what it has to do."""
    running = Run.objects.filter(state=RunState.RUNNING, worker_id=OuterRef("pk"))
    queued = Run.objects.filter(state=RunState.QUEUED, target_id=OuterRef("pk"))
    workers = Worker.objects.filter(state=WorkerState.ONLINE, pool_id__in=pool_ids).order_by("name", "pk")
    rows = workers.annotate(running=_number(running, "worker_id"), queued=_number(queued, "target_id"))
    columns = ("pk", "name", "labels", "slots", "running", "queued", "cpu_percent")
    found: dict[int, list[Server]] = defaultdict(list)
    for pool_id, pk, name, labels, slots, here, to_come, cpu in rows.values_list("pool_id", *columns):
        found[pool_id].append(Server(pk, name, labels, slots, here, to_come, cpu or 0.0))
    return found


def targets_of(runs: Sequence[Routable], routes: Mapping[int, Route], *, random: Random = _random) -> dict[int, UUID]:
    """{run id: id of its worker} for the runs of tasks with a route; runs without a target are left out."""
    known = [run for run in runs if run.task_id in routes]
    if not known:
        return {}
    # Each part of a broadcast has had its worker from the start.
    fixed = [run.id for run in known if routes[run.task_id].strategy == Routing.BROADCAST]
    routed = [run for run in known if routes[run.task_id].strategy != Routing.BROADCAST]
    hashed = [run.id for run in routed if routes[run.task_id].strategy == Routing.CONSISTENT_HASH]
    by_turns = [route for route in routes.values() if route.strategy == Routing.ROUND_ROBIN]
    found = assign(routed, routes, keys=_keys(hashed, routes), last_turns=_last_turns(by_turns), random=random)
    if fixed:
        rows = Run.objects.filter(pk__in=fixed, target_id__isnull=False).order_by()
        found |= {pk: target for pk, target in rows.values_list("pk", "target_id") if target is not None}
    return found


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
