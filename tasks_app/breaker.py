"""A circuit breaker before a shared target, as a state machine of plain values. Pure.

closed -- failures --> open -- time --> half_open -- waves of 1, 2, 4, ... successes --> closed
                        ^------------------ a failure --------------------'
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

# The waves of a target without capacity end with this many at once.
DEFAULT_CAPACITY = 16
_MOST_DOUBLINGS = 30


class BreakerState(StrEnum):
    """Whether runs may go to the target: all, none, or as many as the wave."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open, and for how long. None turns a rule off.

    Opens after `consecutive_failures` in a row, or when of the last `window` outcomes (at least `minimum` of them) a
    share of `failure_ratio` or more are failures. Stays open for `open_for`, twice as long each time that it opens
    again without having closed, at most `open_for_at_most`. `capacity` is how many runs the target takes at once.
    """

    consecutive_failures: int | None = 5
    failure_ratio: float | None = None
    window: int = 20
    minimum: int = 10
    open_for: timedelta = timedelta(seconds=30)
    open_for_at_most: timedelta = timedelta(minutes=30)
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state, each field a plain column. `outcomes` holds the last ones, oldest first: `s` or `f` each.

    `openings` counts how often it opened without closing; `wave` is how many runs may be live in `half_open`, and
    `wave_successes` how many of them have succeeded. `changed_at` is when `state` last changed.
    """

    state: BreakerState = BreakerState.CLOSED
    changed_at: datetime | None = None
    open_until: datetime | None = None
    consecutive_failures: int = 0
    outcomes: str = ""
    openings: int = 0
    wave: int = 0
    wave_successes: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many more runs may be released now (None: the breaker sets no limit); if none, when it is worth asking again.

    `next_at` is None where not time but the end of a run opens the gate.
    """

    allowed: int | None
    next_at: datetime | None = None


def ask(breaker: Breaker, *, live: int, now: datetime) -> tuple[Breaker, Decision]:
    """How many runs may be released at `now`; an open breaker whose time is up turns half open.

    `live` is how many runs released at or after `changed_at` are queued or running: a probe that was lost without an
    outcome is not among them, so that the next can go. Runs from before are no probes.
    """
    if breaker.state is BreakerState.OPEN:
        if breaker.open_until is not None and now < breaker.open_until:
            return breaker, Decision(0, breaker.open_until)
        breaker = replace(
            breaker, state=BreakerState.HALF_OPEN, changed_at=now, open_until=None, wave=1, wave_successes=0
        )
        live = 0
    if breaker.state is BreakerState.HALF_OPEN:
        if breaker.changed_at is not None and breaker.changed_at > now:
            # The clock was set back: what is released now would else count as released before the wave began.
            breaker = replace(breaker, changed_at=now)
        return breaker, Decision(max(breaker.wave - breaker.wave_successes - live, 0))
    return breaker, Decision(None)


def record(
    breaker: Breaker, policy: BreakerPolicy, *, succeeded: bool, released_at: datetime, now: datetime
) -> Breaker:
    """The breaker after a run that was released at `released_at` has ended.

    Tell it outcomes that speak of the target alone: not a cancelled run, nor one whose worker was lost. Runs released
    before the state last changed say nothing about the target of today, and change nothing.
    """
    if breaker.changed_at is not None and released_at < breaker.changed_at:
        return breaker
    match breaker.state:
        case BreakerState.OPEN:
            return breaker
        case BreakerState.HALF_OPEN:
            return _after_probe(breaker, policy, succeeded, now)
        case BreakerState.CLOSED:
            return _after_run(breaker, policy, succeeded, now)
    raise AssertionError(breaker.state)


def trip(breaker: Breaker, policy: BreakerPolicy, *, now: datetime) -> Breaker:
    """Open it, by hand or by a rule elsewhere."""
    return _opened(breaker, policy, now)


def reset(breaker: Breaker, *, now: datetime) -> Breaker:
    """Close it by hand, forgetting every outcome."""
    return Breaker(changed_at=breaker.changed_at if breaker.state is BreakerState.CLOSED else now)


def _after_run(breaker: Breaker, policy: BreakerPolicy, succeeded: bool, now: datetime) -> Breaker:
    in_a_row = 0 if succeeded else breaker.consecutive_failures + 1
    outcomes = (breaker.outcomes + ("s" if succeeded else "f"))[-max(policy.window, 1) :]
    breaker = replace(breaker, consecutive_failures=in_a_row, outcomes=outcomes)
    if succeeded:
        return breaker
    many_in_a_row = policy.consecutive_failures is not None and in_a_row >= policy.consecutive_failures
    return _opened(breaker, policy, now) if many_in_a_row or _too_many(outcomes, policy) else breaker


def _too_many(outcomes: str, policy: BreakerPolicy) -> bool:
    if policy.failure_ratio is None or len(outcomes) < min(policy.minimum, max(policy.window, 1)):
        return False
    return outcomes.count("f") >= policy.failure_ratio * len(outcomes)


def _after_probe(breaker: Breaker, policy: BreakerPolicy, succeeded: bool, now: datetime) -> Breaker:
    if not succeeded:
        return _opened(breaker, policy, now)
    successes = breaker.wave_successes + 1
    if successes < breaker.wave:
        return replace(breaker, wave_successes=successes)
    if breaker.wave * 2 > (policy.capacity or DEFAULT_CAPACITY):
        return Breaker(changed_at=now)
    return replace(breaker, wave=breaker.wave * 2, wave_successes=0)


def _opened(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> Breaker:
    longest = max(policy.open_for_at_most, policy.open_for)
    doublings = min(breaker.openings, _MOST_DOUBLINGS)
    seconds = min(policy.open_for.total_seconds() * 2**doublings, longest.total_seconds())
    return Breaker(
        state=BreakerState.OPEN,
        changed_at=now,
        open_until=now + timedelta(seconds=seconds),
        openings=breaker.openings + 1,
    )
