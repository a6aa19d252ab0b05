"""What the commands about tasks and runs share: how they read arguments and show runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError

from access_app.actors import Actor
from access_app.api.fields import InstantField
from access_app.json_text import JSONFault, NotJSON, loads
from access_app.management.command import iso
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.models import Project, Run, Task
from tasks_app.queries import get_visible, runs_visible_to, tasks_visible_to
from tasks_app.texts import clipped


def add_task_arguments(parser: CommandParser) -> None:
    """NAME and --project, which names it when several projects have a task of that name."""
    parser.add_argument("name", metavar="NAME", help=_("name of the task"))
    add_project_argument(parser)


def add_project_argument(parser: CommandParser, text: str = "", *, required: bool = False) -> None:
    text = text or _("its project, where more than one has a task of this name")
    parser.add_argument("--project", metavar="P", required=required, help=text)


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


def parse_instant(name: str, text: str) -> datetime:
    """The time that an option gives, in ISO 8601 with its offset. Raises InvalidInput under the name of the option."""
    try:
        found: datetime = InstantField().run_validation(text)
    except ValidationError as error:
        raise InvalidInput(**{name: [str(text) for text in error.detail]}) from error
    return found


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
