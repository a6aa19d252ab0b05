"""manage.py pause_task NAME: start nothing of a task until it is resumed, or for a time."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app.management.door import add_task_arguments, find_task, parse_instant
from tasks_app.models.task import PauseMode
from tasks_app.services import tasks


class Command(SchedulerCommand):
    help = _("Pause a task: nothing of it starts until it is resumed or the time has come.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)
        parser.add_argument("--reason", default="", help=_("why, for those who find it paused"))
        parser.add_argument(
            "--until", metavar="TIME", help=_("when it goes on by itself, such as 2030-01-31T08:00:00Z")
        )
        parser.add_argument(
            "--mode",
            choices=PauseMode.values,
            default=PauseMode.DROP.value,
            help=_(
                "what becomes of its instants: drop (default) skips them, queue lets them wait as runs, "
                "drain does what waits already and takes nothing new"
            ),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        task = find_task(actor, options["name"], options["project"])
        until = None if options["until"] is None else parse_instant("until", options["until"])
        wanted = {"reason": options["reason"], "until": until, "mode": options["mode"]}
        tasks.pause(actor, task, now=timezone.now(), **wanted)
        self.stdout.write(_("The task %(name)s is paused.") % {"name": task.name})
