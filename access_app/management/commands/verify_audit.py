"""manage.py verify_audit: does the chain through the audit trail hold?"""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access_app import audit_chain
from access_app.audit_chain import Break
from access_app.errors import InvalidInput
from access_app.management.command import Failed, SchedulerCommand
from access_app.management.progress import ProgressBar
from access_app.models import AuditEntry, AuditLink


class Command(SchedulerCommand):
    help = _("Follow the chain through the audit trail and name the first link that does not hold (exit code 1).")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--anchor",
            action="append",
            default=[],
            metavar="NUMBER:CHAIN",
            help=_("An end of the chain from elsewhere, as the log has it under `audit anchor`; may be repeated."),
        )
        parser.add_argument("--json", action="store_true", help=_("Print JSON."))

    def handle(self, *args: Any, **options: Any) -> None:
        anchors = dict(_anchor(text) for text in options["anchor"])
        now = timezone.now()
        while audit_chain.seal(now):
            pass
        total = AuditLink.objects.count()
        bar, done = ProgressBar(self.stderr, total), 0
        broken: Break | None = None
        for step in audit_chain.breaks(anchors):
            if isinstance(step, Break):
                broken = step
            else:
                done = step
                bar.show(done)
        bar.end()
        self._tell(done, broken, options["json"])

    def _tell(self, done: int, broken: Break | None, as_json: bool) -> None:
        entry = AuditEntry.objects.filter(pk=broken.entry).first() if broken is not None and broken.entry else None
        if as_json:
            values = None if broken is None else {"link": broken.sequence, "entry": broken.entry, "why": broken.why}
            self.print_json({"links": done, "holds": broken is None, "broken": values})
        if broken is None:
            if not as_json:
                text = ngettext("The audit trail holds: %(n)s link.", "The audit trail holds: %(n)s links.", done)
                self.stdout.write(text % {"n": f"{done:,}"})
            return
        words = {"n": broken.sequence, "why": broken.why}
        sentence = _("The audit trail is broken at link %(n)s. %(why)s") % words
        if broken.entry is not None:
            sentence += " " + _("Entry %(id)s: %(text)s") % {"id": broken.entry, "text": entry or "?"}
        raise Failed(sentence)


def _anchor(text: str) -> tuple[int, str]:
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if found is None:
        raise InvalidInput(anchor=_("An anchor is a number, a colon and 64 hexadecimal digits."))
    return int(found[1]), found[2]
