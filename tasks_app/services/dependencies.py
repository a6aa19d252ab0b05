"""Edges between tasks: add, change and remove, never closing a cycle. What they mean: docs/dependencies.md."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app.conditions import ConditionError, parse
from tasks_app.dependencies import cycle_path
from tasks_app.errors import DependencyCycle, InvalidInput
from tasks_app.models import Project, Task, TaskDependency
from tasks_app.periods import PeriodPolicy, Unit
from tasks_app.queries import get_visible, tasks_visible_to
from tasks_app.services import places

EDGE_FIELDS = ("condition", "period", "period_back", "period_policy")
MOST_PERIODS_BACK = 100


@held(Kind.EDIT, "dependencies.create", places.of_ends)
def create(
    actor: Actor, upstream: Task, downstream: Task, fields: Mapping[str, Any] | None = None, *, now: datetime
) -> TaskDependency:
    """Let `downstream` wait for `upstream`; `fields` holds EDGE_FIELDS, what is left out takes its default.

    Raises InvalidInput at the field that is wrong or when the edge exists, DependencyCycle with the path.
    """
    edge = TaskDependency(upstream=upstream, downstream=downstream, **(fields or {}))
    _require(actor, edge)
    _validate(edge)
    with transaction.atomic():
        _lock_graph()
        if TaskDependency.objects.filter(upstream=upstream, downstream=downstream).exists():
            raise InvalidInput(downstream=_("This dependency exists already."))
        _refuse_cycle(actor, edge)
        edge.save()
        audit.append(actor, "create", edge, now=now, after=_describe(edge))
    return edge


@held(Kind.EDIT, "dependencies.update", places.of_edge)
def update(actor: Actor, edge: TaskDependency, fields: Mapping[str, Any], *, now: datetime) -> TaskDependency:
    """Change some EDGE_FIELDS; planned runs keep what they have. Raises as `create`, and NotFound when it is gone."""
    _require(actor, edge)
    with transaction.atomic():
        _lock_graph()
        edge = get_visible(TaskDependency.objects.select_related("upstream", "downstream"), edge.pk)
        before = _describe(edge)
        for name in EDGE_FIELDS:
            if name in fields:
                setattr(edge, name, fields[name])
        _validate(edge)
        _refuse_cycle(actor, edge)
        edge.save(update_fields=EDGE_FIELDS)
        old, new = audit.changes(before, _describe(edge))
        audit.append(actor, "update", edge, now=now, before=old, after=new)
    return edge


@held(Kind.EDIT, "dependencies.delete", places.of_edge)
def delete(actor: Actor, edge: TaskDependency, *, now: datetime) -> None:
    """Remove the edge; runs planned already keep theirs."""
    _require(actor, edge)
    with transaction.atomic():
        audit.append(actor, "delete", edge, now=now, before=_describe(edge))
        edge.delete()


def _require(actor: Actor, edge: TaskDependency) -> None:
    require(actor, Verb.EDIT, edge.upstream.project_id)
    require(actor, Verb.EDIT, edge.downstream.project_id)


def _validate(edge: TaskDependency) -> None:
    edge.condition = edge.condition.strip()
    if edge.condition:
        _validate_condition(edge)
    if edge.period and edge.period not in list(Unit):
        raise InvalidInput(period=_("A period is one of: %(names)s.") % {"names": ", ".join(Unit)})
    if edge.period_policy not in list(PeriodPolicy):
        raise InvalidInput(period_policy=_("A policy is one of: %(names)s.") % {"names": ", ".join(PeriodPolicy)})
    if not 0 <= edge.period_back <= MOST_PERIODS_BACK:
        raise InvalidInput(period_back=_("A number from 0 to %(most)d.") % {"most": MOST_PERIODS_BACK})
    if edge.period_back and not edge.period:
        raise InvalidInput(period_back=_("This counts periods: choose one, or leave it at 0."))


def _validate_condition(edge: TaskDependency) -> None:
    if edge.period:
        raise InvalidInput(condition=_("A dependency by period waits for success; it takes no condition."))
    try:
        parse(edge.condition)
    except ConditionError as error:
        words = {"place": error.position + 1, "problem": error.message}
        raise InvalidInput(condition=_("At character %(place)d: %(problem)s") % words) from error


def _lock_graph() -> None:
    """Every writer of edges takes the same lock first: two edits that are each harmless cannot close a cycle."""
    list(Project.objects.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True)[:1])


def _refuse_cycle(actor: Actor, edge: TaskDependency) -> None:
    """An edge to an earlier period closes no cycle: what it waits for lies before the run itself."""
    if _looks_back(edge.period, edge.period_back) and edge.upstream_id != edge.downstream_id:
        return
    others = TaskDependency.objects.exclude(pk=edge.pk).exclude(period__gt="", period_back__gte=1)
    path = cycle_path([*others.values_list("upstream_id", "downstream_id"), (edge.upstream_id, edge.downstream_id)])
    if path is not None:
        names: dict[int, str] = dict(tasks_visible_to(actor).filter(pk__in=path).values_list("pk", "name"))
        raise DependencyCycle(path=[names.get(pk, "…") for pk in path])


def _looks_back(period: str, back: int) -> bool:
    return bool(period) and back >= 1


def _describe(edge: TaskDependency) -> dict[str, Any]:
    ends = {"upstream": edge.upstream_id, "downstream": edge.downstream_id}
    return ends | {name: getattr(edge, name) for name in EDGE_FIELDS}
