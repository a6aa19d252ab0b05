"""`create_api_key --user U --name N` and what narrows it prints a new key, and nothing else, on standard output."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import services
from access_app.errors import InvalidInput
from access_app.management.command import SchedulerCommand, command_actor, find_user
from access_app.roles import Role, Verb


class Command(SchedulerCommand):
    help = _("Create an API key and print it: the key alone, this once.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help=_("user name of its owner"))
        parser.add_argument("--name", required=True, help=_("what the key is for"))
        parser.add_argument("--role", default=Role.VIEWER.value, choices=Role.values, help=_("what it may do at most"))
        scopes = [verb.value for verb in Verb]
        parser.add_argument(
            "--scope", action="append", default=[], choices=scopes, help=_("what of its role it may do; repeat it")
        )
        parser.add_argument(
            "--address", action="append", default=[], help=_("address range that it is taken from; repeat it")
        )
        parser.add_argument("--days", type=int, help=_("days until it expires; without it, it does not"))

    def handle(self, *args: Any, **options: Any) -> None:
        days, now = options["days"], timezone.now()
        if days is not None and not 1 <= days <= services.LONGEST_LIFE.days:
            raise InvalidInput(days=_("Give a number from 1 to %(most)d.") % {"most": services.LONGEST_LIFE.days})
        expiry = None if days is None else now + timedelta(days=days)
        owner, name, role = find_user(options["user"]), options["name"], options["role"]
        _key, token = services.create_key(
            command_actor(),
            owner,
            name=name,
            role=role,
            scopes=options["scope"],
            addresses=options["address"],
            expiry=expiry,
            now=now,
        )
        self.stdout.write(token)
