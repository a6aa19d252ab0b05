"""Jitter: spreads runs that would start in one instant, the same way each time it is asked. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

_MICROSECOND = timedelta(microseconds=1)
_STEPS = 2**64


def jittered(nominal: datetime, next_nominal: datetime | None, max_seconds: float, key: str) -> datetime:
    """When the run of `nominal` is due: up to `max_seconds` later, always before `next_nominal`, in UTC.

    Stable for a key (of the schedule) and nominal time, on every machine; even over the range. Both instants aware.
    """
    nominal = nominal.astimezone(UTC)
    room = timedelta(seconds=max(max_seconds, 0.0))
    if next_nominal is not None:
        room = min(room, max(next_nominal - nominal - _MICROSECOND, timedelta(0)))
    digest = hashlib.sha256(f"{key}\0{nominal.isoformat()}".encode("utf-8", "surrogatepass")).digest()
    share = int.from_bytes(digest[:8])
    return nominal + timedelta(microseconds=room // _MICROSECOND * share // _STEPS)
