"""What Celery calls for each envelope; execution does the rest."""

from __future__ import annotations

from typing import Any

import structlog
from celery import shared_task

from workers_app import lifecycle, messages

log = structlog.get_logger(__name__)


# Celery has no types.
@shared_task(bind=True, name=messages.TASK_NAME, ignore_result=True)  # type: ignore[untyped-decorator]
def execute_runs(self: Any, envelope: Any) -> None:
    """Execute the runs of an envelope; one that is not ours is dropped and counted."""
    try:
        pairs = messages.unpack(envelope)
    except messages.BadEnvelope as error:
        lifecycle.dropped.inc()
        log.warning("message dropped", error=str(error))
        return
    lifecycle.node().execute(pairs, queue=(self.request.delivery_info or {}).get("routing_key"))
