"""The runs at one moment, and whether their events lead there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tasks_app.models import Run, RunEvent

COLUMNS = (
    "id",
    "state",
    "reason",
    "attempt",
    "worker_id",
    "task_id",
    "pool_id",
    "root_id",
    "schedule_id",
    "backfill_id",
    "weight",
    "concurrency_key",
    "held",
    "upstream_ready",
    "trigger_rule",
    "nominal_at",
    "due_at",
    "expires_at",
    "queued_at",
    "sweep_at",
    "finished_at",
    "cancel_requested_at",
    "idempotency_key",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine looks at of a run."""

    id: int
    state: str
    reason: str
    attempt: int
    worker_id: UUID | None
    task_id: int
    pool_id: int
    root_id: int | None
    schedule_id: int | None
    backfill_id: int | None
    weight: int
    concurrency_key: str
    held: bool
    upstream_ready: bool
    trigger_rule: str
    nominal_at: datetime | None
    due_at: datetime
    expires_at: datetime | None
    queued_at: datetime | None
    sweep_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    idempotency_key: str | None

    def owned_by(self, worker: UUID, attempt: int) -> bool:
        return (self.state, self.attempt, self.worker_id) == ("running", attempt, worker)


Runs = dict[int, Seen]
# May this run have moved so in this step? The run before, and after; a new one has been waiting.
May = Callable[[Seen, Seen], bool]


def look() -> Runs:
    return {row[0]: Seen(*row) for row in Run.objects.order_by("pk").values_list(*COLUMNS)}


def nothing(_before: Seen, _after: Seen) -> bool:
    return False


def only(ids: Collection[int], *states: str) -> May:
    """These runs, to one of these states."""
    return lambda before, after: after.id in ids and after.state in states


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
