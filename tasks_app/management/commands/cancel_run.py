"""manage.py cancel_run ID: ask that a run does not go on."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_json_argument, find_run, run_values
from tasks_app.services import runs
from tasks_app.states import RunState


class Command(SchedulerCommand):
    help = _("Cancel a run: one that has not started ends at once, a running one is ended by its worker.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("id of the run"))
        parser.add_argument("--kill", action="store_true", help=_("kill it at once, without the time to clean up"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        end = runs.terminate if options["kill"] else runs.cancel
        run = end(actor, find_run(actor, options["id"]), now=timezone.now())
        if options["json"]:
            self.print_json(run_values(run))
        elif run.state == RunState.RUNNING:
            text = (
                _("Run %(id)s is running; its worker has been asked to kill it.")
                if options["kill"]
                else _("Run %(id)s is running; its worker has been asked to end it.")
            )
            self.stdout.write(text % {"id": run.pk})
        else:
            self.stdout.write(_("Run %(id)s is %(state)s.") % {"id": run.pk, "state": run.state})
