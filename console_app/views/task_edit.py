"""`/tasks/new` and `/tasks/<id>/edit`: what will this change do? Errors stand at their fields."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.roles import Verb, project_ids_with, require
from console_app.door import action, page
from console_app.errors import put_on, sentence
from console_app.task_form import TaskForm
from console_app.views.schedule_edit import previewed, short_form_zone
from tasks_app import queries
from tasks_app.errors import InvalidInput, PermissionRefused, StaleEdit
from tasks_app.executors import EXECUTORS
from tasks_app.models import Pool, Project, Task
from tasks_app.services import tasks


@page
def new(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    projects = editable_projects(actor)
    if not projects.exists():
        raise PermissionRefused
    form = TaskForm(request.POST or None, projects=projects, initial=_defaults(projects))
    if request.method == "POST" and form.is_valid():
        try:
            task = tasks.create(actor, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("%(task)s is created.") % {"task": task.name})
            return redirect("console:task", pk=task.pk)
    return _form_page(request, actor, form, task=None)


@page
def edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    require(actor, Verb.EDIT, task.project_id)
    form = TaskForm(request.POST or None, projects=editable_projects(actor), initial=TaskForm.values_of(task))
    if request.method == "POST" and form.is_valid():
        try:
            tasks.update(actor, task, _changes(form, task), now=timezone.now(), expected=form.cleaned_data["etag"])
        except InvalidInput as error:
            put_on(form, error)
        except StaleEdit as error:
            form.add_error(None, sentence(error))
        else:
            messages.success(
                request, _("%(task)s is saved. Runs in flight keep the version they have.") % {"task": task}
            )
            return redirect("console:task", pk=pk)
    return _form_page(request, actor, form, task=task)


@action(back="console:task_edit")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    tasks.delete(actor, task, now=timezone.now())
    messages.success(request, _("%(task)s is deleted with its history.") % {"task": task.name})
    return redirect("console:tasks")


def _changes(form: TaskForm, task: Task) -> dict[str, Any]:
    values = form.values()
    # A task with several schedules, or one that is not cron, has no short form: an empty field must not delete them.
    if values["schedule"] is None and tasks.short_schedule(task) is None:
        del values["schedule"]
    return values


def _form_page(request: HttpRequest, actor: Actor, form: TaskForm, *, task: Task | None) -> HttpResponse:
    zone, typed = short_form_zone(task), form["schedule"].value() or ""
    context = {
        "form": form,
        "task": task,
        "zone": zone,
        **previewed(actor, {"name": form["name"].value() or "", "schedule": typed, "zone": zone}),
        "executors": EXECUTORS.values(),
        "run_count": task.runs.count() if task else 0,
        "has_long_schedules": task is not None and tasks.short_schedule(task) is None and task.schedules.exists(),
    }
    return render(request, "console/task_edit.html", context, status=422 if form.errors else 200)


def editable_projects(actor: Actor) -> QuerySet[Project]:
    """The projects in which the actor may create and change tasks."""
    ids = project_ids_with(actor, Verb.EDIT)
    return Project.objects.all() if ids is None else Project.objects.filter(pk__in=ids)


def _defaults(projects: Any) -> dict[str, Any]:
    return {
        "executor": "shell",
        "project": projects.filter(name="default").first() or projects.first(),
        "pool": Pool.objects.filter(name="default").first(),
    }
