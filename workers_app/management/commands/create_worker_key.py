"""`create_worker_key --name N --pool P [--pool Q]` prints a new worker key, and nothing else, on standard output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import worker_keys
from access_app.management.command import SchedulerCommand, command_actor
from workers_app.worker_keys import pools_named


class Command(SchedulerCommand):
    help = _("Create a key for agents and print it: the key alone, this once.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True, help=_("what machine or group of machines it is for"))
        parser.add_argument(
            "--pool", action="append", required=True, metavar="POOL", help=_("a pool of its workers; may be repeated")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pools = pools_named(options["pool"])
        _key, token = worker_keys.create(command_actor(), name=options["name"], pools=pools, now=timezone.now())
        self.stdout.write(token)
