"""What a role does not show is in no answer: commands and parameters, searched for by a mark that stands in each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from access_app.actors import system_actor
from access_app.roles import grant
from tasks_app import moves, transitions
from tasks_app.models import Backfill, Run, Task, TaskVersion
from tasks_app.services import backfills, runs, schedules
from tasks_app.states import RunState
from tests.tasks_app.admin_pages import page

MARK = "canary"
NOW = datetime.now(UTC)


@pytest.fixture
def marked(make_task) -> dict[str, Any]:
    system, params = system_actor(), {"token": MARK}
    key = "{{ params.token }}"
    task = make_task("one", executor="shell", command=f"echo {MARK}", params=params, concurrency_key=key)
    run, _new = runs.trigger(system, task, runs.Request(params), now=NOW)
    transitions.enqueue([run.pk], now=NOW, sweep_at=NOW, actor="test")
    worker = uuid4()
    transitions.claim([(run.pk, 1)], worker_id=worker, now=NOW, actor="test")
    transitions.finish([moves.Outcome(run.pk, 1, RunState.SUCCEEDED)], worker_id=worker, now=NOW, actor="test")
    schedules.create(system, task, {"expression": "0 2 * * *"}, now=NOW)
    wish = backfills.Wish(NOW - timedelta(days=3), NOW, params=params)
    return {"task": task, "run": run, "backfill": backfills.plan(system, task, wish, now=NOW)}


def api_pages(marked: dict[str, Any]) -> list[str]:
    task, run, backfill = (marked[name].pk for name in ("task", "run", "backfill"))
    of_task = [f"/api/tasks/{task}{part}" for part in ("", "/versions", "/runs")]
    return [*of_task, "/api/tasks", "/api/runs", f"/api/runs/{run}", "/api/backfills", f"/api/backfills/{backfill}"]


def console_pages(marked: dict[str, Any]) -> list[str]:
    task, run, backfill = (marked[name].pk for name in ("task", "run", "backfill"))
    return [f"/tasks/{task}/", f"/runs/{run}/", f"/backfills/{backfill}/"]


def admin_pages(marked: dict[str, Any]) -> list[str]:
    version, others = marked["task"].version, ((Task, "task"), (Run, "run"), (Backfill, "backfill"))
    return [
        page(TaskVersion, "change", version.pk),
        *(page(model, "change", marked[name].pk) for model, name in others),
    ]


@pytest.mark.parametrize(("role", "sees"), [("viewer", False), ("operator", True), ("editor", True)])
def test_commands_and_parameters_are_for_operators_and_above_at_every_door(charlie, project, api, marked, role, sees):
    grant(charlie, role, project)
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    charlie.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    person, key = Client(), api(charlie)
    person.force_login(charlie)
    for client, pages in ((key, api_pages), (person, console_pages), (person, admin_pages)):
        for address in pages(marked):
            response = client.get(address)
            assert response.status_code == 200, address
            assert (MARK in response.content.decode()) is sees, address


def test_a_key_sees_no_more_than_its_role_whatever_its_owner_sees(alice, api, marked):
    for address in api_pages(marked):
        assert MARK not in api(alice, "viewer").get(address).content.decode(), address
        assert MARK in api(alice, "operator").get(address).content.decode(), address


def test_null_stands_in_place_of_what_is_not_shown(charlie, project, api, marked):
    grant(charlie, "viewer", project)
    run = api(charlie).get(f"/api/runs/{marked['run'].pk}").json()
    assert run["params"] is None and run["concurrency_key"] is None and run["state"] == "succeeded"
    task = api(charlie).get(f"/api/tasks/{marked['task'].pk}").json()
    assert task["command"] is None and task["params"] is None and task["name"] == "one"


def test_the_projects_of_a_long_list_are_asked_for_once(charlie, project, api, marked, django_assert_max_num_queries):
    from tasks_app.models import Project
    from tests.api.client import NOOP, default_pool

    grant(charlie, "operator", project)
    for number in range(8):
        other = Project.objects.create(name=f"p{number}")
        grant(charlie, "viewer", other)
        fields = {"name": "t", "project": other, "pool": default_pool(), "executor": "callable", "command": NOOP}
        from tasks_app.services import tasks

        tasks.create(system_actor(), fields, now=NOW)
    client = api(charlie)
    with django_assert_max_num_queries(12):
        shown = client.get("/api/tasks").json()["results"]
    assert [row["command"] is None for row in shown].count(True) == 8 and len(shown) == 9
