"""The admin pages of people with a role in one project: nothing of another, and no more than the role allows."""

from __future__ import annotations

import pytest
from django.urls import reverse

from access_app.models import ApiKey, AuditEntry
from access_app.roles import grant
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
