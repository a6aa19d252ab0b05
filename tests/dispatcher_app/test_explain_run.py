"""manage.py explain_run."""

from __future__ import annotations

import json

import pytest

from tests.tasks_app.command_line import make_run, make_task, refused, run_command

pytestmark = pytest.mark.django_db


def test_it_prints_a_line_for_each_gate():
    task = make_task()
    run = make_run(task)
    lines = run_command("explain_run", str(run.pk)).splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("open") and "It waits for its gates." in lines[0]
    (worker,) = [line for line in lines if line.startswith("closed")]
    assert "start one" in worker


def test_json_holds_what_the_api_answers():
    run = make_run(make_task())
    found = json.loads(run_command("explain_run", str(run.pk), "--json"))
    assert (found["run"], found["state"], found["closed"]) == (run.pk, "waiting", "worker")
    assert {gate["name"] for gate in found["gates"]} >= {"hold", "pool", "turn"}


def test_a_run_that_is_not_there_is_refused():
    error = refused("explain_run", "7")
    assert (error.returncode, str(error)) == (2, "There is no run 7.")
