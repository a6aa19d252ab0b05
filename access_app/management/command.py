"""What all commands share: their ending (exit code and one sentence), their actor, their users and their JSON."""

from __future__ import annotations

import getpass
import json
import os
import sys
from datetime import datetime
from typing import Any, NoReturn

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, Group
from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseFault
from django.utils.translation import gettext as _

from access_app import approvals
from access_app.actors import Actor, system_actor
from access_app.api.fields import instant
from access_app.errors import InvalidInput, NotFound, SchedulerError
from access_app.outages import is_outage
from access_app.second_person import ApprovalRequired

FAILED = 1
REFUSED = 2
INTERRUPTED = 130


class Failed(CommandError):
    """The command did what it was asked, and the answer is bad: exit code 1."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=FAILED)


class SchedulerCommand(BaseCommand):
    """A command that ends with 0 done, 1 failed or 2 refused, and says why in one sentence on standard error."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        if options.get("traceback"):
            return super().execute(*args, **options)
        try:
            return super().execute(*args, **options)
        except ApprovalRequired as error:
            text = _("This needs a second person, who is asked: request for approval #%(id)d.")
            self._end(text % {"id": approvals.ask(error).pk}, REFUSED, error)
        except SchedulerError as error:
            self._end(_sentence(error), REFUSED, error)
        except ObjectDoesNotExist as error:
            self._end(_("The object was deleted meanwhile."), FAILED, error)
        except Failed as error:
            self._end(str(error), FAILED, error)
        except UnicodeEncodeError as error:
            self._end(_("An argument is not valid UTF-8 text."), REFUSED, error)
        except DatabaseFault as error:
            away, refused = _("The database does not answer: %(error)s"), _("The database refused this: %(error)s")
            self._end((away if is_outage(error) else refused) % {"error": _first_line(error)}, FAILED, error)
        except BrokenPipeError:
            # The reader (head, less) has left: without this Python complains once more while it shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain))

    def _end(self, text: str, code: int, error: Exception) -> NoReturn:
        # call_command() hands the error to its caller; from a shell Django would put the class name before it.
        if not getattr(self, "_called_from_command_line", False):
            raise CommandError(text, returncode=code) from error
        self.stderr.write(text)
        sys.exit(code)


def command_actor() -> Actor:
    """Whoever has a shell here acts as the system, under the name of the account."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = str(os.getuid())
    return system_actor(f"command {account}")


def find_user(name: str) -> AbstractBaseUser:
    """The active user of that name. Raises NotFound."""
    users = get_user_model()
    user = users.objects.filter(**{users.USERNAME_FIELD: name, "is_active": True}).first()
    if user is None:
        raise NotFound(_("There is no active user named %(name)s.") % {"name": name[:200]})
    return user


def find_holder(name: str, *, group: bool) -> AbstractBaseUser | Group:
    """The active user, or the group, of that name. Raises NotFound."""
    if not group:
        return find_user(name)
    found = Group.objects.filter(name=name).first()
    if found is None:
        raise NotFound(_("There is no group named %(name)s.") % {"name": name[:200]})
    return found


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with Z, as the API writes it."""
    return None if moment is None else instant(moment)


def _sentence(error: SchedulerError) -> str:
    if isinstance(error, InvalidInput):
        return str(error)
    path = error.details.get("path")
    return f"{error.message} ({' → '.join(path)})" if path else error.message


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else str(value)
