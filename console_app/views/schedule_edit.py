"""Schedules of a task: the form, and the preview that follows each keystroke."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.roles import Verb, require
from console_app.door import action, page
from console_app.errors import put_on, sentence
from console_app.forms import zone_names
from console_app.schedule_forms import ScheduleForm
from tasks_app import queries
from tasks_app.errors import InvalidInput, StaleEdit
from tasks_app.models import Calendar, Schedule, Task
from tasks_app.services import schedules

PREVIEWED = 5


@page
def new(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    require(actor, Verb.EDIT, task.project_id)
    defaults = {"time_zone": settings.SCHEDULER_TIME_ZONE}
    form = ScheduleForm(request.POST or None, initial=defaults, calendars=_calendars(actor, task))
    if request.method == "POST" and form.is_valid():
        try:
            schedules.create(actor, task, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The schedule is added."))
            return redirect("console:task", pk=pk)
    return _form_page(request, actor, form, task, None)


@page
def edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    schedule = queries.get_visible(queries.schedules_visible_to(actor), pk)
    require(actor, Verb.EDIT, schedule.task.project_id)
    chosen = _calendars(actor, schedule.task)
    form = ScheduleForm(request.POST or None, initial=ScheduleForm.values_of(schedule), calendars=chosen)
    if request.method == "POST" and form.is_valid():
        try:
            expected = form.cleaned_data["etag"]
            schedules.update(actor, schedule, form.values(), now=timezone.now(), expected=expected)
        except InvalidInput as error:
            put_on(form, error)
        except StaleEdit as error:
            form.add_error(None, sentence(error))
        else:
            messages.success(request, _("The schedule is saved."))
            return redirect("console:task", pk=schedule.task_id)
    return _form_page(request, actor, form, schedule.task, schedule)


@action(back="console:schedule_edit")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    schedule = queries.get_visible(queries.schedules_visible_to(actor), pk)
    schedules.delete(actor, schedule, now=timezone.now())
    messages.success(request, _("The schedule is deleted; its runs stay."))
    return redirect("console:task", pk=schedule.task_id)


@page
def preview(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """The next fires of what stands in the form, as a fragment; what is wrong with it, as a sentence."""
    return render(request, "console/components/fires.html", previewed(actor, request.GET))


def previewed(actor: Actor, typed: Any) -> dict[str, Any]:
    """The context of components/fires.html for typed values: `schedule` (short form) or the fields of ScheduleForm."""
    fields, hash_key = _preview_fields(actor, typed), typed.get("name", "")
    if fields is None:
        return {}
    try:
        found = schedules.preview(fields, after=timezone.now(), count=PREVIEWED, hash_key=hash_key)
    except InvalidInput as error:
        return {"error": sentence(error)}
    return {**found, "zone": fields["time_zone"]}


def short_form_zone(task: Task | None) -> str:
    """The zone in which the short form of a task's schedule is read."""
    rows = list(task.schedules.all()[:1]) if task else []
    return rows[0].time_zone if rows else settings.SCHEDULER_TIME_ZONE


def _preview_fields(actor: Actor, typed: Any) -> dict[str, Any] | None:
    """None when there is nothing to preview yet."""
    if "schedule" in typed:
        expression = typed.get("schedule", "").strip()
        if not expression:
            return None
        return {"kind": "cron", "expression": expression, "time_zone": typed.get("zone") or short_form_zone(None)}
    form = ScheduleForm(typed, calendars=queries.calendars_visible_to(actor))
    form.is_valid()
    fields = {name: value for name, value in form.values().items() if value not in (None, "")}
    rule = _RULES.get(fields.get("kind", ""))
    return fields if rule in fields and "time_zone" in fields else None


_RULES = {
    "cron": "expression",
    "interval": "interval_seconds",
    "fixed_delay": "interval_seconds",
    "once": "at",
}


def _calendars(actor: Actor, task: Task) -> QuerySet[Calendar]:
    """Those that a schedule of the task may use: the shared ones and those of its project."""
    rows = queries.calendars_visible_to(actor)
    return rows.filter(Q(project=None) | Q(project=task.project_id)).order_by("name")


def _form_page(
    request: HttpRequest, actor: Actor, form: ScheduleForm, task: Task, schedule: Schedule | None
) -> HttpResponse:
    typed = form.data if form.is_bound else {**{n: f.initial for n, f in form.fields.items()}, **form.initial}
    shown = previewed(actor, {"name": task.name, **_texts(typed)})
    context = {"form": form, "task": task, "schedule": schedule, "zones": zone_names(), **shown}
    return render(request, "console/schedule_edit.html", context, status=422 if form.errors else 200)


def _texts(values: Any) -> dict[str, Any]:
    return {name: values.get(name) for name in values}
