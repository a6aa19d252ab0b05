"""The states of a run and the moves between them. Pure: imports no model; transitions.py is the only writer."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run is. `hold` is a flag on a waiting run, not a state."""

    WAITING = "waiting"  # planned; behind its gates
    QUEUED = "queued"  # all gates open, slot taken, message published
    RUNNING = "running"  # claimed by a worker
    SUCCEEDED = "succeeded"  # did its work
    FAILED = "failed"  # said that it did not
    TIMED_OUT = "timed_out"  # ended by us after its time limit
    CANCELLED = "cancelled"  # somebody asked
    SKIPPED = "skipped"  # a rule decided that it need not run
    UPSTREAM_FAILED = "upstream_failed"  # its trigger rule can no longer hold
    EXPIRED = "expired"  # start deadline passed while waiting
    LOST = "lost"  # its worker died and the task does not allow a rerun
    QUARANTINED = "quarantined"  # it killed too many workers


S = RunState
TERMINAL: frozenset[RunState] = frozenset(
    {S.SUCCEEDED, S.FAILED, S.TIMED_OUT, S.CANCELLED, S.SKIPPED, S.UPSTREAM_FAILED, S.EXPIRED, S.LOST, S.QUARANTINED}
)
LIVE: frozenset[RunState] = frozenset({S.QUEUED, S.RUNNING})
UNSUCCESSFUL: frozenset[RunState] = frozenset({S.FAILED, S.TIMED_OUT, S.LOST, S.QUARANTINED, S.EXPIRED})

ALLOWED: dict[RunState, frozenset[RunState]] = {
    S.WAITING: frozenset({S.QUEUED, S.CANCELLED, S.SKIPPED, S.UPSTREAM_FAILED, S.EXPIRED}),
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.TIMED_OUT, S.CANCELLED, S.WAITING, S.LOST, S.QUARANTINED}),
    **{state: frozenset() for state in TERMINAL},
}


class Reason(StrEnum):
    """Why a run is in its state, as a stable code; the sentence stands beside it."""

    NONE = ""
    EXIT_CODE = "exit_code"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory_limit"
    CPU_LIMIT = "cpu_limit"
    OPEN_FILES_LIMIT = "open_files_limit"
    SCRIPT_MISSING = "script_missing"
    COMMAND_NOT_FOUND = "command_not_found"
    INVALID_PARAMETERS = "invalid_parameters"
    UNEXPECTED_STATUS = "unexpected_status"
    ADDRESS_REFUSED = "address_refused"
    CONNECTION = "connection"
    CANCEL_REQUESTED = "cancel_requested"
    WORKER_LOST = "worker_lost"
    WORKER_STOPPED = "worker_stopped"
    WORKER_LEFT = "worker_left"
    POISON = "poison"
    RETRY = "retry"
    UPSTREAM = "upstream"
    OVERLAP = "overlap"
    START_DEADLINE = "start_deadline"
    BACKFILL = "backfill"
    INVALID_MACRO = "invalid_macro"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105  (a reason)
    INTERNAL = "internal"
