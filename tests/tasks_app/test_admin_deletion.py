"""Deleting in the admin: what the service refuses is a message, never an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access_app.roles import grant
from tasks_app.errors import NotFound
from tasks_app.models import Project, TaskDependency
from tasks_app.services import dependencies
from tests.tasks_app.admin_pages import make_task, messages_of, page
from tests.tasks_app.making import depend

pytestmark = pytest.mark.django_db


@pytest.fixture
def edges(project: Any) -> Callable[[Any, str], tuple[TaskDependency, TaskDependency]]:
    """Two edges into the project: one from within, one from another project where the person has this role."""

    def make(user: Any, role: str) -> tuple[TaskDependency, TaskDependency]:
        other = Project.objects.create(name="other")
        grant(user, role, other)
        above, inside = make_task("above", other), make_task("inside", project)
        below = make_task("below", project)
        depend(inside, below)
        depend(above, below)
        inner, outer = TaskDependency.objects.order_by("pk")
        return inner, outer

    return make


def delete_selected(client: Any, *rows: TaskDependency) -> Any:
    data = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
    return client.post(page(TaskDependency, "changelist"), data, follow=True)


def test_an_edge_is_deleted_by_whoever_may_edit_both_of_its_ends(client, staff, edges):
    client.force_login(staff)
    inner, outer = edges(staff, "viewer")
    assert client.post(page(TaskDependency, "delete", outer.pk), {"post": "yes"}).status_code == 403
    assert delete_selected(client, inner, outer).status_code == 403
    assert TaskDependency.objects.count() == 2
    assert client.post(page(TaskDependency, "delete", inner.pk), {"post": "yes"}).status_code == 302
    assert list(TaskDependency.objects.all()) == [outer]


def test_an_editor_of_both_projects_deletes_the_edge_between_them(client, staff, edges):
    client.force_login(staff)
    inner, outer = edges(staff, "editor")
    delete_selected(client, inner, outer)
    assert not TaskDependency.objects.exists()


def test_what_the_service_refuses_is_told_and_nothing_of_the_selection_is_deleted(root, root_user, edges, monkeypatch):
    inner, outer = edges(root_user, "admin")
    delete = dependencies.delete

    def refuse_one(actor: Any, edge: TaskDependency, **options: Any) -> None:
        if edge == outer:
            raise NotFound
        delete(actor, edge, **options)

    monkeypatch.setattr(dependencies, "delete", refuse_one)
    single = root.post(page(TaskDependency, "delete", outer.pk), {"post": "yes"}, follow=True)
    for response in (single, delete_selected(root, inner, outer)):
        assert response.status_code == 200 and messages_of(response) == [NotFound().message]
    assert TaskDependency.objects.count() == 2
