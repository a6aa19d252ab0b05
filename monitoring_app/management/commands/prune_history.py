"""manage.py prune_history --days N: delete the runs that ended more than N days ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app.errors import InvalidInput
from access_app.management.command import SchedulerCommand
from access_app.management.progress import ProgressBar
from monitoring_app.history import prune_runs
from tasks_app.rowset import database_now

MOST_DAYS = 3660


class Command(SchedulerCommand):
    help = _(
        "Delete the runs that ended long ago, with their events and output. The fire ledger keeps what they answered."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=int, required=True, metavar="N", help=_("keep what ended in the last N days")
        )
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= MOST_DAYS:
            raise InvalidInput(days=_("Give a number from 1 to %(most)d.") % {"most": MOST_DAYS})
        before = database_now() - timedelta(days=options["days"])
        progress, deleted = ProgressBar(self.stderr, 100), 0
        for done in prune_runs(before):
            deleted = done.deleted
            progress.show(round(done.share * 100), _("deleted: %(n)d") % {"n": deleted})
        progress.end()
        if options["json"]:
            self.print_json({"deleted": deleted})
        else:
            self.stdout.write(_("Runs deleted: %(n)d.") % {"n": deleted})
