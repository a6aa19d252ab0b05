"""Workers that died with a run: written by who finds the run, explained by who finds what they left, read by doors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from tasks_app import rowset, run_output
from tasks_app.models import Run, WorkerDeath
from tasks_app.states import RunState
from tasks_app.texts import clipped, storable

LAST_LINES = 20
MOST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Death:
    """A worker died while it had this attempt of the run."""

    run_id: int
    attempt: int
    worker_id: UUID
    worker_name: str
    host: str


@dataclass(frozen=True, slots=True)
class Cause:
    """What is known of how a worker died: the signal, whether the kernel ran out of memory in that moment, the most
    memory that it held and that the processes of its runs held (MB, by run), what it said last."""

    signal: int | None = None
    out_of_memory: bool | None = None
    peak_mb: int | None = None
    peaks_of_runs: Mapping[int, int] | None = None
    last_words: str = ""


def record(deaths: Sequence[Death], *, now: datetime) -> None:
    """Write deaths down, in one statement; a death that is known already stays as it is."""
    if not deaths:
        return
    columns = {"run": "bigint", "attempt": "int", "worker": "uuid", "name": "text", "host": "text"}
    rows = rowset.encode(
        {"run": d.run_id, "attempt": d.attempt, "worker": d.worker_id, "name": d.worker_name, "host": d.host}
        for d in deaths
    )
    with connection.cursor() as cursor:
        at = "%s::timestamptz" if rowset.is_postgresql() else "%s"
        cursor.execute(
            f"""INSERT INTO tasks_app_workerdeath (run_id, attempt, worker_id, worker_name, host, at, last_words)
            SELECT run, attempt, worker, name, host, {at}, '' FROM {rowset.table("k", columns)}
            WHERE true ON CONFLICT DO NOTHING""",
            [rowset.moment(now), rows],
        )


def explain(worker_id: UUID, cause: Cause) -> bool:
    """Add the cause to the deaths of the worker. False while it may still have runs whose fate is not decided: ask
    again later."""
    rows = WorkerDeath.objects.filter(worker_id=worker_id)
    if Run.objects.filter(worker_id=worker_id, state=RunState.RUNNING).exists():
        return False
    rows.update(
        signal=cause.signal,
        out_of_memory=cause.out_of_memory,
        worker_peak_mb=cause.peak_mb,
        last_words=clipped(storable(cause.last_words), MOST_WORDS),
    )
    for run_id, peak in (cause.peaks_of_runs or {}).items():
        rows.filter(run=run_id).update(run_peak_mb=peak)
    return True


def of_run(run: Run) -> list[WorkerDeath]:
    """The workers that died with the run, in order."""
    return list(run.deaths.all())


def last_lines(run: Run) -> dict[int, list[str]]:
    """The last lines of output of each attempt that ended with its worker."""
    found = {}
    for death in of_run(run):
        start = max(run_output.line_count(run, death.attempt) - LAST_LINES, 0)
        lines, _next = run_output.log_lines(run, offset=start, limit=LAST_LINES, attempt=death.attempt)
        found[death.attempt] = [line["text"] for line in lines]
    return found
