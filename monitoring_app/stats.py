"""Numbers about the installation, for people, the API and Prometheus."""

from __future__ import annotations

import platform
import threading
import time
import tomllib
from collections.abc import Callable, Hashable
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import connection
from django.db.models import Count, Min, Q, QuerySet

from access_app import runtime
from access_app.actors import Actor
from access_app.api.fields import instant
from access_app.roles import visible_project_ids
from tasks_app.models import Pool, Run
from tasks_app.queries import counts_by_state, runs_visible_to
from tasks_app.rowset import database_now
from tasks_app.states import LIVE, RunState
from tasks_app.statistics import dispatch_delays_ms, throughput_per_minute
from workers_app import brokers
from workers_app.models import HOLDING_A_LEASE, WorkerState
from workers_app.runtime_settings import BROKER_URL
from workers_app.services import workers_visible_to

T = TypeVar("T")
# A value that took this long (seconds) to compute is used again for REST times as long: a scrape or a dashboard then
# costs a bounded share of the database, however large the history is.
SLOW, REST = 0.05, 20


class CostlyValue(Generic[T]):
    """Remembers an answer for a time in proportion to what it cost, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, T]] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        started = time.monotonic()
        value = compute()
        ended = time.monotonic()
        with self._lock:
            self._kept = {k: v for k, v in self._kept.items() if v[0] > ended}
            if ended - started > SLOW:
                self._kept[key] = (ended + REST * (ended - started), value)
        return value


_counts: CostlyValue[dict[str, int]] = CostlyValue()


def run_counts(actor: Actor) -> dict[str, int]:
    """Number of runs in each state that the actor may see, zeros included."""
    visible = visible_project_ids(actor)
    key = None if visible is None else tuple(sorted(visible))
    return _counts.get(key, lambda: counts_by_state(runs_visible_to(actor)))


def pool_loads(runs: QuerySet[Run], now: datetime) -> list[dict[str, Any]]:
    """For each pool: name, slots, queued, running, and the seconds for which its oldest queued run has waited."""
    queued = Q(state=RunState.QUEUED.value)
    rows = (
        runs.filter(state__in=sorted(LIVE))
        .order_by()
        .values_list("pool_id")
        .annotate(
            queued=Count("pk", filter=queued),
            running=Count("pk", filter=~queued),
            oldest=Min("queued_at", filter=queued),
        )
    )
    live = {pool_id: counted for pool_id, *counted in rows}
    loads = []
    for pool in Pool.objects.order_by("name"):
        waiting, running, oldest = live.get(pool.pk, (0, 0, None))
        age = max((now - oldest).total_seconds(), 0.0) if oldest else 0.0
        load = {"name": pool.name, "slots": pool.slots, "queued": waiting, "running": running}
        loads.append(load | {"oldest_queued_seconds": round(age, 3)})
    return loads


def worker_counts(actor: Actor, now: datetime) -> dict[str, int]:
    """Workers with a lease, by state; those whose lease has run out are `lost`. Workers that left are not counted."""
    rows = workers_visible_to(actor).filter(state__in=HOLDING_A_LEASE).values_list("state", "lease_until", "slots")
    counts = {state.value: 0 for state in (*HOLDING_A_LEASE, WorkerState.LOST)} | {"slots": 0}
    for state, lease_until, slots in rows:
        alive = lease_until > now
        counts[str(state) if alive else WorkerState.LOST.value] += 1
        counts["slots"] += slots if alive and state == WorkerState.ONLINE else 0
    return counts


def system_stats(actor: Actor) -> dict[str, Any]:
    """What `/api/system/stats` answers, of the runs that the actor may see."""
    now = database_now()
    runs = runs_visible_to(actor).select_related(None)
    loads = [] if visible_project_ids(actor) == [] else pool_loads(runs, now)
    return {
        "runs": run_counts(actor),
        "throughput_per_minute": throughput_per_minute(runs, now=now),
        "dispatch_delay_ms": dispatch_delays_ms(runs),
        "workers": worker_counts(actor, now),
        "pools": {load.pop("name"): load for load in loads},
    }


def system_info(now: datetime) -> dict[str, Any]:
    """What runs here: versions and kinds, no addresses and no credentials. `time` is this process's clock."""
    runtime.refresh()
    return {
        "version": version(),
        "python": platform.python_version(),
        "database": connection.vendor,
        "broker": brokers.scheme_of(BROKER_URL.value),
        "environment": settings.SCHEDULER_ENV,
        "time_zone": settings.SCHEDULER_TIME_ZONE,
        "time": instant(now),
    }


@cache
def version() -> str:
    """The version of this program, as pyproject.toml has it."""
    path = settings.BASE_DIR / "pyproject.toml"
    return str(tomllib.loads(path.read_text())["project"]["version"]) if path.exists() else "unknown"
