"""Resources over the API, and what tasks take of them."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app.models import Calendar, Resource
from tests.api.client import NOOP, is_problem

SHAPE = {
    "id",
    "name",
    "description",
    "capacity",
    "rate_limit",
    "rate_window_seconds",
    "calendar",
    "breaker_failures",
    "breaker_ratio",
    "breaker_window",
    "breaker_minimum",
    "breaker_open_seconds",
    "breaker_open_seconds_at_most",
    "breaker",
    "in_use",
    "held_runs",
}


@pytest.fixture
def root(api, root_user):
    return api(root_user)


def test_a_resource_is_made_read_changed_tripped_reset_and_deleted(root):
    calendar = Calendar.objects.create(name="nights")
    body = {"name": "api", "capacity": 5, "calendar": calendar.pk, "breaker_failures": 3, "breaker_ratio": 0.5}
    made = root.post("/api/resources", body)
    assert made.status_code == 201 and made.json().keys() == SHAPE
    path = f"/api/resources/{made.json()['id']}"
    assert made.json()["breaker"] == {
        "state": "closed", "changed_at": None, "open_until": None, "failures_in_a_row": 0, "openings": 0,
    }  # fmt: skip
    assert root.patch(path, {"capacity": None, "calendar": None}).json()["calendar"] is None
    tripped = root.post(f"{path}/trip").json()
    assert tripped["breaker"]["state"] == "open" and tripped["breaker"]["open_until"].endswith("Z")
    assert root.get(path).json() == tripped == root.get("/api/resources").json()["results"][0]
    assert root.post(f"{path}/reset", {}).json()["breaker"]["state"] == "closed"
    assert root.delete(path).status_code == 204
    is_problem(root.get(path), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "A"}, "name"),
        ({"capacity": "5"}, "capacity"),
        ({"calendar": 10**6}, "calendar"),
        ({"breaker_ratio": 2}, "breaker_ratio"),
        ({"breaker_state": "open"}, "breaker_state"),
        ({"rate_limit": 5}, "rate_window_seconds"),
    ],
)
def test_mistakes_stand_at_their_fields(root, body, field):
    is_problem(root.post("/api/resources", {"name": "api", **body}), 400, field)
    assert not Resource.objects.exists()


def test_the_name_is_chosen_once_and_a_used_resource_stays(root, make_task):
    resource = Resource.objects.create(name="api")
    path = f"/api/resources/{resource.pk}"
    is_problem(root.patch(path, {"name": "new"}), 400, "name")
    assert root.patch(f"/api/tasks/{make_task('reader').pk}", {"resources": ["api"]}).status_code == 200
    assert is_problem(root.delete(path), 409)["code"] == "wrong_state"
    assert is_problem(root.post(f"{path}/trip"), 409)["code"] == "wrong_state"


def test_a_task_says_what_it_takes_by_name_as_a_map_or_as_a_list(root):
    Resource.objects.create(name="db", capacity=4), Resource.objects.create(name="api")
    body = {"name": "t", "executor": "callable", "command": NOOP, "resources": {"db": 2}}
    task = root.post("/api/tasks", body).json()
    path = f"/api/tasks/{task['id']}"
    assert task["resources"] == {"db": 2}
    assert root.patch(path, {"resources": ["api", "db"]}).json()["resources"] == {"api": 1, "db": 1}
    whole = root.get(path).json()
    assert root.patch(path, whole).json()["resources"] == {"api": 1, "db": 1}
    assert root.patch(path, {"description": "x"}).json()["resources"] == {"api": 1, "db": 1}
    for wrong in ({"db": 5}, {"db": "1"}, {"db": True}, {"db": 0}, {"nowhere": 1}, ["nowhere"], [1], "db", None):
        is_problem(root.patch(path, {"resources": wrong}), 400, "resources")
    assert root.put(path, {k: body[k] for k in ("name", "executor", "command")}).json()["resources"] == {}


def test_lists_of_tasks_and_resources_ask_no_query_for_each_row(root, make_task):
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert root.get(path).status_code == 200
        return len(captured)

    def more(start: int, count: int) -> None:
        for number in range(start, start + count):
            Resource.objects.create(name=f"r{number}", breaker_failures=1, breaker_state="open")
            root.patch(f"/api/tasks/{make_task(f't{number}').pk}", {"resources": [f"r{number}"]})

    more(0, 2)
    few = [queries("/api/tasks"), queries("/api/resources")]
    more(2, 8)
    assert [queries("/api/tasks"), queries("/api/resources")] == few
