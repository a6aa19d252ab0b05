"""manage.py resume_task NAME: let a paused task go on."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_task_arguments, find_task
from tasks_app.services import tasks


class Command(SchedulerCommand):
    help = _("Resume a paused task: its waiting runs start, its schedules fire from now on.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        task = find_task(actor, options["name"], options["project"])
        tasks.resume(actor, task, now=timezone.now())
        self.stdout.write(_("The task %(name)s goes on.") % {"name": task.name})
