"""manage.py revoke_role USER --project P: take the role that somebody has in a project."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor, find_user
from access_app.services import revoke_role
from tasks_app.management.door import add_project_argument, find_project


class Command(SchedulerCommand):
    help = _("Take the role that a user has in a project: the user sees nothing of it any more.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help=_("name of the user"))
        add_project_argument(parser, _("name of the project"), required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        user, project = find_user(options["user"]), find_project(options["project"])
        role = revoke_role(command_actor(), user, project, now=timezone.now())
        words = {"user": user.get_username(), "role": role, "project": project.name}
        self.stdout.write(_("%(user)s is no longer %(role)s in %(project)s.") % words)
