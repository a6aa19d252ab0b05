"""Backfills over the API."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from access_app.actors import system_actor
from tasks_app.models import Backfill, Run, Schedule
from tasks_app.services import schedules
from tests.api.client import is_problem

NOW = datetime.now(UTC)
FROM, TO = "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z"


@pytest.fixture
def schedule(make_task) -> Schedule:
    return schedules.create(system_actor(), make_task(), {"expression": "0 */12 * * *"}, now=NOW)


@pytest.fixture
def address(schedule) -> str:
    return f"/api/tasks/{schedule.task_id}/backfill"


def test_a_dry_run_lists_the_instants_in_the_order_in_which_they_would_run(api, alice, address):
    response = api(alice).post(address, {"from": FROM, "to": TO, "order": "newest", "dry_run": True})
    assert response.status_code == 200
    content = response.json()
    assert (content["planned"], len(content["instants"])) == (5, 5)
    assert content["instants"][0] == {
        "nominal_at": TO,
        "planned": True,
        "why_not": "",
        "run": None,
        "state": "",
        "answer": "",
        "reason": "",
    }
    assert Backfill.objects.count() == 0 == Run.objects.count()


def test_a_backfill_is_planned_watched_paused_resumed_and_cancelled(api, alice, address, schedule):
    client = api(alice)
    body = {"from": FROM, "to": TO, "schedule": schedule.pk, "max_concurrent": 2, "params": {"x": 1}}
    response = client.post(address, body)
    assert response.status_code == 201
    made = response.json()
    one = f"/api/backfills/{made['id']}"
    assert response["Location"] == one
    shape = {"task": schedule.task_id, "schedule": schedule.pk, "from": FROM, "to": TO, "order": "oldest", "total": 5}
    shape |= {"state": "active", "reprocess": "none", "max_concurrent": 2, "params": {"x": 1}, "created_by": "alice"}
    assert {name: made[name] for name in shape} == shape
    assert made["runs"]["waiting"] == 5 and sum(made["runs"].values()) == 5
    assert client.get(one).json() == made == client.get("/api/backfills").json()["results"][0]
    assert client.post(f"{one}/pause", {}).json()["state"] == "paused"
    assert client.post(f"{one}/resume", {}).json()["state"] == "active"
    cancelled = client.post(f"{one}/cancel", {"running": True}).json()
    assert (cancelled["state"], cancelled["runs"]["cancelled"]) == ("cancelled", 5)
    is_problem(client.post(f"{one}/pause", {}), 409)
    assert client.get("/api/runs?run_type=backfill").json()["results"][0]["backfill"] == made["id"]


def test_the_list_is_filtered_by_task_project_and_state(api, alice, address, schedule):
    client = api(alice)
    client.post(address, {"from": FROM, "to": TO})
    for query, count in ((f"task={schedule.task_id}", 1), ("task=999999", 0), ("state=paused", 0), ("project=none", 0)):
        assert len(client.get(f"/api/backfills?{query}").json()["results"]) == count


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "from"),
        ({"from": FROM}, "to"),
        ({"from": TO, "to": FROM}, "to"),
        ({"from": FROM, "to": "2999-01-01T00:00:00Z"}, "to"),
        ({"from": FROM, "to": "2026-03-03"}, "to"),
        ({"from": FROM, "to": TO, "schedule": 999999}, "schedule"),
        ({"from": FROM, "to": TO, "reprocess": "some"}, "reprocess"),
        ({"from": FROM, "to": TO, "order": "random"}, "order"),
        ({"from": FROM, "to": TO, "max_concurrent": 0}, "max_concurrent"),
        ({"from": FROM, "to": TO, "max_concurrent": 2**31 - 1}, "max_concurrent"),
        ({"from": FROM, "to": TO, "params": []}, "params"),
        ({"from": FROM, "to": TO, "until": TO}, "until"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_at_its_field(api, alice, address, body, field):
    is_problem(api(alice).post(address, body), 400, field)
    assert Backfill.objects.count() == 0


def test_foreign_backfills_are_not_there(api, alice, charlie, address):
    made = api(alice).post(address, {"from": FROM, "to": TO}).json()["id"]
    stranger = api(charlie)
    assert stranger.get("/api/backfills").json()["results"] == []
    assert stranger.get(f"/api/backfills/{made}").status_code == 404
    assert stranger.post(f"/api/backfills/{made}/cancel", {}).status_code == 404
    assert set(Run.objects.values_list("state", flat=True)) == {"waiting"}
