"""manage.py revoke_role NAME --project P [--group]: take the role that a user or group has in a project."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.grants import revoke_role
from access_app.management.command import SchedulerCommand, command_actor, find_holder
from tasks_app.management.door import add_project_argument, find_project


class Command(SchedulerCommand):
    help = _("Take the role that a user or group has in a project.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help=_("name of the user, or of the group"))
        parser.add_argument("--group", action="store_true", help=_("it is a group"))
        add_project_argument(parser, _("name of the project"), required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        holder, project = find_holder(options["name"], group=options["group"]), find_project(options["project"])
        role = revoke_role(command_actor(), holder, project, now=timezone.now())
        words = {"user": str(holder), "role": role, "project": project.name}
        self.stdout.write(_("%(user)s is no longer %(role)s in %(project)s.") % words)
