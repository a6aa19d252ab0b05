"""What the commands share: their ending (exit code and one sentence), their actor and how they read arguments."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, OperationalError
from django.utils.translation import gettext as _

from access_app.actors import Actor, system_actor
from access_app.json_text import JSONFault, NotJSON, loads
from tasks_app.errors import InvalidInput, NotFound, SchedulerError
from tasks_app.models import Project, Run, Task
from tasks_app.queries import get_visible, runs_visible_to, tasks_visible_to
from tasks_app.texts import clipped

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
        except SchedulerError as error:
            self._end(_sentence(error), REFUSED, error)
        except Failed as error:
            self._end(str(error), FAILED, error)
        except UnicodeEncodeError as error:
            self._end(_("An argument is not valid UTF-8 text."), REFUSED, error)
        except OperationalError as error:
            text = _("The database does not answer: %(error)s") % {"error": _first_line(error)}
            self._end(text, FAILED, error)
        except DatabaseError as error:
            self._end(_("The database refused this: %(error)s") % {"error": _first_line(error)}, FAILED, error)
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


def add_task_arguments(parser: CommandParser) -> None:
    """NAME and --project, which names it when several projects have a task of that name."""
    parser.add_argument("name", metavar="NAME", help=_("name of the task"))
    add_project_argument(parser)


def add_project_argument(parser: CommandParser) -> None:
    parser.add_argument("--project", metavar="P", help=_("its project, where more than one has a task of this name"))


def add_json_argument(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help=_("print one JSON document"))


def find_task(actor: Actor, name: str, project: str | None) -> Task:
    """The task of that name. Raises NotFound, or InvalidInput when only its project would tell which one is meant."""
    tasks = tasks_visible_to(actor).filter(name=name)
    if project is not None:
        tasks = tasks.filter(project=find_project(project))
    found = list(tasks.order_by("project__name")[:20])
    if not found:
        raise NotFound(_("There is no task named %(name)s.") % {"name": clipped(name, 200)})
    if len(found) > 1:
        names = ", ".join(task.project.name for task in found)
        raise InvalidInput(project=_("Several projects have this task (%(names)s): say which.") % {"names": names})
    return found[0]


def find_project(name: str) -> Project:
    """The project of that name. Raises NotFound."""
    project = Project.objects.filter(name=name).first()
    if project is None:
        raise NotFound(_("There is no project named %(name)s.") % {"name": clipped(name, 100)})
    return project


def find_run(actor: Actor, id: int) -> Run:
    """The run of that id. Raises NotFound."""
    try:
        return get_visible(runs_visible_to(actor).select_related("task__project"), id)
    except NotFound as error:
        raise NotFound(_("There is no run %(id)s.") % {"id": id}) from error


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with Z, as the API writes it."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def run_values(run: Run) -> dict[str, Any]:
    """The run as the JSON answers of the commands show it, under the names of the API."""
    return {
        "id": run.pk,
        "task": run.task_id,
        "task_name": run.task.name,
        "state": run.state,
        "reason": run.reason,
        "reason_detail": run.reason_detail,
        "attempt": run.attempt,
        "exit_code": run.exit_code,
        "output": run.output,
        "params": run.params,
        "nominal_at": iso(run.nominal_at),
        "due_at": iso(run.due_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "cancel_requested_at": iso(run.cancel_requested_at),
    }


def parse_params(pairs: Sequence[str]) -> dict[str, Any]:
    """Parameters from `name=value` texts: a value that is JSON is taken as such, any other as text.

    Raises InvalidInput for a pair without `=`, a name given twice and JSON that nobody can mean.
    """
    params: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(param=_("Write a parameter as name=value, not %(pair)r.") % {"pair": clipped(pair, 100)})
        if name in params:
            raise InvalidInput(param=_("The parameter %(name)s is given twice.") % {"name": name})
        params[name] = _json_or_text(text)
    return params


def _json_or_text(text: str) -> Any:
    try:
        return loads(text)
    except NotJSON:
        return text
    except JSONFault as fault:
        raise InvalidInput(param=str(fault)) from fault


def _sentence(error: SchedulerError) -> str:
    if isinstance(error, InvalidInput):
        return str(error)
    path = error.details.get("path")
    return f"{error.message} ({' → '.join(path)})" if path else error.message


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _plain(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else str(value)
