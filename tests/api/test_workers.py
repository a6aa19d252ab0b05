"""Workers over the API: what is asked of them, what they tell."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tasks_app.rowset import database_now
from tests.api.client import is_problem
from tests.workers_app.test_worker_service import serving

pytestmark = pytest.mark.django_db


def test_the_api_cordons_uncordons_and_drains_and_answers_the_worker(api, root_user):
    root, worker = api(root_user), serving()
    path = f"/api/workers/{worker.pk}"
    assert [root.post(f"{path}/{verb}").json()["state"] for verb in ("cordon", "uncordon", "drain")] == [
        "cordoned", "online", "draining",
    ]  # fmt: skip
    assert is_problem(root.post(f"{path}/cordon"), 409)["code"] == "wrong_state"
    assert root.get(path).json()["state"] == "draining"
    is_problem(root.post(f"{path}/drain", {"when": "now"}), 400, "when")
    is_problem(root.post(f"/api/workers/{uuid4()}/drain"), 404)


def test_the_api_tells_the_load_of_the_last_beat(api, alice, project):
    load: dict[str, Any] = {"slots_used": 3, "cpu_percent": 12.5, "memory_percent": 40.0, "memory_bytes": 1024}
    loaded, silent = serving(**load), serving()
    client = api(alice)
    assert client.get(f"/api/workers/{loaded.pk}").json()["load"] == load
    assert client.get(f"/api/workers/{silent.pk}").json()["load"] == {
        "slots_used": 0, "cpu_percent": None, "memory_percent": None, "memory_bytes": None,
    }  # fmt: skip


@pytest.mark.parametrize("state", ["online", "cordoned", "draining", "lost", "offline"])
def test_the_list_is_filtered_by_the_state_that_it_shows(api, alice, project, state):
    made = {each: serving(each) for each in ("online", "cordoned", "draining", "lost", "offline")}
    silent = serving("cordoned", lease_until=database_now() - timedelta(seconds=1))
    found = api(alice).get(f"/api/workers?state={state}").json()["results"]
    assert {row["id"] for row in found} == {
        str(worker.pk) for worker in ([made[state], silent] if state == "lost" else [made[state]])
    }
    assert {row["state"] for row in found} == {state}
