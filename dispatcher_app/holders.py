"""Which runs have what a run waits for, and when one of them is likely to let go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.db import connection
from django.db.models import Q, QuerySet

from tasks_app import rowset
from tasks_app.models import Run, TaskResource
from tasks_app.states import LIVE, RunState

MOST = 10
# Runs of a task whose durations say how long the next one takes.
SAMPLE = 50


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that another one waits for. `likely_end` is None where nothing is known, or it is late already."""

    run: int
    task: str
    state: str
    likely_end: datetime | None = None


def live(condition: Q, visible: QuerySet[Run], now: datetime) -> list[Holder]:
    """The first of the live runs that meet the condition, the longest running first, of those that are visible."""
    rows = visible.filter(condition, state__in=sorted(LIVE)).order_by("queued_at", "pk")
    found = list(rows.values_list("pk", "task_id", "task__name", "state", "started_at")[:MOST])
    typical = typical_durations({task_id for _pk, task_id, *_ in found})
    return [
        Holder(pk, name, state, _likely_end(state, started_at, typical.get(task_id), now))
        for pk, task_id, name, state, started_at in found
    ]


def of_resources(ids: Iterable[int]) -> Q:
    """The runs that take something of the resources."""
    return Q(task_id__in=TaskResource.objects.filter(resource_id__in=list(ids)).values("task_id"))


def soonest_end(holders: Iterable[Holder]) -> datetime | None:
    """When the first of them is likely to end."""
    return min((holder.likely_end for holder in holders if holder.likely_end is not None), default=None)


def typical_durations(task_ids: Iterable[int]) -> Mapping[int, timedelta]:
    """The median duration of the newest runs of each task that succeeded; tasks without any are left out."""
    sql = f"""SELECT run.task_id, run.started_at, run.finished_at FROM {rowset.table("k", {"id": "bigint"})}
        JOIN tasks_app_run AS run ON run.task_id = k.id AND run.id >= coalesce(
            (SELECT last.id FROM tasks_app_run AS last WHERE last.task_id = k.id
            ORDER BY last.id DESC LIMIT 1 OFFSET {SAMPLE - 1}), 0)
        WHERE run.state = 'succeeded' AND run.started_at IS NOT NULL"""
    if not (keys := sorted(set(task_ids))):
        return {}
    taken: dict[int, list[float]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(sql, [rowset.encode({"id": id} for id in keys)])
        for task_id, started_at, finished_at in cursor.fetchall():
            taken[task_id].append((rowset.instant(finished_at) - rowset.instant(started_at)).total_seconds())
    return {task_id: timedelta(seconds=median(seconds)) for task_id, seconds in taken.items()}


def _likely_end(state: str, started_at: datetime | None, typical: timedelta | None, now: datetime) -> datetime | None:
    if state != RunState.RUNNING or started_at is None or typical is None:
        return None
    end = started_at + typical
    return end if end > now else None
