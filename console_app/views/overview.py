"""`/`: is anything wrong, since when, and what happens next?"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q
from django.http import HttpRequest, HttpResponseBase

from access_app.actors import Actor
from console_app import alive, pulse
from console_app.door import live, page, show
from console_app.views.task_edit import editable_projects
from tasks_app import queries
from tasks_app.rowset import database_now
from tasks_app.states import UNSUCCESSFUL, RunState

ROWS = 10
RECENT = timedelta(hours=1)
LATE_AFTER = timedelta(minutes=1)


@page
@live(pulse.of_overview)
def overview(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    now = database_now()
    runs = queries.runs_visible_to(actor)
    failures = runs.filter(state__in=sorted(UNSUCCESSFUL)).order_by("-finished_at")
    last_failures = list(failures[:ROWS])
    context = {
        "counts": queries.counts_by_state(runs),
        "running": runs.filter(state=RunState.RUNNING).order_by("started_at")[:ROWS],
        "failures": last_failures,
        "recent_failures": failures.filter(finished_at__gte=now - RECENT).count(),
        "late": runs.filter(_is_late(now)).count(),
        "upcoming": queries.upcoming_fires(queries.tasks_visible_to(actor), now=now, count=ROWS),
        "workers": list(alive.workers(now).select_related("pool").order_by("name")),
        "dispatchers_alive": alive.dispatchers(now).exists(),
        "paused_count": queries.tasks_visible_to(actor).filter(paused=True).count(),
        "may_create": editable_projects(actor).exists(),
        "task_count": queries.tasks_visible_to(actor).count(),
    }
    return show(request, "overview", context)


def _is_late(now: datetime) -> Q:
    """Waiting for longer than LATE_AFTER past its time, with nobody who stopped it on purpose."""
    return Q(state=RunState.WAITING, upstream_ready=True, held=False, due_at__lt=now - LATE_AFTER, task__paused=False)
