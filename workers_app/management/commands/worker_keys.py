"""`worker_keys [--json]`: the keys of agents."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app import worker_keys
from access_app.management.command import SchedulerCommand, command_actor, iso
from access_app.models import WorkerKey


class Command(SchedulerCommand):
    help = _("List the keys of agents, newest first, revoked ones too.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def handle(self, *args: Any, **options: Any) -> None:
        keys = [_values(key) for key in worker_keys.keys_visible_to(command_actor())]
        if options["json"]:
            self.print_json({"results": keys})
            return
        for key in keys:
            state = _("revoked %(at)s") % {"at": key["revoked_at"]} if key["revoked_at"] else _("valid")
            used = _("last used %(at)s") % {"at": key["last_used_at"]} if key["last_used_at"] else _("never used")
            self.stdout.write(
                f"{key['id']}  {key['prefix']}…  {key['name']}  {', '.join(key['pools'])}  {state}, {used}"
            )


def _values(key: WorkerKey) -> dict[str, Any]:
    """Under the names of the API."""
    return {
        "id": key.pk,
        "name": key.name,
        "prefix": key.prefix,
        "pools": key.pool_names,
        "created_at": iso(key.created_at),
        "last_used_at": iso(key.last_used_at),
        "revoked_at": iso(key.revoked_at),
    }
