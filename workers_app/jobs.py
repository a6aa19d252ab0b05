"""What an executor gets and gives: the job, its control, its result."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from access_app.masking import Masks
from tasks_app.models import EndStep
from tasks_app.retry import RetryPolicy
from tasks_app.states import Reason, RunState
from workers_app.limits import Limits
from workers_app.output import OutputSink


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to execute. `params` are the version's defaults overlaid with the run's own, with their macros
    replaced; times are aware."""

    run_id: int
    attempt: int
    version_id: int
    task_name: str
    executor: str
    command: str
    params: dict[str, Any]
    timeout_seconds: float
    nominal_at: datetime | None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    # When its first attempt started, where the policy asks for it.
    first_started_at: datetime | None = None
    retry_on_lost: bool = False
    # Which of how many parts it is; one that stands alone is the first of one.
    shard_index: int = 0
    shard_total: int = 1
    limits: Limits = field(default_factory=Limits)
    # No other run may be under way on the worker meanwhile.
    alone: bool = False
    # Values by variable, and what hides them wherever something is told of the run.
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    masks: Masks | None = field(default=None, repr=False)

    @property
    def origin(self) -> tuple[int, int]:
        return self.run_id, self.attempt


@dataclass(slots=True)
class Result:
    """How it ended. `asked_delay` is the wait in seconds that the run itself asked for before a retry; `retryable` is
    False where another attempt cannot end otherwise; `exceptions` are the names of the class of what a callable raised
    and of that one's bases, `status` the HTTP status of an answer; `busy_seconds` how long a callable took, less what
    it took to start its process and to record what came of it."""

    state: RunState
    reason: str = Reason.NONE
    detail: str = ""
    exit_code: int | None = None
    output: Any = None
    asked_delay: float | None = None
    retryable: bool = True
    exceptions: tuple[str, ...] = ()
    status: int | None = None
    busy_seconds: float | None = None


class Control:
    """How a run under way is told to end: `why` says so, `fd` becomes readable for whoever waits in a selector."""

    CANCEL, KILL, LOST, STOPPING = "cancel", "kill", "lost", "stopping"
    # It is over one of its limits.
    CPU, MEMORY = "processor time", "memory"
    # A reason gives way to one that is more urgent; the first of equals counts.
    _URGENCY = {CANCEL: 0, STOPPING: 0, CPU: 0, KILL: 1, MEMORY: 1, LOST: 2}
    # To be ended without the time to clean up.
    AT_ONCE = frozenset({KILL, MEMORY, LOST})

    def __init__(self) -> None:
        self.why: str | None = None
        self.detail = ""
        self._lock = threading.Lock()
        self._fds: tuple[int, int] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._taken: set[str] = set()
        self._steps: list[tuple[str, datetime]] = []

    def took(self, step: str) -> None:
        """Note a step towards the end of the run, an EndStep.Step, as taken now; the first time counts."""
        if step not in self._taken:
            self._taken.add(step)
            self._steps.append((step, datetime.now(UTC)))

    def drain_steps(self) -> list[tuple[str, datetime]]:
        """The steps not yet drained."""
        steps, self._steps = self._steps, []
        return steps

    def end(self, why: str, detail: str = "") -> None:
        """Ask the run to end, with a sentence for its record; the first reason counts, except that to kill it at once
        outranks to end it, and losing the run outranks all. Safe to repeat."""
        with self._lock:
            if self.why is not None and self._URGENCY[why] <= self._URGENCY[self.why]:
                return
            if self.why is None and why in (self.CANCEL, self.KILL):
                self.took(EndStep.Step.ACKNOWLEDGED)
            self.why, self.detail = why, detail
            if self._fds is not None:
                with contextlib.suppress(OSError):
                    os.write(self._fds[1], b"!")
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    @property
    def fd(self) -> int:
        with self._lock:
            if self._fds is None:
                self._fds = os.pipe()
                if self.why is not None:
                    os.write(self._fds[1], b"!")
            return self._fds[0]

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the run is asked to end; at once if it already was."""
        with self._lock:
            self._listeners.append(listener)
            already = self.why is not None
        if already:
            listener()

    def close(self) -> None:
        with self._lock:
            fds, self._fds = self._fds, None
            self._listeners.clear()
        for fd in fds or ():
            os.close(fd)


def over_limit(control: Control) -> Result | None:
    """The result of a run that was ended over one of its limits."""
    reason = {Control.CPU: Reason.CPU_LIMIT, Control.MEMORY: Reason.MEMORY_LIMIT}.get(control.why or "")
    return None if reason is None else Result(RunState.FAILED, reason, control.detail)


@dataclass(slots=True)
class Active:
    """A claimed run in this process, from claim to finish."""

    job: Job
    control: Control = field(default_factory=Control)
    sink: OutputSink | None = None
    # Set where it cannot be executed at all: this is how it ends.
    refusal: Result | None = None
    # Held while lines go from the sink into the queue of writes, so that they are written in order.
    output_lock: threading.Lock = field(default_factory=threading.Lock)
