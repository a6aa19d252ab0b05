"""A walk over every address of the API, taken from the URL map itself: who gets what, for each method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from access_app import approval_rules, approvals, runtime
from access_app.actors import system_actor, user_actor
from access_app.approval_models import ApprovalPolicy, ApprovalRequest
from access_app.models import AuditEntry, Secret
from access_app.roles import ROLE_ORDER, grant
from access_app.second_person import ApprovalRequired
from tasks_app.models import Calendar, Project, Resource, Run, Schedule, Task
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
    ("POST", "api/approval-rules"): {"project": "analytics", "runs": True},
    ("POST", "api/approvals/<int:approval_id>/break-glass"): {"reason": "now"},
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
    ("POST", "api/approvals/<int:approval_id>/approve"): "operator",
    ("POST", "api/approvals/<int:approval_id>/deny"): "operator",
    ("POST", "api/approvals/<int:approval_id>/break-glass"): "admin",
    ("POST", "api/approvals/<int:approval_id>/review"): "admin",
    ("POST", "api/approval-rules"): "admin",
    ("DELETE", "api/approval-rules/<int:rule_id>"): "admin",
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
# What all projects share: whoever has a role in one reads it, administrators of the installation change it.
SHARED = ("api/pools", "api/resources", "api/workers")
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
# What asks who is there, by a key, a token or a session.
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
    rule, approval = waiting_approval(third, now)
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
        "approval_id": approval.pk,
        "rule_id": rule.pk,
        "username": "alice",
        "user_id": alice.pk,
        "group_id": group.pk,
        "worker_key_id": worker_keys.create(system, name="k", pools=[task.pool], now=now)[0].pk,
    }


def waiting_approval(task: Task, now: datetime) -> tuple[ApprovalPolicy, ApprovalRequest]:
    """A request for a run of the task, and the rule that asked for it and holds nothing any more."""
    rule = approval_rules.create(system_actor(), task.project, "", {"runs": True}, now=now)
    asker = get_user_model().objects.create_superuser("asker")
    with pytest.raises(ApprovalRequired) as required:
        runs.trigger(user_actor(asker), task, runs.Request(), now=now)
    request = approvals.ask(required.value)
    ApprovalPolicy.objects.filter(pk=rule.pk).update(tag="of no task")
    return rule, request


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
    models = (Task, Schedule, Run, Calendar, Secret, AuditEntry)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


class Findings(list[str]):
    """What was answered otherwise than the table says: a walk tells all of it at once."""

    def expect(self, response: Any, statuses: set[int] | int, *what: object) -> bool:
        wanted = {statuses} if isinstance(statuses, int) else statuses
        right = response.status_code in wanted
        if not right:
            self.append(f"{what}: {response.status_code} instead of {sorted(wanted)}: {response.content[:200]!r}")
        elif response.status_code >= 400:
            is_problem(response, response.status_code)
        return right


@pytest.fixture
def findings() -> Iterator[Findings]:
    found = Findings()
    yield found
    assert not found, "\n".join(found)


@pytest.fixture
def foreign_editor(db: None) -> Any:
    """Edits another project, and has no role in alice's."""
    other = Project.objects.create(name="billing")
    user = get_user_model().objects.create_user("erin")
    grant(user, "editor", other)
    return user


def undone(act: Callable[[], Any]) -> Any:
    """What `act` answers; what it wrote is taken back."""
    with transaction.atomic():
        answer = act()
        transaction.set_rollback(True)
    runtime.forget()
    return answer


def test_the_walk_goes_everywhere():
    assert len(ADDRESSES) > 45
    assert {("POST", "api/tasks/<int:task_id>/trigger"), ("GET", "metrics"), ("GET", "health/live")} <= set(ADDRESSES)


def test_without_login_there_is_401_everywhere_but_at_the_liveness_probe(api, objects, findings):
    nobody, forged = api(None), Client(headers={"X-API-Key": "dts_" + "0" * 64})
    for route in sorted({route for _method, route in GUARDED}):
        for method in METHODS:
            if route in OPEN:
                if method == "GET":
                    findings.expect(ask(nobody, method, route, objects), 200, method, route)
                continue
            for client in (nobody, forged):
                sent = client.send if client is nobody else client.generic
                findings.expect(sent(method, filled(route, objects)), 401, method, route)


def test_a_method_that_an_address_does_not_have_is_405_for_whoever_is_signed_in(api, root_user, objects, findings):
    client = api(root_user)
    for route in sorted({route for _method, route in GUARDED if route.startswith("api/")}):
        for method in METHODS:
            if (method, route) not in ADDRESSES:
                # At the addresses of agents a key of another kind is refused before anything else.
                wanted = {405, 415} | ({403} if ("POST", route) in AGENTS else set())
                findings.expect(client.send(method, filled(route, objects)), wanted, method, route)


def test_a_stranger_is_refused_or_sees_nothing(api, charlie, objects, findings):
    client, before = api(charlie), everything()
    for method, route in GUARDED:
        if (method, route) in HARMLESS or route in OPEN:
            continue
        response = ask(client, method, route, objects)
        if response.status_code == 200:
            assert method == "GET" and response.json()["results"] == [], route
        else:
            # What is somebody else's does not even show that it exists.
            findings.expect(response, 404 if "<" in route and (method, route) not in AGENTS else 403, method, route)
    assert everything() == before


def test_an_editor_of_another_project_is_a_stranger_here(api, foreign_editor, objects, findings):
    client, before = api(foreign_editor), everything()
    for method, route in GUARDED:
        if (method, route) in HARMLESS or route in OPEN or route == "metrics":
            continue
        response = ask(client, method, route, objects)
        findings.expect(response, _for_a_foreign_editor(method, route), method, route)
        assert "analytics" not in response.content.decode() or response.status_code == 400, (method, route)
    assert everything() == before


def _for_a_foreign_editor(method: str, route: str) -> set[int]:
    if (method, route) in AGENTS or (method, route) in ADMINISTRATORS_READ:
        return {403}
    if route.startswith(SHARED):
        return {200} if method == "GET" else {403}
    if "<" in route:
        return {404}
    # What its body or query names is not there for them.
    named = (method, route) in LEAST_ROLE or (method, route) in QUERIES
    return {400, 404} if named else {200} if method == "GET" else {403}


def test_a_stranger_counts_nothing(api, charlie, objects):
    stats = api(charlie).get("/api/system/stats").json()
    assert sum(stats["runs"].values()) == 0 and stats["pools"] == {} and stats["workers"]["lost"] == 0


def test_each_write_needs_its_role_and_no_less(api, project, charlie, objects, findings):
    client = api(charlie)
    for role in ROLE_ORDER:
        grant(charlie, role, project)
        before = everything()[:-1]
        for method, route in WRITES:
            least = LEAST_ROLE.get((method, route))
            if least is None or ROLE_ORDER.index(role) < ROLE_ORDER.index(least):
                wanted = 404 if "key_id" in route or route in HIDDEN else 403
                findings.expect(ask(client, method, route, objects), wanted, role, method, route)
        assert everything()[:-1] == before
        for method, route in WRITES:
            if LEAST_ROLE.get((method, route)) == role:
                # Past the check of the role: a waiting run cannot be run again, nor is there anything to review.
                done = {409} if route.endswith(("rerun", "release", "review")) else {200, 201, 202, 204}
                answer = undone(partial(ask, client, method, route, objects))
                findings.expect(answer, done, role, method, route)


def test_a_viewers_key_writes_nothing_whatever_its_owner_may_do(api, alice, root_user, objects, findings):
    for owner in (alice, root_user):
        before, client = everything()[:-1], api(owner, "viewer")
        for method, route in WRITES:
            if (method, route) in LEAST_ROLE:
                findings.expect(ask(client, method, route, objects), 403, method, route)
        assert everything()[:-1] == before


def test_a_viewer_reads_everything_but_the_audit_trail(api, alice, objects, findings):
    client = api(alice, "viewer")
    for method, route in READS:
        if route in HIDDEN:
            wanted = 404
        elif (method, route) in ADMINISTRATORS_READ:
            wanted = 403
        else:
            wanted = 503 if route == "health/ready" else 200
        response = ask(client, method, route, objects)
        if wanted == 503:
            assert response.status_code == 503
        else:
            findings.expect(response, wanted, method, route)
