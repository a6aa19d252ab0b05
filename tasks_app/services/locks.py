"""Rows held still while a service changes them."""

from __future__ import annotations

from tasks_app.models import Task
from tasks_app.queries import get_visible


def locked_task(task: Task, *, no_key: bool = True) -> Task:
    """The task as it is now, or NotFound. Without the key (`no_key`) runs of it can be planned meanwhile."""
    rows = Task.objects.select_for_update(of=("self",), no_key=no_key).select_related("version", "project", "pool")
    return get_visible(rows, task.pk)
