"""Step 2: waiting runs whose gates are all open are queued, taking their slots in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from dispatcher_app.gates import Candidate, Slots, full_limits, lock_slots
from tasks_app import rowset, transitions
from tasks_app.models import Pool, TaskVersion

BATCH = 5000


@dataclass(frozen=True, slots=True)
class Released:
    """A queued run, with all that publishing it needs."""

    id: int
    attempt: int
    pool: str
    version_id: int
    executor: str


def release_ready(now: datetime, *, actor: str, limit: int = BATCH) -> list[Released]:
    """Queue up to `limit` waiting runs, best priority first. Two dispatchers never take the same run or slot."""
    with transaction.atomic():
        slots = full_limits()
        admitted: list[Candidate] = []
        first = True
        while len(admitted) < limit:
            wanted = limit - len(admitted)
            batch = _candidates(now, wanted, slots, [candidate.id for candidate in admitted])
            if not batch:
                break
            taken = lock_slots(batch, slots, wait=first).admit(batch)
            first = False
            admitted += taken
            # A short batch was all there is; a full one may hide others behind tasks that have just filled up.
            if len(batch) < wanted or len(taken) == len(batch):
                break
        if not admitted:
            return []
        sweep_at = now + timedelta(seconds=settings.SCHEDULER_SWEEP_SECONDS)
        moved = set(transitions.enqueue([c.id for c in admitted], now=now, sweep_at=sweep_at, actor=actor))
        return describe([candidate for candidate in admitted if candidate.id in moved])


def describe(candidates: list[Candidate]) -> list[Released]:
    """Look up pool names and executors: two queries for any number of runs."""
    pools = dict(Pool.objects.filter(pk__in={c.pool_id for c in candidates}).values_list("pk", "name"))
    versions = TaskVersion.objects.filter(pk__in={c.version_id for c in candidates})
    executors = dict(versions.values_list("pk", "executor"))
    return [Released(c.id, c.attempt, pools[c.pool_id], c.version_id, executors[c.version_id]) for c in candidates]


def _candidates(now: datetime, limit: int, slots: Slots, taken: list[int]) -> list[Candidate]:
    """Lock the best waiting runs; what stands behind a closed gate is left out here, not fetched and dropped."""
    excluded, params = "", [rowset.moment(now)]
    for column, keys in (("task_id", slots.full_tasks), ("pool_id", slots.full_pools), ("id", taken)):
        if keys:
            excluded += (
                f" AND NOT EXISTS (SELECT 1 FROM {rowset.table('x', {'id': 'bigint'})} WHERE x.id = run.{column})"
            )
            params.append(rowset.encode({"id": key} for key in keys))
    lock = " FOR UPDATE OF run SKIP LOCKED" if rowset.is_postgresql() else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT run.id, run.attempt, run.task_id, run.pool_id, run.version_id
            FROM tasks_app_run AS run JOIN tasks_app_task AS task ON task.id = run.task_id
            WHERE run.state = 'waiting' AND run.upstream_ready AND NOT run.held AND run.due_at <= %s
            AND NOT task.paused{excluded}
            ORDER BY run.priority DESC, run.due_at, run.id LIMIT {int(limit)}{lock}""",
            params,
        )
        return [Candidate(*row) for row in cursor.fetchall()]
