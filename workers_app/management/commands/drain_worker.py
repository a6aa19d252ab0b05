"""manage.py drain_worker WORKER: let a worker finish what it runs, and leave."""

from __future__ import annotations

from time import sleep
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from access_app.management.command import Failed
from access_app.management.progress import ProgressBar
from tasks_app.rowset import database_now
from workers_app import services
from workers_app.management.door import WorkerCommand
from workers_app.models import Worker, WorkerState

LOOK_SECONDS = 0.5


class Command(WorkerCommand):
    help = _("Let a worker finish what it runs, take nothing new, and leave. This cannot be taken back.")
    verb = staticmethod(services.drain)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--wait", action="store_true", help=_("return when it has left"))

    def handle(self, *args: Any, **options: Any) -> None:
        worker = self.ask(options["worker"])
        text = _("The worker %(name)s finishes what it runs and leaves.")
        if options["wait"]:
            self._wait(worker)
            text = _("The worker %(name)s has left.")
        self.tell(worker, text, as_json=options["json"])

    def _wait(self, worker: Worker) -> None:
        total = services.running_on([worker.pk]).get(worker.pk, 0)
        progress = ProgressBar(self.stderr, total)
        while True:
            worker.refresh_from_db()
            state = services.shown_state(worker, database_now())
            progress.show(max(total - services.running_on([worker.pk]).get(worker.pk, 0), 0), state)
            if state != WorkerState.DRAINING:
                break
            sleep(LOOK_SECONDS)
        progress.end()
        if state != WorkerState.OFFLINE:
            raise Failed(_("The worker is %(state)s.") % {"state": state})
