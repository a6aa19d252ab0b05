"""manage.py cordon_worker WORKER: let a worker take nothing new."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from workers_app import services
from workers_app.management.door import WorkerCommand


class Command(WorkerCommand):
    help = _("Let a worker take nothing new, from its next beat on; what runs on it goes on.")
    verb = staticmethod(services.cordon)

    def handle(self, *args: Any, **options: Any) -> None:
        worker = self.ask(options["worker"])
        self.tell(worker, _("The worker %(name)s takes nothing new."), as_json=options["json"])
