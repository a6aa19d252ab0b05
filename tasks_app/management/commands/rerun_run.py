"""manage.py rerun_run ID [--failed]: run again what is over."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_json_argument, find_run, run_values
from tasks_app.services import reruns, runs


class Command(SchedulerCommand):
    help = _("Plan a new run with the parameters of one that is over, or a failed firing again from where it failed.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("id of the run"))
        parser.add_argument(
            "--failed",
            action="store_true",
            help=_("of all runs planned together with it: those that failed, and everything downstream of them"),
        )
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        verb = reruns.rerun_failed if options["failed"] else runs.rerun
        run = verb(actor, find_run(actor, options["id"]), now=timezone.now())
        if options["json"]:
            self.print_json(run_values(run))
        elif options["failed"]:
            number = reruns.firing_of(run).count()
            self.stdout.write(_("Runs planned, from run %(id)s on: %(n)d.") % {"n": number, "id": run.pk})
        else:
            self.stdout.write(_("Run %(id)s is planned.") % {"id": run.pk})
