"""How long runs take and how late they start, from the newest of them: the cost does not grow with the history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db.models import QuerySet

from tasks_app.models import Run
from tasks_app.models.run import RunType
from tasks_app.states import UNSUCCESSFUL, RunState

SAMPLE = 200


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile (`share` 0 to 1) of values in any order; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def success_rate(counts: Mapping[str, int]) -> float | None:
    """The share that succeeded, from the number of runs by state, of those that started and were not cancelled."""
    bad = sum(counts[state] for state in UNSUCCESSFUL - {RunState.EXPIRED})
    judged = counts[RunState.SUCCEEDED] + bad
    return round(counts[RunState.SUCCEEDED] / judged, 4) if judged else None


def durations_ms(runs: QuerySet[Run]) -> dict[str, float | None]:
    """p50 and p99 of the milliseconds from start to end of the last 200 runs that ended."""
    ended = runs.filter(started_at__isnull=False, finished_at__isnull=False).order_by("-id")
    times = ended.values_list("started_at", "finished_at")[:SAMPLE]
    return _p50_p99([_ms(finished - started) for started, finished in times if started and finished])


def dispatch_delays_ms(runs: QuerySet[Run], *, sample: int = 1000) -> dict[str, float | None]:
    """p50 and p99 of the milliseconds by which the last runs to start did so late."""
    rows = runs.filter(started_at__isnull=False).order_by("-id")
    columns = rows.values_list("run_type", "attempt", "nominal_at", "due_at", "started_at")[:sample]
    return _p50_p99(
        [
            _ms(started_at - wanted_at(run_type, attempt, nominal_at, due_at))
            for run_type, attempt, nominal_at, due_at, started_at in columns
            if started_at is not None
        ]
    )


def wanted_at(run_type: str, attempt: int, nominal_at: datetime | None, due_at: datetime) -> datetime:
    """When a run should have started: its nominal time where the clock alone decides, else when it fell due."""
    if run_type == RunType.SCHEDULED and attempt == 1 and nominal_at is not None:
        return nominal_at
    return due_at


def throughput_per_minute(runs: QuerySet[Run], *, now: datetime, minutes: int = 5, sample: int = 20_000) -> float:
    """Runs that ended in the last minutes, per minute. At most `sample` of the newest are looked at; where these do not
    reach back that far, the time that they do cover is what counts.
    """
    since = now - timedelta(minutes=minutes)
    newest = runs.order_by("-id").values_list("created_at", "state", "finished_at")[:sample]
    ended, oldest, seen = 0, now, 0
    for created_at, state, finished_at in newest.iterator(chunk_size=2000):
        seen += 1
        oldest = min(oldest, created_at)
        ended += int(finished_at is not None and finished_at >= since and state != RunState.SKIPPED)
    covered = (now - max(since, oldest)) if seen == sample else timedelta(minutes=minutes)
    return round(ended / max(covered / timedelta(minutes=1), 1 / 60), 2)


def _p50_p99(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def _ms(span: timedelta) -> float:
    return round(span / timedelta(milliseconds=1), 3)
