"""Pure: the way of a run through its states, as the page draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

from tasks_app.models import Run, RunEvent
from tasks_app.states import TERMINAL, RunState

ORDER = (RunState.WAITING, RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True)
class Step:
    """One state of this attempt: when it was entered and left; both None while it lies ahead."""

    state: str
    at: datetime | None = None
    until: datetime | None = None
    is_current: bool = False

    @property
    def took(self) -> timedelta | None:
        return self.until - self.at if self.at and self.until else None


def steps(run: Run, events: Sequence[RunEvent]) -> list[Step]:
    """The states of the current attempt in order, then those that are still ahead."""
    entered = [event for event in events if _attempt_entered(event) == run.attempt]
    passed = [
        Step(event.to_state, event.at, following.at if following else None, is_current=following is None)
        for event, following in zip_longest(entered, entered[1:])
    ]
    if run.state in TERMINAL:
        return passed
    reached = ORDER.index(RunState(run.state)) if run.state in ORDER else -1
    ahead = [Step(state.value) for state in ORDER[reached + 1 :]]
    return [*passed, *ahead, Step(RunState.SUCCEEDED.value)]


def _attempt_entered(event: RunEvent) -> int:
    """A retry is logged with the attempt that ended; it is the first step of the one after it."""
    is_retry = event.from_state == RunState.RUNNING and event.to_state == RunState.WAITING
    return event.attempt + is_retry
