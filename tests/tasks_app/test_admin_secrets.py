"""The admin page of secrets: a value goes in, none comes out, and the roles hold."""

from __future__ import annotations

from typing import Any

import pytest

from access_app import encryption
from access_app.models import AuditEntry, Secret
from access_app.roles import grant
from tasks_app.models import Project
from tasks_app.services import secrets
from tests.tasks_app.admin_pages import ACTOR, errors_of, make_task, page
from tests.tasks_app.making import NOW

pytestmark = pytest.mark.django_db
VALUE = "correct horse battery staple"


def make(project: Project) -> Secret:
    return secrets.create(ACTOR, {"project": project, "name": "API_TOKEN", "value": VALUE}, now=NOW)


def form(project: Project, **fields: Any) -> dict[str, Any]:
    return {
        "project": project.pk,
        "name": "API_TOKEN",
        "description": "",
        "value": VALUE,
        "whole_project": "on",
        **fields,
    }


def test_a_secret_is_made_changed_and_deleted_here_and_never_shown(client, root_user, project):
    client.force_login(root_user)
    task = make_task(project=project)
    assert client.post(page(Secret, "add"), form(project)).status_code == 302
    made = Secret.objects.get()
    assert encryption.decrypt(made.sealed) == VALUE
    address = page(Secret, "change", made.pk)
    shown = client.get(address).content.decode()
    assert VALUE not in shown and made.sealed not in shown and made.key_id in shown
    assert client.post(address, {"description": "new", "value": "", "tasks": [task.pk]}).status_code == 302
    after = Secret.objects.get()
    assert (after.sealed, after.version, after.description, after.whole_project) == (made.sealed, 1, "new", False)
    assert list(after.tasks.all()) == [task]
    client.post(address, {"description": "new", "value": "another value", "tasks": [task.pk]})
    assert encryption.decrypt(Secret.objects.get().sealed) == "another value"
    assert client.post(page(Secret, "delete", made.pk), {"post": "yes"}).status_code == 302
    assert not Secret.objects.exists()
    assert [entry.verb for entry in AuditEntry.objects.filter(object_type="secret").order_by("pk")] == [
        "create", "update", "update", "delete",
    ]  # fmt: skip


def test_what_is_wrong_stands_at_its_field_and_the_value_is_not_repeated(client, root_user, project):
    client.force_login(root_user)
    answer = client.post(page(Secret, "add"), form(project, name="lower"))
    assert list(errors_of(answer)) == ["name"] and VALUE not in answer.content.decode()
    answer = client.post(page(Secret, "add"), form(project, value=""))
    assert list(errors_of(answer)) == ["value"]
    assert not Secret.objects.exists()


def test_staff_write_secrets_only_where_they_manage_them(client, staff, project):
    client.force_login(staff)
    own, other = make(project), make(Project.objects.get(name="default"))
    grant(staff, "editor", project)
    assert list(client.get(page(Secret, "changelist")).context["cl"].result_list) == [own]
    assert client.get(page(Secret, "change", other.pk)).status_code == 302
    assert "id_value" not in client.get(page(Secret, "change", own.pk)).content.decode()
    assert client.post(page(Secret, "change", own.pk), {"value": "mine"}).status_code == 403
    assert client.post(page(Secret, "delete", own.pk), {"post": "yes"}).status_code == 403
    client.post(page(Secret, "add"), form(project, name="NEW"))
    assert Secret.objects.count() == 2 and encryption.decrypt(Secret.objects.get(pk=own.pk).sealed) == VALUE
    grant(staff, "admin", project)
    assert client.post(page(Secret, "add"), form(project, name="NEW")).status_code == 302
    assert Secret.objects.filter(project=project).count() == 2
