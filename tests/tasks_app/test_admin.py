"""The admin pages: every one opens, the engine's rows cannot be written, people's rows are written by the services."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from access_app.actors import system_actor
from access_app.models import ApiKey, AuditEntry
from access_app.roles import grant
from dispatcher_app.models import Dispatcher
from tasks_app import transitions
from tasks_app.models import (
    LedgerEntry,
    Pool,
    Project,
    Run,
    RunDependency,
    RunEvent,
    RunOutput,
    Schedule,
    Task,
    TaskDependency,
    TaskVersion,
)
from tasks_app.services import dependencies, runs, tasks
from tasks_app.states import RunState
from workers_app.models import Worker

ACTOR = system_actor("command tester")
ENGINE = [Run, RunEvent, RunOutput, RunDependency, LedgerEntry, TaskVersion, Worker, Dispatcher, AuditEntry]
OURS = [*ENGINE, ApiKey, Project, Pool, Task, Schedule, TaskDependency]

pytestmark = pytest.mark.django_db


def page(model: Any, name: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=arguments)


def make_task(name: str = "daily", project: Project | None = None, **fields: Any) -> Task:
    where = {"project": project or Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}
    how = {"executor": "shell", "command": "echo"} | fields
    return tasks.create(ACTOR, {"name": name, **where, **how}, now=timezone.now())


def make_run(task: Task) -> Run:
    return runs.trigger(ACTOR, task, runs.Request(), now=timezone.now())[0]


def task_form(**fields: Any) -> dict[str, Any]:
    return {
        "project": Project.objects.get(name="default").pk,
        "pool": Pool.objects.get(name="default").pk,
        "name": "typed",
        "priority": 50,
        "overlap": "allow",
        "trigger_rule": "all_success",
        "executor": "shell",
        "command": "echo hello",
        "params": "{}",
        "timeout_seconds": 60,
        "retry_count": 0,
        "retry_delay_seconds": 10,
    } | fields


def schedule_form(for_task: Task, **fields: Any) -> dict[str, Any]:
    return {
        "task": for_task.pk,
        "kind": "cron",
        "expression": "0 2 * * *",
        "time_zone": "UTC",
        "dst_gap": "run_after",
        "dst_repeat": "first",
        "catch_up": "last",
        "catch_up_window_seconds": 3600,
        "max_catch_up": 100,
        "enabled": "on",
    } | fields


def errors_of(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, response.status_code
    found: dict[str, list[str]] = dict(response.context["adminform"].form.errors)
    return found


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def root(root_user: Any, client: Client) -> Client:
    client.force_login(root_user)
    return client


@pytest.fixture
def everything(root_user: Any) -> dict[type, Any]:
    """One row at least of every model of ours."""
    now = timezone.now()
    first, second = make_task("first", schedule="* * * * *"), make_task("second")
    edge = dependencies.create(ACTOR, first, second, now=now)
    run = make_run(first)
    pool = Pool.objects.get(name="default")
    worker = Worker.objects.create(
        name="w", host="h", pid=1, pool=pool, slots=1, started_at=now, beat_at=now, lease_until=now
    )
    stretch = {"first_at": now, "last_at": now, "count": 1, "answer": "skipped", "reason": "pause"}
    schedule = first.schedules.get()
    return {
        Run: run,
        RunEvent: run.events.get(),
        RunOutput: RunOutput.objects.create(
            run=run, attempt=1, first_line=0, line_count=1, lines=[["", "stdout", "x"]]
        ),
        RunDependency: RunDependency.objects.get(),
        LedgerEntry: LedgerEntry.objects.create(schedule=schedule, **stretch),
        TaskVersion: first.version,
        Worker: worker,
        Dispatcher: Dispatcher.objects.create(name="d", started_at=now, beat_at=now),
        AuditEntry: AuditEntry.objects.first(),
        ApiKey: ApiKey.objects.create(user=root_user, name="key")[0],
        Project: first.project,
        Pool: pool,
        Task: first,
        Schedule: schedule,
        TaskDependency: edge,
    }


@pytest.fixture
def staff(alice: Any, project: Project) -> Any:
    """Alice, administrator of the project analytics and of nothing else, with every right that Django can give."""
    alice.is_staff = True
    alice.save()
    alice.user_permissions.set(Permission.objects.all())
    return alice


# Every page


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_page_of_every_model_opens(root, everything, model):
    assert root.get(page(model, "changelist")).status_code == 200
    assert root.get(page(model, "change", everything[model].pk)).status_code == 200
    may_add = model in (Project, Pool, Task, Schedule, TaskDependency)
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


# Tasks


def test_a_task_typed_in_the_admin_is_created_by_the_service(root):
    assert root.post(page(Task, "add"), task_form(command="echo a\r\necho b", params='{"x": 1}')).status_code == 302
    task = Task.objects.select_related("version").get(name="typed")
    assert task.version is not None
    assert (task.version.number, task.version.command, task.version.params) == (1, "echo a\necho b", {"x": 1})
    assert AuditEntry.objects.get(object_type="task").actor.startswith("user ")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"executor": "nonsense"}, "executor"),
        ({"command": " "}, "command"),
        ({"executor": "http", "command": "ftp://x"}, "command"),
        ({"params": "[1]"}, "params"),
        ({"params": '{"x": NaN}'}, "params"),
        ({"params": '{"x": "\\ud800"}'}, "params"),
        ({"params": "{"}, "params"),
        ({"timeout_seconds": 10**12}, "timeout_seconds"),
        ({"retry_count": 1001}, "retry_count"),
        ({"name": "two\nlines"}, "name"),
        ({"name": ""}, "name"),
        ({"priority": 101}, "priority"),
    ],
)
def test_what_the_service_refuses_stands_at_its_field(root, wrong, field):
    assert list(errors_of(root.post(page(Task, "add"), task_form(**wrong)))) == [field]
    assert not Task.objects.exists() and not AuditEntry.objects.exists()


def test_a_second_row_of_the_same_name_is_refused_at_the_name(root):
    make_task("typed")
    assert list(errors_of(root.post(page(Task, "add"), task_form()))) == ["name"]
    for model in (Project, Pool):
        assert list(errors_of(root.post(page(model, "add"), {"name": "default"}))) == ["name"]
        assert model.objects.count() == 1
    assert Task.objects.count() == 1


def test_a_change_of_the_command_makes_a_version_and_a_change_of_the_name_does_not(root):
    task = make_task("typed", command="echo hello", timeout_seconds=60)
    root.post(page(Task, "change", task.pk), task_form(name="renamed"))
    task.refresh_from_db()
    assert task.name == "renamed" and task.versions.count() == 1
    root.post(page(Task, "change", task.pk), task_form(name="renamed", command="echo bye"))
    task = Task.objects.select_related("version").get()
    assert task.version is not None and (task.version.number, task.version.command) == (2, "echo bye")
    assert AuditEntry.objects.filter(verb="update").count() == 2


def test_the_form_shows_the_current_version(root):
    task = make_task(command="echo shown")
    assert "echo shown" in root.get(page(Task, "change", task.pk)).content.decode()


def test_deleting_a_task_in_the_admin_takes_its_runs_along_and_leaves_others(root):
    task, other = make_task(schedule="* * * * *"), make_task("other")
    make_run(task)
    kept = make_run(other)
    assert root.get(page(Task, "delete", task.pk)).status_code == 200
    assert root.post(page(Task, "delete", task.pk), {"post": "yes"}).status_code == 302
    assert list(Task.objects.all()) == [other] and list(Run.objects.all()) == [kept]
    assert AuditEntry.objects.get(verb="delete").object_name == "daily"


def test_deleting_selected_tasks_is_one_audit_entry_each(root):
    chosen, kept = [make_task(f"t{n}") for n in range(3)], make_task("kept")
    data = {"action": "delete_selected", "_selected_action": [task.pk for task in chosen], "post": "yes"}
    root.post(page(Task, "changelist"), data)
    assert list(Task.objects.all()) == [kept]
    assert AuditEntry.objects.filter(verb="delete").count() == 3


@pytest.mark.parametrize(
    ("action", "verb"), [("pause_tasks", "pause"), ("resume_tasks", "resume"), ("run_now", "trigger")]
)
def test_actions_move_the_selected_tasks_only_with_one_audit_entry_each(root, action, verb):
    chosen, other = [make_task("a"), make_task("b")], make_task("c")
    if verb == "resume":
        Task.objects.update(paused=True)
    data = {"action": action, "_selected_action": [task.pk for task in chosen]}
    response = root.post(page(Task, "changelist"), data, follow=True)
    assert any("2" in text for text in messages_of(response))
    assert AuditEntry.objects.filter(verb=verb).count() == 2
    assert not AuditEntry.objects.filter(verb=verb, object_id=str(other.pk)).exists()
    assert Task.objects.filter(paused=True).count() == {"pause": 2, "resume": 1, "trigger": 0}[verb]
    assert Run.objects.count() == (2 if verb == "trigger" else 0)


# Schedules, dependencies, pools, projects, keys


def test_a_schedule_typed_in_the_admin_is_armed(root):
    task = make_task()
    assert root.post(page(Schedule, "add"), schedule_form(task)).status_code == 302
    schedule = task.schedules.get()
    assert schedule.next_fire_at is not None and schedule.next_fire_at > timezone.now()
    assert AuditEntry.objects.filter(object_type="schedule", verb="create").count() == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"expression": "99 * * * *"}, "expression"),
        ({"expression": ""}, "expression"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"kind": "interval", "expression": ""}, "interval_seconds"),
        ({"task": 10**6}, "task"),
    ],
)
def test_a_wrong_schedule_is_refused_at_its_field(root, wrong, field):
    assert field in errors_of(root.post(page(Schedule, "add"), schedule_form(make_task(), **wrong)))
    assert not Schedule.objects.exists()


def test_an_edited_schedule_fires_by_its_new_rule_and_its_engine_columns_stay_out_of_reach(root):
    schedule = make_task(schedule="0 2 * * *").schedules.get()
    typed = schedule_form(schedule.task, expression="30 4 * * *", next_fire_at_0="2000-01-01", next_fire_at_1="00:00")
    root.post(page(Schedule, "change", schedule.pk), typed)
    schedule.refresh_from_db()
    assert schedule.next_fire_at is not None
    assert (schedule.next_fire_at.hour, schedule.next_fire_at.minute) == (4, 30)
    assert schedule.next_fire_at > timezone.now()


def test_deleting_a_schedule_is_audited_and_leaves_its_runs(root):
    task = make_task(schedule="* * * * *")
    run = make_run(task)
    root.post(page(Schedule, "delete", task.schedules.get().pk), {"post": "yes"})
    assert not Schedule.objects.exists() and Run.objects.filter(pk=run.pk).exists()
    assert AuditEntry.objects.filter(object_type="schedule", verb="delete").count() == 1


def test_a_dependency_that_closes_a_cycle_is_refused_with_the_path(root):
    a, b = make_task("a"), make_task("b")
    root.post(page(TaskDependency, "add"), {"upstream": a.pk, "downstream": b.pk})
    errors = errors_of(root.post(page(TaskDependency, "add"), {"upstream": b.pk, "downstream": a.pk}))
    assert "→" in str(errors)
    assert errors_of(root.post(page(TaskDependency, "add"), {"upstream": a.pk, "downstream": a.pk}))
    assert errors_of(root.post(page(TaskDependency, "add"), {"upstream": a.pk, "downstream": b.pk}))
    assert list(TaskDependency.objects.values_list("upstream__name", "downstream__name")) == [("a", "b")]


def test_a_pool_and_a_project_are_made_by_their_services(root):
    root.post(page(Pool, "add"), {"name": "gpu", "slots": 2})
    pool = Pool.objects.get(name="gpu")
    root.post(page(Pool, "change", pool.pk), {"slots": 5})
    pool.refresh_from_db()
    assert pool.slots == 5
    root.post(page(Project, "add"), {"name": "new"})
    assert Project.objects.filter(name="new").exists()
    verbs = AuditEntry.objects.order_by("id").values_list("object_type", "verb")
    assert list(verbs) == [("pool", "create"), ("pool", "update"), ("project", "create")]


def test_a_key_shows_no_digest_and_is_revoked_with_an_audit_entry(root, root_user):
    key, kept = (ApiKey.objects.create(user=root_user, name=name)[0] for name in ("old", "kept"))
    assert key.digest not in root.get(page(ApiKey, "change", key.pk)).content.decode()
    root.post(page(ApiKey, "delete", key.pk), {"post": "yes"})
    assert list(ApiKey.objects.all()) == [kept]
    assert AuditEntry.objects.get(object_type="apikey").object_name.startswith("old")


# Runs


def test_cancelling_selected_runs_ends_those_that_wait_and_says_why_not_for_the_others(root):
    task = make_task()
    waiting, over, other = make_run(task), make_run(task), make_run(task)
    now, worker_id = timezone.now(), uuid4()
    transitions.enqueue([over.pk], now=now, sweep_at=now + timedelta(minutes=1), actor="d")
    transitions.claim([(over.pk, 1)], worker_id=worker_id, now=now, actor="w")
    done = transitions.Outcome(over.pk, 1, RunState.SUCCEEDED)
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


# People of one project


def test_staff_of_one_project_find_nothing_of_another(client, staff, project, everything):
    client.force_login(staff)
    own = make_task("own", project=project)
    make_run(own)
    assert list(client.get(page(Task, "changelist")).context["cl"].result_list) == [own]
    assert {run.task_id for run in client.get(page(Run, "changelist")).context["cl"].result_list} == {own.pk}
    for model in (Task, Schedule, TaskDependency, Run, RunEvent, RunOutput, RunDependency, LedgerEntry, TaskVersion):
        row = everything[model]
        assert client.get(page(model, "change", row.pk)).status_code == 302
        assert client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code in (302, 403)
        assert model.objects.filter(pk=row.pk).exists()
    assert "first" not in client.get(page(Task, "changelist")).content.decode()


def test_staff_of_one_project_cannot_write_into_another(client, staff, project):
    client.force_login(staff)
    foreign = make_task("foreign")
    assert "project" in errors_of(client.post(page(Task, "add"), task_form()))
    assert errors_of(client.post(page(Schedule, "add"), schedule_form(foreign)))
    own = make_task("own", project=project)
    assert errors_of(client.post(page(TaskDependency, "add"), {"upstream": foreign.pk, "downstream": own.pk}))
    chosen = {"action": "pause_tasks", "_selected_action": [foreign.pk]}
    client.post(page(Task, "changelist"), chosen)
    assert list(Task.objects.filter(paused=True)) == []
    assert not Schedule.objects.exists() and not TaskDependency.objects.exists()
    assert client.post(page(Task, "add"), task_form(project=project.pk)).status_code == 302


def test_an_operator_may_run_but_neither_edit_nor_delete(client, staff, project):
    grant(staff, "operator", project)
    client.force_login(staff)
    task = make_task("own", project=project, command="echo shown")
    shown = client.get(page(Task, "change", task.pk))
    assert shown.status_code == 200 and "echo shown" in shown.content.decode()
    assert client.post(page(Task, "change", task.pk), task_form(project=project.pk)).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [task.pk], "post": "yes"}
    client.post(page(Task, "changelist"), data)
    assert Task.objects.filter(pk=task.pk, name="own").exists()
    client.post(page(Task, "changelist"), {"action": "run_now", "_selected_action": [task.pk]})
    assert Run.objects.count() == 1


def test_a_viewer_is_told_that_the_action_is_not_allowed(client, staff, project):
    grant(staff, "viewer", project)
    client.force_login(staff)
    task = make_task("own", project=project)
    data = {"action": "pause_tasks", "_selected_action": [task.pk]}
    response = client.post(page(Task, "changelist"), data, follow=True)
    assert any("own:" in text for text in messages_of(response))
    assert not Task.objects.filter(paused=True).exists()


@pytest.mark.parametrize("model", [AuditEntry, ApiKey])
def test_the_audit_trail_and_the_keys_are_for_administrators_of_the_installation(client, staff, everything, model):
    client.force_login(staff)
    assert client.get(page(model, "changelist")).status_code == 403


def test_pools_and_projects_are_made_by_administrators_of_the_installation_only(client, staff):
    client.force_login(staff)
    assert client.post(page(Pool, "add"), {"name": "gpu"}).status_code == 403
    assert client.post(page(Project, "add"), {"name": "new"}).status_code == 403


def test_people_who_are_no_staff_do_not_get_in(client, bob):
    client.force_login(bob)
    assert client.get(reverse("admin:index")).status_code == 302
