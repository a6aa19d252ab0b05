"""manage.py check_invariants: whether what must always hold does; exit code 1 when something does not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app.errors import InvalidInput
from access_app.management.command import Failed, SchedulerCommand
from monitoring_app.invariants import CHECKS, DEFAULT_WINDOW, check_invariants
from tasks_app.rowset import database_now

MOST_HOURS = 24 * 3660


class Command(SchedulerCommand):
    help = _(
        "Check the invariants in the rows of the database: of the last day, or of everything. Exit code 1: broken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        hours = int(DEFAULT_WINDOW.total_seconds() // 3600)
        parser.add_argument("--hours", type=int, default=hours, metavar="N", help=_("look so far back (default: 24)"))
        parser.add_argument("--all", action="store_true", help=_("look at all runs that are kept"))
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["hours"] <= MOST_HOURS:
            raise InvalidInput(hours=_("Give a number from 1 to %(most)d.") % {"most": MOST_HOURS})
        now = database_now()
        found = check_invariants(now, since=None if options["all"] else now - timedelta(hours=options["hours"]))
        if options["json"]:
            self.print_json({"checked": len(CHECKS), "violations": [asdict(one) for one in found]})
        else:
            for one in found:
                ids = ", ".join(map(str, one.ids)) + (" …" if one.more else "")
                self.stdout.write(f"{one.invariant}  {one.detail}  ({ids})")
        if found:
            raise Failed(_("Invariants that do not hold: %(n)d.") % {"n": len({one.invariant for one in found})})
        if not options["json"]:
            self.stdout.write(_("All %(n)d invariants hold.") % {"n": len(CHECKS)})
