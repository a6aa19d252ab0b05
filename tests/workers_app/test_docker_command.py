"""Containers by a docker command, here one of the tests whose containers outlive it as those of the real one do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app import fake_docker
from tests.workers_app.jobs import is_alive, make_job, run, wait_until
from workers_app.executors import container
from workers_app.jobs import Control
from workers_app.limits import Limits

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def engine(settings, tmp_path):
    command = tmp_path / "docker"
    command.write_text(f'#!/bin/sh\nFAKE_DOCKER={tmp_path} exec "{sys.executable}" "{fake_docker.__file__}" "$@"\n')
    command.chmod(0o755)
    settings.SCHEDULER_CONTAINER_COMMAND = str(command)
    settings.SCHEDULER_KILL_GRACE_SECONDS = 0.3
    return tmp_path


def asked(engine: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((engine / "asked.json").read_text())
    return told


def execute(command: str, control: Control | None = None, **fields):
    return run(container.execute, make_job(command, executor="container", **fields), control)


def test_an_image_runs_with_its_arguments_and_its_last_json_line_is_the_output(engine):
    result, lines = execute('registry.example:5000/etl/load:1.2 sh -c \'echo begun; echo "{\\"rows\\": 3}"\'')
    assert (result.state, result.exit_code, result.output) == (RunState.SUCCEEDED, 0, {"rows": 3})
    assert lines == ["begun", '{"rows": 3}']
    assert asked(engine)["image"] == "registry.example:5000/etl/load:1.2"


def test_options_of_the_task_and_of_the_worker_reach_the_engine(engine, settings):
    settings.SCHEDULER_CONTAINER_OPTIONS = "--read-only"
    params = {"memory": "512m", "cpus": 1.5, "pull": "always", "entrypoint": ["/bin/echo", "first"]}
    result, lines = execute("box:1 second", run_id=7, attempt=2, params=params)
    assert result.state == RunState.SUCCEEDED and lines == ["first second"]
    options = asked(engine)["options"]
    assert options["--name"] == "scheduler-7-2" and options["--label"] == "scheduler.run=scheduler-7"
    assert (options["--memory"], options["--cpus"], options["--pull"]) == (str(512 * 1024**2), "1.5", "always")
    assert "--rm" in options and "--read-only" in options


def test_variables_reach_the_container_and_not_the_command_line(engine):
    params = {"env": {"WORD": "hid den=#'", "N": 3, "PATH_TO": "/x"}}
    command = "box:1 sh -c 'echo $WORD $N $SCHEDULER_RUN_ID; env'"
    result, lines = execute(command, params=params)
    assert result.state == RunState.SUCCEEDED and lines[0] == "hid den=#' 3 1"
    assert not any("PARAM_" in line or line.startswith("HOME=") for line in lines)
    assert "hid den" not in json.dumps(asked(engine))
    refused, _lines = execute(command, params={"env": {"KEY": "one\ntwo"}})
    assert (refused.reason, refused.retryable) == (Reason.INVALID_PARAMETERS, False) and "KEY" in refused.detail


@pytest.mark.parametrize(
    ("command", "reason", "code"),
    [
        ("box:1 sh -c 'exit 3'", Reason.EXIT_CODE, 3),
        ("box:1 no-such-command", Reason.COMMAND_NOT_FOUND, 127),
        ("missing", Reason.INTERNAL, 125),
    ],
)
def test_what_went_wrong_is_told_apart(engine, command, reason, code):
    result, _lines = execute(command)
    assert (result.state, result.reason, result.exit_code) == (RunState.FAILED, reason, code)


def test_a_host_without_the_command_says_so(settings):
    settings.SCHEDULER_CONTAINER_COMMAND = "no-such-engine"
    result, _lines = execute("box:1")
    assert (result.state, result.reason) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND)
    assert "no-such-engine" in result.detail


DEAF = "box:1 sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done'"


def test_a_container_that_ignores_its_time_limit_is_removed(engine):
    result, lines = execute(DEAF, timeout_seconds=1.5)
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)
    assert wait_until(lambda: not is_alive(int(lines[0])))
    assert not list(engine.glob("*.container"))


@pytest.mark.parametrize("why", [Control.CANCEL, Control.KILL, Control.LOST])
def test_a_container_whose_run_is_ended_is_removed(engine, why):
    control = Control()
    threading.Timer(1.5, control.end, [why]).start()
    result, lines = execute(DEAF, control)
    assert result.state == RunState.CANCELLED
    assert wait_until(lambda: not is_alive(int(lines[0])))
    assert not list(engine.glob("*.container"))


def test_a_container_that_an_earlier_attempt_left_behind_ends_before_the_next_begins(engine, settings):
    left, other = (subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2))
    for process, name, run_name in ((left, "scheduler-7-1", "scheduler-7"), (other, "scheduler-70-1", "scheduler-70")):
        kept = {"pid": process.pid, "label": f"scheduler.run={run_name}"}
        (engine / f"{name}.container").write_text(json.dumps(kept))
    try:
        result, lines = execute("box:1 echo next", run_id=7, attempt=2)
        assert result.state == RunState.SUCCEEDED and lines[-1] == "next"
        assert left.wait(5) < 0 and other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


WORKER = """
import django
django.setup()
from tests.workers_app.jobs import make_job, run
from workers_app.executors import container
from workers_app.reaper import reaper
reaper.start("container-test", 0)
run(container.execute, make_job("box:1 sleep 60", executor="container", run_id=7))
"""


def test_a_container_ends_with_a_worker_that_is_killed(engine, settings):
    variables = os.environ | {"SCHEDULER_CONTAINER_COMMAND": settings.SCHEDULER_CONTAINER_COMMAND}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=variables, cwd=ROOT)
    kept = engine / "scheduler-7-1.container"
    try:
        assert wait_until(lambda: kept.exists() and kept.stat().st_size, 30)
        pid = json.loads(kept.read_text())["pid"]
        assert is_alive(pid)
    finally:
        worker.kill()
        worker.wait()
    assert wait_until(lambda: not is_alive(pid) and not kept.exists())


def test_limits_of_the_task_are_those_of_the_container_and_not_of_the_command(engine):
    limits = Limits(memory_mb=64, cpu_seconds=9, open_files=50)
    result, lines = execute("box:1 sh -c 'ulimit -n'", limits=limits, params={"memory": "1g"})
    assert result.state == RunState.SUCCEEDED and lines != ["50"]
    told = (engine / "words.json").read_text()
    assert "--memory 67108864" in told and "--ulimit cpu=9 --ulimit nofile=50" in told
