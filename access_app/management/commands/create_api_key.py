"""`create_api_key --user U --name N [--role R] [--days D]` prints a new key, and nothing else, on standard output."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from access_app import services
from access_app.actors import system_actor
from access_app.errors import SchedulerError
from access_app.roles import Role


class Command(BaseCommand):
    help = "Create an API key and print it: the key alone, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, help="user name of its owner")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--role", default=Role.VIEWER.value, choices=Role.values, help="what it may do at most")
        parser.add_argument("--days", type=int, help="days until it expires; without it, it does not")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(self._create(options))
        except DatabaseError as error:
            text = str(error).strip().partition("\n")[0]
            raise CommandError(f"The database refused this; is it migrated? {text}", returncode=1) from error
        except SchedulerError as error:
            raise CommandError(str(error), returncode=2) from error

    def _create(self, options: dict[str, Any]) -> str:
        users = get_user_model().objects
        user = users.filter(**{users.model.USERNAME_FIELD: options["user"], "is_active": True}).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.", returncode=2)
        days, now = options["days"], timezone.now()
        if days is not None and not 1 <= days <= services.LONGEST_LIFE.days:
            raise CommandError("--days must be between 1 and 3650.", returncode=2)
        expiry = now + timedelta(days=days) if days is not None else None
        actor = system_actor("manage.py create_api_key")
        name, role = options["name"], options["role"]
        _key, token = services.create_key(actor, user, name=name, role=role, expiry=expiry, now=now)
        return token
