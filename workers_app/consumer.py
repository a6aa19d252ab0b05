"""Celery's consumer with two habits of ours: one message ahead, and back within seconds of the broker."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

log = structlog.get_logger("worker")
LONGEST_PAUSE_SECONDS = 3


class PatientConsumer(Consumer):
    """Celery's own would take a message for every slot ahead of the ones running, and keep them behind long runs while
    other workers idle; and after an outage it would wait half a minute before it looks for the broker again."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A message is acknowledged when a slot takes it up, so all slots still fill; only one can wait for a slot.
        self.initial_prefetch_count = 1

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying for as long as it takes."""
        return conn.ensure_connection(
            _report,
            max_retries=None,
            interval_start=0.5,
            interval_step=0.5,
            interval_max=LONGEST_PAUSE_SECONDS,
            callback=maybe_shutdown,
        )


def _report(error: BaseException, pause: float) -> None:
    log.warning("broker out of reach", error=str(error) or type(error).__name__, again_in=pause)
