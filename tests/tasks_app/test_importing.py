"""Importing crontabs: what becomes of their lines, and the command that reports and applies it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.importing import Crontab, Report, import_crontabs
from tasks_app.models import Project, Run, Schedule, Task

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACTOR = system_actor("command tester")

FILE = b"""SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
@reboot root start-something
99 * * * * root never
30 3 * * 0 www /usr/bin/clean --all
"""


def bring(content: bytes = FILE, *, apply: bool = True, path: str = "/etc/crontab", project: str = "default") -> Report:
    crontab = Crontab(path, content, system=True)
    target = Project.objects.get(name=project)
    return import_crontabs(ACTOR, [crontab], target, time_zone="Europe/Berlin", apply=apply, now=NOW)


@pytest.mark.django_db
def test_a_dry_run_says_the_same_as_the_import_and_writes_nothing():
    dry = bring(apply=False)
    assert not Task.objects.exists() and not Schedule.objects.exists() and not AuditEntry.objects.exists()
    applied = bring()
    assert dry.items == applied.items and dry.notes == applied.notes
    assert applied.counts == {"created": 2, "updated": 0, "unchanged": 0, "unsupported": 1, "malformed": 1}


@pytest.mark.django_db
def test_each_job_becomes_a_paused_shell_task_with_one_schedule():
    bring()
    task = Task.objects.get(name="crontab: run-parts --report /etc/cron.hourly")
    assert task.paused and task.version is not None and task.pool.name == "default"
    assert task.version.executor == "shell"
    assert task.version.command == (
        "export SHELL=/bin/sh PATH=/usr/sbin:/usr/bin\ncd / && run-parts --report /etc/cron.hourly"
    )
    assert "root" in task.description and "/etc/crontab" in task.description
    (schedule,) = task.schedules.all()
    assert (schedule.kind, schedule.expression, schedule.time_zone) == ("cron", "17 * * * *", "Europe/Berlin")
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_a_second_import_creates_nothing_and_leaves_no_trace():
    bring()
    audited = AuditEntry.objects.count()
    assert bring().counts == {"created": 0, "updated": 0, "unchanged": 2, "unsupported": 1, "malformed": 1}
    assert AuditEntry.objects.count() == audited and Task.objects.count() == 2


@pytest.mark.django_db
def test_a_changed_line_updates_its_task_and_leaves_its_neighbour_and_its_pause():
    bring()
    Task.objects.filter(name="crontab: clean --all").update(paused=False, priority=90)
    report = bring(FILE.replace(b"30 3 * * 0 www", b"45 4 * * 0 www"))
    assert [(item.task, item.detail) for item in report.items if item.outcome == "updated"] == [
        ("crontab: clean --all", "expression")
    ]
    task = Task.objects.get(name="crontab: clean --all")
    assert not task.paused and task.priority == 90
    assert task.schedules.get().expression == "45 4 * * 0"


@pytest.mark.django_db
def test_a_changed_setting_makes_a_new_version_of_every_task_below_it():
    bring()
    report = bring(FILE.replace(b"PATH=/usr/sbin:/usr/bin", b"PATH=/opt/bin"))
    assert [item.detail for item in report.items if item.task] == ["command", "command"]
    assert set(Task.objects.values_list("version__number", flat=True)) == {2}


@pytest.mark.django_db
def test_a_file_that_moved_updates_its_tasks_and_adds_no_second_schedule():
    bring()
    bring(path="/backup/etc/crontab")
    assert Task.objects.count() == 2 and Schedule.objects.count() == 2


@pytest.mark.django_db
def test_lines_that_share_a_name_become_tasks_of_their_own_on_every_import():
    content = b"1 * * * * me job a\n2 * * * * me exec job a\n3 * * * * me job a\n"
    assert [item.outcome for item in bring(content).items] == ["created"] * 3
    assert [item.outcome for item in bring(content).items] == ["unchanged"] * 3
    assert sorted(Schedule.objects.values_list("expression", flat=True)) == ["1 * * * *", "2 * * * *", "3 * * * *"]


@pytest.mark.django_db
def test_the_report_says_that_runs_are_not_run_as_the_user_of_the_line():
    assert any("root, www" in note for note in bring().notes)


@pytest.mark.django_db
def test_tasks_of_other_projects_are_not_touched():
    Project.objects.create(name="other")
    bring()
    assert bring(project="other").counts["created"] == 2
    assert bring(project="default").counts["unchanged"] == 2


# The command


def run_command(*arguments: str, **options: object) -> str:
    out = StringIO()
    call_command("import_schedules", "--from", "crontab", *arguments, stdout=out, **options)
    return out.getvalue()


@pytest.mark.django_db
def test_the_command_reports_without_writing_and_writes_with_apply(tmp_path):
    path = tmp_path / "mine"
    path.write_text("0 5 * * 1 tar -zcf /var/backups/home.tgz /home/\nbad line\n")
    assert "Nothing was written" in run_command(str(path))
    assert not Task.objects.exists()
    text = run_command(str(path), "--apply")
    assert "malformed" in text and f"{path}:2" in text and "Nothing was written" not in text
    assert Task.objects.get().name == "mine: tar -zcf /var/backups/home.tgz /home/"


@pytest.mark.django_db
def test_the_command_answers_json_and_takes_a_file_named_twice_once(tmp_path):
    path = tmp_path / "mine"
    path.write_text("0 5 * * 1 me tar\n")
    answer = json.loads(run_command(str(path), str(path), "--system", "--json"))
    assert answer["applied"] is False and answer["counts"]["created"] == 1
    assert answer["items"][0] | {"path": ""} == {
        "path": "",
        "line": 1,
        "outcome": "created",
        "task": "mine: tar",
        "expression": "0 5 * * 1",
        "time_zone": "UTC",
        "user": "me",
        "command": "tar",
        "detail": "",
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments", [["missing-file"], ["."], ["{file}", "--project", "nobody"], ["{file}", "--time-zone", "Mars"]]
)
def test_the_command_refuses_what_it_cannot_read(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("* * * * * c\n")
    with pytest.raises(CommandError) as refused:
        run_command(*(argument.format(file="file") for argument in arguments))
    assert refused.value.returncode == 2
