"""Reads that doors and dispatcher share. What an actor may see is decided here, once per model."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Count, Model, Q, QuerySet

from access_app.actors import Actor
from access_app.models import Secret
from access_app.roles import visible_project_ids
from tasks_app import rowset
from tasks_app.errors import NotFound
from tasks_app.models import Backfill, Calendar, Project, Run, Schedule, Task, TaskDependency
from tasks_app.states import RunState

M = TypeVar("M", bound=Model)


def projects_visible_to(actor: Actor) -> QuerySet[Project]:
    return _in_projects(Project.objects.all(), actor, "pk")


def tasks_visible_to(actor: Actor) -> QuerySet[Task]:
    return _in_projects(Task.objects.select_related("project", "version", "pool"), actor, "project")


def schedules_visible_to(actor: Actor) -> QuerySet[Schedule]:
    return _in_projects(Schedule.objects.select_related("task"), actor, "task__project")


def calendars_visible_to(actor: Actor) -> QuerySet[Calendar]:
    """Those of the visible projects, and the shared ones for whoever has a role in some project."""
    rows, visible = Calendar.objects.select_related("project"), visible_project_ids(actor)
    if visible is None:
        return rows
    return rows.filter(Q(project=None) | Q(project__in=visible)) if visible else rows.none()


def dependencies_visible_to(actor: Actor) -> QuerySet[TaskDependency]:
    edges = TaskDependency.objects.select_related("upstream", "downstream")
    return _in_projects(_in_projects(edges, actor, "upstream__project"), actor, "downstream__project")


def backfills_visible_to(actor: Actor) -> QuerySet[Backfill]:
    rows = Backfill.objects.select_related("task__project", "schedule", "created_by")
    return _in_projects(rows, actor, "task__project")


def runs_visible_to(actor: Actor) -> QuerySet[Run]:
    return _in_projects(Run.objects.select_related("task", "version"), actor, "task__project")


def secrets_visible_to(actor: Actor) -> QuerySet[Secret]:
    """What is known of secrets, for whoever sees their project. Their values are for runs alone."""
    return _in_projects(Secret.objects.select_related("project").prefetch_related("tasks"), actor, "project")


def get_visible(rows: QuerySet[M], pk: int | str) -> M:
    """The row of that key, or NotFound: also when it exists and the actor may not see it."""
    key = _key(rows.model, pk)
    found = rows.filter(pk=key).first() if key is not None else None
    if found is None:
        raise NotFound
    return found


def counts_by_state(runs: QuerySet[Run]) -> dict[str, int]:
    """Number of runs in each state, zeros included."""
    counted = dict(runs.order_by().values_list("state").annotate(n=Count("pk")))
    return {state.value: counted.get(state.value, 0) for state in RunState}


def upcoming_fires(tasks: QuerySet[Task], *, now: datetime, count: int) -> list[Schedule]:
    """The `count` schedules of these tasks that run next, soonest first: see Schedule.shown_next_at."""
    active = Schedule.objects.filter(task__in=tasks, task__paused=False, enabled=True).select_related("task")
    # Apart, so that each is read along its index no further than wanted.
    without = active.filter(calendar=None, next_fire_at__gt=now).order_by("next_fire_at", "id")[:count]
    moved = active.filter(calendar__isnull=False, next_run_at__gt=now).order_by("next_run_at", "id")[:count]
    return sorted([*without, *moved], key=lambda schedule: (schedule.shown_next_at or now, schedule.pk))[:count]


def last_outcomes(task_ids: Iterable[int], *, count: int) -> dict[int, list[tuple[int, str]]]:
    """The last `count` runs of each task as (id, state), newest first, in one query that reads no more than these."""
    # A window over all runs of the tasks would read their whole history; this walks the index of a task's runs.
    sql = f"""SELECT run.task_id, run.id, run.state FROM {rowset.table("k", {"id": "bigint"})}
        JOIN tasks_app_run AS run ON run.task_id = k.id AND run.id >= coalesce(
            (SELECT last.id FROM tasks_app_run AS last WHERE last.task_id = k.id
            ORDER BY last.id DESC LIMIT 1 OFFSET {int(count) - 1}), 0)
        ORDER BY run.task_id, run.id DESC"""
    found: dict[int, list[tuple[int, str]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, [rowset.encode({"id": id} for id in set(task_ids))])
        for task_id, run_id, state in cursor.fetchall():
            found.setdefault(task_id, []).append((run_id, state))
    return found


def _in_projects(rows: QuerySet[M], actor: Actor, path: str) -> QuerySet[M]:
    visible = visible_project_ids(actor)
    return rows if visible is None else rows.filter(**{f"{path}__in": visible})


def _key(model: type[Model], pk: Any) -> Any:
    """The key as the column holds it; None where no row can have it."""
    try:
        key = model._meta.pk.to_python(pk)
    except ValidationError:
        return None
    # A number beyond bigint would be an error of the database.
    return key if not isinstance(key, int) or -(2**63) <= key < 2**63 else None
