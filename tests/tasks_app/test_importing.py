"""Importing crontabs: what becomes of their lines, and the command that reports and applies it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.importing import Crontab, Report, import_crontabs
from tasks_app.management.commands import import_schedules
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
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/usr/bin/clean --all", b"/usr/bin/clean --all --force"),
        (b"PATH=/usr/sbin:/usr/bin", b"PATH=/opt/bin"),
        (b"/usr/bin/clean --all", b"/opt/bin/clean --all"),
    ],
)
def test_another_command_becomes_a_new_paused_task_and_the_old_one_is_reported_and_left(old, new):
    bring()
    Task.objects.update(paused=False)
    before = dict(Task.objects.values_list("pk", "version__command"))
    report = bring(FILE.replace(old, new))
    assert {task.pk: task.version and task.version.command for task in Task.objects.filter(pk__in=before)} == before
    fresh = Task.objects.exclude(pk__in=before)
    assert fresh and all(task.paused for task in fresh)
    assert len(fresh) == report.counts["created"] and report.counts["updated"] == 0
    assert any("No longer in /etc/crontab" in note and "crontab: clean --all" in note for note in report.notes)
    again = bring(FILE.replace(old, new))
    assert again.counts["created"] == 0 and again.counts["unchanged"] == 2


@pytest.mark.django_db
def test_a_line_set_above_another_of_the_same_name_takes_nothing_from_its_task():
    one, two = b"0 1 * * * me cd /srv/one && ./backup.sh\n", b"0 9 * * * me cd /srv/two && ./backup.sh\n"
    bring(one)
    Task.objects.update(paused=False)
    report = bring(two + one)
    assert [item.outcome for item in report.items] == ["created", "unchanged"]
    active = Task.objects.get(paused=False)
    assert active.version is not None and active.version.command == "cd /srv/one && ./backup.sh"
    assert active.schedules.get().expression == "0 1 * * *"
    assert Task.objects.get(paused=True).name != active.name


@pytest.mark.django_db
def test_files_of_one_name_in_two_folders_do_not_take_each_others_tasks():
    line = b"0 1 * * * me ./backup.sh\n"
    bring(line, path="/home/a/crontab")
    other = bring(line.replace(b"0 1", b"0 5"), path="/home/b/crontab")
    assert other.counts["created"] == 1 and not any("No longer" in note for note in other.notes)
    assert sorted(Schedule.objects.values_list("note", "expression")) == [
        ("Imported from /home/a/crontab", "0 1 * * *"),
        ("Imported from /home/b/crontab", "0 5 * * *"),
    ]
    assert bring(line, path="/home/a/crontab").counts["unchanged"] == 1


@pytest.mark.django_db
def test_paths_too_long_for_a_note_are_told_apart():
    line, folder = b"0 1 * * * me ./backup.sh\n", "/" + "x" * 600
    assert bring(line, path=f"{folder}/a").counts["created"] == 1
    assert bring(line, path=f"{folder}/b").counts["created"] == 1
    assert bring(line, path=f"{folder}/a").counts["unchanged"] == 1


@pytest.mark.django_db
def test_a_line_of_a_command_that_comes_twice_moves_no_schedule_but_its_own():
    bring(b"1 * * * * me job\n3 * * * * me job\n")
    report = bring(b"0 * * * * me job\n1 * * * * me job\n3 * * * * me job\n")
    assert [item.outcome for item in report.items] == ["created", "unchanged", "unchanged"]
    moved = bring(b"0 * * * * me job\n2 * * * * me job\n3 * * * * me job\n")
    assert [(item.outcome, item.detail) for item in moved.items] == [
        ("unchanged", ""),
        ("updated", "expression"),
        ("unchanged", ""),
    ]


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


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["big", "-"])
def test_a_crontab_beyond_the_limit_is_refused_and_one_at_the_limit_is_read(tmp_path, monkeypatch, name):
    line = b"0 5 * * 1 tar\n"
    for extra, refused in ((0, False), (1, True)):
        content = line.ljust(import_schedules.LARGEST_FILE_BYTES + extra, b"\n")
        (tmp_path / "big").write_bytes(content)
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))
        argument = name if name == "-" else str(tmp_path / name)
        if refused:
            with pytest.raises(CommandError, match="16 MiB") as error:
                run_command(argument, "--apply")
            assert error.value.returncode == 2
        else:
            assert "created" in run_command(argument)
    assert not Task.objects.exists()
