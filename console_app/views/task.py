"""`/tasks/<id>/`: is this failure new, when does it run next? With its buttons: Run now, pause, resume."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.json_text import JSONFault, loads
from access_app.roles import Verb, allows, role_in
from console_app import pulse
from console_app.door import action, live, page, show
from console_app.forms import PauseForm
from console_app.graph_picture import draw
from console_app.period_words import period_words
from tasks_app import graph, queries
from tasks_app.cron import CronError
from tasks_app.errors import InvalidInput
from tasks_app.models import Schedule, Task
from tasks_app.models.task import PauseMode
from tasks_app.pauses import pause_at
from tasks_app.services import runs, schedules, tasks
from tasks_app.services.task_resources import amounts_of

RECENT_RUNS = 15
OUTCOMES = 40
FIRES = 8
VERSIONS = 10
HOPS = 2
MOST_DRAWN = 60


@page
@live(pulse.of_lists)
def task_page(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    now, may = timezone.now(), permissions(actor, task)
    recent = queries.runs_visible_to(actor).filter(task=task).order_by("-pk")
    rows = list(task.schedules.select_related("task", "calendar").order_by("pk"))
    context = {
        "task": task,
        "version": task.version,
        "params_text": _params_text(task) if may[Verb.SEE_PARAMETERS] else "",
        "priority": runs.priority_name(task.priority),
        "schedules": [(schedule, _in_words(schedule)) for schedule in rows],
        "pause": pause_at(task, now),
        "resources": amounts_of(task),
        "pause_form": PauseForm(),
        "fires": _next_fires(rows, now) if not task.paused else [],
        "runs": recent[:RECENT_RUNS],
        "outcomes": queries.last_outcomes([task.pk], count=OUTCOMES).get(task.pk, [])[::-1],
        "versions": task.versions.select_related("created_by")[:VERSIONS],
        "may": may,
        **_dependencies(actor, task),
    }
    return show(request, "task", context)


def _dependencies(actor: Actor, task: Task) -> dict[str, Any]:
    """The edges of the task itself, upstream first, and the picture of what lies around it; none where it is alone."""
    found = graph.around(actor, task.pk, most=MOST_DRAWN, hops=HOPS)
    if not found.edges:
        return {"picture": None}
    edges = queries.dependencies_visible_to(actor)
    ups = [(edge, edge.upstream, period_words(edge)) for edge in edges.filter(downstream=task).order_by("pk")]
    downs = [(edge, edge.downstream, period_words(edge)) for edge in edges.filter(upstream=task).order_by("pk")]
    last = queries.last_outcomes([other.pk for other in found.tasks], count=1)
    states = {pk: outcomes[0][1] for pk, outcomes in last.items()}
    return {
        "edges": [*ups, *downs],
        "picture": draw(found, task.pk, states),
        "picture_complete": found.complete,
    }


def permissions(actor: Actor, task: Task) -> dict[str, bool]:
    """Which verbs the actor may use on the task: what it may not, is not offered."""
    role = role_in(actor, task.project_id)
    return {verb.value: allows(role, verb) for verb in Verb}


@action(back="console:task")
def run_now(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    wanted = runs.Request(params=_params(request.POST.get("params", "")))
    run, _created = runs.trigger(actor, task, wanted, now=timezone.now())
    return redirect("console:run", pk=run.pk)


@action(back="console:task")
def pause(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    values = PauseForm(request.POST).values()
    tasks.pause(actor, task, now=timezone.now(), **values)
    text = (
        _("%(task)s is being drained: what waits is done, nothing new is taken.")
        if values["mode"] == PauseMode.DRAIN
        else _("%(task)s is paused: nothing of it starts until it is resumed.")
    )
    messages.success(request, text % {"task": task.name})
    return redirect("console:task", pk=pk)


@action(back="console:task")
def resume(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    tasks.resume(actor, task, now=timezone.now())
    messages.success(request, _("%(task)s goes on.") % {"task": task.name})
    return redirect("console:task", pk=pk)


def _params(text: str) -> Any:
    """The parameters typed for one run; nothing means the task's own. Raises InvalidInput."""
    if not text.strip():
        return {}
    try:
        return loads(text)
    except JSONFault as fault:
        raise InvalidInput(params=str(fault)) from fault


def _params_text(task: Task) -> str:
    return json.dumps(task.version.params, indent=2, ensure_ascii=False) if task.version else ""


def _in_words(schedule: Schedule) -> str:
    try:
        return schedules.expanded(schedules.timing_of(schedule))
    except CronError as error:
        return error.message


def _next_fires(rows: list[Schedule], now: datetime) -> list[dict[str, Any]]:
    """The next fires of all enabled schedules together, soonest first; a broken schedule has none."""
    return [fire for _schedule, fire in schedules.shown_fires(rows, now=now, count=FIRES)]
