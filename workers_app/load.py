"""What a worker tells of its load with each beat."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import structlog

log = structlog.get_logger("worker")


class Load(NamedTuple):
    """Slots in use; processors and memory in use of the whole machine in percent; bytes of memory that the worker
    itself holds, without the processes of its runs. None: could not be measured."""

    slots_used: int
    cpu_percent: float | None = None
    memory_percent: float | None = None
    memory_bytes: int | None = None


class Gauge:
    """Measures the load of this process and its machine; processors since the last reading."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = _processor_seconds()

    def read(self, slots_used: int) -> Load:
        """The load now. Never raises: a beat must not fail for want of a figure."""
        try:
            now = _processor_seconds()
            busy, total = now[0] - self._before[0], now[1] - self._before[1]
            self._before = now
            return Load(
                slots_used,
                # Two readings in one tick of the kernel's clock tell nothing.
                round(min(max(100 * busy / total, 0.0), 100.0), 1) if total > 0 else None,
                float(psutil.virtual_memory().percent),
                self._process.memory_info().rss,
            )
        except (psutil.Error, OSError) as error:
            log.debug("the load cannot be measured", error=str(error))
            return Load(slots_used)


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all processors have been busy, and busy or idle, since the machine started."""
    times = psutil.cpu_times()
    # Time of guests is counted as time of users already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
