"""`release_sign_in --user U [--address A]`: who was locked out after failures may sign in again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import sign_in
from access_app.errors import NotFound
from access_app.management.command import SchedulerCommand, command_actor


class Command(SchedulerCommand):
    help = _("Forget the failed sign-ins of a user, so that nobody is locked out any more.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help=_("the name with which it was tried"))
        parser.add_argument("--address", help=_("from this address alone; without it, from all"))

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["user"]
        try:
            sign_in.release(command_actor(), name, address=options["address"], now=timezone.now())
        except NotFound as error:
            raise NotFound(_("No failed sign-in of %(name)s is remembered.") % {"name": name[:200]}) from error
        self.stdout.write(_("%(name)s may sign in again.") % {"name": name})
