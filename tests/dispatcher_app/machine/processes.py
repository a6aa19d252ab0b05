"""What attempts have running, and who ends it. I5: no process outlives the claim of its worker on the run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from django.conf import settings

from tests.dispatcher_app.machine.clock import Clock
from tests.dispatcher_app.machine.snapshot import Runs
from workers_app import reaper
from workers_app.jobs import Active, Control

# So long a process may live on when its run is over, or not its own any more.
GRACE = timedelta(seconds=10)


class Process:
    """What executes an attempt. It lives until it ends by itself, or its worker or the reaper ends it."""

    def __init__(self, clock: Clock, worker: UUID, active: Active) -> None:
        self.run_id, self.attempt, self.worker = active.job.run_id, active.job.attempt, worker
        self.alive = True
        self.dies_at: datetime | None = None
        self.foreign_since: datetime | None = None
        self._clock, self._control = clock, active.control
        active.control.on_end(self._asked)

    def _asked(self) -> None:
        """As the executors: KILL at once, or TERM before it."""
        if self._control.why in Control.AT_ONCE:
            self.alive = False
        elif self.dies_at is None:
            self.dies_at = self._clock.steady + timedelta(seconds=settings.SCHEDULER_KILL_GRACE_SECONDS)

    def grow_older(self) -> None:
        """Its worker kills it when its time after TERM is over."""
        if self.dies_at is not None and self._clock.steady >= self.dies_at:
            self.alive = False

    def __repr__(self) -> str:
        return f"<process of #{self.run_id} attempt {self.attempt} on {self.worker}>"


class Reaper(reaper.Reaper):
    """The worker's side is the product's; the process at the other end of the pipe is a stand-in. When that is told
    nothing for too long, or the pipe is closed, it ends what the worker has begun."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self._clock, self._heard_at = clock, clock.steady

    def _start(self) -> None:
        pipe = SimpleNamespace(write=self._hear, flush=lambda: None, close=self._end)
        self._process = cast(Any, SimpleNamespace(stdin=pipe, poll=lambda: None, wait=lambda: None))

    def _hear(self, _line: bytes) -> None:
        self._heard_at = self._clock.steady

    def _end(self) -> None:
        for process in self.processes:
            process.alive = False

    def look(self) -> None:
        """Time has passed."""
        if (self._clock.steady - self._heard_at).total_seconds() > self._longest:
            self._end()

    def was_told_all_along(self) -> None:
        """What a worker says every second of a time that passes as one."""
        self._told_at, self._heard_at = self._clock.uptime(), self._clock.steady


def check(processes: Iterable[Process], runs: Runs, now: datetime) -> None:
    """I5. `now` is by the steady clock."""
    alive: dict[int, Process] = {}
    for process in processes:
        if not process.alive:
            continue
        other = alive.setdefault(process.run_id, process)
        assert other is process, f"I5: two processes of one run live: {other}, {process}"
        run = runs.get(process.run_id)
        if run is not None and run.owned_by(process.worker, process.attempt):
            continue
        process.foreign_since = process.foreign_since or now
        assert now - process.foreign_since <= GRACE, f"I5: {process} lives on since {process.foreign_since}: {run}"
