"""`/secrets/`: which values are there for runs, who may use them? Nobody reads one here."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.models import Secret
from access_app.roles import Verb, allows, project_ids_with, role_in
from console_app.door import action, page
from console_app.errors import put_on
from console_app.secret_form import SecretForm
from tasks_app import queries
from tasks_app.errors import InvalidInput, PermissionRefused
from tasks_app.models import Project, Task
from tasks_app.services import secrets

PAGE_SIZE = 50


@page
def secret_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    rows = queries.secrets_visible_to(actor).order_by("project__name", "name")
    shown = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": shown, "may_create": _projects(actor).exists()}
    return render(request, "console/secrets.html", context)


@page
def new(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    projects = _projects(actor)
    if not projects.exists():
        raise PermissionRefused
    first = {"project": projects.filter(name="default").first() or projects.first()}
    form = _form(request, actor, None, projects, first)
    if request.method == "POST" and form.is_valid():
        try:
            secret = secrets.create(actor, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The secret %(name)s is kept; nobody can read it here.") % {"name": secret})
            return redirect("console:secrets")
    return _form_page(request, form, None, may_change=True)


@page
def edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    secret = queries.get_visible(queries.secrets_visible_to(actor), pk)
    may_change = allows(role_in(actor, secret.project_id), Verb.MANAGE_SECRETS)
    if request.method == "POST" and not may_change:
        raise PermissionRefused
    own = Project.objects.filter(pk=secret.project_id)
    form = _form(request, actor, secret, own, SecretForm.values_of(secret))
    if not may_change:
        for field in form.fields.values():
            field.disabled = True
    if request.method == "POST" and form.is_valid():
        try:
            secrets.update(actor, secret, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The secret %(name)s is saved.") % {"name": secret.name})
            return redirect("console:secret", pk=pk)
    return _form_page(request, form, secret, may_change=may_change)


@action(back="console:secret")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    secret = queries.get_visible(queries.secrets_visible_to(actor), pk)
    secrets.delete(actor, secret, now=timezone.now())
    messages.success(request, _("The secret %(name)s is deleted.") % {"name": secret.name})
    return redirect("console:secrets")


def _projects(actor: Actor) -> QuerySet[Project]:
    """The projects whose secrets the actor manages."""
    ids = project_ids_with(actor, Verb.MANAGE_SECRETS)
    return Project.objects.all() if ids is None else Project.objects.filter(pk__in=ids)


def _form(
    request: HttpRequest, actor: Actor, secret: Secret | None, projects: QuerySet[Project], initial: dict[str, Any]
) -> SecretForm:
    tasks: QuerySet[Task] = queries.tasks_visible_to(actor).filter(project__in=projects)
    tasks = tasks.order_by("project__name", "name")
    return SecretForm(request.POST or None, initial=initial, projects=projects, tasks=tasks, secret=secret)


def _form_page(request: HttpRequest, form: SecretForm, secret: Secret | None, *, may_change: bool) -> HttpResponse:
    users = [] if secret is None else secrets.users_of(secret)
    context = {"form": form, "secret": secret, "may_change": may_change, "users": users}
    return render(request, "console/secret_edit.html", context, status=422 if form.errors else 200)
