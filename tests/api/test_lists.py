"""Pages that neither repeat nor lose rows, and lists whose cost does not grow with their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from access_app.actors import system_actor
from tasks_app.models import Run, Task
from tasks_app.services import runs, schedules
from tests.api.client import default_pool
from workers_app.models import Worker

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def client(api, alice):
    return api(alice)


def all_pages(client, url):
    pages = []
    while url:
        content = client.get(url).json()
        pages.append(content)
        url = content["next"]
    return pages


@pytest.mark.parametrize("ordering", ["id", "-id", "name", "-name", "priority", "-priority", "updated_at"])
def test_pages_hold_every_row_once_in_order_also_where_values_repeat(client, make_task, ordering):
    for place, name in enumerate("gcaebdf"):
        make_task(name, priority=[50, 20, 50][place % 3])
    field = ordering.lstrip("-")
    names = ["id"] if field == "id" else [field, "id"]
    sign = "-" if ordering.startswith("-") else ""
    expected = list(Task.objects.order_by(*(sign + name for name in names)).values_list("pk", flat=True))
    pages = all_pages(client, f"/api/tasks?limit=3&ordering={ordering}")
    assert [len(page["results"]) for page in pages] == [3, 3, 1]
    assert [row["id"] for page in pages for row in page["results"]] == expected
    assert pages[0]["previous"] is None and pages[-1]["next"] is None
    back = client.get(pages[-1]["previous"]).json()
    assert back["results"] == pages[1]["results"]
    first = client.get(back["previous"]).json()
    assert first["results"] == pages[0]["results"] and first["previous"] is None and first["next"]


def test_rows_that_come_and_go_between_two_pages_neither_repeat_nor_hide_others(client, make_task):
    tasks = [make_task(f"t{place}") for place in range(6)]
    page = client.get("/api/tasks?limit=2&ordering=-id").json()
    make_task("late")
    Task.objects.get(pk=tasks[4].pk).schedules.all().delete()
    from tasks_app.services import tasks as service

    service.delete(system_actor(), tasks[4], now=NOW)
    following = client.get(page["next"]).json()
    assert [row["id"] for row in following["results"]] == [tasks[3].pk, tasks[2].pk]


def test_the_next_page_keeps_filters_and_limit_and_a_cursor_fits_its_own_order_alone(client, make_task):
    for name in ("load_a", "load_b", "load_c", "other"):
        make_task(name)
    page = client.get("/api/tasks?limit=2&name=load&ordering=name").json()
    assert "name=load" in page["next"] and "limit=2" in page["next"]
    assert [row["name"] for row in client.get(page["next"]).json()["results"]] == ["load_c"]
    wrong = page["next"].replace("ordering=name", "ordering=-name")
    assert client.get(wrong).status_code == 400


def test_without_a_limit_a_page_has_fifty_rows_and_never_more_than_five_hundred(client, make_task):
    task = make_task()
    runs.trigger_batch(system_actor(), task, [runs.Request() for _ in range(501)], now=NOW)
    assert len(client.get("/api/runs").json()["results"]) == 50
    assert len(client.get("/api/runs?limit=500").json()["results"]) == 500


def add_rows(make_task, count):
    """`count` more of everything that lists show."""
    start = Task.objects.count()
    for place in range(start, start + count):
        task = make_task(f"t{place}", schedule="0 2 * * *")
        schedules.create(system_actor(), task, {"kind": "interval", "interval_seconds": 60}, now=NOW)
        runs.trigger(system_actor(), task, runs.Request(), now=NOW)
        worker = Worker.objects.create(
            id=uuid4(),
            name="w",
            host="h",
            pid=1,
            pool=default_pool(),
            slots=1,
            started_at=NOW,
            beat_at=NOW,
            lease_until=NOW,
        )
        Run.objects.filter(task=task).update(worker_id=worker.pk)


@pytest.mark.parametrize(
    "path",
    ["tasks", "runs", "workers", "pools", "projects", "dependencies", "auth/keys", "system/stats"],
)
def test_the_number_of_queries_does_not_grow_with_the_rows(client, make_task, path, django_assert_max_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    add_rows(make_task, 1)
    client.get(f"/api/{path}")
    with CaptureQueriesContext(connection) as few:
        client.get(f"/api/{path}")
    add_rows(make_task, 12)
    with CaptureQueriesContext(connection) as many:
        client.get(f"/api/{path}")
    assert len(many) == len(few) <= 14, [query["sql"] for query in many]
