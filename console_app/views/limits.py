"""`/limits/`: what takes the slots, and what lets nothing through? With the buttons of the circuit breakers."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.db.models import Sum
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere
from console_app import pulse
from console_app.door import live, page, show
from console_app.errors import sentence
from tasks_app import queries
from tasks_app.breaker_columns import has_breaker
from tasks_app.errors import NotFound, PermissionRefused, SchedulerError
from tasks_app.models import Resource, Run
from tasks_app.services import resources
from tasks_app.states import LIVE


@page
@live(pulse.of_limits)
def limits(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    now = timezone.now()
    pools = list(resources.pools_visible_to(actor))
    live_runs = resources.live_runs_of_pools()
    rows = list(resources.resources_visible_to(actor))
    in_use = resources.in_use_of_resources(row.pk for row in rows)
    held = resources.runs_held_by_breakers(rows, now=now)
    taken = _slots_taken()
    context = {
        "pools": [
            (pool, taken.get(pool.pk, 0), live_runs.get((pool.pk, "queued"), 0), live_runs.get((pool.pk, "running"), 0))
            for pool in pools
        ],
        "resources": [(row, in_use.get(row.pk, 0), held.get(row.pk, 0), has_breaker(row)) for row in rows],
        "may_turn": _manages(actor),
    }
    return show(request, "limits", context)


def trip(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    text = _("The breaker of %(name)s has tripped: nothing that uses it starts.")
    return _turn(request, actor, pk, resources.trip, text)


def reset(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    return _turn(request, actor, pk, resources.reset, _("The breaker of %(name)s is reset."))


def _turn(request: HttpRequest, actor: Actor, pk: int, verb: Callable[..., Resource], text: str) -> HttpResponseBase:
    resource = queries.get_visible(resources.resources_visible_to(actor), pk)
    try:
        verb(actor, resource, now=timezone.now())
    except NotFound:
        raise
    except SchedulerError as error:
        messages.error(request, sentence(error))
    else:
        messages.success(request, text % {"name": resource.name})
    return redirect("console:limits")


resource_trip = require_POST(page(trip))
resource_reset = require_POST(page(reset))


def _slots_taken() -> dict[int, int]:
    rows = Run.objects.filter(state__in=sorted(LIVE)).order_by().values_list("pool_id")
    return dict(rows.annotate(n=Sum("weight")))


def _manages(actor: Actor) -> bool:
    try:
        require_everywhere(actor, Verb.MANAGE)
    except PermissionRefused:
        return False
    return True
