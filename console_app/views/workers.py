"""`/workers/`: who is alive, full, silent? `/workers/<id>/`: what runs on it? With cordon, resume and drain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.models import AuditEntry
from access_app.roles import Verb, require_everywhere
from console_app import alive, pulse
from console_app.door import action, live, page, show
from dispatcher_app.models import Dispatcher
from tasks_app import queries
from tasks_app.errors import PermissionRefused
from tasks_app.models import Run
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from workers_app import services
from workers_app.models import HOLDING_A_LEASE, Worker
from workers_app.services import running_on, shown_state, workers_visible_to

STOPPED_SHOWN = 20
STOPPED_FOR = timedelta(days=1)
DISPATCHER_SHOWN_FOR = timedelta(minutes=10)
RUNS_SHOWN = 100
CHANGES_SHOWN = 10


@page
@live(pulse.of_workers)
def worker_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    now = database_now()
    workers = Worker.objects.select_related("pool")
    serving = list(workers.filter(state__in=HOLDING_A_LEASE).order_by("pool__name", "name"))
    stopped = workers.filter(stopped_at__gte=now - STOPPED_FOR).exclude(pk__in=[worker.pk for worker in serving])
    used = running_on(worker.pk for worker in serving)
    recent = list(Dispatcher.objects.filter(beat_at__gte=now - DISPATCHER_SHOWN_FOR).order_by("name"))
    live_workers = set(alive.workers(now).values_list("pk", flat=True))
    live_dispatchers = set(alive.dispatchers(now).values_list("pk", flat=True))
    context = {
        "serving": [(worker, used.get(worker.pk, 0), worker.pk not in live_workers) for worker in serving],
        "workers_alive": bool(live_workers),
        "stopped": stopped.order_by("-stopped_at")[:STOPPED_SHOWN],
        "dispatchers": [(dispatcher, dispatcher.pk not in live_dispatchers) for dispatcher in recent],
        "dispatchers_alive": bool(live_dispatchers),
        "may_manage": _manages(actor),
        "slots": sum(worker.slots for worker in serving),
        "used": sum(used.values()),
    }
    return show(request, "workers", context)


@page
@live(pulse.of_workers)
def worker_page(request: HttpRequest, actor: Actor, pk: UUID) -> HttpResponseBase:
    worker, now = _find(actor, pk), database_now()
    here = Run.objects.filter(state=RunState.RUNNING, worker_id=worker.pk)
    visible = queries.runs_visible_to(actor).filter(state=RunState.RUNNING, worker_id=worker.pk)
    runs, running = list(visible.order_by("started_at", "pk")[:RUNS_SHOWN]), here.count()
    manages = _manages(actor)
    entries = AuditEntry.objects.filter(object_type="worker", object_id=str(worker.pk)).order_by("-pk")
    context = {
        "worker": worker,
        "state": shown_state(worker, now),
        "serves": shown_state(worker, now) in HOLDING_A_LEASE,
        "runs": runs,
        "running": running,
        "queued": Run.objects.filter(state=RunState.QUEUED, target_id=worker.pk).count(),
        # Runs of projects that this person may not see, and those that the list is too short for.
        "unseen": running - len(runs),
        "changes": entries[:CHANGES_SHOWN] if manages else (),
        "may_manage": manages,
    }
    return show(request, "worker", context)


@action(back="console:worker")
def cordon(request: HttpRequest, actor: Actor, pk: UUID) -> HttpResponseBase:
    return _ask(request, actor, pk, services.cordon, _("%(name)s takes nothing new from its next beat on."))


@action(back="console:worker")
def uncordon(request: HttpRequest, actor: Actor, pk: UUID) -> HttpResponseBase:
    return _ask(request, actor, pk, services.uncordon, _("%(name)s takes runs again."))


@action(back="console:worker")
def drain(request: HttpRequest, actor: Actor, pk: UUID) -> HttpResponseBase:
    return _ask(request, actor, pk, services.drain, _("%(name)s finishes what it runs and leaves."))


def _ask(request: HttpRequest, actor: Actor, pk: UUID, verb: Callable[..., Worker], text: str) -> HttpResponse:
    worker = verb(actor, _find(actor, pk), now=timezone.now())
    messages.success(request, text % {"name": worker.name})
    return redirect("console:worker", pk=worker.pk)


def _find(actor: Actor, pk: UUID) -> Worker:
    return queries.get_visible(workers_visible_to(actor), str(pk))


def _manages(actor: Actor) -> bool:
    try:
        require_everywhere(actor, Verb.MANAGE_WORKERS)
    except PermissionRefused:
        return False
    return True
