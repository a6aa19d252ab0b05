"""manage.py move_output: move the output of large runs into the configured store, where a worker could not."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand
from tasks_app import output_stores, run_output
from tasks_app.errors import WrongState
from tasks_app.output_stores import StoreFault

BATCH = 500


class Command(SchedulerCommand):
    help = _("Move the output of large runs that are over from the database into the store of SCHEDULER_OUTPUT_STORE.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--larger-than",
            type=int,
            default=settings.SCHEDULER_OUTPUT_STORE_FROM_BYTES,
            metavar="BYTES",
            help=_("what is smaller stays"),
        )
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def handle(self, *args: Any, **options: Any) -> None:
        store = output_stores.configured()
        if store is None:
            raise WrongState(_("SCHEDULER_OUTPUT_STORE says that all output stays in the database."))
        moved = size = 0
        try:
            while found := run_output.left_behind(larger_than=options["larger_than"], limit=BATCH):
                for run_id, attempt in found:
                    size += run_output.move_out(run_id, attempt, store)
                    moved += 1
        except StoreFault as error:
            raise WrongState(_("The store refused: %(why)s") % {"why": error}) from error
        if options["json"]:
            self.print_json({"moved": moved, "bytes": size})
        else:
            self.stdout.write(_("Outputs moved: %(n)d, %(size)d bytes.") % {"n": moved, "size": size})
