"""manage.py uncordon_worker WORKER: let a cordoned worker take runs again."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from workers_app import services
from workers_app.management.door import WorkerCommand


class Command(WorkerCommand):
    help = _("Let a cordoned worker take runs again.")
    verb = staticmethod(services.uncordon)

    def handle(self, *args: Any, **options: Any) -> None:
        worker = self.ask(options["worker"])
        self.tell(worker, _("The worker %(name)s takes runs again."), as_json=options["json"])
