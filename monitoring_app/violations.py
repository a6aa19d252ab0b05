"""What the checks of the invariants are asked about, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# Ids that one violation names.
MOST_IDS = 100


@dataclass(frozen=True, slots=True)
class Scope:
    """The time of asking, and the window: from `since` on (None: everything), and the least ids of that."""

    now: datetime
    since: datetime | None
    first_run: int
    first_event: int


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: the ids (of runs, schedules or limits, as `detail` says) where it does not.

    At most 100 are named; `more` says that there are others.
    """

    invariant: str
    detail: str
    ids: tuple[int, ...]
    more: bool = False
