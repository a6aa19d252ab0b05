"""Tasks over the API: the shapes that others rely on, edits, entity tags."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks_app.models import Run, Schedule, Task
from tests.api.client import NOOP, is_problem

SEED = {
    "name": "data_processing",
    "description": "Process the data",
    "task_type": "batch",
    "executor": "python",
    "command": "process_data.py",
    "schedule": "0 2 * * *",
    "priority": "normal",
    "retry_count": 3,
    "timeout_seconds": 3600,
}


@pytest.fixture
def root(api, root_user):
    return api(root_user)


def test_the_body_of_the_seed_example_works_as_it_stands(root):
    made = root.post("/api/tasks", SEED)
    assert made.status_code == 201, made.content
    task = made.json()
    assert {name: task[name] for name in SEED} == SEED
    assert task["project"] == "default" and task["pool"] == "default" and task["version"] == 1
    assert task["next_fire_at"].endswith("Z") and len(task["schedules"]) == 1
    assert made["Location"] == f"/api/tasks/{task['id']}"
    assert root.get(made["Location"]).json() == task
    run = root.post(f"/api/tasks/{task['id']}/trigger")
    assert run.status_code == 201 and run.json()["state"] in ("waiting", "queued")


def test_a_task_of_the_fewest_fields_has_the_defaults_of_the_contract(root):
    made = root.post("/api/tasks", {"name": "t", "executor": "callable", "command": NOOP, "schedule": None})
    task = made.json()
    assert made.status_code == 201 and made["ETag"]
    expected: dict[str, Any] = {
        "name": "t",
        "project": "default",
        "executor": "callable",
        "command": NOOP,
        "schedule": None,
        "priority": "normal",
        "retry_count": 0,
        "retry_on_lost": False,
        "timeout_seconds": 3600,
        "overlap": "allow",
        "max_concurrent": None,
        "pool": "default",
        "params": {},
        "paused": False,
        "version": 1,
        "next_fire_at": None,
    }
    assert {name: task[name] for name in expected} == expected
    assert task["created_at"].endswith("Z") and task["updated_at"].endswith("Z")


@pytest.mark.parametrize(
    ("given", "shown"), [("high", "high"), (75, "high"), (33, 33), (0, 0), ("critical", "critical")]
)
def test_a_priority_is_a_name_or_a_number_and_is_shown_by_its_name_where_it_has_one(root, given, shown):
    body = {"name": "t", "executor": "callable", "command": NOOP, "priority": given}
    assert root.post("/api/tasks", body).json()["priority"] == shown


@pytest.mark.parametrize("slash", ["", "/"])
def test_every_address_answers_with_and_without_a_trailing_slash(api, alice, make_task, slash):
    task, client = make_task(), api(alice)
    assert client.get(f"/api/tasks{slash}").status_code == 200
    assert client.get(f"/api/tasks/{task.pk}{slash}").status_code == 200
    assert client.post(f"/api/tasks/{task.pk}/trigger{slash}", {}).status_code == 201


def test_a_name_that_is_taken_in_the_project_is_refused_and_free_in_another(root, make_task):
    make_task("load")
    body = {"name": "load", "executor": "callable", "command": NOOP}
    is_problem(root.post("/api/tasks", {**body, "project": "analytics"}), 400, "name")
    assert root.post("/api/tasks", body).status_code == 201


def test_a_change_of_the_command_makes_a_version_and_a_change_of_the_name_does_not(api, alice, make_task):
    task, client = make_task(), api(alice)
    assert client.patch(f"/api/tasks/{task.pk}", {"name": "store"}).json()["version"] == 1
    changed = client.patch(f"/api/tasks/{task.pk}", {"command": "workers_app.samples.echo"}).json()
    assert changed["version"] == 2 and changed["name"] == "store"
    versions = client.get(f"/api/tasks/{task.pk}/versions").json()["results"]
    assert [(v["number"], v["command"]) for v in versions] == [(2, "workers_app.samples.echo"), (1, NOOP)]
    assert versions[0]["created_by"] == "alice"


def test_an_edit_of_what_somebody_else_changed_meanwhile_is_refused(api, alice, make_task):
    task, client = make_task(), api(alice)
    path = f"/api/tasks/{task.pk}"
    seen = client.get(path)["ETag"]
    first = client.patch(path, {"description": "mine"}, headers={"If-Match": seen})
    assert first.status_code == 200 and first["ETag"] != seen
    for method in ("PATCH", "PUT"):
        body = {"name": "load", "executor": "callable", "command": NOOP, "description": "theirs"}
        response = client.send(method, path, body, headers={"If-Match": seen})
        assert is_problem(response, 412)["code"] == "stale_edit"
    is_problem(client.delete(path, headers={"If-Match": seen}), 412)
    assert client.get(path).json()["description"] == "mine"
    assert client.patch(path, {}, headers={"If-Match": f'"other", {first["ETag"]}'}).status_code == 200
    assert client.patch(path, {}, headers={"If-Match": "*"}).status_code == 200


def test_an_edit_of_a_schedule_makes_the_entity_tag_of_its_task_stale(api, alice, make_task):
    task, other, client = make_task(schedule="0 2 * * *"), make_task("other"), api(alice)
    path, apart = f"/api/tasks/{task.pk}", client.get(f"/api/tasks/{other.pk}")["ETag"]
    schedule = client.get(path).json()["schedules"][0]
    body = {"name": "load", "executor": "callable", "command": NOOP, "schedule": "0 2 * * *"}
    edits = (
        ("PATCH", f"/api/schedules/{schedule}", {"expression": "0 5 * * *"}),
        ("POST", f"{path}/schedules", {"expression": "0 6 * * *"}),
        ("DELETE", f"/api/schedules/{schedule}", None),
    )
    for method, address, change in edits:
        seen = client.get(path)["ETag"]
        assert client.send(method, address, change).status_code in (200, 201, 204)
        for stale in ("PUT", "DELETE"):
            answer = client.send(stale, path, body if stale == "PUT" else None, headers={"If-Match": seen})
            is_problem(answer, 412)
    assert client.get(path).json()["schedule"] == "0 6 * * *"
    assert client.get(f"/api/tasks/{other.pk}")["ETag"] == apart


def test_the_tag_of_an_answer_is_the_tag_of_the_task(root):
    made = root.post("/api/tasks", SEED)
    assert root.get(made["Location"])["ETag"] == made["ETag"]
    changed = root.patch(made["Location"], {"schedule": "0 4 * * *"})
    assert root.get(made["Location"])["ETag"] == changed["ETag"] != made["ETag"]


def test_put_replaces_and_patch_leaves_what_it_does_not_name(api, alice, make_task):
    task, client = make_task(description="long", retry_count=5, priority=75), api(alice)
    path = f"/api/tasks/{task.pk}"
    assert client.patch(path, {"retry_count": 6}).json()["description"] == "long"
    body = {"name": "load", "project": "analytics", "executor": "callable", "command": NOOP}
    replaced = client.put(path, body).json()
    assert (replaced["description"], replaced["retry_count"], replaced["priority"]) == ("", 0, "normal")
    is_problem(client.put(path, {"name": "load"}), 400, "executor", "command")


def test_what_was_read_can_be_sent_back_whole_but_engine_columns_cannot_be_changed(api, alice, make_task):
    task, client = make_task(schedule="0 2 * * *"), api(alice)
    path = f"/api/tasks/{task.pk}"
    read = client.get(path).json()
    again = client.put(path, {**read, "description": "new"})
    assert again.status_code == 200, again.content
    assert again.json()["schedule"] == "0 2 * * *" and again.json()["version"] == 1
    for field, value in (("paused", True), ("id", 5), ("version", 9), ("created_at", "2001-01-01T00:00:00Z")):
        is_problem(client.patch(path, {field: value}), 400, field)
    assert not Task.objects.get(pk=task.pk).paused


def test_the_short_schedule_can_be_set_changed_and_taken_away(api, alice, make_task):
    task, client = make_task(), api(alice)
    path = f"/api/tasks/{task.pk}"
    assert client.patch(path, {"schedule": "0 2 * * *"}).json()["schedule"] == "0 2 * * *"
    changed = client.patch(path, {"schedule": "0 3 * * *"}).json()
    assert changed["schedule"] == "0 3 * * *" and len(changed["schedules"]) == 1
    assert client.patch(path, {"schedule": None}).json()["schedules"] == []


def test_a_task_with_several_schedules_keeps_them_when_null_is_sent_back(api, alice, make_task):
    task, client = make_task(), api(alice)
    path = f"/api/tasks/{task.pk}"
    for body in ({"expression": "0 2 * * *"}, {"kind": "interval", "interval_seconds": 60}):
        assert client.post(f"{path}/schedules", body).status_code == 201
    assert client.patch(path, {"schedule": None}).status_code == 200
    assert Schedule.objects.filter(task=task).count() == 2
    is_problem(client.patch(path, {"schedule": "0 4 * * *"}), 400, "schedule")


def test_a_deleted_task_is_gone_with_its_runs_and_the_others_stay(api, alice, make_task):
    task, other, client = make_task(), make_task("other"), api(alice)
    for each in (task, other):
        client.post(f"/api/tasks/{each.pk}/trigger", {})
    assert client.delete(f"/api/tasks/{task.pk}").status_code == 204
    is_problem(client.get(f"/api/tasks/{task.pk}"), 404)
    assert list(Run.objects.values_list("task_id", flat=True)) == [other.pk]


def test_pause_tells_its_reason_and_resume_forgets_it(api, bob, make_task):
    task, client = make_task(), api(bob)
    paused = client.post(f"/api/tasks/{task.pk}/pause", {"reason": "disk full"})
    assert paused.status_code == 200 and paused["ETag"]
    assert (paused.json()["paused"], paused.json()["paused_reason"]) == (True, "disk full")
    assert client.post(f"/api/tasks/{task.pk}/resume").json()["paused_reason"] == ""
    is_problem(client.post(f"/api/tasks/{task.pk}/pause", {"until": 1}), 400, "until")


def test_a_pause_may_have_an_end_and_say_what_happens_meanwhile(api, bob, make_task):
    task, client = make_task(), api(bob)
    path, year = f"/api/tasks/{task.pk}", datetime.now(UTC).year + 1
    paused = client.post(f"{path}/pause", {"until": "2099-01-01T08:00:00+01:00", "mode": "queue"})
    assert is_problem(paused, 400, "until")
    paused = client.post(f"{path}/pause", {"until": f"{year}-01-01T08:00:00+01:00", "mode": "drain"}).json()
    assert (paused["pause_mode"], paused["paused_until"]) == ("drain", f"{year}-01-01T07:00:00Z")
    asked = client.post(f"{path}/trigger", {}), client.post(f"{path}/trigger-batch", {"items": [{}]})
    for answer in asked:
        refused = is_problem(answer, 409)
        assert (refused["code"], refused["pause_mode"]) == ("wrong_state", "drain")
    for body, field in (
        ({"mode": "stop"}, "mode"),
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"until": f"{year}-01-01T08:00:00"}, "until"),
    ):
        is_problem(client.post(f"{path}/pause", body), 400, field)
    resumed = client.post(f"{path}/resume").json()
    assert (resumed["pause_mode"], resumed["paused_until"]) == ("drop", None)
    assert client.post(f"{path}/trigger", {}).status_code == 201


def test_the_list_filters_by_name_project_executor_and_pause(api, root_user, make_task):
    make_task("load_a"), make_task("store_b")
    root = api(root_user)
    root.post("/api/tasks", {"name": "load_c", "executor": "shell", "command": "true"})

    def names(query):
        return [task["name"] for task in root.get(f"/api/tasks?ordering=name&{query}").json()["results"]]

    assert names("") == ["load_a", "load_c", "store_b"]
    assert names("name=load") == ["load_a", "load_c"]
    assert names("project=analytics") == ["load_a", "store_b"]
    assert names("executor=shell") == ["load_c"]
    assert names("paused=true") == []


def test_upcoming_merges_the_schedules_of_a_task_and_leaves_out_disabled_ones(api, alice, make_task):
    task, client = make_task(), api(alice)
    path = f"/api/tasks/{task.pk}"
    hourly = client.post(f"{path}/schedules", {"expression": "0 * * * *", "time_zone": "Asia/Kolkata"}).json()["id"]
    client.post(f"{path}/schedules", {"kind": "interval", "interval_seconds": 600})
    client.post(f"{path}/schedules", {"kind": "interval", "interval_seconds": 1, "enabled": False})
    answer = client.get(f"{path}/upcoming?count=14").json()
    fires = [fire["at"] for fire in answer["results"]]
    assert len(fires) == 14 and fires == sorted(fires) and answer["paused"] is False
    local = [fire["local"] for fire in answer["results"] if fire["schedule"] == hourly]
    assert len(local) == 2 and all(text.endswith("+05:30") for text in local)
    is_problem(client.get(f"{path}/upcoming?count=0"), 400, "count")
    is_problem(client.get(f"{path}/upcoming?count=x"), 400, "count")


def test_stats_of_a_task_count_its_runs_alone(api, alice, make_task):
    task, other, client = make_task(), make_task("other"), api(alice)
    for each in (task, task, other):
        client.post(f"/api/tasks/{each.pk}/trigger", {})
    stats = client.get(f"/api/tasks/{task.pk}/stats").json()
    assert stats["runs"]["waiting"] == 2 and stats["success_rate"] is None
    assert stats["duration_ms"] == {"p50": None, "p99": None}
