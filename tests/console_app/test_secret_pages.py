"""The pages of secrets: a value goes in by a form and is shown by none."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from access_app import encryption
from access_app.actors import system_actor
from access_app.models import AuditEntry, Secret
from access_app.roles import grant
from tasks_app.models import Project, TaskVersion
from tasks_app.services import secrets
from tests.tasks_app.making import NOW

VALUE = "correct horse battery staple"


@pytest.fixture
def secret(project) -> Secret:
    return secrets.create(system_actor(), {"project": project, "name": "API_TOKEN", "value": VALUE}, now=NOW)


def typed(project: Project, **fields: Any) -> dict[str, Any]:
    return {
        "name": "DB_PASSWORD", "project": project.pk, "description": "of the shop", "value": VALUE,
        "whole_project": "on", **fields,
    }  # fmt: skip


def test_a_secret_is_made_by_the_form_and_stands_in_the_list_without_its_value(as_alice, project):
    page = as_alice.post("/secrets/new", typed(project, value="line one\r\nline two"), follow=True)
    assert page.redirect_chain == [("/secrets/", 302)]
    made = Secret.objects.get()
    assert encryption.decrypt(made.sealed) == "line one\nline two" and made.whole_project
    assert "DB_PASSWORD" in page.text and "every task" in page.text and "line one" not in page.text
    for address in ("/secrets/", f"/secrets/{made.pk}/", "/audit/"):
        assert "line one" not in as_alice.get(address).text


def test_an_empty_value_keeps_the_one_that_is_there(as_alice, project, secret, task):
    address = f"/secrets/{secret.pk}/"
    shown = as_alice.get(address)
    assert "Leave it empty to keep" in shown.text and VALUE not in shown.text
    form = {"description": "new", "value": "", "tasks": [task.pk]}
    assert as_alice.post(address, form).status_code == 302
    kept = Secret.objects.get()
    assert (kept.sealed, kept.version, kept.description) == (secret.sealed, 1, "new")
    assert (kept.whole_project, list(kept.tasks.all())) == (False, [task])
    assert as_alice.post(address, {**form, "value": "another value"}).status_code == 302
    assert encryption.decrypt(Secret.objects.get().sealed) == "another value"
    told = AuditEntry.objects.filter(verb="update").order_by("pk").values_list("after", flat=True)
    assert [(after or {}).get("value") for after in told] == [None, "changed"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "lower"}, "name"),
        ({"value": ""}, "value"),
        ({"value": "ä" * 33_000}, "value"),
        ({"project": 99}, "project"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_as_value_is_not_shown_again(
    as_alice, project, wrong, field
):
    page = as_alice.post("/secrets/new", typed(project) | wrong)
    assert page.status_code == 422 and list(page.context["form"].errors) == [field]
    assert VALUE not in page.text and "äää" not in page.text
    assert not Secret.objects.exists()


def test_deleting_names_the_tasks_that_use_it(as_alice, secret, task):
    TaskVersion.objects.update(secrets={"TOKEN": "API_TOKEN"})
    page = as_alice.get(f"/secrets/{secret.pk}/").text
    assert "1 task names it; its runs will fail." in page and task.name in page
    assert as_alice.get(f"/secrets/{secret.pk}/delete").status_code == 405
    assert as_alice.post(f"/secrets/{secret.pk}/delete", follow=True).redirect_chain == [("/secrets/", 302)]
    assert not Secret.objects.exists()


def test_who_does_not_manage_secrets_looks_and_changes_nothing(as_bob, as_charlie, bob, project, secret):
    grant(bob, "editor", project)
    page = as_bob.get(f"/secrets/{secret.pk}/")
    assert page.status_code == 200 and "Save" not in page.text and "Delete secret" not in page.text
    assert "New secret" not in as_bob.get("/secrets/").text
    assert as_bob.get("/secrets/new").status_code == 403
    assert as_bob.post(f"/secrets/{secret.pk}/", {"value": "mine"}).status_code == 403
    as_bob.post(f"/secrets/{secret.pk}/delete")
    assert encryption.decrypt(Secret.objects.get().sealed) == VALUE
    assert "API_TOKEN" not in as_charlie.get("/secrets/").text
    for address in (f"/secrets/{secret.pk}/", f"/secrets/{secret.pk}/delete"):
        assert as_charlie.post(address).status_code == 404


def test_the_form_of_a_task_takes_names_and_the_pages_show_them(as_alice, project, secret, task):
    address = reverse("console:task_edit", args=[task.pk])
    form = as_alice.get(address).context["form"]
    given = {name: form[name].value() for name in form.fields}
    shown = {name: "" if value is None else value for name, value in given.items()}
    shown |= {"params": "{}", "project": project.pk, "routing_workers": ""}
    refused = as_alice.post(address, {**shown, "secrets": "API_TOKEN, NOT_THERE"})
    assert refused.status_code == 422 and list(refused.context["form"].errors) == ["secrets"]
    saved = as_alice.post(address, {**shown, "secrets": "API_TOKEN TOKEN=API_TOKEN"})
    assert saved.status_code == 302, saved.context["form"].errors
    task.refresh_from_db()
    assert task.version.secrets == {"API_TOKEN": "API_TOKEN", "TOKEN": "API_TOKEN"}
    assert "TOKEN=API_TOKEN" in as_alice.get(f"/tasks/{task.pk}/").text
    assert as_alice.get(address).context["form"]["secrets"].value() == "API_TOKEN, TOKEN=API_TOKEN"
