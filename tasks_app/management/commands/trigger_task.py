"""manage.py trigger_task NAME: one run, now; with --wait its end decides the exit code."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import Failed, SchedulerCommand, command_actor
from tasks_app.management.door import add_json_argument, add_task_arguments, find_task, parse_params, run_values
from tasks_app.models import Run
from tasks_app.services import runs
from tasks_app.states import TERMINAL, RunState

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0


class Command(SchedulerCommand):
    help = _("Run a task now. With --wait: exit code 1 unless the run succeeds.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)
        parser.add_argument("--wait", action="store_true", help=_("wait until the run is over"))
        parser.add_argument(
            "--timeout",
            type=float,
            metavar="S",
            help=_("with --wait: give up after this many seconds (the run goes on)"),
        )
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="k=v",
            help=_("a parameter; the value is JSON where it reads as JSON, else text; may be repeated"),
        )
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        task = find_task(actor, options["name"], options["project"])
        request = runs.Request(params=parse_params(options["param"]))
        run, _created = runs.trigger(actor, task, request, now=timezone.now())
        if not options["json"]:
            words = {"id": run.pk, "task": task.name, "state": run.state}
            self.stdout.write(_("Run %(id)s of %(task)s is %(state)s.") % words)
            self.stdout.flush()
        if options["wait"]:
            run = wait_until_over(run, options["timeout"])
        if options["json"]:
            self.print_json(run_values(run))
        if options["wait"]:
            self._report_end(run, options)

    def _report_end(self, run: Run, options: dict[str, Any]) -> None:
        if run.state not in TERMINAL:
            text = _("Run %(id)s is still %(state)s after %(seconds)g s; it goes on.")
            raise Failed(text % {"id": run.pk, "state": run.state, "seconds": options["timeout"]})
        if run.state != RunState.SUCCEEDED:
            raise Failed(end_text(run))
        if not options["json"]:
            self.stdout.write(end_text(run))


def wait_until_over(run: Run, timeout: float | None) -> Run:
    """Look at the run until it is terminal, or until `timeout` seconds have passed (None: however long it takes)."""
    end = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_PAUSE_SECONDS
    while run.state not in TERMINAL and (end is None or time.monotonic() < end):
        time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        run.refresh_from_db()
    return run


def end_text(run: Run) -> str:
    """How the run ended, in one sentence."""
    text = _("Run %(id)s: %(state)s") % {"id": run.pk, "state": run.state}
    why = run.reason_detail or run.reason
    return f"{text} ({why})" if why else text
