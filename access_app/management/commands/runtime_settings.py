"""manage.py runtime_settings [NAME=VALUE ...] [--reset NAME]: what can be tuned without a restart, and its change."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import runtime, runtime_services
from access_app.errors import InvalidInput
from access_app.management.command import SchedulerCommand, command_actor, iso
from access_app.runtime_services import Shown


class Command(SchedulerCommand):
    help = _("Show the runtime settings; change those that are given first, all of them or none.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("changes", nargs="*", metavar="NAME=VALUE", help=_("set it; may be repeated"))
        parser.add_argument(
            "--reset", action="append", default=[], metavar="NAME", help=_("give it its default back; may be repeated")
        )
        parser.add_argument(
            "--stdin", metavar="NAME", help=_("set it to a line of standard input, so that no password is seen")
        )
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def handle(self, *args: Any, **options: Any) -> None:
        changes: dict[str, Any] = {}
        for given in options["changes"]:
            name, equals, text = given.partition("=")
            if not equals:
                raise InvalidInput(changes=_("Write NAME=VALUE; %(given)s has no =.") % {"given": given[:200]})
            changes[name] = _read(name, text)
        if options["stdin"]:
            changes[options["stdin"]] = _read(options["stdin"], sys.stdin.readline().rstrip("\n"))
        changes |= dict.fromkeys(options["reset"])
        actor = command_actor()
        if changes:
            runtime_services.change(actor, changes, now=timezone.now())
        rows = [_values(shown) for shown in runtime_services.settings_visible_to(actor)]
        if options["json"]:
            self.print_json(rows)
            return
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            origin = _("default") if row["is_default"] else _("set by %(who)s") % {"who": row["updated_by"]}
            self.stdout.write(f"{row['name']:{width}}  {row['value']}  ({origin})")


def _read(name: str, text: str) -> Any:
    setting = runtime.declared().get(name)
    return text if setting is None else setting.typed(text)


def _values(shown: Shown) -> dict[str, Any]:
    row = shown.row
    return {
        "name": shown.setting.name,
        "value": shown.value,
        "default": shown.default,
        "is_default": row is None,
        "updated_at": None if row is None else iso(row.updated_at),
        "updated_by": "" if row is None else row.updated_by,
    }
