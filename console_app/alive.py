"""Which dispatchers and workers count as alive: the rule of `/health/ready`, for every page."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from dispatcher_app.models import Dispatcher
from monitoring_app.health import DISPATCHER_SILENCE
from workers_app.models import HOLDING_A_LEASE, Worker


def dispatchers(now: datetime) -> QuerySet[Dispatcher]:
    """Those that reported lately; `now` is the database's clock, as below."""
    return Dispatcher.objects.filter(beat_at__gte=now - DISPATCHER_SILENCE)


def workers(now: datetime) -> QuerySet[Worker]:
    """Those that hold a lease."""
    return Worker.objects.filter(state__in=HOLDING_A_LEASE, lease_until__gt=now)
