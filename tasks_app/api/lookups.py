"""From what a request names to the object that its actor may see."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.roles import require_membership
from tasks_app.errors import InvalidInput
from tasks_app.models import Pool, Project, Run, Task
from tasks_app.queries import (
    calendars_visible_to,
    get_visible,
    projects_visible_to,
    runs_visible_to,
    tasks_visible_to,
)

DEFAULT_PROJECT = "default"


def task_rows(actor: Actor) -> QuerySet[Task]:
    """The visible tasks with all that an answer shows of each."""
    return tasks_visible_to(actor).prefetch_related("schedules", "task_resources__resource")


def run_rows(actor: Actor) -> QuerySet[Run]:
    """The visible runs with all that an answer shows of each."""
    return runs_visible_to(actor).select_related("task__project", "pool")


def find_task(actor: Actor, task_id: int) -> Task:
    """Raises NotFound."""
    return get_visible(task_rows(actor), task_id)


def find_run(actor: Actor, run_id: int) -> Run:
    """Raises NotFound."""
    return get_visible(run_rows(actor), run_id)


def named_task(actor: Actor, field: str, task_id: int) -> Task:
    """The task that a field of a body names. Raises InvalidInput at that field."""
    task = tasks_visible_to(actor).filter(pk=task_id).first()
    if task is None:
        raise InvalidInput(**{field: _("There is no task %(id)s.") % {"id": task_id}})
    return task


def with_calendar(actor: Actor, fields: dict[str, Any], project_id: int | None) -> dict[str, Any]:
    """The fields of a schedule with its calendar as an object, for a task in that project (None: in any).

    Raises InvalidInput at a calendar that the actor does not see, or of which there are several of that name.
    """
    named = fields.get("calendar")
    if named is None:
        return fields
    rows = calendars_visible_to(actor)
    if isinstance(named, int):
        found = list(rows.filter(pk=named)) if named < 2**63 else []
    else:
        found = list(rows.filter(name=named))
        own = [calendar for calendar in found if calendar.project_id == project_id]
        shared = [calendar for calendar in found if calendar.project_id is None]
        found = own or shared or (found if project_id is None else [])
    if len(found) != 1:
        raise InvalidInput(calendar=_("There is no calendar %(name)s.") % {"name": named})
    return {**fields, "calendar": found[0]}


def with_objects(actor: Actor, fields: dict[str, Any], *, new: bool) -> dict[str, Any]:
    """The fields of a task with project and pool as objects, the default project for a new task that names none.

    Raises InvalidInput at the name that is unknown to the actor.
    """
    require_membership(actor)
    given = {"project": DEFAULT_PROJECT, **fields} if new else dict(fields)
    if "project" in given:
        given["project"] = named_project(actor, given["project"])
    if "pool" in given:
        given["pool"] = _pool(given["pool"])
    return given


def named_project(actor: Actor, name: str) -> Project:
    """Raises InvalidInput at `project` when the actor sees none of that name."""
    project = projects_visible_to(actor).filter(name=name).first()
    if project is None:
        raise InvalidInput(project=_("There is no project %(name)s.") % {"name": name})
    return project


def _pool(name: str) -> Pool:
    pool = Pool.objects.filter(name=name).first()
    if pool is None:
        raise InvalidInput(pool=_("There is no pool %(name)s.") % {"name": name})
    return pool
