"""manage.py pause_task NAME: start nothing of a task until it is resumed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_task_arguments, find_task
from tasks_app.services import tasks


class Command(SchedulerCommand):
    help = _("Pause a task: nothing of it starts, and its instants meanwhile are recorded as skipped.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)
        parser.add_argument("--reason", default="", help=_("why, for those who find it paused"))

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        task = find_task(actor, options["name"], options["project"])
        tasks.pause(actor, task, now=timezone.now(), reason=options["reason"])
        self.stdout.write(_("The task %(name)s is paused.") % {"name": task.name})
