"""Where calls of services have their effect, for rules of approval: projects, and the tags of their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from access_app.second_person import Place
from tasks_app.models import Run, Task

Arguments = Mapping[str, Any]


def of_task(arguments: Arguments) -> list[Place]:
    """A task as it is, and as it would be: a rule is left as little as it is entered without a second person."""
    return [*_places([arguments["task"]]), *of_task_fields(arguments)]


def of_task_fields(arguments: Arguments) -> list[Place]:
    """What the fields of a task make of it."""
    fields = arguments.get("fields") or {}
    task: Task | None = arguments.get("task")
    if not fields.keys() & {"project", "tags"}:
        return []
    project_id = fields["project"].pk if "project" in fields else task.project_id if task else None
    tags = fields.get("tags", task.tags if task else [])
    return [Place(project_id, tuple(map(str, tags)) if isinstance(tags, list) else ())]


def of_run(arguments: Arguments) -> list[Place]:
    return _places([arguments["run"].task])


def of_firing(arguments: Arguments) -> list[Place]:
    """Every task of the firing that the run belongs to, its own first."""
    run: Run = arguments["run"]
    root = run.root_id or run.pk
    others = Task.objects.filter(Q(runs__pk=root) | Q(runs__root=root)).distinct()
    return _places([run.task, *others])


def of_schedule(arguments: Arguments) -> list[Place]:
    return _places([arguments["schedule"].task])


def of_ends(arguments: Arguments) -> list[Place]:
    return _places([arguments["downstream"], arguments["upstream"]])


def of_edge(arguments: Arguments) -> list[Place]:
    edge = arguments["edge"]
    return _places([edge.downstream, edge.upstream])


def of_project_fields(arguments: Arguments) -> list[Place]:
    return [Place(arguments["fields"]["project"].pk)]


def of_secret(arguments: Arguments) -> list[Place]:
    return [Place(arguments["secret"].project_id)]


def _places(tasks: list[Task]) -> list[Place]:
    return [Place(task.project_id, tuple(map(str, task.tags))) for task in tasks]
