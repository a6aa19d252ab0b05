"""The stack of real processes that acceptance tests stand on works, and leaves nothing behind."""

from __future__ import annotations

import psutil
import pytest

from tests import environment

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]


def test_a_triggered_run_goes_through_two_dispatchers_and_a_worker_to_its_output(process_stack):
    process_stack.dispatcher()
    process_stack.dispatcher()
    process_stack.worker(concurrency=2)
    api = process_stack.web()
    body = {"name": "greet", "executor": "shell", "command": "echo hello $PARAM_name", "schedule": None}
    task = api.post("/api/tasks", json=body)
    assert task.status_code == 201, task.text
    run = api.post(f"/api/tasks/{task.json()['id']}/trigger", json={"params": {"name": "stack"}})
    assert run.status_code == 201, run.text
    path = f"/api/runs/{run.json()['id']}"
    process_stack.wait_for("the run to end", lambda: api.get(path).json()["state"] == "succeeded", 30)
    assert [line["text"] for line in api.get(f"{path}/log").json()["lines"]] == ["hello stack"]
    assert process_stack.rows("select attempt, count(*) from tasks_app_run group by attempt") == [(1, 1)]


def test_closing_a_stack_ends_what_its_processes_started_and_drops_its_database(stack_template, tmp_path):
    from tests.services import ProcessStack

    stack = ProcessStack(tmp_path, stack_template)
    assert environment.database_exists(stack.database)
    try:
        worker = stack.worker()
        started = psutil.Process(worker.process.pid).children(recursive=True)
        worker.kill()
        assert worker.process.returncode == -9
    finally:
        stack.close()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert not environment.database_exists(stack.database)
