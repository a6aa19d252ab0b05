"""A walk over every address of the API, taken from the URL map itself: who gets what, for each method."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from access_app.actors import system_actor
from access_app.models import AuditEntry, Secret
from access_app.roles import ROLE_ORDER, grant
from tasks_app.models import Calendar, Resource, Run, Schedule, Task
from tasks_app.services import backfills, calendars, dependencies, runs, schedules, secrets
from tests.api.client import NOOP, is_problem

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OPEN = {"health", "health/live"}
# What a password or a refresh token opens, in the body: tests/api/test_tokens.py.
SIGN_IN = {"api/auth/token", "api/auth/token/refresh", "api/auth/token/revoke"}
# The protocol of agents is for worker keys alone, whatever role another key has. With one: tests/api/test_agents.py.
AGENTS = {
    ("POST", "api/workers"),
    ("POST", "api/workers/<uuid:worker_id>/heartbeat"),
    ("POST", "api/workers/<uuid:worker_id>/claim"),
    ("POST", "api/workers/<uuid:worker_id>/leave"),
    ("POST", "api/workers/<uuid:worker_id>/runs/<int:run_id>/log"),
    ("POST", "api/workers/<uuid:worker_id>/runs/<int:run_id>/finish"),
}
# What a signed-in person without any role may do all the same: it concerns nobody else, or says nothing.
HARMLESS = {
    ("GET", "api/auth/keys"),
    ("POST", "api/auth/keys"),
    ("POST", "api/schedules/preview"),
    ("GET", "api/agent/agent.py"),
    ("GET", "api/system/info"),
    ("GET", "api/system/stats"),
    ("GET", "api/schema"),
    ("GET", "api/docs"),
    ("GET", "health/ready"),
}
TASK = {"name": "new", "project": "analytics", "executor": "callable", "command": NOOP}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "api/tasks"): TASK,
    ("PUT", "api/tasks/<int:task_id>"): TASK,
    ("PATCH", "api/tasks/<int:task_id>"): {"description": "changed"},
    ("POST", "api/tasks/<int:task_id>/trigger-batch"): {"items": [{}]},
    ("POST", "api/tasks/<int:task_id>/schedules"): {"expression": "* * * * *"},
    ("PATCH", "api/schedules/<int:schedule_id>"): {"note": "changed"},
    ("POST", "api/tasks/<int:task_id>/backfill"): {"from": "2026-03-01T00:00:00Z", "to": "2026-03-03T00:00:00Z"},
    ("POST", "api/schedules/preview"): {"expression": "* * * * *"},
    ("PATCH", "api/dependencies/<int:dependency_id>"): {"condition": "output.rows > 0"},
    ("POST", "api/auth/keys"): {"name": "k"},
    ("POST", "api/auth/worker-keys"): {"name": "k", "pools": ["default"]},
    ("POST", "api/projects"): {"name": "new"},
    ("POST", "api/projects/<int:project_id>/members"): {"user": "charlie", "role": "viewer"},
    ("POST", "api/projects/<int:project_id>/groups"): {"group": "ops", "role": "viewer"},
    ("POST", "api/users"): {"username": "new"},
    ("PATCH", "api/users/<int:user_id>"): {"email": "new@example.org"},
    ("POST", "api/groups"): {"name": "new"},
    ("PATCH", "api/groups/<int:group_id>"): {"name": "renamed"},
    ("POST", "api/pools"): {"name": "new"},
    ("POST", "api/calendars"): {"name": "new", "project": "analytics"},
    ("PATCH", "api/calendars/<int:calendar_id>"): {"description": "changed"},
    ("PATCH", "api/pools/<int:pool_id>"): {"description": "changed"},
    ("POST", "api/resources"): {"name": "new"},
    ("PATCH", "api/resources/<int:resource_id>"): {"description": "changed"},
    ("POST", "api/secrets"): {"name": "NEW", "project": "analytics", "value": "a new value"},
    ("PATCH", "api/secrets/<int:secret_id>"): {"value": "another value"},
}
# What must stand in the query, by the name of the object that it means.
QUERIES = {("GET", "api/fires"): "?task=<int:task_id>"}
# The least role of each write; what is not named here needs an administrator of the installation.
LEAST_ROLE = {
    ("POST", "api/tasks"): "editor",
    ("PUT", "api/tasks/<int:task_id>"): "editor",
    ("PATCH", "api/tasks/<int:task_id>"): "editor",
    ("DELETE", "api/tasks/<int:task_id>"): "editor",
    ("POST", "api/tasks/<int:task_id>/trigger"): "operator",
    ("POST", "api/tasks/<int:task_id>/trigger-batch"): "operator",
    ("POST", "api/tasks/<int:task_id>/pause"): "operator",
    ("POST", "api/tasks/<int:task_id>/resume"): "operator",
    ("POST", "api/tasks/<int:task_id>/backfill"): "operator",
    ("POST", "api/backfills/<int:backfill_id>/pause"): "operator",
    ("POST", "api/backfills/<int:backfill_id>/resume"): "operator",
    ("POST", "api/backfills/<int:backfill_id>/cancel"): "operator",
    ("POST", "api/tasks/<int:task_id>/schedules"): "editor",
    ("PATCH", "api/schedules/<int:schedule_id>"): "editor",
    ("DELETE", "api/schedules/<int:schedule_id>"): "editor",
    ("POST", "api/calendars"): "editor",
    ("PATCH", "api/calendars/<int:calendar_id>"): "editor",
    ("DELETE", "api/calendars/<int:calendar_id>"): "editor",
    ("POST", "api/secrets"): "admin",
    ("PATCH", "api/secrets/<int:secret_id>"): "admin",
    ("DELETE", "api/secrets/<int:secret_id>"): "admin",
    ("POST", "api/dependencies"): "editor",
    ("PATCH", "api/dependencies/<int:dependency_id>"): "editor",
    ("DELETE", "api/dependencies/<int:dependency_id>"): "editor",
    ("POST", "api/runs/<int:run_id>/cancel"): "operator",
    ("POST", "api/runs/<int:run_id>/terminate"): "operator",
    ("POST", "api/runs/<int:run_id>/rerun"): "operator",
    ("POST", "api/runs/<int:run_id>/release"): "operator",
    ("POST", "api/runs/<int:run_id>/hold"): "operator",
    ("POST", "api/runs/<int:run_id>/unhold"): "operator",
    ("POST", "api/projects/<int:project_id>/members"): "admin",
    ("DELETE", "api/projects/<int:project_id>/members/<str:username>"): "admin",
    ("POST", "api/projects/<int:project_id>/groups"): "admin",
    ("DELETE", "api/projects/<int:project_id>/groups/<int:group_id>"): "admin",
}
ADMINISTRATORS_READ = {
    ("GET", "api/audit"),
    ("GET", "api/auth/worker-keys"),
    ("GET", "api/settings"),
    ("GET", "api/users"),
    ("GET", "api/groups"),
}
# What is there for administrators of the installation alone: to others it does not even exist.
HIDDEN = {"api/users/<int:user_id>", "api/users/<int:user_id>/invitation", "api/groups/<int:group_id>"}


def walk() -> Iterator[tuple[str, str]]:
    """(method, route) of every address below /api/, /health and /metrics, without the spellings with a slash."""
    for route, pattern in _patterns(get_resolver().url_patterns):
        if not route.startswith(("api/", "health", "metrics")) or route.endswith("/"):
            continue
        view = getattr(pattern.callback, "cls", None)
        methods = [m for m in METHODS if hasattr(view, m.lower())] if view else ["GET"]
        yield from ((method, route) for method in methods)


def _patterns(patterns: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, route)
        else:
            yield route, pattern


ADDRESSES = sorted(walk())
GUARDED = [address for address in ADDRESSES if address[1] not in SIGN_IN]
WRITES = [address for address in GUARDED if address[0] != "GET" and address not in HARMLESS]
READS = [address for address in GUARDED if address[0] == "GET" and address[1] not in OPEN]


@pytest.fixture
def objects(make_task, alice, project):
    """One object of each kind in alice's project, by the name that it has in the routes."""
    from access_app import services, worker_keys
    from workers_app.models import Worker

    now, system = datetime.now(UTC), system_actor()
    group = Group.objects.create(name="ops")
    grant(group, "viewer", project)
    task, other, third = make_task("one"), make_task("two"), make_task("three")
    run, _new = runs.trigger(system, task, runs.Request(), now=now)
    schedule = schedules.create(system, task, {"expression": "0 2 * * *"}, now=now)
    edge = dependencies.create(system, other, third, now=now)
    schedules.create(system, other, {"expression": "0 2 * * *"}, now=now)
    backfill = backfills.plan(system, other, backfills.Wish(now - timedelta(days=3), now), now=now)
    key, _token = services.create_key(system, alice, name="k", role="viewer", expiry=None, now=now)
    worker = Worker.objects.create(
        id=uuid4(), name="w", host="h", pid=1, pool=task.pool, slots=1, started_at=now, beat_at=now, lease_until=now
    )
    BODIES["POST", "api/dependencies"] = {"upstream": task.pk, "downstream": other.pk}
    return {
        "task_id": task.pk,
        "run_id": run.pk,
        "backfill_id": backfill.pk,
        "schedule_id": schedule.pk,
        "dependency_id": edge.pk,
        "project_id": task.project_id,
        "pool_id": task.pool_id,
        "calendar_id": calendars.create(system, {"name": "c", "project": task.project}, now=now).pk,
        "resource_id": Resource.objects.create(name="api", breaker_failures=3).pk,
        "secret_id": secrets.create(system, {"project": task.project, "name": "S", "value": "value"}, now=now).pk,
        "key_id": key.pk,
        "worker_id": worker.pk,
        "username": "alice",
        "user_id": alice.pk,
        "group_id": group.pk,
        "worker_key_id": worker_keys.create(system, name="k", pools=[task.pool], now=now)[0].pk,
    }


def filled(route: str, objects: dict[str, Any]) -> str:
    for name, value in objects.items():
        for kind in ("int", "uuid", "str"):
            route = route.replace(f"<{kind}:{name}>", str(value))
    assert "<" not in route, route
    return f"/{route}"


def ask(client: Any, method: str, route: str, objects: dict[str, Any]) -> Any:
    body = None if method in ("GET", "DELETE") else BODIES.get((method, route), {})
    return client.send(method, filled(route + QUERIES.get((method, route), ""), objects), body)


def everything() -> list[Any]:
    return [
        list(model.objects.order_by("pk").values()) for model in (Task, Schedule, Run, Calendar, Secret, AuditEntry)
    ]


def test_the_walk_goes_everywhere():
    assert len(ADDRESSES) > 45
    assert {("POST", "api/tasks/<int:task_id>/trigger"), ("GET", "metrics"), ("GET", "health/live")} <= set(ADDRESSES)


@pytest.mark.parametrize(("method", "route"), GUARDED)
def test_without_login_there_is_401_everywhere_but_at_the_liveness_probe(api, objects, method, route):
    response = ask(api(None), method, route, objects)
    if route in OPEN:
        assert response.status_code == 200 and response.json() == {"status": "ok"}
    else:
        is_problem(response, 401)
        is_problem(Client(headers={"X-API-Key": "dts_" + "0" * 64}).generic(method, filled(route, objects)), 401)


@pytest.mark.parametrize(("method", "route"), [a for a in GUARDED if a not in HARMLESS and a[1] not in OPEN])
def test_a_stranger_is_refused_or_sees_nothing(api, charlie, objects, method, route):
    client = api(charlie)
    before = everything()
    response = ask(client, method, route, objects)
    if response.status_code == 200:
        assert method == "GET" and response.json()["results"] == []
    else:
        # What is somebody else's does not even show that it exists.
        is_problem(response, 404 if "<" in route and (method, route) not in AGENTS else 403)
    assert everything() == before


def test_a_stranger_counts_nothing(api, charlie, objects):
    stats = api(charlie).get("/api/system/stats").json()
    assert sum(stats["runs"].values()) == 0 and stats["pools"] == {} and stats["workers"]["lost"] == 0


@pytest.mark.parametrize(("method", "route"), WRITES)
def test_each_write_needs_its_role_and_no_less(api, project, charlie, objects, method, route):
    least = LEAST_ROLE.get((method, route))
    for role in ROLE_ORDER:
        if role == least:
            break
        grant(charlie, role, project)
        before = everything()[:5]
        response = ask(api(charlie), method, route, objects)
        assert response.status_code == (404 if "key_id" in route or route in HIDDEN else 403), (role, response.content)
        assert everything()[:5] == before
    if least is not None:
        grant(charlie, least, project)
        answer = ask(api(charlie), method, route, objects)
        # A waiting run cannot be run again, nor is it in quarantine: past the check of the role.
        done = (409,) if route.endswith(("rerun", "release")) else (200, 201, 202, 204)
        assert answer.status_code in done, answer.content


@pytest.mark.parametrize(("method", "route"), [a for a in WRITES if a in LEAST_ROLE])
def test_a_viewers_key_writes_nothing_whatever_its_owner_may_do(api, alice, root_user, objects, method, route):
    for owner in (alice, root_user):
        before = everything()[:5]
        is_problem(ask(api(owner, "viewer"), method, route, objects), 403)
        assert everything()[:5] == before


@pytest.mark.parametrize(("method", "route"), READS)
def test_a_viewer_reads_everything_but_the_audit_trail(api, alice, objects, method, route):
    response = ask(api(alice, "viewer"), method, route, objects)
    if (method, route) in ADMINISTRATORS_READ:
        is_problem(response, 403)
    elif route in HIDDEN:
        is_problem(response, 404)
    elif route == "health/ready":
        assert response.status_code == 503
    else:
        assert response.status_code == 200, response.content
