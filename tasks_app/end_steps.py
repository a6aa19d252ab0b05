"""The ladder by which runs are ended: asked, acknowledged, TERM, KILL, worker lost; written, and read in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from tasks_app import rowset
from tasks_app.models import EndStep, Run
from tasks_app.states import TERMINAL, RunState

ASKED, KILL_ASKED, ENDED = "asked", "kill_asked", "ended"
_ORDER = (
    ASKED,
    EndStep.Step.ACKNOWLEDGED,
    EndStep.Step.CLOSED,
    EndStep.Step.INTERRUPTED,
    EndStep.Step.TERM,
    KILL_ASKED,
    EndStep.Step.KILL,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken towards the end of an attempt, not yet written down."""

    run_id: int
    attempt: int
    step: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rung:
    """A step with the seconds since the first one of its run."""

    step: str
    at: datetime
    attempt: int
    after: float


def record(steps: Iterable[Taken]) -> None:
    """Write steps down in one statement; those that are written already stay as they are."""
    columns = {"run": "bigint", "attempt": "int", "step": "text", "at": "timestamptz"}
    rows = [{"run": one.run_id, "attempt": one.attempt, "step": one.step, "at": one.at} for one in steps]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""INSERT INTO tasks_app_endstep (run_id, attempt, step, at)
                SELECT run, attempt, step, at FROM {rowset.table("k", columns)} WHERE true ON CONFLICT DO NOTHING""",
                [rowset.encode(rows)],
            )


def ladders(runs: Collection[Run]) -> dict[int, list[Rung]]:
    """The steps of each run that was asked to end, or ended at its time limit, in order: one query for all, none where
    there is no such run."""
    ended = [run for run in runs if run.cancel_requested_at is not None or run.state == RunState.TIMED_OUT]
    if not ended:
        return {}
    taken: dict[int, list[tuple[datetime, str, int]]] = defaultdict(list)
    for row in EndStep.objects.filter(run__in=[run.pk for run in ended]):
        taken[row.run_id].append((row.at, row.step, row.attempt))
    return {run.pk: _ladder(run, taken[run.pk]) for run in ended}


def _ladder(run: Run, taken: list[tuple[datetime, str, int]]) -> list[Rung]:
    asked = ((ASKED, run.cancel_requested_at), (KILL_ASKED, run.terminate_requested_at))
    steps = taken + [(at, step, run.attempt) for step, at in asked if at is not None]
    if not steps:
        return []
    # What falls into the same instant by the clock of the database and that of a worker, in the order of the ladder.
    steps.sort(key=lambda step: (step[0], _ORDER.index(step[1]) if step[1] in _ORDER else len(_ORDER)))
    if run.state in TERMINAL and run.finished_at is not None:
        steps.append((run.finished_at, ENDED, run.attempt))
    first = steps[0][0]
    return [Rung(step, at, attempt, (at - first).total_seconds()) for at, step, attempt in steps]
