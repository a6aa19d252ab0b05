"""Runs that did not start by their deadline are over."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from tasks_app import transitions
from tasks_app.models import Run
from tasks_app.states import Reason, RunState
from tasks_app.wakeup import nudge

BATCH = 5000


def expire(now: datetime, *, actor: str, limit: int = BATCH) -> int:
    """End up to `limit` runs that still wait for their first start at their deadline. Returns how many.

    Retries have no deadline: it is one for the first start.
    """
    with transaction.atomic():
        late = Run.objects.filter(state=RunState.WAITING, attempt=1, expires_at__lte=now).order_by("expires_at")
        late = late.select_for_update(skip_locked=True, of=("self",), no_key=True)
        found = list(late.values_list("pk", "expires_at")[:limit])
        if not found:
            return 0
        verdicts = {}
        for id, expires_at in found:
            detail = f"It had not started by its deadline, {expires_at:%Y-%m-%d %H:%M:%S} UTC."
            verdicts[id] = (RunState.EXPIRED, str(Reason.START_DEADLINE), detail)
        moved = transitions.settle(verdicts, now=now, actor=actor)
        nudge()
        return len(moved)
