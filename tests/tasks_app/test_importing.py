"""Crontabs: how their lines are read, what becomes of them, and that what is imported does what cron did."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.importing import Crontab, Report, import_crontabs
from tasks_app.imports.crontab import Entry, Problem, is_system, parse, split_input
from tasks_app.imports.shell_text import command_line, gist
from tasks_app.models import Project, Run, Schedule, Task

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACTOR = system_actor("command tester")


def read(text: str | bytes, *, system: bool = False) -> list[Entry | Problem]:
    return list(parse(text if isinstance(text, bytes) else text.encode(), system=system))


def entries(text: str | bytes, *, system: bool = False) -> list[Entry]:
    return [found for found in read(text, system=system) if isinstance(found, Entry)]


def problems(text: str | bytes, *, system: bool = False) -> list[Problem]:
    return [found for found in read(text, system=system) if isinstance(found, Problem)]


# Reading


def test_comments_and_empty_lines_say_nothing_and_line_numbers_count_them():
    (entry,) = read("# a comment\n\n   # another\n  \t\n17 * * * * echo hi # no comment here\n")
    assert isinstance(entry, Entry)
    assert (entry.line, entry.expression, entry.command) == (5, "17 * * * *", "echo hi # no comment here")


def test_a_last_line_without_newline_counts():
    assert [entry.command for entry in entries("* * * * * one\n* * * * * two")] == ["one", "two"]


def test_a_carriage_return_is_no_part_of_the_command():
    assert entries("* * * * * one\r\n")[0].command == "one"


def test_settings_hold_for_the_lines_below_them_only():
    first, second = entries("A=1\n* * * * * one\nA=2\nB='x y '\n* * * * * two\n")
    assert first.environment == {"A": "1"}
    assert second.environment == {"A": "2", "B": "x y "}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MAILTO=root", "MAILTO", "root"),
        ("  PATH = /usr/bin:$HOME/bin  ", "PATH", "/usr/bin:$HOME/bin"),
        ('MAILTO=""', "MAILTO", ""),
        ("NAME=two words", "NAME", "two words"),
        ("'QUOTED'=\"it's\"", "QUOTED", "it's"),
        ("EQUATION=a=b", "EQUATION", "a=b"),
    ],
)
def test_a_setting_is_read_as_cron_reads_it(line, name, value):
    assert entries(f"{line}\n* * * * * c\n")[0].environment == {name: value}


def test_a_command_that_begins_with_an_assignment_is_no_setting():
    assert entries("* * * * * A=1 run\n@daily B=2 run\n")[1].command == "B=2 run"


def test_cron_tz_is_the_zone_of_the_lines_below_and_tz_is_only_handed_on():
    first, second = entries("TZ=Asia/Tokyo\n0 2 * * * one\nCRON_TZ=Europe/Berlin\n0 2 * * * two\n")
    assert (first.time_zone, second.time_zone) == (None, "Europe/Berlin")
    assert second.environment == {"TZ": "Asia/Tokyo"}


def test_lines_below_an_unknown_zone_are_refused_until_a_known_one():
    found = read("CRON_TZ=Mars/Base\n0 2 * * * one\nCRON_TZ=UTC\n0 2 * * * two\n")
    assert [type(each) for each in found] == [Problem, Problem, Entry]


@pytest.mark.parametrize("nickname", ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"])
def test_nicknames_are_schedules(nickname):
    assert entries(f"{nickname}\tcommand\n")[0].expression == nickname


def test_reboot_is_right_but_not_supported_and_other_nicknames_are_wrong():
    reboot, unknown = problems("@reboot command\n@fortnightly command\n")
    assert reboot.unsupported and not unknown.unsupported


@pytest.mark.parametrize(
    "line",
    [
        "* * * * *",
        "* * * *",
        "61 * * * * command",
        "* * * * wrong command",
        "-*/5 * * * * command",
        "H * * * * command",
        "0 0 L * * command",
        "5/15 * * * * command",
        "0 0 30 2 * command",
        "just some words",
        "* * * * * %only input",
        b"* * * * * caf\xe9",
        b"* * * * * nul \x00",
    ],
)
def test_a_malformed_line_is_named_with_its_number_and_the_rest_is_read(line):
    line = line if isinstance(line, bytes) else line.encode()
    found = read(b"1 * * * * before\n" + line + b"\n2 * * * * after\n")
    assert [type(each) for each in found] == [Entry, Problem, Entry]
    problem = found[1]
    assert isinstance(problem, Problem) and problem.line == 2 and problem.reason and not problem.unsupported


def test_month_and_weekday_names_and_ranges_with_steps_are_times():
    expressions = [entry.expression for entry in entries("0 2 * JAN-mar Mon,thu c\n5-55/10 */2 * * 0-7 c\n")]
    assert expressions == ["0 2 * JAN-mar Mon,thu", "5-55/10 */2 * * 0-7"]


def test_the_user_column_is_taken_from_system_crontabs_only():
    line = "17 *\t* * *\troot    cd / && run-parts /etc/cron.hourly\n"
    assert (entries(line, system=True)[0].user, entries(line, system=True)[0].command) == (
        "root",
        "cd / && run-parts /etc/cron.hourly",
    )
    assert entries(line)[0].command.startswith("root ")
    assert problems("* * * * * /usr/bin/command\n", system=True)


@pytest.mark.parametrize(
    ("path", "system"),
    [
        ("/etc/crontab", True),
        ("/etc/cron.d/php", True),
        ("/backup/host/etc/cron.d/php", True),
        ("/var/spool/cron/crontabs/root", False),
        ("/home/me/crontab", False),
    ],
)
def test_system_crontabs_are_known_by_their_place(path, system):
    assert is_system(path) is system


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("date", "date", None),
        (r"date +\%Y-\%m", "date +%Y-%m", None),
        ("cat%one%two", "cat", "one\ntwo\n"),
        ("cat%", "cat", ""),
        (r"cat%50\% done", "cat", "50% done\n"),
        (r"cat%line%", "cat", "line\n"),
        (r"printf 'a\\nb\%'", r"printf 'a\\nb%'", None),
        ("end\\", "end\\", None),
    ],
)
def test_percent_signs_part_input_from_command(text, command, stdin):
    assert split_input(text) == (command, stdin)


# What a shell makes of it


def shell(text: str) -> str:
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=True, timeout=10).stdout


def test_values_reach_the_command_and_nothing_in_them_is_expanded():
    value = 'a\'b "c" $HOME `id` \\n'
    assert shell(command_line('printf %s "$X"', {"X": value}, None)) == value


def test_input_reaches_the_command_whole_even_when_it_holds_the_end_mark():
    text = "END_OF_INPUT\n$HOME `id`\n"
    assert shell(command_line("cat", {}, text)) == text


def test_another_shell_and_another_home_are_used(tmp_path):
    assert shell(command_line("[[ x == x ]] && pwd", {"SHELL": "/bin/bash", "HOME": str(tmp_path)}, None)) == (
        f"{tmp_path}\n"
    )


def test_a_plain_command_stays_as_it_is():
    assert command_line("run --it", {}, None) == "run --it"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("cd / && run-parts --report /etc/cron.hourly", "run-parts --report /etc/cron.hourly"),
        (
            "test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }",
            "run-parts --report /etc/cron.daily",
        ),
        (
            "[ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi",
            "sessionclean",
        ),
        ("command -v debian-sa1 > /dev/null && debian-sa1 60 2", "debian-sa1 60 2"),
        ("SERVICE_MODE=1 /sbin/e2scrub_all -A -r >> /var/log/e2 2>&1", "e2scrub_all -A -r"),
        ("true", "true"),
        ("echo 'unbalanced", "echo 'unbalanced"),
        ("   /opt/app/bin/backup.sh   ", "backup.sh"),
    ],
)
def test_the_gist_is_the_program_and_not_its_guards(command, name):
    assert gist(command) == name


# Importing

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
