"""Real workers that are cordoned, drained and chosen: who takes what, and who leaves."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
BEAT = {"SCHEDULER_HEARTBEAT_SECONDS": "0.5"}


class People:
    """What somebody does over the API of a stack."""

    def __init__(self, stack: Any) -> None:
        self.stack, self.api = stack, stack.web()

    @property
    def ids(self) -> dict[str, str]:
        return {worker["name"]: worker["id"] for worker in self.api.get("/api/workers").json()["results"]}

    def task(self, name: str, command: str, **fields: Any) -> int:
        made = self.api.post("/api/tasks", json={"name": name, "executor": "shell", "command": command, **fields})
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    def run(self, task_id: int) -> str:
        return f"/api/runs/{self.api.post(f'/api/tasks/{task_id}/trigger', json={}).json()['id']}"

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(path).json()
        return found

    def ended(self, path: str) -> dict[str, Any]:
        self.stack.wait_for("the run to end", lambda: self.get(path)["finished_at"], 30)
        return self.get(path)

    def started(self, path: str) -> None:
        self.stack.wait_for("the run to start", lambda: self.get(path)["state"] == "running", 20)

    def ask(self, name: str, verb: str) -> None:
        """Ask the worker, and wait until it has surely heard: for the second beat from now."""
        path = f"/api/workers/{self.ids[name]}"
        assert self.api.post(f"{path}/{verb}").status_code == 200
        for _ in range(2):
            seen = self.get(path)["beat_at"]
            self.stack.wait_for("a beat", lambda seen=seen: self.get(path)["beat_at"] != seen, 10)


def test_a_cordoned_worker_takes_nothing_and_a_drained_one_finishes_and_leaves_without_losing_a_run(process_stack):
    process_stack.dispatcher()
    first = process_stack.worker("--name", "first", **BEAT)
    process_stack.worker("--name", "second", **BEAT)
    people = People(process_stack)
    short, long = people.task("short", "true"), people.task("long", "sleep 3")
    people.ask("first", "cordon")
    assert {people.ended(people.run(short))["worker_name"] for _ in range(4)} == {"second"}
    people.ask("first", "uncordon")
    people.ask("second", "cordon")
    assert {people.ended(people.run(short))["worker_name"] for _ in range(4)} == {"first"}

    on_first = people.run(long)
    people.started(on_first)
    people.ask("first", "drain")
    assert people.get(on_first)["state"] == "running" and first.process.poll() is None
    waiting = people.run(short)
    assert people.ended(on_first)["state"] == "succeeded"
    assert first.process.wait(20) == 0
    assert people.get(f"/api/workers/{people.ids['first']}")["state"] == "offline"
    assert people.get(waiting)["started_at"] is None
    people.ask("second", "uncordon")
    assert people.ended(waiting)["worker_name"] == "second"
    assert process_stack.rows("select count(*) from tasks_app_run where state <> 'succeeded' or attempt <> 1") == [(0,)]


def test_a_broadcast_reaches_every_worker_with_its_number_and_labels_choose_who_is_left(process_stack):
    process_stack.dispatcher()
    process_stack.worker("--name", "first", "--label", "gpu", **BEAT)
    process_stack.worker("--name", "second", "--label", "gpu", **BEAT)
    process_stack.worker("--name", "third", **BEAT)
    people = People(process_stack)
    command = "echo part $SCHEDULER_SHARD_INDEX of $SCHEDULER_SHARD_TOTAL"
    whole = people.run(people.task("everywhere", command, routing="broadcast", required_labels="gpu"))
    assert people.ended(whole)["worker_name"] == "first"
    found = people.get(f"/api/runs?shard_of={whole.rpartition('/')[2]}")["results"]
    (part,) = [f"/api/runs/{run['id']}" for run in found if run["shard_index"] == 1]
    assert people.ended(part)["worker_name"] == "second"
    assert [line["text"] for line in people.get(f"{part}/log")["lines"]] == ["part 1 of 2"]

    gpu = people.task("gpu", "true", required_labels="gpu", routing="least_loaded")
    people.ask("first", "cordon")
    assert {people.ended(people.run(gpu))["worker_name"] for _ in range(4)} == {"second"}
    people.ask("second", "cordon")
    waiting = people.run(gpu)
    gates = people.get(f"{waiting}/explain")
    assert gates["closed"] == "labels"
    people.ask("first", "uncordon")
    assert people.ended(waiting)["worker_name"] == "first"


def test_what_is_queued_to_a_worker_that_is_killed_or_cordoned_goes_to_another_and_runs_once(process_stack):
    process_stack.dispatcher()
    first = process_stack.worker("--name", "first", concurrency=1, **BEAT)
    people = People(process_stack)
    busy = people.task("busy", "sleep 60", routing="specific", routing_workers=["first"])
    spread = people.task("spread", "true", routing="round_robin")
    held = people.run(busy)
    people.started(held)
    queued = [people.run(spread) for _ in range(5)]
    process_stack.wait_for("them to be queued", lambda: {people.get(run)["state"] for run in queued} == {"queued"}, 20)
    process_stack.worker("--name", "second", concurrency=1, **BEAT)
    people.ask("first", "cordon")
    assert {people.ended(run)["worker_name"] for run in queued} == {"second"}

    people.ask("second", "cordon")
    people.ask("first", "uncordon")
    more = [people.run(spread) for _ in range(5)]
    process_stack.wait_for("them to be queued", lambda: {people.get(run)["state"] for run in more} == {"queued"}, 20)
    first.kill()
    people.ask("second", "uncordon")
    assert {people.ended(run)["worker_name"] for run in more} == {"second"}
    assert people.ended(held)["state"] == "lost"
    assert process_stack.rows("select count(*) from tasks_app_run where attempt <> 1") == [(0,)]
