"""I6: live runs never exceed a limit: of task, pool, concurrency key, resource or backfill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Case, Count, F, IntegerField, Max, Q, Sum, Value, When
from django.db.models.functions import Coalesce

from access_app.models import AuditEntry
from monitoring_app.violations import MOST_IDS, Scope, Violation
from tasks_app.models import Resource, Run, TaskResource
from tasks_app.models.task import Overlap
from tasks_app.states import LIVE


class Use(NamedTuple):
    """A limit that is exceeded: its kind (a model's name) and row, what is used of it, and when it was last taken."""

    kind: str
    id: int
    name: str
    used: int
    limit: int
    taken_at: datetime


def over_limits(scope: Scope) -> Iterator[Violation]:  # noqa: ARG001  (all live runs are looked at)
    """One query for each kind of limit. A limit that was lowered below what is live is no fault: nothing was queued
    under it since."""
    uses = [use for kind in (_tasks, _keys, _pools, _resources, _backfills) for use in kind()]
    for use in uses[:MOST_IDS]:
        if not _was_lowered(use):
            detail = f"{use.used} live of at most {use.limit}: {use.kind} {use.name}."
            yield Violation("I6", detail, (use.id,))


def _was_lowered(use: Use) -> bool:
    edited = Q(object_type=use.kind, object_id=str(use.id))
    if use.kind == "resource":
        # What its runs take of it stands with their tasks.
        takers = TaskResource.objects.filter(resource=use.id).values_list("task_id", flat=True)
        edited |= Q(object_type="task", object_id__in=[str(task) for task in takers])
    return AuditEntry.objects.filter(edited, verb="update", at__gte=use.taken_at).exists()


_LIVE = Run.objects.filter(state__in=sorted(LIVE)).order_by()
_TASK_LIMIT = Case(
    When(task__overlap=Overlap.ALLOW, then=F("task__max_concurrent")),
    default=Coalesce("task__max_concurrent", Value(1)),
    output_field=IntegerField(),
)


def _tasks() -> Iterable[Use]:
    limited = _LIVE.filter(Q(task__max_concurrent__isnull=False) | ~Q(task__overlap=Overlap.ALLOW))
    rows = limited.annotate(most=_TASK_LIMIT).values_list("task_id", "task__name", "most")
    return _over("task", rows.annotate(used=Count("pk"), taken=Max("queued_at")).filter(used__gt=F("most")))


def _keys() -> Iterable[Use]:
    keyed = _LIVE.exclude(concurrency_key="").exclude(task__concurrency_key="")
    rows = keyed.values_list("task_id", "concurrency_key", "task__max_concurrent_per_key")
    counted = rows.annotate(used=Count("pk"), taken=Max("queued_at"))
    return _over("task", counted.filter(used__gt=F("task__max_concurrent_per_key")))


def _pools() -> Iterable[Use]:
    rows = _LIVE.filter(pool__slots__isnull=False).values_list("pool_id", "pool__name", "pool__slots")
    return _over("pool", rows.annotate(used=Sum("weight"), taken=Max("queued_at")).filter(used__gt=F("pool__slots")))


def _resources() -> Iterable[Use]:
    # From the resources, not from the runs: a run that takes two of them counts for each.
    live = Q(task_resources__task__runs__state__in=sorted(LIVE))
    rows = Resource.objects.filter(live, capacity__isnull=False).order_by().values_list("pk", "name", "capacity")
    counted = rows.annotate(used=Sum("task_resources__amount"), taken=Max("task_resources__task__runs__queued_at"))
    return _over("resource", counted.filter(used__gt=F("capacity")))


def _backfills() -> Iterable[Use]:
    rows = _LIVE.filter(backfill__isnull=False).values_list("backfill_id", "backfill_id", "backfill__max_concurrent")
    counted = rows.annotate(used=Count("pk"), taken=Max("queued_at"))
    return _over("backfill", counted.filter(used__gt=F("backfill__max_concurrent")))


def _over(kind: str, rows: Any) -> Iterable[Use]:
    return [Use(kind, id, str(name), used, limit, taken) for id, name, limit, used, taken in rows[:MOST_IDS]]
