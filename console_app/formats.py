"""Pure: how the console writes durations and counts."""

from __future__ import annotations

from datetime import timedelta

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """`840 ms`, `12.4 s`, `4 m 12 s`, `2 h 05 m`, `3 d 4 h`; a negative span reads as none: `0 ms`."""
    seconds = max(seconds, 0.0)
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)} ms"
    if round(seconds, 1) < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} m {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} m"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def span(value: timedelta | float | None) -> str:
    """A duration given as timedelta or seconds; a dash when it is not known."""
    if value is None:
        return "–"
    return duration(value.total_seconds() if isinstance(value, timedelta) else float(value))


def grouped(count: int) -> str:
    """`12,480`: the same grouping in every language, as in logs and metrics."""
    return f"{count:,}"


def percent(value: float) -> str:
    """`4 %`, `0.4 %` below one: a share of a hundred."""
    return f"{value:.1f} %" if 0 < value < 1 else f"{value:.0f} %"


def size(count: int) -> str:
    """Bytes as `512 B`, `1.5 KiB`, `93.4 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
