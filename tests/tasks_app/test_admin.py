"""The admin pages: every one opens, and the rows of the engine cannot be written."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from access_app.models import ApiKey, AuditEntry
from dispatcher_app.models import Dispatcher
from tasks_app import moves, transitions
from tasks_app.models import (
    LedgerEntry,
    Pool,
    Project,
    Resource,
    Run,
    RunDependency,
    RunEvent,
    RunOutput,
    Schedule,
    Task,
    TaskDependency,
    TaskVersion,
)
from tasks_app.services import dependencies
from tasks_app.states import RunState
from tests.tasks_app.admin_pages import (
    ACTOR,
    make_run,
    make_task,
    messages_of,
    page,
)
from workers_app.models import Worker

ENGINE = [Run, RunEvent, RunOutput, RunDependency, LedgerEntry, TaskVersion, Worker, Dispatcher, AuditEntry]
OURS = [*ENGINE, ApiKey, Project, Pool, Resource, Task, Schedule, TaskDependency]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_page_of_every_model_opens(root, everything, model):
    assert root.get(page(model, "changelist")).status_code == 200
    assert root.get(page(model, "change", everything[model].pk)).status_code == 200
    may_add = model in (Project, Pool, Resource, Task, Schedule, TaskDependency)
    assert root.get(page(model, "add")).status_code == (200 if may_add else 403)


def test_no_model_of_ours_is_without_pages_and_pages_of_others_open(root, everything):
    registered = set(admin.site._registry)
    assert registered.issuperset(OURS)
    assert root.get(reverse("admin:index")).status_code == 200
    for model in registered - set(OURS):
        assert root.get(page(model, "changelist")).status_code == 200


@pytest.mark.parametrize("model", ENGINE, ids=lambda model: model.__name__)
def test_rows_of_the_engine_can_be_neither_changed_nor_deleted(root, everything, model):
    row = everything[model]
    assert root.post(page(model, "add"), {}).status_code == 403
    assert root.post(page(model, "change", row.pk), {}).status_code == 403
    assert root.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    root.post(page(model, "changelist"), chosen)
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_any_search_term_is_an_answer(root, everything, model):
    for term in ("first", "7", "9" * 30, "'\"%", "a b", "\x00"):
        assert root.get(page(model, "changelist"), {"q": term}).status_code == 200


def test_a_run_is_found_by_its_id_and_by_the_name_of_its_task(root, everything):
    run = make_run(everything[Task])
    for term, expected in ((str(run.pk), [run]), ("first", [run, everything[Run]]), ("firs", [])):
        found = root.get(page(Run, "changelist"), {"q": term}).context["cl"].result_list
        assert list(found) == expected


@pytest.mark.parametrize("model", [Run, RunEvent, RunOutput])
def test_rows_of_a_run_are_found_by_its_id_as_a_number(root, everything, model):
    path = "pk" if model is Run else "run_id"
    other = make_run(everything[Task])
    with CaptureQueriesContext(connection) as asked:
        found = root.get(page(model, "changelist"), {"q": f" {everything[Run].pk} "}).context["cl"].result_list
    assert list(found) == list(model.objects.filter(**{path: everything[Run].pk})) != []
    assert other.pk != everything[Run].pk
    assert not any("::varchar" in query["sql"] or "CAST(" in query["sql"] for query in asked)
    for term in ("9" * 30, "9" * 5000, "abc"):
        assert list(root.get(page(model, "changelist"), {"q": term}).context["cl"].result_list) == []


def test_no_page_offers_periodic_tasks_that_would_never_fire(root):
    assert "django_celery_beat" in {config.name for config in apps.get_app_configs()}
    assert "periodic" not in root.get(reverse("admin:index")).content.decode().lower()


@pytest.mark.parametrize("model", [Task, Schedule, Run, RunEvent, TaskVersion, TaskDependency, ApiKey])
def test_a_longer_list_costs_no_more_queries(root, everything, root_user, model):
    with CaptureQueriesContext(
        connection,
    ) as few:
        root.get(page(model, "changelist"))
    for number in range(5):
        task = make_task(f"more {number}", schedule="0 * * * *")
        dependencies.create(ACTOR, everything[Task], task, now=timezone.now())
        make_run(task)
        ApiKey.objects.create(user=root_user, name=f"key {number}")
    with CaptureQueriesContext(connection) as many:
        root.get(page(model, "changelist"))
    assert len(many) <= len(few)


# Runs


def test_cancelling_selected_runs_ends_those_that_wait_and_says_why_not_for_the_others(root):
    task = make_task()
    waiting, over, other = make_run(task), make_run(task), make_run(task)
    now, worker_id = timezone.now(), uuid4()
    transitions.enqueue([over.pk], now=now, sweep_at=now + timedelta(minutes=1), actor="d")
    transitions.claim([(over.pk, 1)], worker_id=worker_id, now=now, actor="w")
    done = moves.Outcome(over.pk, 1, RunState.SUCCEEDED)
    transitions.finish([done], worker_id=worker_id, now=now, actor="w")
    data = {"action": "cancel_runs", "_selected_action": [waiting.pk, over.pk]}
    response = root.post(page(Run, "changelist"), data, follow=True)
    assert dict(Run.objects.values_list("pk", "state")) == {
        waiting.pk: "cancelled",
        over.pk: "succeeded",
        other.pk: "waiting",
    }
    assert len(messages_of(response)) == 2 and any("succeeded" in text for text in messages_of(response))
    assert AuditEntry.objects.filter(verb="cancel").count() == 1
