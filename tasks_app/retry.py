"""When a failed run is tried again. Pure: imports no model."""

from __future__ import annotations

from datetime import datetime, timedelta

MAX_DELAY_SECONDS = 3600.0
# A run whose worker died this often is taken out: it may well be what kills them.
POISON_LIMIT = 3


def next_attempt(
    *, attempt: int, retry_count: int, delay_seconds: float, now: datetime, asked_delay: float | None = None
) -> datetime | None:
    """When attempt `attempt + 1` is due after attempt `attempt` failed at `now`, or None when no retry is left.

    The delay doubles from `delay_seconds`, capped at one hour; a delay that the run itself asked for (seconds, from
    `Retry-After` or exit code 75) takes its place.
    """
    if attempt > retry_count:
        return None
    delay = asked_delay if asked_delay is not None else delay_seconds * 2 ** min(attempt - 1, 30)
    return now + timedelta(seconds=min(max(delay, 0.0), MAX_DELAY_SECONDS))
