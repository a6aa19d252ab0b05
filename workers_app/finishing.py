"""What a worker writes of its runs: their output while they go on, and how they ended."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import transaction

from access_app.outages import is_outage
from tasks_app import end_steps, transitions
from tasks_app.end_steps import Taken
from tasks_app.moves import Outcome
from tasks_app.wakeup import nudge
from workers_app.batcher import Batcher, Closed
from workers_app.gathering import Entry
from workers_app.jobs import Active
from workers_app.outcomes import without_result
from workers_app.output import Row, store

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Finish:
    """What is to be written of runs: how they ended, their output, and the steps by which they were ended."""

    outcomes: list[Outcome] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    steps: list[Taken] = field(default_factory=list)


class Results:
    """Writes for one worker identity, in batches. Thread-safe."""

    def __init__(self, worker_id: Any, actor: str) -> None:
        self._worker_id, self._actor = worker_id, actor
        # A result is worth waiting for: the lease decides how long, not the length of an outage.
        self._batcher: Batcher[Finish, set[int]] = Batcher("finishes", self._finish, limit=500, patience=math.inf)

    def submit(self, finish: Finish) -> Future[set[int]]:
        return self._batcher.submit(finish)

    def close(self) -> None:
        self._batcher.close()

    def write_progress(self, active: Active) -> None:
        """Pass on what there is to be seen of a run that goes on."""
        with active.output_lock:
            rows = active.sink.drain() if active.sink is not None else []
            if (steps := _steps(active)) or rows:
                self.submit(Finish(rows=rows, steps=steps))

    def record(self, kept: list[Entry], outcomes: list[Outcome]) -> set[int]:
        """Write the outcomes with all that is left to be written of their runs; the ids of those that were ours."""
        with contextlib.ExitStack() as locks:
            for active, _sink, _result in kept:
                locks.enter_context(active.output_lock)
            rows = [sink.drain() for _active, sink, _result in kept]
            steps = [step for active, _sink, _result in kept for step in _steps(active)]
            future = self._batcher.submit(Finish(outcomes, [row for part in rows for row in part], steps))
        try:
            return future.result()
        except Exception as error:
            if isinstance(error, Closed) or is_outage(error):
                raise
            log.error("results refused", runs=[outcome.id for outcome in outcomes], error=str(error).strip())
            moved = [self._record_alone(outcome, part) for outcome, part in zip(outcomes, rows, strict=True)]
            return set().union(*moved)

    def _record_alone(self, outcome: Outcome, rows: list[Row]) -> set[int]:
        """Record what of a refused result can be recorded: a run that is over must not stay running."""
        try:
            return self._batcher.ask(Finish([outcome], rows))
        except Exception as error:  # noqa: BLE001  (as above)
            return self._batcher.ask(Finish([without_result(outcome, error)]))

    def _finish(self, requests: Sequence[Finish]) -> list[set[int]]:
        outcomes = [outcome for request in requests for outcome in request.outcomes]
        with transaction.atomic():
            store([row for request in requests for row in request.rows])
            end_steps.record([step for request in requests for step in request.steps])
            if not outcomes:
                return [set() for _ in requests]
            moved = transitions.finish(outcomes, worker_id=self._worker_id, now=datetime.now(UTC), actor=self._actor)
            nudge()
        return [{outcome.id for outcome in request.outcomes} & moved for request in requests]


def _steps(active: Active) -> list[Taken]:
    return [Taken(active.job.run_id, active.job.attempt, step, at) for step, at in active.control.drain_steps()]
