"""Edges, cycles and the graph around a task; projects and pools."""

from __future__ import annotations

import pytest

from access_app.actors import system_actor
from access_app.roles import grant
from tasks_app.models import Pool, Project, TaskDependency
from tests.api.client import NOOP, default_pool, is_problem


@pytest.fixture
def client(api, alice):
    return api(alice)


def join(client, upstream, downstream):
    return client.post("/api/dependencies", {"upstream": upstream.pk, "downstream": downstream.pk})


def test_an_edge_is_made_listed_and_removed(client, make_task):
    a, b = make_task("a"), make_task("b")
    made = join(client, a, b)
    assert made.status_code == 201
    assert (made.json()["upstream"], made.json()["downstream"]) == (a.pk, b.pk)
    assert [edge["id"] for edge in client.get("/api/dependencies").json()["results"]] == [made.json()["id"]]
    assert client.get(f"/api/dependencies?upstream={b.pk}").json()["results"] == []
    is_problem(join(client, a, b), 400, "downstream")
    assert client.delete(f"/api/dependencies/{made.json()['id']}").status_code == 204
    assert not TaskDependency.objects.exists()


def test_a_cycle_is_refused_with_its_path(client, make_task):
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    join(client, a, b), join(client, b, c)
    content = is_problem(join(client, c, a), 409)
    assert content["code"] == "dependency_cycle"
    assert content["path"][0] == content["path"][-1] and set(content["path"]) == {"a", "b", "c"}
    assert is_problem(join(client, a, a), 409)["path"] == ["a", "a"]
    assert TaskDependency.objects.count() == 2


def test_an_edge_is_changed_field_by_field(client, make_task):
    a, b = make_task("a"), make_task("b")
    body = {"upstream": a.pk, "downstream": b.pk, "condition": "output.rows > 0"}
    made = client.post("/api/dependencies", body).json()
    ordinary = {"condition": "output.rows > 0", "period": None, "period_back": 0, "period_policy": "wait"}
    assert made | ordinary == made
    path = f"/api/dependencies/{made['id']}"
    by_period = {"condition": "", "period": "day", "period_back": 1, "period_policy": "fail"}
    assert client.patch(path, by_period).json() | by_period == client.get(path).json()
    assert client.patch(path, {"period_back": 2}).json()["period_back"] == 2
    assert client.patch(path, ordinary).json() == made
    for change, field in (
        ({"condition": "output.rows >"}, "condition"),
        ({"condition": "output.rows > 0", "period": "day"}, "condition"),
        ({"condition": "x" * 1001}, "condition"),
        ({"condition": None}, "condition"),
        ({"period": "year"}, "period"),
        ({"period_back": 1}, "period_back"),
        ({"period_back": 101, "period": "day"}, "period_back"),
        ({"period_policy": "skip"}, "period_policy"),
        ({"upstream": b.pk}, "upstream"),
    ):
        is_problem(client.patch(path, change), 400, field)
    assert client.get(path).json() == made
    assert client.get(f"/api/tasks/{a.pk}/graph").json()["edges"] == [
        {"id": made["id"], "upstream": a.pk, "downstream": b.pk, **ordinary}
    ]


def test_an_edit_that_closes_a_cycle_is_refused_with_its_path(client, make_task):
    a, b = make_task("a"), make_task("b")
    join(client, a, b)
    back = {"upstream": b.pk, "downstream": a.pk, "period": "day"}
    assert is_problem(client.post("/api/dependencies", back), 409)["code"] == "dependency_cycle"
    made = client.post("/api/dependencies", {**back, "period_back": 1})
    assert made.status_code == 201
    content = is_problem(client.patch(f"/api/dependencies/{made.json()['id']}", {"period_back": 0}), 409)
    assert content["path"] in (["a", "b", "a"], ["b", "a", "b"])


@pytest.mark.parametrize("value", [None, "1", 0, -1, 10**30, [], 999_999])
def test_an_end_that_is_no_task_is_refused_at_its_field(client, make_task, value):
    is_problem(client.post("/api/dependencies", {"upstream": value, "downstream": make_task().pk}), 400, "upstream")


def test_the_graph_holds_the_connected_tasks_and_no_others(client, make_task, django_assert_max_num_queries):
    tasks = [make_task(name) for name in "abcdef"]
    a, b, c, d, e, f = tasks
    for upstream, downstream in ((a, b), (a, c), (b, d), (c, d), (e, f)):
        join(client, upstream, downstream)
    with django_assert_max_num_queries(14):
        graph = client.get(f"/api/tasks/{b.pk}/graph").json()
    assert {node["name"] for node in graph["nodes"]} == {"a", "b", "c", "d"} and graph["complete"]
    assert [(edge["upstream"], edge["downstream"]) for edge in graph["edges"]] == [
        (a.pk, b.pk),
        (a.pk, c.pk),
        (b.pk, d.pk),
        (c.pk, d.pk),
    ]
    assert client.get(f"/api/tasks/{make_task('alone').pk}/graph").json()["edges"] == []


def test_the_graph_ends_where_the_view_of_its_reader_ends(api, client, bob, root_user, make_task):
    from datetime import UTC, datetime

    from tasks_app.services import tasks

    foreign_project = Project.objects.create(name="foreign")
    fields = {"project": foreign_project, "pool": default_pool(), "executor": "callable", "command": NOOP}
    hidden = tasks.create(system_actor(), {"name": "hidden", **fields}, now=datetime.now(UTC))
    a, b = make_task("a"), make_task("b")
    root = api(root_user)
    join(root, a, hidden), join(root, hidden, b)
    assert {node["name"] for node in client.get(f"/api/tasks/{a.pk}/graph").json()["nodes"]} == {"a"}
    assert client.get("/api/dependencies").json()["results"] == []
    is_problem(join(client, a, hidden), 400, "downstream")
    # The cycle goes through a task that alice may not see: it is refused without naming it.
    assert "hidden" not in is_problem(join(client, b, a), 409)["path"]
    grant(bob, "editor", foreign_project)
    assert len(api(bob).get(f"/api/tasks/{a.pk}/graph").json()["nodes"]) == 3


def test_projects_are_made_by_administrators_and_seen_by_members(api, client, root_user, project):
    assert [row["name"] for row in client.get("/api/projects").json()["results"]] == ["analytics"]
    is_problem(client.post("/api/projects", {"name": "mine"}), 403)
    root = api(root_user)
    made = root.post("/api/projects", {"name": "finance"})
    assert made.status_code == 201
    assert root.get(f"/api/projects/{made.json()['id']}").json()["name"] == "finance"
    is_problem(client.get(f"/api/projects/{made.json()['id']}"), 404)
    is_problem(root.post("/api/projects", {"name": "finance"}), 400, "name")
    for name in ("", "a\nb", "x" * 101, 5, None):
        is_problem(root.post("/api/projects", {"name": name}), 400, "name")


def test_pools_are_changed_by_administrators_and_seen_by_members(api, client, root_user, make_task):
    task = make_task()
    client.post(f"/api/tasks/{task.pk}/trigger", {})
    assert [row["name"] for row in client.get("/api/pools").json()["results"]] == ["default"]
    pool = default_pool()
    is_problem(client.patch(f"/api/pools/{pool.pk}", {"slots": 5}), 403)
    root = api(root_user)
    assert root.patch(f"/api/pools/{pool.pk}", {"slots": 5}).json()["slots"] == 5
    assert root.patch(f"/api/pools/{pool.pk}", {"slots": None}).json()["slots"] is None
    assert root.post("/api/pools", {"name": "big", "slots": 100}).status_code == 201
    for body, field in (
        ({"name": "big"}, "name"),
        ({"name": "Big one"}, "name"),
        ({"name": "b", "slots": 0}, "slots"),
        ({"name": "b", "slots": 2**31}, "slots"),
        ({"name": "b", "slots": "5"}, "slots"),
        ({"name": "b", "colour": 1}, "colour"),
    ):
        is_problem(root.post("/api/pools", body), 400, field)
    is_problem(root.patch(f"/api/pools/{pool.pk}", {"name": "other"}), 400, "name")
    assert set(Pool.objects.values_list("name", flat=True)) == {"default", "big"}
