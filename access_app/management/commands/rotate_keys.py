"""manage.py rotate_keys: all that is kept encrypted, under the newest key; which keys may go."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app import encryption, rotation
from access_app.management.command import Failed, SchedulerCommand
from access_app.management.progress import ProgressBar
from access_app.rotation import SECRETS, SETTINGS, Report


class Command(SchedulerCommand):
    help = _(
        "Encrypt secrets and secret settings with the newest key, while everything runs; says which keys are not needed"
        " any more. Exit code 1 where a value cannot be read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help=_("Change nothing, only say what is under which key."))
        parser.add_argument("--json", action="store_true", help=_("Print JSON."))

    def handle(self, *args: Any, **options: Any) -> None:
        report = Report()
        if not options["check"]:
            bar = ProgressBar(self.stderr, rotation.total())
            for done in rotation.rotate(report):
                bar.show(done)
            bar.end()
        counts = rotation.values_by_key()
        keys = [
            {"id": key.id, "newest": key.id == encryption.newest_key_id(), "values": counts.pop(key.id, 0)}
            for key in encryption.known_keys()
        ]
        keys += [{"id": id, "newest": False, "values": n} for id, n in sorted(counts.items())]
        if options["json"]:
            renewed = {kind: report.renewed[kind] for kind in (SECRETS, SETTINGS)}
            self.print_json({"renewed": renewed, "unreadable": report.unreadable, "keys": keys})
        else:
            self._tell(report, keys, options["check"])
        if report.unreadable:
            names = ", ".join(report.unreadable)
            raise Failed(_("These cannot be read with the keys that are known here: %(names)s.") % {"names": names})

    def _tell(self, report: Report, keys: list[dict[str, Any]], only_checked: bool) -> None:
        if not only_checked:
            words = {"secrets": report.renewed[SECRETS], "settings": report.renewed[SETTINGS]}
            self.stdout.write(_("Encrypted anew: %(secrets)d secrets, %(settings)d settings.") % words)
        for key in keys:
            if key["newest"]:
                text = _("Key %(id)s: the newest; values: %(n)d.")
            elif key["values"]:
                text = _("Key %(id)s: still needed; values: %(n)d.")
            else:
                text = _("Key %(id)s: not needed for any value.")
            self.stdout.write(text % {"id": key["id"] or "?", "n": key["values"]})
