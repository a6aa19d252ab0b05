"""The commands that only read: the output of a run, and what fires next."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from tasks_app.management.terminal import terminal_text
from tasks_app.models import Run, RunOutput
from tasks_app.services import schedules, tasks
from tasks_app.states import RunState
from tests.tasks_app.command_line import ACTOR, end, make_run, make_task, refused, run_command


def write_log(run: Run, first_line: int, *texts: str, attempt: int = 1) -> None:
    lines = [["2026-03-01T12:00:00Z", "stdout", text] for text in texts]
    RunOutput.objects.create(run=run, attempt=attempt, first_line=first_line, line_count=len(lines), lines=lines)


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
def test_run_log_follow_prints_each_attempt_to_its_end_and_the_next_from_its_beginning(naps):
    run = make_run(make_task())
    write_log(run, 0, "1a", "1b")

    def two_attempts_later() -> None:
        write_log(run, 2, "1c")
        write_log(run, 0, "2a", attempt=2)
        write_log(run, 0, "3a", attempt=3)
        Run.objects.filter(pk=run.pk).update(attempt=3)

    def last_words() -> None:
        write_log(run, 1, "3b", attempt=3)
        end(run, RunState.SUCCEEDED, attempt=3)

    naps.extend([two_attempts_later, last_words])
    assert run_command("run_log", str(run.pk), "--follow").splitlines() == ["1a", "1b", "1c", "2a", "3a", "3b"]


@pytest.mark.django_db
@pytest.mark.parametrize("command", [["run_log", "{run}", "--follow"], ["trigger_task", "daily", "--wait"]])
def test_a_run_that_is_deleted_while_a_command_waits_for_it_is_one_sentence(naps, command):
    run = make_run(make_task())
    naps.append(lambda: Run.objects.all().delete())
    error = refused(*(argument.format(run=run.pk) for argument in command))
    assert error.returncode == 1 and "deleted" in str(error)


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
    assert {fire["at"][17:] for fire in fires} == {"00Z"}


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
