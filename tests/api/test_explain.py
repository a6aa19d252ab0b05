"""GET /api/runs/{id}/explain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from access_app.actors import system_actor
from dispatcher_app.release import release_ready
from tasks_app.services import runs
from tests.api.client import is_problem
from workers_app.models import Worker

pytestmark = pytest.mark.django_db


def test_it_answers_every_gate_with_holders_and_estimate(api, alice, make_task):
    now = datetime.now(UTC)
    times = {"started_at": now, "beat_at": now, "lease_until": now + timedelta(hours=1)}
    task = make_task(max_concurrent=1)
    Worker.objects.create(name="w", host="h", pid=1, pool=task.pool, slots=1, **times)
    (live, _), (run, _) = (runs.trigger(system_actor(), task, runs.Request(), now=now) for _ in range(2))
    client = api(alice)
    release_ready(now, actor="test")
    answer = client.get(f"/api/runs/{run.pk}/explain").json()
    assert (answer["state"], answer["closed"]) == ("waiting", "overlap")
    (gate,) = [gate for gate in answer["gates"] if not gate["open"]]
    assert gate == {
        "name": "overlap",
        "open": False,
        "detail": "1 of 1 runs of its task are live.",
        "holders": [{"run": live.pk, "task": task.name, "state": "queued"}],
        "estimate_at": None,
    }
    answer = client.get(f"/api/runs/{live.pk}/explain/").json()
    assert (answer["state"], answer["closed"]) == ("queued", None)


def test_a_time_that_is_known_is_in_utc(api, alice, make_task):
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    run, _ = runs.trigger(system_actor(), make_task(), runs.Request(not_before=at), now=datetime.now(UTC))
    answer = api(alice).get(f"/api/runs/{run.pk}/explain").json()
    (due,) = [gate for gate in answer["gates"] if gate["name"] == "due"]
    assert (answer["closed"], due["estimate_at"]) == ("due", at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def test_a_foreign_run_is_not_there(api, bob, charlie, make_task):
    run, _ = runs.trigger(system_actor(), make_task(), runs.Request(), now=datetime.now(UTC))
    is_problem(api(bob).get(f"/api/runs/{run.pk}/explain?x=1"), 400, "x")
    is_problem(api(charlie).get(f"/api/runs/{run.pk}/explain"), 404)
    is_problem(api(bob).get("/api/runs/999999/explain"), 404)
