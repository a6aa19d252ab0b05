"""What a worker owns by the database: its lease, and the attempts that are running there. For workers of every kind."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks_app import rowset
from tasks_app.errors import SchedulerError
from tasks_app.models import Pool, Run
from tasks_app.states import RunState
from tasks_app.wakeup import nudge
from workers_app.jobs import Control
from workers_app.load import Load
from workers_app.messages import Pair
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState
from workers_app.services import look_again


class LeaseLost(SchedulerError):
    """This worker is held for dead and its runs are given away: end them, and register anew."""

    code = "lease_lost"
    status = 409


def register(*, id: UUID, pool: Pool, slots: int, **more: Any) -> Worker:
    """Write the row of a worker that has started; its lease begins on the database's clock."""
    now = rowset.database_now()
    return Worker.objects.create(
        id=id, pool=pool, slots=slots, started_at=now, beat_at=now, lease_until=now + _lease(), **more
    )


def renew(worker_id: UUID, load: Load, **told: Any) -> str:
    """Renew the lease and note the load, and what else is `told`, by column; the state in which the worker is to be.
    Raises LeaseLost."""
    now, own = rowset.database_now(), Worker.objects.filter(pk=worker_id)
    alive = own.filter(state__in=HOLDING_A_LEASE)
    if alive.update(beat_at=now, lease_until=now + _lease(), **load._asdict(), **told) == 0:
        raise LeaseLost
    return own.values_list("state", flat=True).get()


def enter(worker_id: UUID, state: WorkerState, **told: Any) -> None:
    """Note what the worker does of its own accord: it drains, or has left; and what is `told`, by column. Nothing
    happens once its lease is lost."""
    now = rowset.database_now()
    if state == WorkerState.OFFLINE:
        told["stopped_at"] = now
    alive = Worker.objects.filter(pk=worker_id, state__in=HOLDING_A_LEASE)
    if alive.update(state=state, **told):
        look_again([worker_id], now)
    nudge()


def look(worker_id: UUID, held: Iterable[Pair]) -> tuple[dict[Pair, str], set[Pair]]:
    """Of the attempts that the worker holds, those that have to end, and why (of Control); and all that are its own by
    the database.

    An attempt that is not its own any more is lost, also when it has just finished; then there is nothing left to end.
    """
    rows = Run.objects.filter(worker_id=worker_id, state=RunState.RUNNING)
    columns = ("pk", "attempt", "cancel_requested_at", "terminate_requested_at")
    own = {(pk, attempt): (asked, kill) for pk, attempt, asked, kill in rows.values_list(*columns)}
    ends: dict[Pair, str] = {}
    for pair in held:
        asked, kill = own.get(pair, (None, None))
        if pair not in own:
            ends[pair] = Control.LOST
        elif kill is not None or asked is not None:
            ends[pair] = Control.KILL if kill is not None else Control.CANCEL
    return ends, set(own)


def _lease() -> timedelta:
    return timedelta(seconds=settings.SCHEDULER_LEASE_SECONDS)
