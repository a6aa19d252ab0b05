"""Edges between tasks: add and remove, never closing a cycle."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require
from tasks_app.dependencies import cycle_path
from tasks_app.errors import DependencyCycle, InvalidInput
from tasks_app.models import Project, Task, TaskDependency
from tasks_app.queries import tasks_visible_to


def create(actor: Actor, upstream: Task, downstream: Task, *, now: datetime) -> TaskDependency:
    """Let `downstream` wait for `upstream`. Raises DependencyCycle with the path, InvalidInput when it exists."""
    require(actor, Verb.EDIT, upstream.project_id)
    require(actor, Verb.EDIT, downstream.project_id)
    with transaction.atomic():
        # Every writer of edges takes the same lock first: two edits that are each harmless cannot close a cycle.
        list(Project.objects.order_by("pk").select_for_update().values_list("pk", flat=True)[:1])
        if TaskDependency.objects.filter(upstream=upstream, downstream=downstream).exists():
            raise InvalidInput(downstream=_("This dependency exists already."))
        edges = [*TaskDependency.objects.values_list("upstream_id", "downstream_id"), (upstream.pk, downstream.pk)]
        path = cycle_path(edges)
        if path is not None:
            names: dict[int, str] = dict(tasks_visible_to(actor).filter(pk__in=path).values_list("pk", "name"))
            raise DependencyCycle(path=[names.get(pk, "…") for pk in path])
        edge = TaskDependency.objects.create(upstream=upstream, downstream=downstream)
        audit.append(actor, "create", edge, now=now, after=_describe(edge))
    return edge


def delete(actor: Actor, edge: TaskDependency, *, now: datetime) -> None:
    """Remove the edge; runs planned already keep theirs."""
    require(actor, Verb.EDIT, edge.upstream.project_id)
    require(actor, Verb.EDIT, edge.downstream.project_id)
    with transaction.atomic():
        audit.append(actor, "delete", edge, now=now, before=_describe(edge))
        edge.delete()


def _describe(edge: TaskDependency) -> dict[str, Any]:
    return {"upstream": edge.upstream_id, "downstream": edge.downstream_id}
