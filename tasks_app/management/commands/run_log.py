"""manage.py run_log ID: the output of a run, as far as it has come or until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app import run_output
from tasks_app.management.door import find_run
from tasks_app.management.terminal import terminal_text
from tasks_app.models import Run
from tasks_app.states import TERMINAL

PAGE_LINES = 1000
POLL_SECONDS = 0.5


class Command(SchedulerCommand):
    help = _("Print the output of a run.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("id of the run"))
        parser.add_argument("--follow", action="store_true", help=_("go on until the run is over"))
        parser.add_argument(
            "--json", action="store_true", help=_("one JSON document; with --follow one JSON object per line")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        run = find_run(command_actor(), options["id"])
        if options["json"] and not options["follow"]:
            complete = run.state in TERMINAL
            lines = list(stored_lines(run, run_output.shown_attempt(run)))
            next_offset = lines[-1]["n"] + 1 if lines else 0
            self.print_json(
                {"run": run.pk, "state": run.state, "lines": lines, "next_offset": next_offset, "complete": complete}
            )
            return
        for line in followed_lines(run) if options["follow"] else stored_lines(run, run_output.shown_attempt(run)):
            self._print_line(line, options)

    def _print_line(self, line: dict[str, Any], options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json(line)
        else:
            self.stdout.write(terminal_text(line["text"]) if self.stdout.isatty() else line["text"])
        if options["follow"]:
            self.stdout.flush()


def stored_lines(run: Run, attempt: int, offset: int = 0) -> Iterator[dict[str, Any]]:
    """The lines of the attempt from `offset` on that are stored now, as {n, at, stream, text}."""
    while True:
        lines, next_offset = run_output.log_lines(run, offset=offset, limit=PAGE_LINES, attempt=attempt)
        yield from lines
        if next_offset == offset:
            return
        offset = next_offset


def followed_lines(run: Run) -> Iterator[dict[str, Any]]:
    """All lines of the attempt under way and of those that follow, each counted from 0, until the run is terminal."""
    attempt, offset = run_output.shown_attempt(run), 0
    while True:
        # The run was read before the lines: the last ones of an attempt are stored no later than its end.
        for line in stored_lines(run, attempt, offset):
            offset = line["n"] + 1
            yield line
        if attempt < run_output.shown_attempt(run):
            attempt, offset = attempt + 1, 0
        elif run.state in TERMINAL:
            return
        else:
            time.sleep(POLL_SECONDS)
            run.refresh_from_db()
