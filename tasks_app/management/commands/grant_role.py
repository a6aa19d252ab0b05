"""manage.py grant_role USER ROLE --project P: give somebody a role in a project."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor, find_user
from access_app.roles import Role
from access_app.services import grant_role
from tasks_app.management.door import add_project_argument, find_project


class Command(SchedulerCommand):
    help = _("Give a user exactly this role in a project, in place of any other there.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help=_("name of the user"))
        parser.add_argument("role", metavar="ROLE", choices=Role.values, help=", ".join(Role.values))
        add_project_argument(parser, _("name of the project"), required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        user, project = find_user(options["user"]), find_project(options["project"])
        grant_role(command_actor(), user, options["role"], project, now=timezone.now())
        words = {"user": user.get_username(), "role": options["role"], "project": project.name}
        self.stdout.write(_("%(user)s is %(role)s in %(project)s.") % words)
