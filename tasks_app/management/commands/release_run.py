"""manage.py release_run ID [--how alone]: let a run out of quarantine."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_json_argument, find_run, run_values
from tasks_app.services import quarantine
from tasks_app.services.quarantine import Release


class Command(SchedulerCommand):
    help = _("Plan a new run in place of one that is in quarantine because workers died with it.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("id of the run"))
        parser.add_argument(
            "--how", choices=Release.values, default=Release.AS_IS.value, help=_("what is to be different this time")
        )
        parser.add_argument(
            "--memory-limit-mb", type=int, metavar="N", help=_("with more_memory; default: twice what it had")
        )
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        run = quarantine.release(
            actor,
            find_run(actor, options["id"]),
            options["how"],
            memory_limit_mb=options["memory_limit_mb"],
            now=timezone.now(),
        )
        if options["json"]:
            self.print_json(run_values(run))
        else:
            self.stdout.write(_("Run %(id)s is planned.") % {"id": run.pk})
