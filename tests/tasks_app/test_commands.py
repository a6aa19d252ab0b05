"""The commands that people type: what they print, what they change and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError

from access_app.api.fields import instant
from access_app.models import AuditEntry
from tasks_app.management.door import parse_params
from tasks_app.models import Run, Task
from tasks_app.services import tasks
from tasks_app.states import RunState
from tests.tasks_app.command_line import end, make_run, make_task, refused, run_command
from tests.tasks_app.making import bring, depend, start

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "trigger_task",
    "run_log",
    "cancel_run",
    "rerun_run",
    "pause_task",
    "resume_task",
    "upcoming",
    "import_schedules",
    "load_demo",
]


# Trigger


@pytest.mark.django_db
def test_trigger_task_plans_one_run_with_its_parameters():
    other, task = make_task("other"), make_task()
    text = run_command("trigger_task", "daily", "--param", "count=3", "--param", "name=a b", "--param", "on=true")
    run = Run.objects.get()
    assert f"Run {run.pk} of daily is waiting" in text
    assert run.task_id == task.pk != other.pk
    assert run.params == {"count": 3, "name": "a b", "on": True}
    assert AuditEntry.objects.get(verb="trigger").actor.startswith("command ")


@pytest.mark.django_db
def test_trigger_task_wait_ends_well_when_the_run_succeeds(naps):
    make_task()
    naps.extend([lambda: None, lambda: end(Run.objects.get(), RunState.SUCCEEDED)])
    assert "succeeded" in run_command("trigger_task", "daily", "--wait")
    assert naps == []


@pytest.mark.django_db
def test_trigger_task_wait_fails_with_the_reason_when_the_run_fails(naps):
    make_task()
    naps.append(lambda: end(Run.objects.get(), RunState.FAILED, "Exit code 3."))
    error = refused("trigger_task", "daily", "--wait")
    assert error.returncode == 1 and "failed" in str(error) and "Exit code 3." in str(error)


@pytest.mark.django_db
def test_trigger_task_gives_up_after_the_timeout_and_the_run_goes_on():
    make_task()
    error = refused("trigger_task", "daily", "--wait", "--timeout", "0")
    assert error.returncode == 1 and "still waiting" in str(error)
    assert Run.objects.get().state == RunState.WAITING


@pytest.mark.django_db
def test_trigger_task_answers_json_after_the_wait(naps):
    make_task()
    naps.append(lambda: end(Run.objects.get(), RunState.SUCCEEDED))
    answer = json.loads(run_command("trigger_task", "daily", "--wait", "--json"))
    assert answer["id"] == Run.objects.get().pk
    assert answer["state"] == "succeeded" and answer["finished_at"].endswith("Z")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ["nobody"],
        ["daily", "--project", "nowhere"],
        ["daily", "--param", "no-equals-sign"],
        ["daily", "--param", "x=1", "--param", "x=2"],
        ["daily", "--param", "bad name=1"],
        ["daily", "--param", "x=\udcff"],
        ["daily", "--param", r'x="\u0000"'],
        ["daily", "--param", 'x={"a": 1, "a": 2}'],
        ["\udcff"],
    ],
)
def test_trigger_task_refuses_what_makes_no_sense_and_plans_nothing(arguments):
    make_task()
    assert refused("trigger_task", *arguments).returncode == 2
    assert not Run.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("levels", [50, 700])
def test_trigger_task_refuses_a_parameter_that_is_nested_too_deep(levels):
    make_task()
    assert "more than 50 levels deep" in str(
        refused("trigger_task", "daily", "--param", f"x={'[' * levels}{']' * levels}")
    )
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_a_name_that_two_projects_have_needs_the_project():
    make_task(project="a")
    wanted = make_task(project="b")
    assert "a, b" in str(refused("trigger_task", "daily"))
    run_command("trigger_task", "daily", "--project", "b")
    assert Run.objects.get().task_id == wanted.pk


def test_a_parameter_that_is_no_json_is_text():
    given = ["a=NaN", "b=[1, 2]", "c=", "d=x=y", 'e="3"', "f=03", "g={", "h=" + "[" * 100_000]
    assert parse_params(given) == {
        "a": "NaN",
        "b": [1, 2],
        "c": "",
        "d": "x=y",
        "e": "3",
        "f": "03",
        "g": "{",
        "h": "[" * 100_000,
    }


# Cancel, pause, resume


@pytest.mark.django_db
def test_cancel_run_ends_a_waiting_run_and_not_its_neighbour():
    task = make_task()
    run, neighbour = make_run(task), make_run(task)
    assert "cancelled" in run_command("cancel_run", str(run.pk))
    run.refresh_from_db()
    neighbour.refresh_from_db()
    assert (run.state, neighbour.state) == ("cancelled", "waiting")


@pytest.mark.django_db
def test_cancel_run_kill_asks_for_more_than_cancel_run():
    task = make_task()
    asked, killed = make_run(task), make_run(task)
    for run, options in ((asked, []), (killed, ["--kill"])):
        start(run.pk)
        run_command("cancel_run", str(run.pk), *options)
        run.refresh_from_db()
    assert [run.terminate_requested_at is not None for run in (asked, killed)] == [False, True]
    assert killed.cancel_requested_at is not None


@pytest.mark.django_db
def test_cancel_run_refuses_a_run_that_is_over_and_one_that_is_not_there():
    run = make_run(make_task())
    end(run, RunState.SUCCEEDED)
    assert refused("cancel_run", str(run.pk)).returncode == 2
    assert refused("cancel_run", "999999999999999999999").returncode == 2
    run.refresh_from_db()
    assert run.state == "succeeded" and run.cancel_requested_at is None


@pytest.mark.django_db
def test_pause_task_takes_an_end_and_a_mode():
    task = make_task()
    year = datetime.now(UTC).year + 1
    run_command("pause_task", "daily", "--until", f"{year}-01-31T08:00:00+01:00", "--mode", "drain")
    task.refresh_from_db()
    assert (task.pause_mode, task.paused_until) == ("drain", datetime(year, 1, 31, 7, tzinfo=UTC))
    for until in (f"{year}-01-31T08:00:00", "soon", "2001-01-01T00:00:00Z"):
        assert refused("pause_task", "daily", "--until", until).returncode == 2
    task.refresh_from_db()
    assert task.pause_mode == "drain"


@pytest.mark.django_db
def test_pause_task_and_resume_task_move_one_task_and_are_audited():
    task, other = make_task(), make_task("other")
    run_command("pause_task", "daily", "--reason", "disk full")
    task.refresh_from_db()
    assert task.paused and task.paused_reason == "disk full"
    run_command("resume_task", "daily")
    assert not Task.objects.filter(pk__in=[task.pk, other.pk], paused=True).exists()
    assert list(AuditEntry.objects.filter(object_id=str(task.pk)).order_by("id").values_list("verb", flat=True)) == [
        "create",
        "pause",
        "resume",
    ]


# From a shell


def from_shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_refusal_is_one_sentence_and_exit_code_2_in_a_shell(tmp_path):
    url = f"sqlite:///{tmp_path}/empty.sqlite3"
    assert from_shell("migrate", "--verbosity", "0", DATABASE_URL=url).returncode == 0
    ended = from_shell("cancel_run", "7", DATABASE_URL=url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "There is no run 7.\n")
    ended = from_shell("trigger_task", "nobody", DATABASE_URL=url)
    assert (ended.returncode, ended.stderr) == (2, "There is no task named nobody.\n")


def test_a_database_that_does_not_answer_is_one_sentence_and_exit_code_1():
    ended = from_shell("pause_task", "daily", DATABASE_URL="postgres://nobody@127.0.0.1:1/none")
    assert ended.returncode == 1
    assert ended.stderr.startswith("The database does not answer:") and ended.stderr.count("\n") == 1


@pytest.mark.django_db
def test_a_database_error_reaches_a_calling_program_as_a_command_error(monkeypatch):
    def no_answer(*arguments: Any, **options: Any) -> None:
        raise OperationalError("gone\nfor good")

    make_task()
    monkeypatch.setattr(tasks, "pause", no_answer)
    error = refused("pause_task", "daily")
    assert error.returncode == 1 and "gone" in str(error) and "for good" not in str(error)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command(name, "--help")
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


@pytest.mark.django_db
def test_times_are_utc_whatever_the_schedule_says():
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    run = make_run(make_task())
    Run.objects.filter(pk=run.pk).update(due_at=at)
    shown = json.loads(run_command("cancel_run", str(run.pk), "--json"))["due_at"]
    assert shown == "2026-03-01T12:00:00Z" == instant(at)


# Run again


@pytest.mark.django_db
def test_rerun_run_plans_a_new_run_of_one_that_is_over():
    run = make_run(make_task())
    assert "is waiting" in str(refused("rerun_run", str(run.pk)))
    end(run, RunState.FAILED)
    text = run_command("rerun_run", str(run.pk))
    again = Run.objects.get(rerun_of=run)
    assert f"Run {again.pk} is planned." in text
    assert "There is no run 999999" in str(refused("rerun_run", "999999"))


@pytest.mark.django_db
def test_rerun_run_failed_plans_what_failed_and_all_below():
    first, second, third = make_task("first"), make_task("second"), make_task("third")
    depend(first, second, third)
    run = make_run(first)
    assert "wait until all are over" in str(refused("rerun_run", str(run.pk), "--failed"))
    end(run, RunState.SUCCEEDED)
    for below, state in zip(Run.objects.filter(root=run).order_by("pk"), ("failed", "upstream_failed"), strict=True):
        bring(below.pk, RunState(state))
    text = run_command("rerun_run", str(run.pk), "--failed")
    again = Run.objects.get(task=second, rerun_of__isnull=False)
    assert f"Runs planned, from run {again.pk} on: 2." in text
    assert "again already" in str(refused("rerun_run", str(run.pk), "--failed"))
    bring(again.pk, RunState.CANCELLED)
    bring(Run.objects.get(root=again).pk, RunState.CANCELLED)
    answer = json.loads(run_command("rerun_run", str(again.pk), "--failed", "--json"))
    assert (answer["task_name"], answer["state"]) == ("second", "waiting")
