"""The commands that people type: what they print, what they change and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app import transitions
from tasks_app.management.door import parse_params
from tasks_app.management.terminal import terminal_text
from tasks_app.models import Pool, Project, Run, RunOutput, Task
from tasks_app.services import runs, schedules, tasks
from tasks_app.states import RunState

ROOT = Path(__file__).resolve().parents[2]
ACTOR = system_actor("command tester")
NAMES = [
    "trigger_task",
    "run_log",
    "cancel_run",
    "pause_task",
    "resume_task",
    "upcoming",
    "import_schedules",
    "load_demo",
]


def make_task(name: str = "daily", project: str = "default", schedule: str | None = None, **fields: Any) -> Task:
    fields = {"executor": "shell", "command": "echo", "schedule": schedule} | fields
    where = {"project": Project.objects.get_or_create(name=project)[0], "pool": Pool.objects.get(name="default")}
    return tasks.create(ACTOR, {"name": name, **where, **fields}, now=timezone.now())


def make_run(task: Task) -> Run:
    return runs.trigger(ACTOR, task, runs.Request(), now=timezone.now())[0]


def end(run: Run, state: RunState, detail: str = "") -> None:
    """Take the run all the way, as dispatcher and worker do."""
    now, worker_id = timezone.now(), uuid4()
    transitions.enqueue([run.pk], now=now, sweep_at=now + timedelta(minutes=1), actor="dispatcher")
    transitions.claim([(run.pk, 1)], worker_id=worker_id, now=now, actor="worker")
    outcome = transitions.Outcome(run.pk, 1, state, "exit_code" if detail else "", detail)
    transitions.finish([outcome], worker_id=worker_id, now=now, actor="worker")


def write_log(run: Run, first_line: int, *texts: str) -> None:
    lines = [["2026-03-01T12:00:00Z", "stdout", text] for text in texts]
    RunOutput.objects.create(run=run, attempt=1, first_line=first_line, line_count=len(lines), lines=lines)


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str) -> CommandError:
    with pytest.raises(CommandError) as error:
        run_command(*arguments)
    return error.value


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens, one by one, while a command waits; when there is nothing left, waiting on is an error."""
    events: list[Any] = []

    def sleep(seconds: float) -> None:
        events.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    return events


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
        ["\udcff"],
    ],
)
def test_trigger_task_refuses_what_makes_no_sense_and_plans_nothing(arguments):
    make_task()
    assert refused("trigger_task", *arguments).returncode == 2
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
def test_cancel_run_refuses_a_run_that_is_over_and_one_that_is_not_there():
    run = make_run(make_task())
    end(run, RunState.SUCCEEDED)
    assert refused("cancel_run", str(run.pk)).returncode == 2
    assert refused("cancel_run", "999999999999999999999").returncode == 2
    run.refresh_from_db()
    assert run.state == "succeeded" and run.cancel_requested_at is None


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


# Output


@pytest.mark.django_db
def test_run_log_prints_all_lines_of_that_run_in_order():
    task = make_task()
    run, other = make_run(task), make_run(task)
    write_log(run, 0, *(f"line {n}" for n in range(500)))
    for batch in range(1, 5):
        write_log(run, 500 * batch, *(f"line {n}" for n in range(500 * batch, 500 * batch + 500)))
    write_log(other, 0, "foreign")
    assert run_command("run_log", str(run.pk)).splitlines() == [f"line {n}" for n in range(2500)]


@pytest.mark.django_db
def test_run_log_json_says_whether_more_may_come():
    run = make_run(make_task())
    write_log(run, 0, "one", "two")
    answer = json.loads(run_command("run_log", str(run.pk), "--json"))
    assert answer["lines"][1] == {"n": 1, "at": "2026-03-01T12:00:00Z", "stream": "stdout", "text": "two"}
    assert (answer["next_offset"], answer["complete"]) == (2, False)
    end(run, RunState.SUCCEEDED)
    assert json.loads(run_command("run_log", str(run.pk), "--json"))["complete"] is True


@pytest.mark.django_db
def test_run_log_follow_prints_what_comes_later_and_ends_with_the_run(naps):
    run = make_run(make_task())
    write_log(run, 0, "one")

    def last_words() -> None:
        write_log(run, 2, "three")
        end(run, RunState.SUCCEEDED)

    naps.extend([lambda: write_log(run, 1, "two"), last_words])
    assert run_command("run_log", str(run.pk), "--follow").splitlines() == ["one", "two", "three"]
    assert naps == []


@pytest.mark.django_db
def test_run_log_follow_json_is_one_object_per_line():
    run = make_run(make_task())
    write_log(run, 0, "one", "two")
    end(run, RunState.SUCCEEDED)
    lines = run_command("run_log", str(run.pk), "--follow", "--json").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two"]


@pytest.mark.django_db
def test_run_log_of_no_run_is_refused():
    assert refused("run_log", "1000000").returncode == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\tääö", "plain\tääö"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;aGk=\x1b\\text", "text"),
        ("a\x08\x07\x9b31mb\x1b", "a31mb"),
        ("\x1b(0x\x1bcy", "xy"),
    ],
)
def test_a_run_cannot_drive_the_readers_terminal(text, shown):
    assert terminal_text(text) == shown


# Upcoming


@pytest.mark.django_db
def test_upcoming_merges_the_fires_of_all_active_schedules():
    make_task("minutely", schedule="* * * * *")
    hourly = make_task("hourly", schedule="0 * * * *")
    paused = make_task("paused", schedule="* * * * *")
    tasks.pause(ACTOR, paused, now=timezone.now())
    off = make_task("off", schedule="* * * * *")
    schedules.update(ACTOR, off.schedules.get(), {"enabled": False}, now=timezone.now())
    fires = json.loads(run_command("upcoming", "--count", "70", "--json"))["fires"]
    assert len(fires) == 70 and fires == sorted(fires, key=lambda fire: fire["at"])
    assert {fire["task_name"] for fire in fires} == {"minutely", "hourly"}
    assert 1 <= sum(fire["task"] == hourly.pk for fire in fires) <= 2
    assert {fire["at"][17:] for fire in fires} == {"00.000000Z"}


@pytest.mark.django_db
def test_upcoming_shows_what_comes_next_even_where_a_fire_is_overdue():
    task = make_task(schedule="* * * * *")
    task.schedules.update(next_fire_at=timezone.now() - timedelta(hours=3))
    assert len(run_command("upcoming", "--count", "3").splitlines()) == 3


@pytest.mark.django_db
def test_upcoming_of_one_task_shows_only_that_and_the_local_time():
    make_task("minutely", schedule="* * * * *")
    berlin = make_task("berlin")
    fields = {"kind": "cron", "expression": "30 2 * * *", "time_zone": "Europe/Berlin"}
    schedules.create(ACTOR, berlin, fields, now=timezone.now())
    lines = run_command("upcoming", "--task", "berlin", "--count", "2").splitlines()
    assert len(lines) == 2 and all("02:30:00 Europe/Berlin" in line and "default/berlin" in line for line in lines)


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["--count", "0"], ["--task", "nobody"], ["--project", "nowhere"]])
def test_upcoming_refuses_what_makes_no_sense(arguments):
    assert refused("upcoming", *arguments).returncode == 2


@pytest.mark.django_db
def test_upcoming_of_nothing_is_empty():
    assert json.loads(run_command("upcoming", "--json")) == {"fires": []}


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
    assert json.loads(run_command("cancel_run", str(run.pk), "--json"))["due_at"] == "2026-03-01T12:00:00.000000Z"
