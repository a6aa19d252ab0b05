"""Secrets over the API: in, and never out."""

from __future__ import annotations

import json

import pytest

from access_app import encryption
from access_app.models import AuditEntry, Secret
from access_app.roles import grant
from tasks_app.models import Project, Task
from tests.api.client import NOOP, is_problem

VALUE = "correct horse battery staple"
SHAPE = {"id", "name", "project", "description", "tasks", "version", "key_id", "created_at", "updated_at"}
SECRET = {"name": "API_TOKEN", "project": "analytics", "value": VALUE}


@pytest.fixture
def owner(api, alice):
    return api(alice)


def trail() -> str:
    return json.dumps(list(AuditEntry.objects.order_by("pk").values("verb", "before", "after")))


def test_a_secret_is_made_looked_at_changed_and_deleted_and_never_shown(owner, make_task):
    made = owner.post("/api/secrets", {**SECRET, "description": "of the shop"})
    assert made.status_code == 201 and made.json().keys() == SHAPE
    path = f"/api/secrets/{made.json()['id']}"
    assert made["Location"] == path
    assert made.json() | {"id": 0, "created_at": "", "updated_at": ""} == {
        "id": 0, "name": "API_TOKEN", "project": "analytics", "description": "of the shop", "tasks": None, "version": 1,
        "key_id": encryption.newest_key_id(), "created_at": "", "updated_at": "",
    }  # fmt: skip
    task = make_task("one")
    changed = owner.patch(path, {"tasks": [task.pk], "value": "another value", "description": ""})
    assert changed.json()["tasks"] == [task.pk] and changed.json()["version"] == 2
    listed = owner.get("/api/secrets").json()["results"]
    assert listed == [owner.get(path).json()] == [changed.json()]
    secret = Secret.objects.get()
    assert encryption.decrypt(secret.sealed) == "another value"
    assert owner.patch(path, {"tasks": None}).json()["tasks"] is None
    assert Secret.objects.get().sealed == secret.sealed and Secret.objects.get().version == 2
    assert owner.delete(path).status_code == 204
    is_problem(owner.get(path), 404)
    for answer in (made, changed, owner.get("/api/secrets")):
        assert VALUE not in answer.content.decode() and "another value" not in answer.content.decode()
    assert '"value": "changed"' in trail()
    assert VALUE not in trail() and "another value" not in trail()


def test_what_the_database_holds_is_no_text_that_tells_the_value(owner):
    owner.post("/api/secrets", SECRET)
    row = json.dumps(Secret.objects.values().get(), default=str)
    assert VALUE not in row and encryption.key_id_of(Secret.objects.get().sealed) in row


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "api_token"}, "name"),
        ({"name": "1TOKEN"}, "name"),
        ({"name": "TO\nKEN"}, "name"),
        ({"name": "A" * 65}, "name"),
        ({"name": "PATH"}, "name"),
        ({"name": "SCHEDULER_RUN_ID"}, "name"),
        ({"value": ""}, "value"),
        ({"value": None}, "value"),
        ({"value": 5}, "value"),
        ({"value": "a\x00b"}, "value"),
        ({"value": "\ud800"}, "value"),
        ({"value": "ä" * (32 * 1024 + 1)}, "value"),
        ({"value": "a" * (64 * 1024 + 1)}, "value"),
        ({"project": "nowhere"}, "project"),
        ({"tasks": [10**6]}, "tasks"),
        ({"tasks": "all"}, "tasks"),
        ({"description": "x" * 1001}, "description"),
        ({"key_id": "mine"}, "key_id"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_the_value_is_not_repeated(owner, body, field):
    given = {**SECRET, **body}
    answer = owner.post("/api/secrets", given)
    is_problem(answer, 400, field)
    if isinstance(given["value"], str) and len(given["value"]) > 5:
        assert given["value"][:6] not in answer.content.decode()
    assert not Secret.objects.exists()


def test_the_largest_value_there_may_be_is_taken(owner):
    assert owner.post("/api/secrets", {**SECRET, "value": "ä" * (32 * 1024)}).status_code == 201
    assert owner.post("/api/secrets", {**SECRET, "name": "ONE", "value": "1"}).status_code == 201
    assert owner.post("/api/secrets", {**SECRET, "name": "LINES", "value": " a\nb\r\n"}).status_code == 201
    assert encryption.decrypt(Secret.objects.get(name="LINES").sealed) == " a\nb\r\n"


def test_a_name_is_there_once_in_each_project(owner, root_user, api):
    owner.post("/api/secrets", SECRET)
    is_problem(owner.post("/api/secrets", SECRET), 400, "name")
    assert api(root_user).post("/api/secrets", {**SECRET, "project": "default"}).status_code == 201


def test_a_task_of_another_project_is_no_task_to_grant_it_to(owner, api, root_user, make_task):
    other = make_task("other", project=Project.objects.get(name="default"))
    is_problem(owner.post("/api/secrets", {**SECRET, "tasks": [other.pk]}), 400, "tasks")
    is_problem(api(root_user).post("/api/secrets", {**SECRET, "tasks": [other.pk]}), 400, "tasks")


def test_only_administrators_of_the_project_write_secrets_and_strangers_see_none(owner, api, bob, charlie, project):
    path = f"/api/secrets/{owner.post('/api/secrets', SECRET).json()['id']}"
    grant(bob, "editor", project)
    editor = api(bob)
    assert editor.get(path).status_code == 200
    is_problem(editor.patch(path, {"value": "mine"}), 403)
    is_problem(editor.delete(path), 403)
    is_problem(editor.post("/api/secrets", {**SECRET, "name": "OTHER"}), 403)
    is_problem(api(charlie).get(path), 404)
    is_problem(api(charlie).patch(path, {"value": "mine"}), 404)
    assert encryption.decrypt(Secret.objects.get().sealed) == VALUE


# --- tasks that name them --------------------------------------------------------------------------------------------


def task_body(**fields):
    return {"name": "load", "project": "analytics", "executor": "callable", "command": NOOP, **fields}


def test_a_task_names_secrets_and_its_versions_keep_the_names(owner):
    owner.post("/api/secrets", SECRET)
    made = owner.post("/api/tasks", task_body(secrets=["API_TOKEN"])).json()
    assert made["secrets"] == {"API_TOKEN": "API_TOKEN"}
    path = f"/api/tasks/{made['id']}"
    changed = owner.patch(path, {"secrets": {"token": "API_TOKEN"}}).json()
    assert changed["secrets"] == {"token": "API_TOKEN"} and changed["version"] == 2
    versions = owner.get(f"{path}/versions").json()["results"]
    assert [version["secrets"] for version in versions] == [{"token": "API_TOKEN"}, {"API_TOKEN": "API_TOKEN"}]
    assert owner.patch(path, {"secrets": {}}).json()["secrets"] == {}


@pytest.mark.parametrize(
    "secrets",
    [
        ["NOT_THERE"],
        ["LATER"],
        {"PATH": "API_TOKEN"},
        {"PARAM_X": "API_TOKEN"},
        {"a-b": "API_TOKEN"},
        {"1": "API_TOKEN"},
        {"A": 1},
        "API_TOKEN",
        {f"V{n}": "API_TOKEN" for n in range(21)},
    ],
)
def test_a_task_gets_only_secrets_that_are_there_and_granted_to_it(owner, make_task, secrets):
    owner.post("/api/secrets", SECRET)
    owner.post("/api/secrets", {**SECRET, "name": "LATER", "tasks": []})
    is_problem(owner.post("/api/tasks", task_body(secrets=secrets)), 400, "secrets")
    task = make_task("one")
    is_problem(owner.patch(f"/api/tasks/{task.pk}", {"secrets": secrets}), 400, "secrets")


def test_whoever_edits_a_task_names_what_is_granted_to_it(owner, api, bob, project, make_task):
    grant(bob, "editor", project)
    task, other = make_task("one"), make_task("two")
    owner.post("/api/secrets", {**SECRET, "tasks": [task.pk]})
    editor = api(bob)
    assert editor.patch(f"/api/tasks/{task.pk}", {"secrets": ["API_TOKEN"]}).status_code == 200
    is_problem(editor.patch(f"/api/tasks/{other.pk}", {"secrets": ["API_TOKEN"]}), 400, "secrets")


def test_an_edit_of_something_else_is_not_held_up_by_a_secret_that_is_gone(owner, make_task):
    path = f"/api/secrets/{owner.post('/api/secrets', SECRET).json()['id']}"
    task = make_task("one", secrets={"API_TOKEN": "API_TOKEN"})
    owner.delete(path)
    assert owner.patch(f"/api/tasks/{task.pk}", {"description": "new"}).status_code == 200
    is_problem(owner.patch(f"/api/tasks/{task.pk}", {"params": {"a": 1}}), 400, "secrets")
    assert owner.patch(f"/api/tasks/{task.pk}", {"params": {"a": 1}, "secrets": {}}).status_code == 200


def test_a_task_moves_only_to_a_project_that_has_its_secrets(api, root_user, make_task):
    root = api(root_user)
    root.post("/api/secrets", SECRET)
    task = make_task("one", secrets={"API_TOKEN": "API_TOKEN"})
    is_problem(root.patch(f"/api/tasks/{task.pk}", {"project": "default"}), 400, "secrets")
    root.post("/api/secrets", {**SECRET, "project": "default"})
    assert root.patch(f"/api/tasks/{task.pk}", {"project": "default"}).status_code == 200


def test_a_reference_in_the_parameters_names_a_secret_of_the_task_and_stands_there_alone(owner):
    owner.post("/api/secrets", SECRET)
    body = task_body(
        executor="http", command="https://shop.example/", params={"headers": {"X-Key": "${secret:API_TOKEN}"}}
    )
    is_problem(owner.post("/api/tasks", body), 400, "params")
    task = owner.post("/api/tasks", {**body, "secrets": ["API_TOKEN"]}).json()
    trigger = f"/api/tasks/{task['id']}/trigger"
    is_problem(owner.post(trigger, {"params": {"body": "${secret:API_TOKEN}"}}), 400, "params")
    assert owner.post(trigger, {"params": {"body": "$secret"}}).status_code == 201


def test_a_deleted_task_leaves_a_secret_granted_to_nobody(owner, make_task):
    task = make_task("one")
    path = f"/api/secrets/{owner.post('/api/secrets', {**SECRET, 'tasks': [task.pk]}).json()['id']}"
    assert owner.delete(f"/api/tasks/{task.pk}").status_code == 204
    assert not Task.objects.exists()
    assert owner.get(path).json()["tasks"] == []
