"""Step 4: what was lost on the way is found again: dead workers, their runs, and messages that nobody answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from dispatcher_app.release import Released, describe
from dispatcher_app.rerouting import LONGEST_SWEEP, find_stranded, overdue
from dispatcher_app.runtime_settings import SWEEP_SECONDS
from tasks_app import deaths, end_steps, rowset, transitions
from tasks_app.deaths import Death
from tasks_app.end_steps import Taken
from tasks_app.models import EndStep, Run
from tasks_app.moves import Outcome
from tasks_app.retry import POISON_LIMIT
from tasks_app.states import Reason, RunState
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState
from workers_app.services import look_again

log = structlog.get_logger(__name__)
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Orphan:
    """A running run whose worker is gone."""

    id: int
    attempt: int
    deaths: int
    retry_on_lost: bool
    cancelled: bool
    worker: str
    poison_limit: int = POISON_LIMIT
    worker_id: UUID | None = None
    host: str = ""


def expire_leases(database_now: datetime) -> int:
    """Mark workers lost whose lease has run out on the database's clock. Returns how many.

    A worker that comes back later finds its row lost and ends itself; a restart is a new row.
    """
    expired = Worker.objects.filter(state__in=HOLDING_A_LEASE, lease_until__lt=database_now)
    names = dict(expired.values_list("pk", "name"))
    if not names:
        return 0
    log.warning("workers lost", workers=sorted(names.values()))
    lost = expired.update(state=WorkerState.LOST, stopped_at=database_now)
    look_again(names, database_now)
    return lost


def recover_orphans(now: datetime, *, actor: str, limit: int = BATCH) -> list[Orphan]:
    """Give every running run without a live worker its next state: another attempt, lost, cancelled or quarantined.
    Returns those that moved."""
    with transaction.atomic():
        orphans = _orphans(limit)
        if not orphans:
            return []
        moved = transitions.recover([judge(orphan, now) for orphan in orphans], now=now, actor=actor)
        end_steps.record(
            Taken(orphan.id, orphan.attempt, EndStep.Step.WORKER_LOST, now)
            for orphan in orphans
            if orphan.cancelled and orphan.id in moved
        )
        deaths.record(
            [
                Death(orphan.id, orphan.attempt, orphan.worker_id, orphan.worker, orphan.host)
                for orphan in orphans
                if orphan.worker_id is not None and orphan.id in moved
            ],
            now=now,
        )
        return [orphan for orphan in orphans if orphan.id in moved]


def judge(orphan: Orphan, now: datetime) -> Outcome:
    """What becomes of a run whose worker died with it."""
    outcome = Outcome(orphan.id, orphan.attempt, RunState.LOST, Reason.WORKER_LOST, worker_died=True)
    outcome.detail = f"Worker {orphan.worker} stopped answering."
    if orphan.cancelled:
        outcome.state, outcome.reason = RunState.CANCELLED, Reason.CANCEL_REQUESTED
    elif orphan.retry_on_lost and orphan.deaths + 1 >= orphan.poison_limit:
        outcome.state, outcome.reason = RunState.QUARANTINED, Reason.POISON
        outcome.detail += f" {orphan.deaths + 1} workers have died with this run."
    elif orphan.retry_on_lost:
        outcome.state, outcome.retry_at = RunState.WAITING, now
    else:
        outcome.detail += " The task does not allow a rerun after a loss (retry_on_lost)."
    return outcome


def find_unclaimed(
    now: datetime, *, is_empty: Callable[[str], bool], limit: int = BATCH, actor: str = "dispatcher"
) -> list[Released]:
    """Queued runs whose message is lost: to be published again.

    A message can be lost with the broker, or with a worker that took it and died. While all slots of a pool are taken,
    or messages still wait in its queue (`is_empty` is asked by pool name), nothing is wrong, and one more message would
    only make the queue longer. The time to the next look at a run doubles with its age, up to five minutes.
    """
    unclaimed = overdue(now)
    if not unclaimed.exists():
        return []
    return _of_pools(unclaimed, now, is_empty, limit) + find_stranded(now, is_empty=is_empty, limit=limit, actor=actor)


def _of_pools(unclaimed: QuerySet[Run], now: datetime, is_empty: Callable[[str], bool], limit: int) -> list[Released]:
    # Before the transaction: on SQLite it holds the one write lock, and the broker may take its time to answer.
    pools = [key for key, name in _pools_with_free_slots() if is_empty(name)]
    if not pools:
        return []
    with transaction.atomic():
        rows = unclaimed.filter(pool__in=pools, target_id__isnull=True).order_by("sweep_at", "pk")
        rows = rows.select_for_update(skip_locked=True, of=("self",), no_key=True)
        found = list(rows.only("id", "attempt", "task_id", "pool_id", "version_id", "queued_at")[:limit])
        if not found:
            return []
        _put_off(found, now)
        return describe(found, {})


def _pools_with_free_slots() -> list[tuple[int, str]]:
    busy = (
        Run.objects.filter(state=RunState.RUNNING, worker_id=OuterRef("pk"))
        .order_by()
        .values("worker_id")
        .annotate(n=Count("pk"))
        .values("n")
    )
    # Agents hear of nothing through the broker.
    workers = Worker.objects.filter(state=WorkerState.ONLINE, key__isnull=True).annotate(
        busy=Coalesce(Subquery(busy), 0)
    )
    return list(workers.filter(busy__lt=F("slots")).order_by().values_list("pool", "pool__name").distinct())


def _put_off(runs: Sequence[Run], now: datetime) -> None:
    least = timedelta(seconds=SWEEP_SECONDS.value)
    rows = []
    for run in runs:
        age = now - (run.queued_at or now)
        rows.append({"id": run.pk, "sweep_at": now + min(max(age, least), LONGEST_SWEEP)})
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE tasks_app_run AS run SET sweep_at = k.sweep_at
            FROM {rowset.table("k", {"id": "bigint", "sweep_at": "timestamptz"})} WHERE run.id = k.id""",
            [rowset.encode(rows)],
        )


def _orphans(limit: int) -> list[Orphan]:
    lock = " FOR UPDATE OF run SKIP LOCKED" if rowset.is_postgresql() else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT run.id, run.attempt, run.worker_deaths, version.retry_on_lost,
                run.cancel_requested_at IS NOT NULL, coalesce(worker.name, 'unknown'), version.poison_limit,
                run.worker_id, coalesce(worker.host, '')
            FROM tasks_app_run AS run
            JOIN tasks_app_taskversion AS version ON version.id = run.version_id
            LEFT JOIN workers_app_worker AS worker ON worker.id = run.worker_id
            WHERE run.state = 'running' AND (worker.id IS NULL OR worker.state IN ('lost', 'offline'))
            ORDER BY run.id LIMIT {int(limit)}{lock}"""
        )
        return [_orphan(row) for row in cursor.fetchall()]


def _orphan(row: tuple[Any, ...]) -> Orphan:
    # SQLite keeps a UUID as text.
    worker_id = row[7] if row[7] is None or isinstance(row[7], UUID) else UUID(row[7])
    return Orphan(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5], row[6], worker_id, row[8])
