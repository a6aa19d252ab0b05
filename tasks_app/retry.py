"""When a failed run is tried again. Pure: imports no model; chance is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MAX_DELAY_SECONDS = 3600.0
# A run whose worker died this often is taken out: it may well be what kills them.
POISON_LIMIT = 3
_MOST_DOUBLINGS = 30


def next_attempt(
    *, attempt: int, retry_count: int, delay_seconds: float, now: datetime, asked_delay: float | None = None
) -> datetime | None:
    """When attempt `attempt + 1` is due after attempt `attempt` failed at `now`, or None when no retry is left.

    The delay doubles from `delay_seconds`, capped at one hour; a delay that the run itself asked for (seconds, from
    `Retry-After` or exit code 75) takes its place.
    """
    policy = RetryPolicy(retry_count=retry_count, delay_seconds=delay_seconds)
    return decide(policy, Failure(), attempt=attempt, now=now, asked_delay=asked_delay).at


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a task is tried again. All times in seconds.

    The delay before attempt n + 1 is `delay_seconds` x 2^(n-1), at most `cap_seconds`, and with `jitter` a random share
    of that. `never_exit_codes`, `never_exceptions` (class names, `TimeoutError` or `package.module.Name`) and
    `never_statuses` (HTTP, `404` or `4xx`) are final. `budget_seconds` bounds the time from the first start to the
    start of any retry; None is no bound.
    """

    retry_count: int = 0
    delay_seconds: float = 10.0
    cap_seconds: float = MAX_DELAY_SECONDS
    jitter: bool = False
    never_exit_codes: frozenset[int] = frozenset()
    never_exceptions: frozenset[str] = frozenset()
    never_statuses: frozenset[str] = frozenset()
    budget_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of how an attempt failed: `exceptions` are the names of its class and of that one's bases."""

    exit_code: int | None = None
    exceptions: tuple[str, ...] = ()
    status: int | None = None


class NoRetry(StrEnum):
    """Why there is no further attempt; empty when there is one."""

    RETRIED = ""
    USED_UP = "retries_used_up"
    NOT_RETRYABLE = "not_retryable"
    BUDGET = "retry_budget"


@dataclass(frozen=True, slots=True)
class Decision:
    """When the next attempt is due, or why there is none."""

    at: datetime | None
    why: NoRetry = NoRetry.RETRIED


def decide(
    policy: RetryPolicy,
    failure: Failure,
    *,
    attempt: int,
    now: datetime,
    first_started_at: datetime | None = None,
    asked_delay: float | None = None,
    random: Callable[[], float] | None = None,
) -> Decision:
    """Whether and when attempt `attempt + 1` follows attempt `attempt` (from 1), which failed at `now`.

    `asked_delay` (seconds, at most an hour) is the delay that the run itself asked for; it takes the place of any other
    and is not shortened by jitter. `first_started_at` is when the first attempt started. `random` draws from [0, 1).
    """
    if attempt > policy.retry_count:
        return Decision(None, NoRetry.USED_UP)
    if is_final(policy, failure):
        return Decision(None, NoRetry.NOT_RETRYABLE)
    if asked_delay is not None:
        delay = _clamped(asked_delay, MAX_DELAY_SECONDS)
    else:
        delay = backoff_seconds(policy, attempt) * (random() if policy.jitter and random is not None else 1.0)
    at = now + timedelta(seconds=delay)
    if policy.budget_seconds is not None:
        since = first_started_at if first_started_at is not None else now
        if (at - since).total_seconds() > policy.budget_seconds:
            return Decision(None, NoRetry.BUDGET)
    return Decision(at)


def backoff_seconds(policy: RetryPolicy, attempt: int) -> float:
    """The longest delay after attempt `attempt` failed, before jitter."""
    doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
    return _clamped(policy.delay_seconds * 2**doublings, policy.cap_seconds)


def is_final(policy: RetryPolicy, failure: Failure) -> bool:
    """Whether the policy says that trying again after this failure is no use."""
    if failure.exit_code is not None and failure.exit_code in policy.never_exit_codes:
        return True
    if failure.status is not None and {str(failure.status), f"{failure.status // 100}xx"} & policy.never_statuses:
        return True
    names = {name for full in failure.exceptions for name in (full, full.rpartition(".")[2])}
    return bool(names & policy.never_exceptions)


def exception_names(error: BaseException) -> tuple[str, ...]:
    """The names of the error's class and of all that it derives from, most special first, for `Failure.exceptions`."""
    bases = type(error).__mro__[:-1]
    return tuple(base.__qualname__ if base.__module__ == "builtins" else _full_name(base) for base in bases)


def should_auto_pause(consecutive_failures: int, limit: int | None) -> bool:
    """Whether a task is to be paused after this many failed runs in a row; no limit, or 0, is never."""
    return bool(limit) and consecutive_failures >= (limit or 0)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _clamped(seconds: float, most: float) -> float:
    # Asked with this sign, not a number is no delay.
    return min(seconds, most) if seconds > 0 else 0.0
