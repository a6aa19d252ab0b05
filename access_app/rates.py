"""How many requests somebody may still make in this minute, counted for all processes together.

A process takes a share, a hundredth of the whole, by one statement, and then counts it off by itself: a request in
between asks nobody. What a process has taken and not used is lost at the end of the minute: the limit is never
exceeded, and reached up to a hundredth for each process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from django.db import connection

from access_app import runtime
from access_app.models import RateCount

SHARES = 100
SECONDS = 60
REMEMBERED = 10_000
REFRESH_SECONDS = 2.0
# Rows of those who asked no more are deleted by whoever takes the n-th share.
PRUNE_EVERY = 500
PRUNE_MINUTES = 10
_TAKE = f"""
INSERT INTO {RateCount._meta.db_table} AS kept (key, minute, used) VALUES (%s, %s, %s)
ON CONFLICT (key) DO UPDATE SET
    used = CASE WHEN excluded.minute > kept.minute THEN excluded.used ELSE kept.used + excluded.used END,
    minute = CASE WHEN excluded.minute > kept.minute THEN excluded.minute ELSE kept.minute END
RETURNING used
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands after a request: whether it may pass, and what may follow until the count begins anew."""

    limit: int
    remaining: int
    seconds: int
    allowed: bool


@dataclass(slots=True)
class _Count:
    """What this process knows of a count: its own share that is left, and what all have used as it last heard."""

    minute: int
    limit: int
    share: int = 0
    used: int = 0

    @property
    def is_full(self) -> bool:
        return self.share <= 0 and self.used >= self.limit


_lock = threading.Lock()
_counts: dict[str, _Count] = {}
_taken = 0
_refreshed = 0.0


def take(kind: str, who: str, limit: int, *, now: datetime) -> Standing:
    """Count a request of this kind by `who`. No statement for most of them; one where a new share has to be taken."""
    # With another limit the count begins anew: a share of a large one would use up a small one at once.
    key = blake2b(f"{kind} {limit} {who}".encode(), digest_size=16).hexdigest()
    # Not all counts begin anew at the same second.
    moment = now.timestamp() + int(key[:4], 16) % SECONDS
    minute, seconds = int(moment // SECONDS), SECONDS - int(moment % SECONDS)
    with _lock:
        count = _counts.get(key)
        if count is None or count.minute != minute:
            count = _remember(key, _Count(minute, limit))
        if count.share > 0 or count.is_full:
            return _standing(count, seconds)
    share = max(1, limit // SHARES)
    used = _take(key, minute, share)
    with _lock:
        count.share += max(0, share - max(0, used - limit))
        count.used = max(count.used, used)
        return _standing(count, seconds)


def refresh_settings() -> None:
    """Read the runtime settings where that is some seconds ago: they bound what this process lets pass."""
    global _refreshed  # noqa: PLW0603  (of the process, as the settings are)
    now = time.monotonic()
    if now - _refreshed >= REFRESH_SECONDS:
        _refreshed = now
        runtime.refresh()


def forget() -> None:
    """Know nothing of any count, as a process that has just started."""
    with _lock:
        _counts.clear()


def _standing(count: _Count, seconds: int) -> Standing:
    allowed = count.share > 0
    count.share -= allowed
    remaining = max(0, count.limit - count.used) + max(0, count.share)
    return Standing(count.limit, remaining, seconds, allowed)


def _remember(key: str, count: _Count) -> _Count:
    if len(_counts) >= REMEMBERED:
        for old in [name for name, one in _counts.items() if one.minute < count.minute - 1]:
            del _counts[old]
        if len(_counts) >= REMEMBERED:
            _counts.clear()
    _counts[key] = count
    return count


def _take(key: str, minute: int, share: int) -> int:
    """Take a share; how much of the minute all have taken together. One statement, no transaction around it."""
    global _taken  # noqa: PLW0603
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [key, minute, share])
        used = int(cursor.fetchone()[0])
    _taken += 1
    if _taken % PRUNE_EVERY == 0:
        RateCount.objects.filter(minute__lt=minute - PRUNE_MINUTES).delete()
    return used
