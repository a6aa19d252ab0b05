"""`/backfills/`: how far are they? `/tasks/<id>/backfill`: what would be run again? With pause, resume and cancel."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app.actors import Actor
from access_app.roles import Verb, require
from console_app import pulse
from console_app.backfill_forms import BackfillForm, params_text
from console_app.door import action, live, page, show
from console_app.errors import put_on
from console_app.paging import by_id
from console_app.views.task import permissions
from tasks_app import queries
from tasks_app.backfill_instants import Instant
from tasks_app.cron import zone
from tasks_app.errors import InvalidInput
from tasks_app.fire_words import answer_words
from tasks_app.models import Backfill, Task
from tasks_app.models.schedule import ScheduleKind
from tasks_app.services import backfills
from tasks_app.services.backfills import Progress
from tasks_app.states import RunState

RECENT_RUNS = 25
SHOWN_INSTANTS = 500
WHY_NOT = {
    "has_run": gettext_lazy("it has a run"),
    "under_way": gettext_lazy("its run is not over"),
    "in_backfill": gettext_lazy("another backfill holds it"),
    "to_be_fired": gettext_lazy("the dispatcher is going to fire it"),
}


@page
@live(pulse.of_lists)
def backfill_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    shown, _newer, older = by_id(queries.backfills_visible_to(actor), request.GET)
    progress = backfills.progress_of(shown)
    context = {"rows": [_row(one, progress[one.pk]) for one in shown], "older": older}
    return show(request, "backfills", context)


@page
@live(pulse.of_lists)
def backfill_page(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    backfill = queries.get_visible(queries.backfills_visible_to(actor), pk)
    runs = queries.runs_visible_to(actor).filter(backfill=backfill).order_by("-pk")
    row = _row(backfill, backfills.progress(backfill))
    may = permissions(actor, backfill.task)
    context = {
        **row,
        "params_text": params_text(backfill.params) if may[Verb.SEE_PARAMETERS] else "",
        "runs": runs[:RECENT_RUNS],
        "may": may,
        "is_over": row["state"] in ("done", "cancelled"),
    }
    return show(request, "backfill", context)


@page
def new(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    """The form; its first button lists what would run, its second plans it."""
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    require(actor, Verb.RUN, task.project_id)
    schedules = list(task.schedules.exclude(kind=ScheduleKind.FIXED_DELAY).order_by("pk"))
    now = timezone.now()
    first = now.replace(second=0, microsecond=0) - timedelta(days=1)
    form = BackfillForm(schedules, request.POST or None, initial={"from": first, "to": now.replace(microsecond=0)})
    found: list[Instant] | None = None
    if request.method == "POST" and form.is_valid():
        try:
            if request.POST.get("step") == "plan":
                made = backfills.plan(actor, task, form.wish(), now=now)
                messages.success(request, _("The backfill is planned. Runs: %(n)d.") % {"n": made.total})
                return redirect("console:backfill", pk=made.pk)
            found = backfills.preview(actor, task, form.wish(), now=now)
        except InvalidInput as error:
            put_on(form, error)
    return _form_page(request, form, task, found)


@action(back="console:backfill")
def pause(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    backfills.pause(actor, _find(actor, pk), now=timezone.now())
    messages.success(request, _("The backfill is paused: no more of its runs start."))
    return redirect("console:backfill", pk=pk)


@action(back="console:backfill")
def resume(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    backfills.resume(actor, _find(actor, pk), now=timezone.now())
    messages.success(request, _("The backfill goes on."))
    return redirect("console:backfill", pk=pk)


@action(back="console:backfill")
def cancel(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    running = request.POST.get("running") == "on"
    backfills.cancel(actor, _find(actor, pk), now=timezone.now(), running=running)
    messages.success(request, _("The backfill is cancelled."))
    return redirect("console:backfill", pk=pk)


def _find(actor: Actor, pk: int) -> Backfill:
    return queries.get_visible(queries.backfills_visible_to(actor), pk)


def _row(backfill: Backfill, progress: Progress) -> dict[str, Any]:
    return {
        "backfill": backfill,
        "progress": progress,
        "state": backfills.shown_state(backfill, progress),
        "counts": [(state, progress.counts[state]) for state in RunState if progress.counts[state]],
        # Runs that were pruned are over.
        "over": backfill.total - (progress.kept - progress.over),
    }


def _form_page(request: HttpRequest, form: BackfillForm, task: Task, found: list[Instant] | None) -> HttpResponse:
    context = {
        "form": form,
        "task": task,
        "has_schedule": bool(form.fields["schedule"].choices),  # type: ignore[attr-defined]
        "found": found,
        "planned": sum(one.planned for one in found or ()),
        "hidden": max(len(found or ()) - SHOWN_INSTANTS, 0),
        "rows": _instant_rows(form, found) if found else [],
    }
    return render(request, "console/backfill_new.html", context, status=422 if form.errors else 200)


def _instant_rows(form: BackfillForm, found: list[Instant]) -> list[dict[str, Any]]:
    schedule = form.wish().schedule
    local: tzinfo = zone(schedule.time_zone if schedule else "UTC")
    return [
        {
            "instant": one,
            "local": one.nominal_at.astimezone(local).isoformat(sep=" ", timespec="seconds"),
            "words": answer_words(one.answer, one.reason) if one.answer else "",
            "why_not": WHY_NOT.get(one.why_not, one.why_not),
        }
        for one in found[:SHOWN_INSTANTS]
    ]
