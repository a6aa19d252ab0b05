"""One run becomes several as it is released: one for each worker (broadcast), or as many as its task says (shards).

The run itself is part 0; the others are planned beside it, in the transaction that queues it, and pass the gates like
any run. What waits for the run waits for all its parts, and what it has waited for is theirs, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import F

from dispatcher_app.lanes import Candidate
from dispatcher_app.routing import Route, Server
from tasks_app import rowset, transitions
from tasks_app.models import Backfill, Run
from tasks_app.models.run import RunType
from tasks_app.routing import FANNING_OUT, Routing

# Parts made in one look; what would be more waits for the next one.
MOST_PARTS = 20_000


def fan_out(chosen: list[Candidate], routes: Mapping[int, Route], *, now: datetime, actor: str) -> list[Candidate]:
    """Make the parts of those of the chosen runs that are to become several. Returns the runs that start now."""
    wanted = [run for run in chosen if run.task_id in routes and routes[run.task_id].strategy in FANNING_OUT]
    if not wanted:
        return chosen
    whole = Run.objects.select_related("version").in_bulk([run.id for run in wanted])
    made: list[Run] = []
    parts: list[dict[str, Any]] = []
    postponed: set[int] = set()
    for candidate in wanted:
        run = whole[candidate.id]
        route = routes[candidate.task_id].of(run.version.executor)
        if run.shard_total is not None:
            continue
        places = _places(route)
        if parts and len(parts) + len(places) > MOST_PARTS:
            postponed.add(run.pk)
            continue
        run.shard_index, run.shard_total = 0, len(places)
        run.target_id = places[0].id if places[0] is not None else None
        made.append(run)
        parts += [_part(run, index, server) for index, server in enumerate(places) if index]
    Run.objects.bulk_update(made, ["shard_index", "shard_total", "target_id"], batch_size=500)
    if parts:
        _create(parts, now=now, actor=actor)
    return [run for run in chosen if run.id not in postponed]


def _places(route: Route) -> Sequence[Server | None]:
    if route.strategy == Routing.BROADCAST:
        return sorted(route.targets, key=lambda server: (server.name, server.id))
    return [None] * (route.shards or 1)


def _part(run: Run, index: int, server: Server | None) -> dict[str, Any]:
    same = {column: getattr(run, column) for column in transitions.CREATE_COLUMNS}
    return same | {
        # One instant, one key and one member of a firing are one run; the parts are beside it.
        "schedule_id": None,
        "root_id": None,
        "idempotency_key": None,
        "run_type": RunType.PART.value,
        "shard_of_id": run.pk,
        "shard_index": index,
        "shard_total": run.shard_total,
        "target_id": server and server.id,
    }


def _create(parts: Sequence[dict[str, Any]], *, now: datetime, actor: str) -> None:
    made = transitions.create(parts, now=now, actor=actor, columns=transitions.PART_COLUMNS)
    # They come back in the order in which they were given.
    rows = rowset.encode({"whole": part["shard_of_id"], "id": run.id} for part, run in zip(parts, made, strict=True))
    table = rowset.table("k", {"whole": "bigint", "id": "bigint"})
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO tasks_app_rundependency (upstream_id, downstream_id, condition)
            SELECT k.id, edge.downstream_id, edge.condition FROM {table}
                JOIN tasks_app_rundependency AS edge ON edge.upstream_id = k.whole
            UNION ALL SELECT edge.upstream_id, k.id, edge.condition FROM {table}
                JOIN tasks_app_rundependency AS edge ON edge.downstream_id = k.whole""",
            [rows, rows],
        )
    for backfill_id, number in Counter(part["backfill_id"] for part in parts if part["backfill_id"]).items():
        Backfill.objects.filter(pk=backfill_id).update(total=F("total") + number)
