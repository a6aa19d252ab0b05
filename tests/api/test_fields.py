"""Every field of everything that can be changed: the writable ones change, and nothing else does, whatever is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import models

from access_app.actors import system_actor
from access_app.api.groups import GroupBody
from access_app.api.users import UserBody
from access_app.models import Secret
from tasks_app.api.bodies import CalendarEditBody, PoolEditBody, ScheduleBody, TaskBody
from tasks_app.api.dependency_bodies import DependencyEditBody
from tasks_app.api.resource_bodies import ResourceEditBody
from tasks_app.api.secret_bodies import SecretEditBody
from tasks_app.models import Calendar, Pool, Project, Resource, Schedule, Task, TaskDependency, TaskVersion
from tasks_app.services import calendars, dependencies, schedules, secrets
from tests.api.test_access import ADDRESSES, undone

NOW = datetime.now(UTC)
SOON = "2030-01-31T08:00:00Z"
# Where it is changed, what may stand in the body, and whose columns stand behind it.
KINDS: dict[str, tuple[str, Any, tuple[type[models.Model], ...]]] = {
    "task": ("api/tasks/<int:task_id>", TaskBody, (Task, TaskVersion)),
    "schedule": ("api/schedules/<int:schedule_id>", ScheduleBody, (Schedule,)),
    "dependency": ("api/dependencies/<int:dependency_id>", DependencyEditBody, (TaskDependency,)),
    "calendar": ("api/calendars/<int:calendar_id>", CalendarEditBody, (Calendar,)),
    "pool": ("api/pools/<int:pool_id>", PoolEditBody, (Pool,)),
    "resource": ("api/resources/<int:resource_id>", ResourceEditBody, (Resource,)),
    "secret": ("api/secrets/<int:secret_id>", SecretEditBody, (Secret,)),
    "user": ("api/users/<int:user_id>", UserBody, (User,)),
    "group": ("api/groups/<int:group_id>", GroupBody, (Group,)),
}
# Settings answer a list of values by name: tests/api/test_settings.py.
ELSEWHERE = {"api/settings"}
# A value for each writable field that differs from the one it has, with what it cannot stand without.
VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "task": {
        "project": {"project": "default"},
        "executor": {"executor": "shell", "command": "echo"},
        "command": {"command": "workers_app.samples.echo"},
        "params": {"params": {"x": 1}},
        "schedule": {"schedule": "0 5 * * *"},
        "priority": {"priority": "high"},
        "open_files_limit": {"open_files_limit": 64},
        "tags": {"tags": ["payroll"]},
        "never_retry": {"never_retry": {"exit_codes": [2]}},
        "overlap": {"overlap": "skip", "max_concurrent": 1},
        "concurrency_key": {"concurrency_key": "{{ params.x }}"},
        "rate_limit": {"rate_limit": 3, "rate_window_seconds": 60},
        "rate_window_seconds": {"rate_limit": 3, "rate_window_seconds": 60},
        "trigger_rule": {"trigger_rule": "all_done"},
        "pool": {"pool": "other"},
        "resources": {"resources": {"api": 1}},
        "secrets": {"secrets": {"S": "S"}},
        "routing": {"routing": "round_robin"},
        "routing_key": {"routing": "consistent_hash", "routing_key": "x"},
        "routing_workers": {"routing": "failover", "routing_workers": ["w"]},
        "shards": {"routing": "shards", "shards": 2},
        "required_labels": {"required_labels": "gpu"},
    },
    "schedule": {
        "kind": {"kind": "interval", "interval_seconds": 60, "expression": ""},
        "interval_seconds": {"kind": "interval", "interval_seconds": 60, "expression": ""},
        "at": {"kind": "once", "at": SOON, "expression": ""},
        "expression": {"expression": "0 3 * * *"},
        "time_zone": {"time_zone": "Europe/Berlin"},
        "start_at": {"start_at": SOON},
        "end_at": {"end_at": SOON},
        "calendar": {"calendar": "days"},
    },
    "dependency": {
        "condition": {"condition": "exit_code == 0"},
        "period": {"period": "day"},
        "period_back": {"period": "day", "period_back": 1},
    },
    "calendar": {
        "document": {"document": {"blackout": [{"kind": "range", "from": "2030-01-01", "to": "2030-01-02"}]}},
        "holidays": {"holidays": [{"country": "DE"}]},
        "includes": {"includes": []},
    },
    "resource": {
        "rate_limit": {"rate_limit": 3, "rate_window_seconds": 60},
        "rate_window_seconds": {"rate_limit": 3, "rate_window_seconds": 60},
        "calendar": {"calendar": None},
        "breaker_ratio": {"breaker_ratio": 0.5},
    },
    "user": {
        "email": {"email": "new@example.org"},
        "groups": {"groups": ["ops"]},
        "active": {"active": False},
        "administrator": {"administrator": True, "staff": True},
        "password": {"password": "three blind mice ran"},
    },
    "secret": {"tasks": {"tasks": []}},
    "group": {"members": {"members": ["alice"]}},
}
# Written, and shown in no answer.
WRITE_ONLY = {"password", "value"}
# What a client may send back as it was read, whatever it is by now: it moves by itself.
TAKEN_BACK = {"task": {"next_fire_at"}}
# What moves with every change of the others.
FOLLOWS = {"updated_at", "version", "next_fire_at", "looked_until", "schedules", "has_password"}


@pytest.fixture
def addresses(make_task, alice, project) -> dict[str, str]:
    system = system_actor()
    task, other, third = make_task("one"), make_task("two"), make_task("three")
    schedule = schedules.create(system, third, {"expression": "0 2 * * *"}, now=NOW)
    edge = dependencies.create(system, other, third, now=NOW)
    days = calendars.create(system, {"name": "days", "project": project}, now=NOW)
    Pool.objects.create(name="other")
    keys = {
        "task": task.pk,
        "schedule": schedule.pk,
        "dependency": edge.pk,
        "calendar": days.pk,
        "pool": Pool.objects.get(name="default").pk,
        "resource": Resource.objects.create(name="api", breaker_failures=3).pk,
        "secret": secrets.create(system, {"project": project, "name": "S", "value": "v"}, now=NOW).pk,
        "user": alice.pk,
        "group": Group.objects.create(name="ops").pk,
    }
    assert Project.objects.filter(name="default").exists()
    return {kind: f"/{route.split('<')[0]}{keys[kind]}" for kind, (route, _body, _models) in KINDS.items()}


def changed_and_read(client: Any, address: str, body: dict[str, Any]) -> tuple[Any, Any]:
    return client.patch(address, body), client.get(address)


def other_value(kind: str, name: str, field: Any, now: Any) -> dict[str, Any]:
    """A body that gives the field another value than it has."""
    if (known := VALUES.get(kind, {}).get(name)) is not None:
        return known
    if isinstance(now, bool):
        return {name: not now}
    if choices := getattr(field, "choices", None):
        return {name: next(choice for choice in choices if choice != now)}
    if isinstance(now, int) or (now is None and hasattr(field, "min_value")):
        return {name: (now or 0) + 7}
    return {name: f"new {name}" if name != "username" else "renamed"}


def test_there_is_no_address_of_changes_that_this_does_not_know():
    assert {route for method, route in ADDRESSES if method == "PATCH"} - ELSEWHERE == {one[0] for one in KINDS.values()}


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_writable_field_changes_and_nothing_beside_it(api, root_user, addresses, kind):
    client, address = api(root_user), addresses[kind]
    for name, field in KINDS[kind][1]().fields.items():
        before = client.get(address).json()
        body = other_value(kind, name, field, before.get(name))
        answer, shown = undone(partial(changed_and_read, client, address, body))
        assert answer.status_code == 200, (name, body, answer.content)
        after = shown.json()
        changed = {key for key in after if after[key] != before[key]}
        assert changed <= {*body, *FOLLOWS}, (name, changed)
        assert name in changed or name in WRITE_ONLY or body[name] == before[name], (name, body, after[name])


def foreign_names(kind: str, shown: dict[str, Any]) -> set[str]:
    """Whatever else somebody may try: what answers show, and every column behind it."""
    _route, body, tables = KINDS[kind]
    columns = {name for table in tables for one in table._meta.get_fields() for name in _names_of(one)}
    return {*shown, *columns, "owner", "role", "is_superuser", "user_permissions", "__class__"} - set(body().fields)


def _names_of(field: Any) -> set[str]:
    return {field.name, getattr(field, "attname", field.name)}


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_other_field_is_refused_by_its_name_and_changes_nothing(api, root_user, addresses, kind):
    client, address = api(root_user), addresses[kind]
    before, tables = client.get(address).json(), KINDS[kind][2]
    rows = [list(table._default_manager.order_by("pk").values()) for table in tables]
    names = foreign_names(kind, before)
    assert len(names) >= 5
    for name in sorted(names - TAKEN_BACK.get(kind, set())):
        answer = client.patch(address, {name: "something else"})
        assert answer.status_code == 400, (name, answer.content)
        assert set(answer.json()["errors"]) == {name}, (name, answer.content)
    assert client.get(address).json() == before
    assert [list(table._default_manager.order_by("pk").values()) for table in tables] == rows
