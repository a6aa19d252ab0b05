"""manage.py explain_run ID: why it is where it is, gate by gate."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from dispatcher_app.api.explain import ExplanationSerializer
from dispatcher_app.explain import Gate, explain
from dispatcher_app.gate_texts import label, moment
from tasks_app.management.door import add_json_argument, find_run


class Command(SchedulerCommand):
    help = _(
        "Say why a run is not running: every gate, open or closed, what it waits for and when it is likely to open."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("id of the run"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        run = find_run(command_actor(), options["id"])
        explanation = explain(run, timezone.now())
        if options["json"]:
            self.print_json({"run": run.pk, **ExplanationSerializer(explanation).data})
            return
        for gate in explanation.gates:
            self.stdout.write(_line(gate))


def _line(gate: Gate) -> str:
    mark = _("open") if gate.open else _("closed")
    parts = [f"{mark:8}{label(gate.name)}: {gate.detail}"]
    if gate.holders:
        names = ", ".join(f"#{holder.run} {holder.task}" for holder in gate.holders)
        parts.append(_("It waits for %(names)s.") % {"names": names})
    if gate.estimate_at is not None:
        parts.append(_("Likely to open at %(at)s.") % {"at": moment(gate.estimate_at)})
    return " ".join(parts)
