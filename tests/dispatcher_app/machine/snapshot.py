"""The runs at one moment, and what one step may have made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Pool, Run, RunDependency, RunEvent, Task
from tasks_app.models.task import Overlap
from tasks_app.pauses import pause_at
from tasks_app.states import LIVE, TERMINAL, RunState
from workers_app.models import Worker, WorkerState

COLUMNS = (
    "id",
    "state",
    "attempt",
    "worker_id",
    "task_id",
    "pool_id",
    "weight",
    "concurrency_key",
    "held",
    "upstream_ready",
    "trigger_rule",
    "due_at",
    "expires_at",
    "cancel_requested_at",
    "idempotency_key",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine looks at of a run."""

    id: int
    state: str
    attempt: int
    worker_id: UUID | None
    task_id: int
    pool_id: int
    weight: int
    concurrency_key: str
    held: bool
    upstream_ready: bool
    trigger_rule: str
    due_at: datetime
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    idempotency_key: str | None


Runs = dict[int, Seen]
# May this run have moved so in this step? The run before (None: new), and after.
May = Callable[[Seen, Seen], bool]


def look() -> Runs:
    return {row[0]: Seen(*row) for row in Run.objects.order_by("pk").values_list(*COLUMNS)}


def nothing(_before: Seen, _after: Seen) -> bool:
    return False


def only(ids: Collection[int], *states: str) -> May:
    """These runs, to one of these states."""
    return lambda before, after: after.id in ids and after.state in states


class Moves:
    """The changes of one step."""

    def __init__(self, before: Runs, after: Runs) -> None:
        self.before, self.after = before, after
        self.moved = [
            (old, new)
            for id, new in after.items()
            if (old := before.get(id)) is not None and (old.state, old.attempt) != (new.state, new.attempt)
        ]
        self.new = [run for id, run in after.items() if id not in before]
        self.gone = before.keys() - after.keys()

    def check(self, may: May, *, may_plan: bool, may_delete: Collection[int]) -> None:
        for old, new in self.moved:
            step = f"#{old.id} {old.state} {old.attempt} -> {new.state} {new.attempt}"
            assert old.state not in TERMINAL, f"I4: {step}"
            assert new.attempt in (old.attempt, old.attempt + 1), f"I3: {step}"
            assert (new.attempt > old.attempt) == (old.state == "running" and new.state == "waiting"), f"I3: {step}"
            assert may(old, new), f"not by this step: {step}"
        assert may_plan or not self.new, f"not by this step: new runs {self.new}"
        foreign = [self.before[id] for id in self.gone if self.before[id].task_id not in may_delete]
        assert not foreign, f"runs are gone: {foreign}"
        self._check_limits()

    def _check_limits(self) -> None:
        """I6: nothing comes to live behind a full limit; one that was lowered is met as runs end."""
        old_ids = {id for id, run in self.before.items() if run.state in LIVE}
        live = [run for run in self.after.values() if run.state in LIVE]
        fresh = [run for run in live if run.id not in old_ids]
        if not fresh:
            return
        tasks = Task.objects.in_bulk({run.task_id for run in fresh})
        slots = dict(Pool.objects.values_list("pk", "slots"))
        of_task = Counter(run.task_id for run in live)
        of_key = Counter((run.task_id, run.concurrency_key) for run in live)
        of_pool: Counter[int] = Counter()
        for run in live:
            of_pool[run.pool_id] += run.weight
        for run in fresh:
            task = tasks[run.task_id]
            limit = task_limit(task)
            assert limit is None or of_task[task.pk] <= limit, f"I6: task {task.pk} has {of_task[task.pk]} of {limit}"
            room = slots[run.pool_id]
            assert room is None or of_pool[run.pool_id] <= room, f"I6: pool has {of_pool[run.pool_id]} of {room}"
            taken = of_key[task.pk, run.concurrency_key]
            most = task.max_concurrent_per_key if run.concurrency_key else taken
            assert taken <= most, f"I6: key {run.concurrency_key} has {taken} of {most}"


def task_limit(task: Task) -> int | None:
    return task.max_concurrent if task.overlap == Overlap.ALLOW else task.max_concurrent or 1


class OfTick:
    """What a tick at `now` may move, and what it must not have left."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def may(self, before: Seen, after: Seen) -> bool:
        match before.state, after.state:
            case "waiting", "queued":
                return self._may_start(before, after)
            case "waiting", "expired":
                return before.expires_at is not None and before.expires_at <= self._now
            case "waiting", "skipped" | "upstream_failed":
                return True
            case "queued", "cancelled":
                return Task.objects.filter(
                    pk=before.task_id, overlap__in=(Overlap.CANCEL_RUNNING, Overlap.TERMINATE_RUNNING)
                ).exists()
            case "running", _:
                dead = (WorkerState.LOST, WorkerState.OFFLINE)
                if not Worker.objects.filter(state__in=dead).filter(pk=str(before.worker_id)).exists():
                    return False
                if before.cancel_requested_at is not None:
                    return after.state == "cancelled"
                return after.state in ("waiting", "lost", "quarantined")
        return False

    def _may_start(self, before: Seen, after: Seen) -> bool:
        task = Task.objects.get(pk=before.task_id)
        held_back = before.held or before.cancel_requested_at is not None or before.due_at > self._now
        if held_back or pause_at(task, self._now) not in (None, "drain"):
            return False
        if before.upstream_ready or not before.trigger_rule:
            return before.upstream_ready
        above = RunDependency.objects.filter(downstream=before.id).values_list("upstream__state", flat=True)
        # Of a rule that starts early, too: what has come since cannot take back its start.
        return decide(TriggerRule(before.trigger_rule), [RunState(state) for state in above]) is Verdict.START

    def check_nothing_left(self, before: Runs, runs: Runs) -> None:
        """What stands behind no gate at all has started; what is limited only by its task fills that limit.

        What the tick took from a dead worker starts with the next one, and so does what gets its slot: rescue is last.
        """
        tasks: dict[int, Any] = Task.objects.in_bulk({run.task_id for run in runs.values()})
        unlimited = set(Pool.objects.filter(slots__isnull=True).values_list("pk", flat=True))
        live = Counter(run.task_id for run in runs.values() if run.state in LIVE)
        live += Counter(
            old.task_id for id, old in before.items() if old.state == "running" and id in runs and runs[id] != old
        )
        for run in runs.values():
            task = tasks[run.task_id]
            rescued = run.id in before and before[run.id].state == "running"
            ready = (
                not rescued
                and run.state == "waiting"
                and run.upstream_ready
                and not run.held
                and run.due_at <= self._now
            )
            if not ready or pause_at(task, self._now) not in (None, "drain") or run.pool_id not in unlimited:
                continue
            shared = run.concurrency_key or task.rate_limit or task.task_resources.exists() or run_backfill(run.id)
            limit = task_limit(task)
            full = limit is not None and live[task.pk] >= limit
            assert shared or full, f"{run} of {task.overlap} {limit} is ready, {live[task.pk]} live, left"


def run_backfill(id: int) -> bool:
    return Run.objects.filter(pk=id, backfill__isnull=False).exists()


def check_events(runs: Runs) -> None:
    """I3, I7, I9: the events of every run are a chain that leads to its state, with one start for each attempt."""
    chains: dict[int, list[tuple[str, str, int]]] = {id: [] for id in runs}
    rows = RunEvent.objects.filter(run__in=runs).order_by("id")
    for key, old, new, attempt in rows.values_list("run_id", "from_state", "to_state", "attempt"):
        chains[key].append((old, new, attempt))
    for id, run in runs.items():
        chain = chains[id]
        assert chain and chain[0][0] == "", f"I7: #{id} has no beginning"
        assert [old for old, _new, _n in chain[1:]] == [new for _old, new, _n in chain[:-1]], f"I7: #{id} {chain}"
        assert chain[-1][1] == run.state, f"I7: #{id} is {run.state}, its last event says {chain[-1][1]}"
        starts = [attempt for _old, new, attempt in chain if new == "running"]
        assert len(set(starts)) == len(starts), f"I3: #{id} has started an attempt twice: {starts}"
        assert run.attempt - len(starts) in (0, 1), f"I3: #{id} is at {run.attempt} after {len(starts)} starts"
        asked_and_waits = run.cancel_requested_at is not None and run.state in ("waiting", "queued")
        assert not asked_and_waits, f"I9: #{id} was asked to end and is {run.state}"
