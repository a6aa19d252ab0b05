"""`/workers/`: who is alive, full, silent?"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count
from django.http import HttpRequest, HttpResponseBase

from access_app.actors import Actor
from console_app import alive, pulse
from console_app.door import live, page, show
from dispatcher_app.models import Dispatcher
from tasks_app.models import Run
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from workers_app.api.workers import HOLDING_A_LEASE
from workers_app.models import Worker

STOPPED_SHOWN = 20
STOPPED_FOR = timedelta(days=1)
DISPATCHER_SHOWN_FOR = timedelta(minutes=10)


@page
@live(pulse.of_workers)
def worker_list(request: HttpRequest, _actor: Actor) -> HttpResponseBase:
    now = database_now()
    workers = Worker.objects.select_related("pool")
    serving = list(workers.filter(state__in=HOLDING_A_LEASE).order_by("pool__name", "name"))
    stopped = workers.filter(stopped_at__gte=now - STOPPED_FOR).exclude(pk__in=[worker.pk for worker in serving])
    running = Run.objects.filter(state=RunState.RUNNING, worker_id__in=[worker.pk for worker in serving])
    used = dict(running.order_by().values_list("worker_id").annotate(n=Count("pk")))
    recent = list(Dispatcher.objects.filter(beat_at__gte=now - DISPATCHER_SHOWN_FOR).order_by("name"))
    live_workers = set(alive.workers(now).values_list("pk", flat=True))
    live_dispatchers = set(alive.dispatchers(now).values_list("pk", flat=True))
    context = {
        "serving": [(worker, used.get(worker.pk, 0), worker.pk not in live_workers) for worker in serving],
        "workers_alive": bool(live_workers),
        "stopped": stopped.order_by("-stopped_at")[:STOPPED_SHOWN],
        "dispatchers": [(dispatcher, dispatcher.pk not in live_dispatchers) for dispatcher in recent],
        "dispatchers_alive": bool(live_dispatchers),
        "slots": sum(worker.slots for worker in serving),
        "used": sum(used.values()),
    }
    return show(request, "workers", context)
