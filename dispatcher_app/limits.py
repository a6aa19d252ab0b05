"""What is free of each limit: counted from live runs under the lock of the limit's own row, in a few queries for any
number of lanes. Kinds of limits that nothing here is subject to are not asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, QuerySet, Sum

from dispatcher_app import routes
from dispatcher_app.lanes import Lane, LaneTask
from dispatcher_app.routing import Route
from tasks_app import breaker_columns, calendar_rows, rowset
from tasks_app.breaker import BreakerState, Decision, ask
from tasks_app.calendar_documents import CalendarError
from tasks_app.calendars import Calendar
from tasks_app.fairness import Place
from tasks_app.models import Backfill, Pool, Resource, Run, Task, TaskResource
from tasks_app.rates import Allowance, Rate, allowance_by_count
from tasks_app.states import LIVE

_LIVE = "run.state IN ('queued', 'running')"


@dataclass(frozen=True, slots=True)
class PoolRoom:
    """A pool with a limit, and how many slots of it are taken."""

    name: str
    slots: int
    used: int


@dataclass(frozen=True, slots=True)
class ResourceRoom:
    """A resource, and what its limits say now. `used` counts amounts."""

    id: int
    name: str
    capacity: int | None
    used: int
    rate: Allowance | None
    breaker: Decision
    state: BreakerState
    calendar: Calendar | CalendarError | None


@dataclass(frozen=True, slots=True)
class BackfillRoom:
    """A backfill: whether it goes on, how many of its runs may be live at once, and how many are."""

    state: str
    limit: int
    live: int


@dataclass(slots=True)
class Room:
    """What there is of each limit at `now`; what is not in here has no limit."""

    now: datetime
    tasks: dict[int, LaneTask] = field(default_factory=dict)
    # Live runs by task and by task and key, of the tasks to which that matters.
    live: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    live_of_key: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    rates: dict[int, Allowance] = field(default_factory=dict)
    pools: dict[int, PoolRoom] = field(default_factory=dict)
    uses: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    resources: dict[int, ResourceRoom] = field(default_factory=dict)
    backfills: dict[int, BackfillRoom] = field(default_factory=dict)
    # The workers of the tasks whose runs do not go to any.
    routes: dict[int, Route] = field(default_factory=dict)


def measure(lanes: Sequence[Lane], now: datetime, *, lock: bool) -> Room:
    """Count what is free of every limit of these lanes.

    With `lock` the rows of the limits stay locked to the end of the transaction that then queues the runs, so that no
    other dispatcher counts the same slot; a circuit breaker whose time is up is saved as half open. Locks are taken in
    one order: tasks, pools, resources, backfills, each by key, before any lock on a run.
    """
    room = Room(now, {lane.task.id: lane.task for lane in lanes})
    keyed = {lane.task.id for lane in lanes if lane.key}
    _tasks(room, keyed, lock)
    _pools(room, lock)
    _resources(room, lock)
    _backfills(room, {lane.backfill for lane in lanes if lane.backfill}, lock)
    room.routes = routes.load([id for id, task in room.tasks.items() if task.is_routed])
    return room


def _tasks(room: Room, keyed: set[int], lock: bool) -> None:
    limited = {id for id, task in room.tasks.items() if task.limit is not None or task.rate_limit or id in keyed}
    if limited and lock:
        names = ("max_concurrent", "overlap", "max_concurrent_per_key", "rate_limit", "rate_window_seconds")
        for id, most, overlap, per_key, rate, window in _rows(
            Task.objects.filter(pk__in=limited), ("pk", *names), lock
        ):
            room.tasks[id] = replace(
                room.tasks[id],
                max_concurrent=most,
                overlap=overlap,
                max_per_key=per_key,
                rate_limit=rate,
                rate_window=window,
            )
    counted = {id for id in limited if room.tasks[id].limit is not None or id in keyed}
    if counted:
        live = Run.objects.filter(state__in=sorted(LIVE), task_id__in=counted).order_by()
        for task_id, key, n in live.values_list("task_id", "concurrency_key").annotate(n=Count("pk")):
            room.live[task_id] += n
            room.live_of_key[task_id, key] = n
    rates = {id: _rate(task.rate_limit, task.rate_window) for id, task in room.tasks.items() if task.rate_limit}
    if rates:
        room.rates = _allowances(rates, "k.id = start.task_id", room.now)


def _pools(room: Room, lock: bool) -> None:
    wanted = {task.pool_id for task in room.tasks.values() if task.pool_is_limited}
    if not wanted:
        return
    rows = _rows(Pool.objects.filter(pk__in=wanted, slots__isnull=False), ("pk", "name", "slots"), lock)
    live = Run.objects.filter(state__in=sorted(LIVE), pool_id__in=wanted).order_by()
    used = dict(live.values_list("pool_id").annotate(n=Sum("weight")))
    room.pools = {id: PoolRoom(name, slots, used.get(id, 0)) for id, name, slots in rows}


def _resources(room: Room, lock: bool) -> None:
    users = [id for id, task in room.tasks.items() if task.uses_resources]
    if not users:
        return
    used = TaskResource.objects.filter(task_id__in=users).order_by("task_id", "resource_id")
    for task_id, resource_id, amount in used.values_list("task_id", "resource_id", "amount"):
        room.uses.setdefault(task_id, []).append((resource_id, amount))
    wanted = {resource_id for uses in room.uses.values() for resource_id, _ in uses}
    rows = Resource.objects.filter(pk__in=wanted).order_by("pk")
    resources = list(rows.select_for_update(no_key=True) if lock else rows)
    live = _live_of_resources(wanted)
    rates = {r.pk: _rate(r.rate_limit, r.rate_window_seconds) for r in resources if r.rate_limit}
    starts = (
        "k.id = used.resource_id JOIN tasks_app_ratestart AS start ON start.task_id = used.task_id",
        "tasks_app_taskresource AS used",
    )
    allowances = _allowances(rates, starts[0], room.now, starts[1]) if rates else {}
    calendars = calendar_rows.load(r.calendar_id for r in resources).known
    changed = []
    for resource in resources:
        amounts, since_change = live.get(resource.pk, (0, 0))
        before = breaker_columns.breaker_of(resource)
        after, decision = ask(before, live=since_change, now=room.now)
        if after != before:
            breaker_columns.put(resource, after)
            changed.append(resource)
        room.resources[resource.pk] = ResourceRoom(
            resource.pk,
            resource.name,
            resource.capacity,
            amounts,
            allowances.get(resource.pk),
            decision,
            before.state,
            calendars.get(resource.calendar_id) if resource.calendar_id is not None else None,
        )
    if changed and lock:
        Resource.objects.bulk_update(changed, breaker_columns.STATE_COLUMNS)


def _live_of_resources(ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """{resource: (sum of the amounts of live runs, number of those that were released since its breaker changed)}."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT used.resource_id, sum(used.amount), sum(CASE WHEN resource.breaker_changed_at IS NULL
                OR run.queued_at >= resource.breaker_changed_at THEN 1 ELSE 0 END)
            FROM {rowset.table("k", {"id": "bigint"})} JOIN tasks_app_resource AS resource ON resource.id = k.id
            JOIN tasks_app_taskresource AS used ON used.resource_id = resource.id
            JOIN tasks_app_run AS run ON run.task_id = used.task_id AND {_LIVE} GROUP BY used.resource_id""",
            [rowset.encode({"id": id} for id in ids)],
        )
        return {id: (amounts, since) for id, amounts, since in cursor.fetchall()}


def _backfills(room: Room, wanted: set[int], lock: bool) -> None:
    if not wanted:
        return
    rows = _rows(Backfill.objects.filter(pk__in=wanted), ("pk", "state", "max_concurrent"), lock)
    live = Run.objects.filter(state__in=sorted(LIVE), backfill_id__in=wanted).order_by()
    counted = dict(live.values_list("backfill_id").annotate(n=Count("pk")))
    room.backfills = {id: BackfillRoom(state, most, counted.get(id, 0)) for id, state, most in rows}


def _rate(limit: int | None, window: int | None) -> Rate:
    assert limit is not None and window is not None
    return Rate(limit, timedelta(seconds=window))


def _allowances(rates: dict[int, Rate], on: str, now: datetime, users: str = "") -> dict[int, Allowance]:
    """What each rate allows, by the starts in its window."""
    keys = rowset.encode({"id": id, "opens": now - rate.window} for id, rate in rates.items())
    joined = f"JOIN {users} ON {on}" if users else f"JOIN tasks_app_ratestart AS start ON {on}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT k.id, count(*), min(start.at) FROM {rowset.table("k", {"id": "bigint", "opens": "timestamptz"})}
            {joined} AND start.at > k.opens GROUP BY k.id""",
            [keys],
        )
        counted: dict[int, tuple[int, Any]] = {id: (n, oldest) for id, n, oldest in cursor.fetchall()}
    found = {}
    for id, rate in rates.items():
        n, oldest = counted.get(id, (0, None))
        found[id] = allowance_by_count(rate, n, None if oldest is None else rowset.instant(oldest), now)
    return found


def _rows(rows: QuerySet[Any], columns: Sequence[str], lock: bool) -> list[Any]:
    rows = rows.order_by("pk")
    return list((rows.select_for_update(no_key=True) if lock else rows).values_list(*columns))
