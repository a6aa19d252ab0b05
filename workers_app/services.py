"""Workers: who may see them, and what can be asked of them: cordon, uncordon, drain.

What is asked stands in the worker's row; the worker reads it with its next beat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere, visible_project_ids
from tasks_app.errors import WrongState
from tasks_app.models import Run
from tasks_app.queries import get_visible
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from tasks_app.wakeup import nudge
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState


def workers_visible_to(actor: Actor) -> QuerySet[Worker]:
    """All workers for whoever has a role in some project: workers are shared between projects."""
    return Worker.objects.none() if visible_project_ids(actor) == [] else Worker.objects.select_related("pool", "key")


def shown_state(worker: Worker, now: datetime) -> str:
    """The state as it is now: a worker whose lease has run out is lost, whether or not a dispatcher has noted it."""
    if worker.state in HOLDING_A_LEASE and worker.lease_until <= now:
        return WorkerState.LOST.value
    return str(worker.state)


def running_on(ids: Iterable[Any]) -> dict[Any, int]:
    """{worker id: how many runs it executes}; one that is not in here executes none."""
    live = Run.objects.filter(state=RunState.RUNNING, worker_id__in=list(ids)).order_by().values_list("worker_id")
    return dict(live.annotate(n=Count("pk")))


def look_again(ids: Iterable[Any], now: datetime) -> None:
    """Have the dispatchers look at once at what is queued to these workers alone: they take it no more."""
    Run.objects.filter(state=RunState.QUEUED, target_id__in=list(ids)).update(sweep_at=now)


def cordon(actor: Actor, worker: Worker, *, now: datetime) -> Worker:
    """Let the worker take nothing new; what runs on it goes on. Nothing happens to one that is cordoned already.

    Raises WrongState unless it is online, PermissionRefused for all but administrators of the installation.
    """
    return _ask(actor, worker, "cordon", WorkerState.CORDONED, (WorkerState.ONLINE,), now)


def uncordon(actor: Actor, worker: Worker, *, now: datetime) -> Worker:
    """Let a cordoned worker take runs again. Nothing happens to one that is online. Raises as `cordon`."""
    return _ask(actor, worker, "uncordon", WorkerState.ONLINE, (WorkerState.CORDONED,), now)


def drain(actor: Actor, worker: Worker, *, now: datetime) -> Worker:
    """Let the worker finish what runs on it, however long that takes, take nothing new, and leave.

    This cannot be taken back. Nothing happens to one that is draining. Raises as `cordon`.
    """
    return _ask(actor, worker, "drain", WorkerState.DRAINING, (WorkerState.ONLINE, WorkerState.CORDONED), now)


def _ask(
    actor: Actor, worker: Worker, verb: str, wanted: WorkerState, states: Sequence[WorkerState], now: datetime
) -> Worker:
    require_everywhere(actor, Verb.MANAGE_WORKERS)
    with transaction.atomic():
        rows = Worker.objects.select_related("pool").select_for_update(of=("self",), no_key=True)
        worker = get_visible(rows, str(worker.pk))
        state = shown_state(worker, database_now())
        if state == wanted:
            return worker
        if state not in states:
            raise WrongState(
                _("The worker is %(state)s; this can be asked of one that is %(states)s.")
                % {"state": state, "states": ", ".join(states)},
                state=state,
            )
        worker.state = wanted
        worker.save(update_fields=["state"])
        look_again([worker.pk], now)
        audit.append(actor, verb, worker, now=now, before={"state": state}, after={"state": str(wanted)})
        nudge()
    return worker
