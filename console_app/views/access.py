"""`/access/`: who may do what where? `/access/projects/<id>/`: the roles in one project, given and taken."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import people
from access_app.actors import Actor
from access_app.filters import UserFilter
from access_app.grants import Grant, grant_role, grants, revoke_role
from access_app.roles import ROLE_ORDER, Role, Verb, project_ids_with, require
from access_app.services import administers
from console_app.door import action, page
from console_app.errors import put_on
from console_app.links import kept, with_query, without_blanks
from console_app.people_forms import GrantForm
from tasks_app import queries
from tasks_app.errors import InvalidInput, PermissionRefused
from tasks_app.models import Project

PAGE_SIZE = 50


@page
def overview(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """Users and groups, for administrators of the installation; roles by project, for those who give them there."""
    managed = project_ids_with(actor, Verb.MANAGE)
    if managed == []:
        raise PermissionRefused
    projects = Project.objects.all() if managed is None else Project.objects.filter(pk__in=managed)
    rows = list(projects.order_by("name"))
    context = {"rows": _matrix(rows), "roles": _roles(), "all": administers(actor)}
    return render(request, "console/access.html", context | (_people(request, actor) if context["all"] else {}))


@page
def project_access(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    project = _managed(actor, pk)
    form = GrantForm(request.POST or None, initial={"role": Role.VIEWER.value})
    if request.method == "POST" and form.is_valid():
        try:
            holder, role = form.holder(), form.cleaned_data["role"]
            grant_role(actor, holder, role, project, now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            words = {"user": str(holder), "role": Role(role).label, "project": project.name}
            messages.success(request, _("%(user)s is %(role)s in %(project)s.") % words)
            return redirect("console:project_access", pk=pk)
    return _project_page(request, project, form)


@action(back="console:project_access")
def revoke(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    project = _managed(actor, pk)
    holders: Any = Group.objects if request.POST.get("kind") == "group" else User.objects
    holder = queries.get_visible(holders.all(), request.POST.get("holder", ""))
    role = revoke_role(actor, holder, project, now=timezone.now())
    words = {"user": str(holder), "role": Role(role).label, "project": project.name}
    messages.success(request, _("%(user)s is no longer %(role)s in %(project)s.") % words)
    if project_ids_with(Actor("", user=request.user), Verb.MANAGE) == []:
        return redirect("console:overview")
    return redirect("console:project_access", pk=pk)


def _managed(actor: Actor, pk: int) -> Project:
    project = queries.get_visible(queries.projects_visible_to(actor), pk)
    require(actor, Verb.MANAGE, project.pk)
    return project


def _project_page(request: HttpRequest, project: Project, form: GrantForm) -> HttpResponse:
    context = {
        "project": project,
        "form": form,
        "grants": grants([project.pk]),
        "users": User.objects.filter(is_active=True).order_by("username").values_list("username", flat=True)[:500]
        if request.user.is_superuser
        else (),
        "groups": Group.objects.order_by("name").values_list("name", flat=True)[:500],
    }
    return render(request, "console/project_access.html", context, status=422 if form.errors else 200)


def _matrix(projects: list[Project]) -> list[tuple[Project, list[list[Grant]]]]:
    """Each project with those who hold each role, the highest role first."""
    found: dict[int, dict[str, list[Grant]]] = {project.pk: {role: [] for role in ROLE_ORDER} for project in projects}
    for one in grants(list(found)):
        found[one.project_id][one.role].append(one)
    return [(project, [found[project.pk][role] for role in reversed(ROLE_ORDER)]) for project in projects]


def _roles() -> list[Any]:
    return [Role(role).label for role in reversed(ROLE_ORDER)]


def _people(request: HttpRequest, actor: Actor) -> dict[str, Any]:
    query = without_blanks(request.GET)
    visible = people.users_visible_to(actor)
    matching = UserFilter(query, queryset=visible)
    found = matching.qs if matching.is_valid() else visible.none()
    shown = Paginator(found.order_by("username"), PAGE_SIZE).get_page(query.get("page"))
    users, groups = list(shown), list(people.groups_visible_to(actor).order_by("name"))
    return {
        "page": shown,
        "users": _with_roles(users, groups),
        "groups": _with_roles([], groups),
        "filtered": any(name in query for name in UserFilter.base_filters),
        "kept": kept(query, UserFilter.base_filters, {"username"}),
        "previous": _page_query(query, shown.previous_page_number() if shown.has_previous() else None),
        "next": _page_query(query, shown.next_page_number() if shown.has_next() else None),
    }


def _with_roles(users: list[User], groups: list[Group]) -> list[tuple[Any, list[tuple[str, str, str]]]]:
    """The users with their roles (project, role, by which group), or without users the groups with theirs."""
    given = grants(holders=[*users, *groups])
    names = dict(Project.objects.filter(pk__in={one.project_id for one in given}).values_list("pk", "name"))
    of: dict[tuple[bool, int], list[Grant]] = {}
    for one in given:
        of.setdefault((one.is_group, one.holder.pk), []).append(one)

    def roles_of(is_group: bool, pk: int, via: str = "") -> list[tuple[str, str, str]]:
        return [(names.get(one.project_id, ""), str(Role(one.role).label), via) for one in of.get((is_group, pk), [])]

    if not users:
        return [(group, roles_of(True, group.pk)) for group in groups]
    return [
        (
            user,
            roles_of(False, user.pk)
            + [role for group in user.groups.all() for role in roles_of(True, group.pk, group.name)],
        )
        for user in users
    ]


def _page_query(query: Any, number: int | None) -> str | None:
    return with_query(query, page=number).urlencode() if number else None
