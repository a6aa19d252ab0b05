"""Dependencies by period at planning: the windows that a new run waits for, frozen with it.

The periods are those of SCHEDULER_TIME_ZONE, whatever the zone of a schedule: an edge joins two tasks, and a run, its
rerun and its backfill must mean the same day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from tasks_app import rowset
from tasks_app.periods import Unit, period_of, upstream_window

_COLUMNS = {
    "run_id": "bigint",
    "upstream_id": "bigint",
    "start_at": "timestamptz",
    "end_at": "timestamptz",
    "policy": "text",
    "settled": "boolean",
}


class PeriodEdge(NamedTuple):
    """One dependency by period of a task."""

    upstream_id: int
    period: str
    back: int
    policy: str


def freeze(edges_into: Mapping[int, Sequence[PeriodEdge]], runs: Iterable[tuple[int, int, datetime]]) -> int:
    """Write what the runs (id, task, nominal time) wait for; one statement, none where no task has such an edge."""
    rows = [_row(run_id, edge, at) for run_id, task_id, at in runs for edge in edges_into.get(task_id, ())]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""INSERT INTO tasks_app_runperiod (run_id, upstream_task_id, start, "end", policy, settled)
                SELECT run_id, upstream_id, start_at, end_at, policy, settled FROM {rowset.table("k", _COLUMNS)}""",
                [rowset.encode(rows)],
            )
    return len(rows)


def _row(run_id: int, edge: PeriodEdge, nominal_at: datetime) -> dict[str, Any]:
    zone = settings.SCHEDULER_TIME_ZONE
    first, _end = period_of(nominal_at, Unit(edge.period), zone)
    start, end = _window(first, edge.period, zone, edge.back)
    values = (run_id, edge.upstream_id, start, end, edge.policy, False)
    return dict(zip(_COLUMNS, values, strict=True))


@lru_cache(maxsize=1000)
def _window(start: datetime, unit: str, zone: str, back: int) -> tuple[datetime, datetime]:
    return upstream_window(start, Unit(unit), zone, back=back)
