"""A walk over every page of the console and the admin, taken from the URL map itself: who gets what, by each method."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import URLResolver, get_resolver

from access_app import worker_keys
from access_app.actors import system_actor
from access_app.models import AuditEntry
from access_app.roles import grant
from tasks_app.models import Calendar, Pool, Project, Resource, Run, Schedule, Task, TaskDependency
from tasks_app.services import backfills, calendars, dependencies, runs, schedules, secrets, tasks
from tests.api.test_access import waiting_approval
from workers_app.models import Worker

NOW = datetime.now(UTC)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Nobody needs to be signed in for these: the door itself, and the language of it.
OPEN = {"sign-in/", "sign-out/", "language/", "invitation/<str:who>/<str:token>/"}
# For those alone who give roles somewhere, or administer the installation.
ADMINISTRATION = ("access/", "audit/", "settings/", "workers/keys/", "secrets/new")
# What all projects share: everybody who has a role somewhere sees it, administrators of the installation change it.
SHARED = ("workers/", "resources/")
# A form for something new in a project of one's own.
NEW = {"tasks/new", "calendars/new"}
# Which object a key in an address means, by how the address begins; the longer one first.
KINDS = {
    "runs/": "run",
    "tasks/": "task",
    "schedules/": "schedule",
    "dependencies/": "dependency",
    "backfills/": "backfill",
    "calendars/": "calendar",
    "secrets/": "secret",
    "approvals/rules/": "rule",
    "approvals/": "approval",
    "resources/": "resource",
    "access/projects/": "project",
    "access/users/": "user",
    "access/groups/": "group",
    "workers/keys/": "worker_key",
    "workers/": "worker",
}
SECRETS = ("classified", "analytics")


def walk(patterns: Any = None, prefix: str = "") -> Iterator[str]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, route)
        else:
            yield route


ROUTES = sorted(set(walk()))
CONSOLE = [route for route in ROUTES if not re.match(r"admin/|\^?api|health|metrics", route)]
ADMIN = [route for route in ROUTES if route.startswith("admin/") and "^" not in route and "(?P" not in route]


@pytest.fixture
def objects(project: Any, alice: Any) -> dict[str, Any]:
    """One object of each kind in alice's project, by its kind."""
    system, pool = system_actor(), Pool.objects.get(name="default")
    how = {"project": project, "pool": pool, "executor": "shell", "command": "echo classified"}
    task, other, third = (tasks.create(system, {"name": f"classified {n}", **how}, now=NOW) for n in range(3))
    schedule = schedules.create(system, task, {"expression": "0 2 * * *"}, now=NOW)
    worker = Worker.objects.create(
        id=uuid4(), name="w", host="h", pid=1, pool=pool, slots=1, started_at=NOW, beat_at=NOW, lease_until=NOW
    )
    group = Group.objects.create(name="classified group")
    rule, approval = waiting_approval(third, NOW)
    return {
        "rule": rule,
        "approval": approval,
        "task": task,
        "run": runs.trigger(system, task, runs.Request(), now=NOW)[0],
        "schedule": schedule,
        "dependency": dependencies.create(system, other, third, now=NOW),
        "backfill": backfills.plan(system, task, backfills.Wish(NOW - timedelta(days=3), NOW), now=NOW),
        "calendar": calendars.create(system, {"name": "classified days", "project": project}, now=NOW),
        "secret": secrets.create(system, {"project": project, "name": "CLASSIFIED", "value": "value"}, now=NOW),
        "resource": Resource.objects.create(name="api", breaker_failures=3),
        "project": project,
        "user": alice,
        "group": group,
        "worker": worker,
        "worker_key": worker_keys.create(system, name="k", pools=[pool], now=NOW)[0],
    }


def filled(route: str, objects: dict[str, Any]) -> str:
    kind = next((kind for start, kind in KINDS.items() if route.startswith(start)), "task")
    route = re.sub(r"<(int|uuid):pk>", str(objects[kind].pk), route)
    route = route.replace("<str:who>", "MQ").replace("<str:token>", "c5x-0")
    assert "<" not in route, route
    return f"/{route}"


def admin_address(route: str, objects: dict[str, Any]) -> str:
    """The address of an admin page of a row that is there, where there is one of its kind."""
    found = re.match(r"admin/(\w+)/(\w+)/<path:object_id>", route)
    row = apps.get_model(found[1], found[2])._default_manager.order_by("pk").first() if found else None
    key = row.pk if row is not None else 1
    return "/" + re.sub(r"<path:\w+>", str(key), route)


def everything() -> list[Any]:
    models: tuple[Any, ...] = (
        Task,
        Schedule,
        Run,
        Calendar,
        TaskDependency,
        Worker,
        get_user_model(),
        Group,
        AuditEntry,
        Project,
    )
    rows: dict[Any, list[Any]] = {model: list(model._default_manager.order_by("pk").values()) for model in models}
    for row in rows[get_user_model()]:
        del row["last_login"]
    return list(rows.values())


class Findings(list[str]):
    def expect(self, response: Any, statuses: set[int], *what: object) -> None:
        if response.status_code not in statuses:
            self.append(f"{what}: {response.status_code} instead of {sorted(statuses)}")


@pytest.fixture
def findings() -> Iterator[Findings]:
    found = Findings()
    yield found
    assert not found, "\n".join(found)


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ask(client: Client, method: str, address: str) -> Any:
    return client.generic(method, address, b"", content_type="application/x-www-form-urlencoded")


def leads_to_sign_in(response: Any) -> bool:
    return bool(response.status_code == 302 and response["Location"].startswith(("/sign-in/", "/admin/login/")))


def test_the_walk_goes_everywhere():
    assert len(CONSOLE) > 60 and len(ADMIN) > 80
    assert {"tasks/<int:pk>/edit", "access/users/<int:pk>/", "audit/"} <= set(CONSOLE)


def test_an_anonymous_reader_gets_nothing_but_the_door(objects):
    client, before = Client(), everything()
    for route in (*CONSOLE, *ADMIN):
        if route in OPEN or route in ("admin/login/", "admin/jsi18n/"):
            continue
        address = filled(route, objects) if route in CONSOLE else admin_address(route, objects)
        for method in METHODS:
            response = ask(client, method, address)
            refused = leads_to_sign_in(response) or response.status_code in (403, 405)
            moved = route in ("admin/password_change/", "admin/logout/") and response.status_code == 302
            assert refused or moved, (method, address, response.status_code)
            assert not any(secret in response.content.decode() for secret in SECRETS), address
    assert everything() == before


def for_somebody_elsewhere(route: str, editor: bool) -> set[int]:
    """What a stranger, or an editor of another project, gets here by GET or POST."""
    if route.startswith(ADMINISTRATION):
        return {403, 404, 405}
    if "<" in route and route.startswith(SHARED):
        return {200, 302, 405} if editor else {404, 405}
    if "<" in route:
        return {404, 405}
    if route == "approvals/rules/":
        return {200, 403, 422}
    if route in NEW:
        return {200, 422} if editor else {403}
    return {200, 405, 422}


@pytest.mark.parametrize("editor", [False, True])
def test_a_stranger_and_an_editor_of_another_project_find_nothing_of_this_one(objects, charlie, findings, editor):
    if editor:
        grant(charlie, "editor", Project.objects.create(name="billing"))
    client, before = signed_in(charlie), everything()
    for route in CONSOLE:
        if route in OPEN:
            continue
        for method in ("GET", "POST"):
            response = ask(client, method, filled(route, objects))
            findings.expect(response, for_somebody_elsewhere(route, editor), method, route)
            assert not any(secret in response.content.decode() for secret in SECRETS), (method, route)
    assert everything() == before


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_member_reads_what_the_role_shows_and_a_viewer_moves_nothing(objects, charlie, project, findings, role):
    grant(charlie, role, project)
    client = signed_in(charlie)
    before = everything()
    for route in CONSOLE:
        if route in OPEN:
            continue
        writes = re.search(r"/(edit|delete|new)$", route) is not None
        if route.startswith(ADMINISTRATION):
            wanted = {403, 404, 405}
        elif route.startswith("keys/") and "<" in route:
            wanted = {404, 405}
        elif writes:
            wanted = {403, 405}
        elif route.endswith("/backfill"):
            wanted = {200} if role == "operator" else {403}
        else:
            wanted = {200, 405}
        findings.expect(ask(client, "GET", filled(route, objects)), wanted, "GET", route)
        if role == "viewer":
            # What a button is refused is told on the page it belongs to.
            response = ask(client, "POST", filled(route, objects))
            findings.expect(response, wanted | {200, 302, 403, 405, 422}, "POST", route)
    assert everything() == before


def test_staff_of_another_project_with_every_permission_of_django_change_nothing_here(objects, charlie, findings):
    grant(charlie, "editor", Project.objects.create(name="billing"))
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    charlie.user_permissions.set(Permission.objects.all())
    client, before = signed_in(charlie), everything()
    for route in ADMIN:
        if route in ("admin/logout/", "admin/login/"):
            continue
        for method in ("GET", "POST"):
            response = ask(client, method, admin_address(route, objects))
            findings.expect(response, {200, 302, 400, 403, 404, 405}, method, route)
            assert "classified" not in response.content.decode(), (method, route)
    assert everything() == before


def test_people_who_are_not_staff_are_sent_to_the_door_of_the_admin(objects, alice, findings):
    client = signed_in(alice)
    for route in ADMIN:
        if route in ("admin/login/", "admin/logout/", "admin/password_change/"):
            continue
        for method in ("GET", "POST"):
            response = ask(client, method, admin_address(route, objects))
            assert leads_to_sign_in(response) or "jsi18n" in route, (method, route, response.status_code)


def test_every_page_of_the_admin_writes_through_a_service_or_not_at_all():
    from access_app.admin import ReadOnlyAdmin, SchedulerAdmin

    assert {type(one).__name__ for one in admin.site._registry.values() if not isinstance(one, SchedulerAdmin)} == set()
    assert any(isinstance(one, ReadOnlyAdmin) for one in admin.site._registry.values())
