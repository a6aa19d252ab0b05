"""Between the columns of a resource and tasks_app.breaker: its policy, its state, and back."""

from __future__ import annotations

from datetime import timedelta

from tasks_app.breaker import Breaker, BreakerPolicy, BreakerState
from tasks_app.models import Resource

STATE_COLUMNS = (
    "breaker_state",
    "breaker_changed_at",
    "breaker_open_until",
    "breaker_failures_in_a_row",
    "breaker_outcomes",
    "breaker_openings",
    "breaker_wave",
    "breaker_wave_successes",
)


def has_breaker(resource: Resource) -> bool:
    """Whether a rule of it says when to open."""
    return resource.breaker_failures is not None or resource.breaker_ratio is not None


def policy_of(resource: Resource) -> BreakerPolicy:
    return BreakerPolicy(
        consecutive_failures=resource.breaker_failures,
        failure_ratio=resource.breaker_ratio,
        window=resource.breaker_window,
        minimum=resource.breaker_minimum,
        open_for=timedelta(seconds=resource.breaker_open_seconds),
        open_for_at_most=timedelta(seconds=resource.breaker_open_seconds_at_most),
        capacity=resource.capacity,
    )


def breaker_of(resource: Resource) -> Breaker:
    return Breaker(
        state=BreakerState(resource.breaker_state),
        changed_at=resource.breaker_changed_at,
        open_until=resource.breaker_open_until,
        consecutive_failures=resource.breaker_failures_in_a_row,
        outcomes=resource.breaker_outcomes,
        openings=resource.breaker_openings,
        wave=resource.breaker_wave,
        wave_successes=resource.breaker_wave_successes,
    )


def put(resource: Resource, breaker: Breaker) -> None:
    """Set the columns of the state; whoever calls this holds the row's lock and saves STATE_COLUMNS."""
    resource.breaker_state = breaker.state.value
    resource.breaker_changed_at = breaker.changed_at
    resource.breaker_open_until = breaker.open_until
    resource.breaker_failures_in_a_row = breaker.consecutive_failures
    resource.breaker_outcomes = breaker.outcomes
    resource.breaker_openings = breaker.openings
    resource.breaker_wave = breaker.wave
    resource.breaker_wave_successes = breaker.wave_successes
