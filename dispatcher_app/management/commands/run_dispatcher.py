"""manage.py run_dispatcher: one dispatcher; run two or more in production."""

from __future__ import annotations

import signal
from typing import Any

import structlog
from django.core.management.base import BaseCommand

from dispatcher_app.loop import Dispatcher

log = structlog.get_logger("dispatcher")


class Command(BaseCommand):
    help = "Turns due schedules into runs and hands runs to the workers. Any number may run at once."

    def handle(self, *args: Any, **options: Any) -> None:
        dispatcher = Dispatcher()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stop())
        dispatcher.run(on_ready=lambda: log.info("ready", name=dispatcher.name))
        log.info("stopped", name=dispatcher.name)
