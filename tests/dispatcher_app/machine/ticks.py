"""What one tick may move, and what it must not have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property

from tasks_app.models import Backfill, Task
from tasks_app.models.task import Overlap
from tasks_app.pauses import pause_at
from tasks_app.states import LIVE
from tests.dispatcher_app.machine.gates import Gates
from tests.dispatcher_app.machine.limits import Limits
from tests.dispatcher_app.machine.snapshot import Runs, Seen
from tests.dispatcher_app.machine.upstreams import Upstreams
from workers_app.models import Worker, WorkerState


class OfTick:
    """A tick at `now`; `runs` answers the runs after it, once there are any."""

    def __init__(self, now: datetime, before: Runs, runs: Callable[[], Runs]) -> None:
        self._now, self._before, self._runs = now, before, runs

    @cached_property
    def upstreams(self) -> Upstreams:
        return Upstreams(self._before, self._runs())

    @cached_property
    def limits(self) -> Limits:
        return Limits(self._live())

    @cached_property
    def _dead(self) -> set[str]:
        dead = Worker.objects.filter(state__in=(WorkerState.LOST, WorkerState.OFFLINE))
        return {str(pk) for pk in dead.values_list("pk", flat=True)}

    @cached_property
    def _given_up(self) -> set[int]:
        return set(Backfill.objects.filter(state="cancelled").values_list("pk", flat=True))

    def _live(self) -> list[Seen]:
        """What was live when it released: what it took from a dead worker or cancelled is freed for the next one."""
        runs = self._runs()
        before = [old for id, old in self._before.items() if id in runs and old.state in LIVE]
        held = {run.id for run in before}
        return before + [run for run in runs.values() if run.state in LIVE and run.id not in held]

    def may(self, before: Seen, after: Seen) -> bool:
        match before.state, after.state:
            case "waiting", "queued":
                return self._may_start(before)
            case "waiting", "expired":
                return before.attempt == 1 and self._is_late(before)
            case "waiting", "skipped" | "upstream_failed":
                return True
            case "waiting", "cancelled":
                return before.backfill_id in self._given_up
            case "queued", "cancelled":
                return self._may_be_replaced(before)
            case "running", _:
                if str(before.worker_id) not in self._dead:
                    return False
                # Rescue comes last: it finds asked to end what a newer run has replaced in this tick.
                replaced = after.cancel_requested_at is not None and self._may_be_replaced(before)
                if before.cancel_requested_at is not None or replaced:
                    return after.state == "cancelled"
                again = "cancelled" if before.backfill_id in self._given_up else "waiting"
                return after.state in (again, "lost", "quarantined")
        return False

    def _may_be_replaced(self, run: Seen) -> bool:
        replacing = (Overlap.CANCEL_RUNNING, Overlap.TERMINATE_RUNNING)
        return self.limits.tasks[run.task_id].overlap in replacing

    def _may_start(self, before: Seen) -> bool:
        task = self.limits.tasks[before.task_id]
        held_back = before.held or before.cancel_requested_at is not None or before.due_at > self._now
        late = before.attempt == 1 and self._is_late(before)
        return not held_back and not late and self._takes_part(task) and self.upstreams.may_start(before)

    def _is_late(self, run: Seen) -> bool:
        return run.expires_at is not None and run.expires_at <= self._now

    def _takes_part(self, task: Task) -> bool:
        return pause_at(task, self._now) in (None, "drain")

    def check(self, gates: Gates, settled: set[int]) -> None:
        """Follow the gates and the periods. What stands behind none that is closed has started."""
        runs = self._runs()
        gates.ticked(self._now, self._before, runs, self.limits)
        self.upstreams.check(settled)
        late = [run for run in runs.values() if run.state == "waiting" and run.attempt == 1 and self._is_late(run)]
        assert not late, f"{late} should have expired"
        ready = list(self._ready(runs))
        held_back = self.limits.held_back(ready)
        live = self._live()
        for run in ready:
            gated = run.id in held_back or gates.is_closed(run, self._now, live, self.limits)
            assert gated, f"{run} is ready and was left"

    def _ready(self, runs: Runs) -> Iterator[Seen]:
        """What waits and is due, but for what this tick took from a dead worker: rescue comes last."""
        for id, run in runs.items():
            rescued = id in self._before and self._before[id].state == "running"
            waits = run.state == "waiting" and run.upstream_ready and not run.held and not rescued
            if waits and run.due_at <= self._now and self._takes_part(self.limits.tasks[run.task_id]):
                yield run
