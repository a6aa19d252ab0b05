"""`/runs/<id>/`: what happened, or why does it wait? With its live output and its buttons."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.roles import Verb
from console_app import pulse
from console_app.door import action, is_fragment, live, page, show
from console_app.end_words import ladder
from console_app.links import number
from console_app.run_path import steps
from console_app.views.run_log import first_lines
from console_app.views.task import permissions
from dispatcher_app.explain import explain
from tasks_app import deaths, queries
from tasks_app.models import Run, RunPeriod, Task
from tasks_app.services import quarantine, reruns, runs
from tasks_app.services.quarantine import Release
from tasks_app.states import TERMINAL, RunState
from workers_app.models import Worker

MOST_PARTS = 50


@page
@live(pulse.of_run)
def run_page(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    run = _visible_run(actor, pk)
    events = list(run.events.order_by("pk"))
    is_over = run.state in TERMINAL
    may = permissions(actor, run.task)
    may_start = run.state in (RunState.WAITING, RunState.QUEUED)
    visible = queries.runs_visible_to(actor)
    parts = run.parts.order_by("shard_index", "pk") if run.shard_total else Run.objects.none()
    context = {
        "run": run,
        "explanation": explain(run, timezone.now(), visible=visible) if may_start else None,
        "events": events,
        "steps": steps(run, events),
        "ladder": ladder(run),
        **_deaths(run, may_see=may[Verb.SEE_OUTPUT]),
        "is_over": is_over,
        "most_attempts": max(run.attempt, run.version.retry_count + 1),
        "is_retry": run.state == RunState.WAITING and run.attempt > 1,
        "params_text": _json(run.params) if may[Verb.SEE_PARAMETERS] else "",
        "output_text": _json(run.output) if run.output is not None and may[Verb.SEE_OUTPUT] else "",
        "worker": Worker.objects.filter(pk=run.worker_id).first() if run.worker_id else None,
        "upstream": queries.runs_visible_to(actor).filter(downstream_edges__downstream=run).order_by("pk"),
        "downstream": queries.runs_visible_to(actor).filter(upstream_edges__upstream=run).order_by("pk"),
        # By task and id, which are indexed: rerun_of alone would be a search through every run there is.
        "reruns": Run.objects.filter(task=run.task, pk__gt=run.pk, rerun_of=run).order_by("pk"),
        "parts": list(parts[:MOST_PARTS]),
        "may_end": not is_over or parts.filter(finished_at=None).exists(),
        "periods": _periods(actor, run),
        "may": may,
        "has_failed_point": is_over and may[Verb.RUN] and reruns.has_failed_point(run),
    }
    if not is_fragment(request) and may[Verb.SEE_OUTPUT]:
        context["log"] = first_lines(run, number(request.GET, "attempt"))
    return show(request, "run", context)


def _deaths(run: Run, *, may_see: bool) -> dict[str, Any]:
    """The workers that died with the run, each with the last lines of that attempt; how it may be released."""
    if run.worker_deaths == 0:
        return {}
    lines = deaths.last_lines(run) if may_see else {}
    found: dict[str, Any] = {"deaths": [(death, lines.get(death.attempt, [])) for death in deaths.of_run(run)]}
    if run.state == RunState.QUARANTINED:
        found |= {"releases": Release.choices, "more_memory": quarantine.more_memory(run)}
    return found


def _periods(actor: Actor, run: Run) -> list[tuple[RunPeriod, Task | None]]:
    """The periods that the run waits for, or has waited for, each with its upstream task as far as it may be seen."""
    rows = list(run.period_edges.order_by("pk"))
    tasks = queries.tasks_visible_to(actor).in_bulk([row.upstream_task_id for row in rows]) if rows else {}
    return [(row, tasks.get(row.upstream_task_id or 0)) for row in rows]


@action(back="console:run")
def cancel(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    run = runs.cancel(actor, _visible_run(actor, pk), now=timezone.now())
    text = _("The run is cancelled.") if run.state in TERMINAL else _("The run was asked to stop; its worker ends it.")
    return _back(request, run, text)


@action(back="console:run")
def terminate(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    run = runs.terminate(actor, _visible_run(actor, pk), now=timezone.now())
    text = _("The run is cancelled.") if run.state in TERMINAL else _("Its worker kills the run.")
    return _back(request, run, text)


@action(back="console:run")
def rerun(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    again = runs.rerun(actor, _visible_run(actor, pk), now=timezone.now())
    return _back(request, again, _("This is a new run with the parameters of #%(id)d.") % {"id": pk})


@action(back="console:run")
def rerun_failed(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    again = reruns.rerun_failed(actor, _visible_run(actor, pk), now=timezone.now())
    number = reruns.firing_of(again).count()
    words = {"n": number, "id": again.pk}
    return _back(request, again, _("Runs planned anew: %(n)d; #%(id)d is the first of them.") % words)


@action(back="console:run")
def release(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    how = request.POST.get("how", Release.AS_IS)
    memory = number(request.POST, "memory_limit_mb") if how == Release.MORE_MEMORY else None
    again = quarantine.release(actor, _visible_run(actor, pk), how, memory_limit_mb=memory, now=timezone.now())
    return _back(request, again, _("This run takes the place of #%(id)d, which stays in quarantine.") % {"id": pk})


@action(back="console:run")
def hold(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    return _held(request, actor, pk, runs.hold, _("The run is held: it does not start until it is released."))


@action(back="console:run")
def unhold(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    return _held(request, actor, pk, runs.unhold, _("The run is released."))


def _held(request: HttpRequest, actor: Actor, pk: int, verb: Callable[..., Run], text: str) -> HttpResponse:
    return _back(request, verb(actor, _visible_run(actor, pk), now=timezone.now()), text)


def _back(request: HttpRequest, run: Run, text: str) -> HttpResponse:
    messages.success(request, text)
    return redirect("console:run", pk=run.pk)


def _visible_run(actor: Actor, pk: int) -> Run:
    return queries.get_visible(
        queries.runs_visible_to(actor).select_related("schedule", "pool", "rerun_of", "task__project"), pk
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
