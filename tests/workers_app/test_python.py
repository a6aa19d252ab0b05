"""The python executor: scripts below one folder, and nothing else."""

from __future__ import annotations

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import make_job, run
from workers_app.executors import python


@pytest.fixture
def scripts(settings, tmp_path):
    settings.SCHEDULER_SCRIPTS_DIR = tmp_path / "scripts"
    (tmp_path / "scripts" / "etl").mkdir(parents=True)
    (tmp_path / "secret.py").write_text("print('secret')")
    return settings.SCHEDULER_SCRIPTS_DIR


def execute(command: str, **fields):
    return run(python.execute, make_job(command, executor="python", **fields))


def test_a_script_runs_with_its_arguments_and_its_last_json_line_is_the_output(scripts):
    (scripts / "etl" / "load.py").write_text(
        "import json, os, sys\nprint(sys.argv[1:])\nprint(json.dumps({'n': os.environ['PARAM_n']}))"
    )
    result, lines = execute("etl/load.py --name 'two words'", params={"n": 3})
    assert lines[0] == "['--name', 'two words']"
    assert (result.state, result.output) == (RunState.SUCCEEDED, {"n": "3"})


def test_an_exception_fails_the_run_and_its_trace_is_in_the_output(scripts):
    (scripts / "bad.py").write_text("raise ValueError('no rows')")
    result, lines = execute("bad.py")
    assert (result.state, result.exit_code) == (RunState.FAILED, 1)
    assert lines[-1] == "ValueError: no rows"


@pytest.mark.parametrize("command", ["missing.py", "etl", "etl/none/deep.py"])
def test_a_missing_script_is_said_and_may_be_tried_again(scripts, command):
    result, _lines = execute(command)
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.SCRIPT_MISSING, True)
    assert command.split()[0] in result.detail


@pytest.mark.parametrize("command", ["../secret.py", "etl/../../secret.py", "/etc/passwd", "link.py", "up/secret.py"])
def test_no_path_and_no_link_leads_out_of_the_folder(scripts, tmp_path, command):
    (scripts / "link.py").symlink_to(tmp_path / "secret.py")
    (scripts / "up").symlink_to(tmp_path)
    result, lines = execute(command)
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.SCRIPT_MISSING, False)
    assert lines == []


def test_a_link_within_the_folder_is_followed(scripts):
    (scripts / "etl" / "real.py").write_text("print('real')")
    (scripts / "alias.py").symlink_to(scripts / "etl" / "real.py")
    assert execute("alias.py")[1] == ["real"]
