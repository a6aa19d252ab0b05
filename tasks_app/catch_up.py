"""What becomes of the instants of a schedule that are due: runs, or entries of the fire ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks_app.timing import Timing

# An instant that is answered within this time is not a matter of catching up.
ON_TIME = timedelta(seconds=60)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` consecutive instants from `first_at` to `last_at` that get no run, with the answer and its reason."""

    first_at: datetime
    last_at: datetime
    count: int
    answer: str
    reason: str


@dataclass(slots=True)
class Answer:
    """The runs to plan, the stretches to write into the ledger, and the next instant after `now` (None: no more)."""

    runs: list[datetime] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How to catch up: `none`, `last` or `all`, within `window`, at most `most` runs."""

    catch_up: str
    window: timedelta
    most: int


def answer(timing: Timing, policy: Policy, *, after: datetime, now: datetime) -> Answer:
    """Answer every instant in (after, now]. The work is bounded by `policy.most`, not by the length of the outage."""
    result = Answer(next_at=timing.next_after(now))
    fresh_from = max(after, now - ON_TIME)
    fresh = timing.first_between(fresh_from, now, max(policy.most, 1))
    in_window = min(max(after, now - policy.window), fresh_from)
    old: list[datetime] = []
    if policy.catch_up == "all" and len(fresh) < policy.most:
        old = timing.last_few_between(in_window, fresh_from, policy.most - len(fresh))
    elif policy.catch_up == "last" and not fresh:
        old = timing.last_few_between(in_window, fresh_from, 1)
    result.runs = old + fresh
    rest_until = old[0] - _TICK if old else fresh_from
    stretches = [
        _stretch(timing, after, in_window, "missed", "catch_up_window"),
        _stretch(timing, in_window, rest_until, *_passed_over(policy)),
        # More fresh instants than `most`: only a schedule by the second can get here.
        _stretch(timing, fresh[-1], now, "coalesced", "max_catch_up") if fresh else None,
    ]
    result.stretches = [stretch for stretch in stretches if stretch is not None]
    return result


def skip_all(timing: Timing, *, after: datetime, now: datetime, answer: str, reason: str) -> Answer:
    """Answer every instant in (after, now] with the ledger alone."""
    stretch = _stretch(timing, after, now, answer, reason)
    return Answer(stretches=[stretch] if stretch else [], next_at=timing.next_after(now))


def _passed_over(policy: Policy) -> tuple[str, str]:
    if policy.catch_up == "none":
        return "missed", "catch_up_none"
    return "coalesced", "catch_up_last" if policy.catch_up == "last" else "max_catch_up"


def _stretch(timing: Timing, after: datetime, until: datetime, answer: str, reason: str) -> Stretch | None:
    first = timing.next_after(after) if after < until else None
    if first is None or first > until:
        return None
    last = timing.last_between(after, until)
    assert last is not None
    return Stretch(first, last, timing.count_between(after, until), answer, reason)
