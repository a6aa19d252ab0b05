"""manage.py grant_role NAME ROLE --project P [--group]: give a user or group a role in a project."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.grants import grant_role
from access_app.management.command import SchedulerCommand, command_actor, find_holder
from access_app.roles import Role
from tasks_app.management.door import add_project_argument, find_project


class Command(SchedulerCommand):
    help = _("Give a user or group exactly this role in a project, in place of any other there.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help=_("name of the user, or of the group"))
        parser.add_argument("--group", action="store_true", help=_("it is a group: all of its members get the role"))
        parser.add_argument("role", metavar="ROLE", choices=Role.values, help=", ".join(Role.values))
        add_project_argument(parser, _("name of the project"), required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        holder, project = find_holder(options["name"], group=options["group"]), find_project(options["project"])
        grant_role(command_actor(), holder, options["role"], project, now=timezone.now())
        words = {"user": str(holder), "role": options["role"], "project": project.name}
        self.stdout.write(_("%(user)s is %(role)s in %(project)s.") % words)
