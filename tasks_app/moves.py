"""What goes into and comes out of tasks_app.transitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks_app.states import Reason, RunState


@dataclass(frozen=True, slots=True)
class Created:
    """A run that was planned just now."""

    id: int
    task_id: int
    schedule_id: int | None
    nominal_at: datetime | None
    idempotency_key: str | None
    root_id: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is now ours to execute."""

    id: int
    attempt: int
    task_id: int
    version_id: int
    nominal_at: datetime | None
    params: Any
    # Which of how many parts it is, where a run was made into several.
    shard_index: int | None = None
    shard_total: int | None = None
    memory_limit_mb: int | None = None
    alone: bool = False


@dataclass(slots=True)
class Outcome:
    """How one attempt ended. `state` is terminal, or WAITING for another attempt that is due at `retry_at`."""

    id: int
    attempt: int
    state: RunState
    reason: str = Reason.NONE
    detail: str = ""
    exit_code: int | None = None
    output: Any = None
    retry_at: datetime | None = None
    worker_died: bool = False
