"""What a pause of a task means at a given time: the one reading of its four columns. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Pausable(Protocol):
    """The columns of a task that speak of its pause."""

    paused: bool
    pause_mode: str
    paused_until: datetime | None


def pause_at(task: Pausable, now: datetime) -> str | None:
    """The mode of the pause that holds at `now` (drop, queue or drain), or None when none does.

    A pause with an end is over by itself: nothing has to happen at `paused_until` for runs to go on.
    """
    if not task.paused or (task.paused_until is not None and task.paused_until <= now):
        return None
    return task.pause_mode


# The same for SQL with a task as `task` and one parameter, the time: may its waiting runs start?
MAY_START = "(NOT task.paused OR task.pause_mode = 'drain' OR task.paused_until <= %s)"
