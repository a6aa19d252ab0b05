"""The graph of tasks around one of them, as far as somebody may see it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q, QuerySet

from access_app.actors import Actor
from tasks_app.models import Task, TaskDependency
from tasks_app.queries import dependencies_visible_to, tasks_visible_to


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks and the edges between them, by id; `complete` is false where there is more of it."""

    tasks: list[Task]
    edges: list[TaskDependency]
    complete: bool


def around(actor: Actor, task_id: int, *, most: int, hops: int | None = None) -> Graph:
    """What is connected with the task over visible edges, at most `hops` of them, with little more than `most` tasks.

    One query a level, one for what lies beyond the last, and one for the tasks.
    """
    visible = dependencies_visible_to(actor).select_related(None).order_by("pk")

    def touching(ends: set[int]) -> QuerySet[TaskDependency]:
        return visible.filter(Q(upstream__in=ends) | Q(downstream__in=ends))

    seen, frontier = {task_id}, {task_id}
    edges: dict[int, TaskDependency] = {}
    level = 0
    while frontier and len(seen) <= most and (hops is None or level < hops):
        level += 1
        edges |= {edge.pk: edge for edge in touching(frontier)}
        frontier = {end for edge in edges.values() for end in (edge.upstream_id, edge.downstream_id)} - seen
        seen |= frontier
    tasks = list(tasks_visible_to(actor).filter(pk__in=seen).order_by("pk"))
    complete = not frontier or not touching(frontier).exclude(pk__in=edges).exists()
    return Graph(tasks, [edge for _pk, edge in sorted(edges.items())], complete)
