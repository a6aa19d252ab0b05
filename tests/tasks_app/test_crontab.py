"""Crontabs: how their lines are read, and that the command line made of one does what cron did."""

from __future__ import annotations

import subprocess

import pytest

from tasks_app.imports.crontab import Entry, Problem, is_system, parse, split_input
from tasks_app.imports.shell_text import command_line, gist


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
