"""Real workers that are cordoned, drained and chosen: who takes what, and who leaves."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.postgresql, pytest.mark.rabbitmq]
BEAT = {"SCHEDULER_HEARTBEAT_SECONDS": "0.5"}


def test_a_cordoned_worker_takes_nothing_and_a_drained_one_finishes_and_leaves_without_losing_a_run(process_stack):
    process_stack.dispatcher()
    first = process_stack.worker("--name", "first", "--label", "gpu", **BEAT)
    process_stack.worker("--name", "second", "--label", "gpu", **BEAT)
    api = process_stack.web()
    ids = {worker["name"]: worker["id"] for worker in api.get("/api/workers").json()["results"]}

    def task(name: str, command: str, **fields: Any) -> int:
        body = {"name": name, "executor": "shell", "command": command, **fields}
        made = api.post("/api/tasks", json=body)
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    def run(task_id: int) -> str:
        return f"/api/runs/{api.post(f'/api/tasks/{task_id}/trigger', json={}).json()['id']}"

    def ended(path: str) -> dict[str, Any]:
        process_stack.wait_for("the run to end", lambda: api.get(path).json()["finished_at"], 30)
        found: dict[str, Any] = api.get(path).json()
        return found

    def asked(name: str, verb: str) -> None:
        assert api.post(f"/api/workers/{ids[name]}/{verb}").status_code == 200
        # Two beats: the first that begins after the question has surely ended.
        seen = api.get(f"/api/workers/{ids[name]}").json()["beat_at"]
        process_stack.wait_for(
            "a beat", lambda: len({seen, api.get(f"/api/workers/{ids[name]}").json()["beat_at"]}) == 2, 10
        )
        seen = api.get(f"/api/workers/{ids[name]}").json()["beat_at"]
        process_stack.wait_for("another", lambda: api.get(f"/api/workers/{ids[name]}").json()["beat_at"] != seen, 10)

    everywhere = task("everywhere", "echo part $SCHEDULER_SHARD_INDEX of $SCHEDULER_SHARD_TOTAL", routing="broadcast")
    whole = run(everywhere)
    assert ended(whole)["worker_name"] == "first"
    (part,) = api.get(f"/api/runs?shard_of={whole.rpartition('/')[2]}").json()["results"]
    assert ended(f"/api/runs/{part['id']}")["worker_name"] == "second"
    lines = api.get(f"/api/runs/{part['id']}/log").json()["lines"]
    assert [line["text"] for line in lines] == ["part 1 of 2"]

    anywhere, gpu = task("anywhere", "true"), task("gpu", "true", required_labels="gpu", routing="least_loaded")
    asked("first", "cordon")
    assert {ended(run(each))["worker_name"] for each in (anywhere, gpu) for _ in range(4)} == {"second"}
    asked("first", "uncordon")
    asked("second", "cordon")
    assert {ended(run(each))["worker_name"] for each in (anywhere, gpu) for _ in range(4)} == {"first"}

    long = run(task("long", "sleep 3", routing="specific", routing_workers=["first"]))
    process_stack.wait_for("the run to start", lambda: api.get(long).json()["state"] == "running", 20)
    asked("first", "drain")
    assert api.get(long).json()["state"] == "running" and first.process.poll() is None
    waiting = [run(anywhere), run(gpu)]
    assert ended(long)["state"] == "succeeded"
    assert first.process.wait(20) == 0
    assert api.get(f"/api/workers/{ids['first']}").json()["state"] == "offline"
    assert {api.get(path).json()["started_at"] for path in waiting} == {None}
    asked("second", "uncordon")
    assert {ended(path)["worker_name"] for path in waiting} == {"second"}
    assert process_stack.rows("select count(*) from tasks_app_run where state <> 'succeeded' or attempt <> 1") == [(0,)]
