"""`/calendars/new` and `/calendars/<id>/`: the rules of a calendar, and when it is open by what stands in the form."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from access_app.actors import Actor
from access_app.roles import Verb, allows, project_ids_with, role_in
from console_app.door import action, page
from console_app.errors import put_on, sentence
from console_app.schedule_forms import CalendarForm
from console_app.views.task_edit import editable_projects
from tasks_app import queries
from tasks_app.calendars import Calendar as Rules
from tasks_app.errors import InvalidInput, PermissionRefused, WrongState
from tasks_app.models import Calendar, Project
from tasks_app.services import calendars

OPENINGS = 6
USERS = 20


@page
def new(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    if not may_create(actor):
        raise PermissionRefused
    form = _form(actor, request.POST or None, None)
    if request.method == "POST" and form.is_valid():
        try:
            calendar = calendars.create(actor, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The calendar %(name)s is created.") % {"name": calendar.name})
            return redirect("console:calendar", pk=calendar.pk)
    return _form_page(request, actor, form, None)


@page
def edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    calendar = queries.get_visible(queries.calendars_visible_to(actor), pk)
    if request.method == "POST" and not _may_change(actor, calendar):
        raise PermissionRefused
    form = _form(actor, request.POST or None, calendar)
    if request.method == "POST" and form.is_valid():
        try:
            calendars.update(actor, calendar, form.values(calendar), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The calendar is saved; its schedules follow it."))
            return redirect("console:calendar", pk=pk)
    return _form_page(request, actor, form, calendar)


@action(back="console:calendar")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    calendar = queries.get_visible(queries.calendars_visible_to(actor), pk)
    calendars.delete(actor, calendar, now=timezone.now())
    messages.success(request, _("The calendar %(name)s is deleted.") % {"name": calendar.name})
    return redirect("console:calendars")


@require_POST
@page
def preview(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """When the calendar of the form would be open, as a fragment. By POST: its rules are longer than an address may be.
    Nothing is stored."""
    form = _form(actor, request.POST, None)
    return render(request, "console/components/openings.html", _openings(actor, form))


def may_create(actor: Actor) -> bool:
    """Whether the actor may make calendars anywhere."""
    return project_ids_with(actor, Verb.EDIT) != []


def _may_change(actor: Actor, calendar: Calendar | None) -> bool:
    if calendar is None:
        return may_create(actor)
    if calendar.project_id is None:
        return _may_share(actor)
    return allows(role_in(actor, calendar.project_id), Verb.EDIT)


def _may_share(actor: Actor) -> bool:
    return project_ids_with(actor, Verb.MANAGE) is None


def _form(actor: Actor, typed: Any, calendar: Calendar | None) -> CalendarForm:
    initial = {} if calendar is None else CalendarForm.values_of(calendar)
    projects = editable_projects(actor)
    if calendar is not None:
        projects = Project.objects.filter(calendars=calendar)
    shared = _may_share(actor) if calendar is None else calendar.project_id is None
    form = CalendarForm(typed, initial=initial, projects=projects, shared=shared, others=_others(actor, calendar))
    if calendar is not None:
        # It stays where it is: schedules of its project rely on it.
        form.fields["project"].disabled = True
    if not _may_change(actor, calendar):
        for field in form.fields.values():
            field.disabled = True
    return form


def _others(actor: Actor, calendar: Calendar | None) -> QuerySet[Calendar]:
    rows = queries.calendars_visible_to(actor).order_by("name", "pk")
    return rows if calendar is None else rows.exclude(pk=calendar.pk)


def _openings(actor: Actor, form: CalendarForm) -> dict[str, Any]:
    """The context of components/openings.html for what is typed."""
    form.is_valid()
    # Its name and project do not matter to its times.
    fault = next((form.errors[name] for name in ("document", "holidays", "includes") if name in form.errors), None)
    if fault is not None:
        return {"error": " ".join(str(text) for text in fault)}
    fields = {name: form.cleaned_data[name] for name in ("document", "holidays", "includes")}
    try:
        return _shown(calendars.draft(actor, fields, now=timezone.now()))
    except InvalidInput as error:
        return {"error": sentence(error)}


def _openings_of(calendar: Calendar) -> dict[str, Any]:
    """The same for a calendar as it is stored."""
    try:
        return _shown(calendars.rules_of(calendar))
    except WrongState as error:
        return {"error": sentence(error)}


def _shown(rules: Rules) -> dict[str, Any]:
    now = timezone.now()
    return {"openings": calendars.openings(rules, now, OPENINGS), "reason": rules.reason(now), "known": True}


def _form_page(request: HttpRequest, actor: Actor, form: CalendarForm, calendar: Calendar | None) -> HttpResponse:
    visible = queries.schedules_visible_to(actor)
    shown: dict[str, Any] = {}
    if form.is_bound:
        shown = _openings(actor, form)
    elif calendar is not None:
        shown = _openings_of(calendar)
    context = {
        "form": form,
        "calendar": calendar,
        "may_change": _may_change(actor, calendar),
        "users": visible.filter(calendar=calendar).order_by("pk")[:USERS] if calendar else [],
        **shown,
    }
    return render(request, "console/calendar_edit.html", context, status=422 if form.errors else 200)
