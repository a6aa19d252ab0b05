"""manage.py import_schedules --from crontab FILE...: a report of what would be taken over; --apply does it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from rich.console import Console
from rich.table import Table
from rich.text import Text

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app import cron
from tasks_app.errors import InvalidInput
from tasks_app.importing import Crontab, Item, Report, import_crontabs
from tasks_app.imports.crontab import is_system
from tasks_app.management.door import add_json_argument, find_project
from tasks_app.management.terminal import terminal_text

LARGEST_FILE_BYTES = 16 * 1024 * 1024


class Command(SchedulerCommand):
    help = _(
        "Take schedules over from another scheduler as paused tasks. Without --apply it only says what it would do."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help=_("a file, or - for standard input"))
        parser.add_argument("--from", dest="source", choices=["crontab"], required=True, help=_("what the files are"))
        parser.add_argument(
            "--system",
            action="store_true",
            help=_("the files have the user column (known of etc/crontab and of files in a cron.d folder)"),
        )
        parser.add_argument(
            "--project", metavar="P", default="default", help=_("where the tasks go (default: default)")
        )
        parser.add_argument(
            "--time-zone",
            metavar="ZONE",
            default=settings.SCHEDULER_TIME_ZONE,
            help=_("the zone of files without CRON_TZ (default: SCHEDULER_TIME_ZONE)"),
        )
        parser.add_argument("--apply", action="store_true", help=_("write, in one transaction"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            cron.zone(options["time_zone"])
        except cron.CronError as error:
            raise InvalidInput(time_zone=error.message) from error
        files = [read_crontab(name, system=options["system"]) for name in dict.fromkeys(options["files"])]
        report = import_crontabs(
            command_actor(),
            files,
            find_project(options["project"]),
            time_zone=options["time_zone"],
            apply=options["apply"],
            now=timezone.now(),
        )
        if options["json"]:
            self.print_json(report_values(report))
            return
        if self.stdout.isatty():
            Console().print(_table(report))
        else:
            for item in report.items:
                self.stdout.write(_plain_line(item))
        for line in closing_lines(report):
            self.stdout.write(line)


def read_crontab(name: str, *, system: bool) -> Crontab:
    """The file of that path ("-": standard input). Raises InvalidInput when it cannot be read."""
    if name == "-":
        return Crontab("stdin", _at_most("stdin", sys.stdin.buffer), system)
    path = Path(name)
    try:
        with path.open("rb") as file:
            return Crontab(str(path.absolute()), _at_most(name, file), system or is_system(str(path.absolute())))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(file=_("%(path)s: %(reason)s.") % {"path": name, "reason": reason}) from error


def _at_most(name: str, file: IO[bytes]) -> bytes:
    content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise InvalidInput(file=_("%(path)s is larger than 16 MiB.") % {"path": name})
    return content


def report_values(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "applied": report.applied,
        "project": report.project,
        "counts": report.counts,
        "items": [asdict(item) for item in report.items],
        "notes": report.notes,
    }


def closing_lines(report: Report) -> list[str]:
    """The sum in one line, then the notes."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in report.counts.items() if count) or _(
        "nothing to import"
    )
    lines = [_("Project %(project)s: %(counts)s.") % {"project": report.project, "counts": counts}, *report.notes]
    if not report.applied:
        lines.append(_("Nothing was written. Say --apply to write it."))
    return lines


def _place(item: Item) -> str:
    return f"{item.path}:{item.line}"


def _plain_line(item: Item) -> str:
    if not item.task:
        return f"{item.outcome:<11} {_place(item)}  {item.detail}  [{item.command}]"
    detail = f"  ({item.detail})" if item.detail else ""
    return f"{item.outcome:<11} {_place(item)}  {item.task!r}  {item.expression}  {item.time_zone}{detail}"


def _table(report: Report) -> Table:
    # Text, not str: what a crontab says must not be read as markup.
    table = Table(title=Text(_("Import into project %(project)s") % {"project": report.project}))
    for heading in (_("line"), _("outcome"), _("task"), _("schedule"), _("command or reason")):
        table.add_column(Text(heading), overflow="fold")
    for item in report.items:
        rule = f"{item.expression} {item.time_zone}" if item.task else ""
        last = (item.detail or item.command) if item.task else f"{item.detail} {item.command}"
        cells = (_place(item), str(item.outcome), item.task, rule, last)
        table.add_row(*(Text(terminal_text(text)) for text in cells))
    return table
