"""`/workers/`: who is alive, full, silent?"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from access_app.actors import Actor
from console_app import pulse
from console_app.door import live, page, show
from dispatcher_app.models import Dispatcher
from tasks_app.models import Run
from tasks_app.states import RunState
from workers_app.models import Worker, WorkerState

STOPPED_SHOWN = 20
STOPPED_FOR = timedelta(days=1)
DISPATCHER_GONE_AFTER = timedelta(minutes=10)


@page
@live(pulse.of_workers)
def worker_list(request: HttpRequest, _actor: Actor) -> HttpResponseBase:
    now = timezone.now()
    workers = Worker.objects.select_related("pool")
    serving = list(workers.filter(state__in=[WorkerState.ONLINE, WorkerState.DRAINING]).order_by("pool__name", "name"))
    stopped = workers.filter(stopped_at__gte=now - STOPPED_FOR).exclude(pk__in=[worker.pk for worker in serving])
    running = Run.objects.filter(state=RunState.RUNNING, worker_id__in=[worker.pk for worker in serving])
    used = dict(running.order_by().values_list("worker_id").annotate(n=Count("pk")))
    context = {
        "serving": [(worker, used.get(worker.pk, 0), worker.lease_until < now) for worker in serving],
        "stopped": stopped.order_by("-stopped_at")[:STOPPED_SHOWN],
        "dispatchers": Dispatcher.objects.filter(beat_at__gte=now - DISPATCHER_GONE_AFTER).order_by("name"),
        "slots": sum(worker.slots for worker in serving),
        "used": sum(used.values()),
    }
    return show(request, "workers", context)
