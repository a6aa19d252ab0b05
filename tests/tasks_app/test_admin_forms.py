"""What people type into the admin is written by the services, and what these refuse stands at its field."""

from __future__ import annotations

import pytest
from django.utils import timezone

from access_app.models import ApiKey, AuditEntry
from tasks_app.models import (
    Pool,
    Project,
    Resource,
    Run,
    Schedule,
    Task,
    TaskDependency,
)
from tasks_app.services import tasks
from tests.tasks_app.admin_pages import (
    errors_of,
    make_run,
    make_task,
    messages_of,
    page,
    schedule_form,
    task_form,
)

pytestmark = pytest.mark.django_db


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
        ({"params": '{"x": 1, "x": 2}'}, "params"),
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


@pytest.mark.parametrize("levels", [51, 700, 100_000])
def test_parameters_nested_too_deep_are_refused_at_their_field(root, levels):
    wrong = task_form(params='{"x": ' * levels + "1" + "}" * levels)
    assert list(errors_of(root.post(page(Task, "add"), wrong))) == ["params"]
    assert not Task.objects.exists()


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
    ("action", "verb"),
    [("pause_tasks", "pause"), ("drain_tasks", "pause"), ("resume_tasks", "resume"), ("run_now", "trigger")],
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
    assert Task.objects.filter(pause_mode="drain").count() == (2 if action == "drain_tasks" else 0)
    assert Run.objects.count() == (2 if verb == "trigger" else 0)


# Resources


def test_a_task_takes_resources_that_are_typed_as_json_and_mistakes_stand_at_their_field(root):
    Resource.objects.create(name="db", capacity=3)
    for typed in ('{"db": 4}', '{"db": "1"}', '{"db": true}', '["db"]', '{"nowhere": 1}', "{"):
        assert "amounts" in errors_of(root.post(page(Task, "add"), task_form(amounts=typed))), typed
    assert root.post(page(Task, "add"), task_form(amounts='{"db": 2}')).status_code == 302
    task = Task.objects.get()
    assert tasks.describe(task)["resources"] == {"db": 2}
    assert "&quot;db&quot;: 2" in root.get(page(Task, "change", task.pk)).content.decode()
    root.post(page(Task, "change", task.pk), task_form(amounts='{"db": 2}', description="new"))
    assert tasks.describe(Task.objects.get())["resources"] == {"db": 2}
    root.post(page(Task, "change", task.pk), task_form(amounts=""))
    assert tasks.describe(Task.objects.get())["resources"] == {}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"weight": 0}, "weight"),
        ({"rate_limit": 5}, "rate_window_seconds"),
        ({"concurrency_key": "{{ x"}, "concurrency_key"),
        ({"never_retry": '{"exit_codes": [0]}'}, "never_retry"),
        ({"retry_budget_seconds": 0}, "retry_budget_seconds"),
    ],
)
def test_mistakes_in_limits_and_retries_stand_at_their_fields(root, fields, field):
    assert errors_of(root.post(page(Task, "add"), task_form(**fields))).keys() == {field}
    assert not Task.objects.exists()


def test_resources_are_made_changed_turned_and_deleted(root):
    form = {
        "name": "api", "breaker_failures": 3, "breaker_window": 20, "breaker_minimum": 10,
        "breaker_open_seconds": 30, "breaker_open_seconds_at_most": 1800,
    }  # fmt: skip
    assert "rate_limit" in errors_of(root.post(page(Resource, "add"), form | {"rate_window_seconds": 5}))
    assert root.post(page(Resource, "add"), form).status_code == 302
    resource = Resource.objects.get()
    root.post(page(Resource, "change", resource.pk), form | {"capacity": 7})
    for action, state in (("trip_breakers", "open"), ("reset_breakers", "closed")):
        root.post(page(Resource, "changelist"), {"action": action, "_selected_action": [resource.pk]})
        resource.refresh_from_db()
        assert (resource.breaker_state, resource.capacity) == (state, 7)
    root.post(page(Resource, "delete", resource.pk), {"post": "yes"})
    assert not Resource.objects.exists()
    verbs = AuditEntry.objects.filter(object_type="resource").order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["create", "update", "trip", "reset", "delete"]


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


def test_a_dependency_is_changed_but_not_moved(root):
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    root.post(page(TaskDependency, "add"), {"upstream": a.pk, "downstream": b.pk, "condition": "output.ok"})
    edge = TaskDependency.objects.get()
    assert edge.condition == "output.ok"
    change = page(TaskDependency, "change", edge.pk)
    assert errors_of(root.post(change, {"condition": "output.ok ="})).keys() == {"condition"}
    typed = {"condition": "", "period": "day", "period_back": 1, "period_policy": "fail", "upstream": c.pk}
    assert root.post(change, typed).status_code == 302
    edge.refresh_from_db()
    values = (edge.upstream, edge.condition, edge.period, edge.period_back, edge.period_policy)
    assert values == (a, "", "day", 1, "fail")
    assert AuditEntry.objects.filter(object_type="taskdependency", verb="update").count() == 1


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
