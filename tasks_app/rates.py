"""Rates: at most so many starts in any window of time. Pure; starts are rows, so nothing is counted aside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` starts in any `window`. A start has left the window exactly when `window` has passed."""

    limit: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many may start now; if none, from when on one may (None: never, the limit is 0)."""

    count: int
    next_at: datetime | None


def allowance(rate: Rate, starts: Iterable[datetime], now: datetime) -> Allowance:
    """What the rate allows at `now`, after these starts (aware, any order; older ones than the window do not count).

    Starts after `now` count: a clock that was set back must not open the gate twice.
    """
    opens = now - rate.window
    counted = sorted(start for start in starts if start > opens)
    free = rate.limit - len(counted)
    if free > 0:
        return Allowance(free, now)
    return Allowance(0, counted[len(counted) - rate.limit] + rate.window if rate.limit > 0 else None)


def allowance_by_count(rate: Rate, count: int, oldest: datetime | None, now: datetime) -> Allowance:
    """The same from the number of starts in the window and the oldest of them, as one aggregate gives them.

    With the limit exceeded (it was lowered) `next_at` is the first time at which it is worth asking again.
    """
    free = rate.limit - count
    if free > 0:
        return Allowance(free, now)
    return Allowance(0, oldest + rate.window if rate.limit > 0 and oldest is not None else None)
