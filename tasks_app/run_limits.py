"""What planned runs take along for limits: their concurrency keys, and whether the end of their attempts is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Q

from tasks_app.concurrency_keys import key_or_template
from tasks_app.models import Schedule, Task, TaskResource, TaskVersion

WITH_BREAKER = Q(resource__breaker_failures__isnull=False) | Q(resource__breaker_ratio__isnull=False)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Looked up for a whole plan: one query, three where a task has a concurrency key."""

    telling: frozenset[int]
    versions: dict[int, tuple[dict[str, Any], str]] = field(default_factory=dict)
    zones: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[Task], schedule_ids: Iterable[int | None]) -> RunLimits:
        """For runs of these tasks that these schedules (None: no schedule) have fired, or their downstream runs."""
        by_key = {task.pk: task for task in tasks}
        breakers = TaskResource.objects.filter(WITH_BREAKER, task_id__in=list(by_key))
        telling = set(breakers.values_list("task_id", flat=True))
        telling |= {task.pk for task in by_key.values() if task.auto_pause_after is not None}
        keyed = [task.version_id for task in by_key.values() if task.concurrency_key and task.version_id is not None]
        if not keyed:
            return cls(frozenset(telling))
        rows = TaskVersion.objects.filter(pk__in=keyed).values_list("pk", "params", "task__project__name")
        zones = Schedule.objects.filter(pk__in={id for id in schedule_ids if id is not None})
        return cls(
            frozenset(telling),
            {pk: (params, project) for pk, params, project in rows},
            dict(zones.values_list("pk", "time_zone")),
        )

    def key(
        self, task: Task, *, params: Mapping[str, Any], nominal_at: datetime, schedule_id: int | None = None
    ) -> str:
        """The concurrency key of a run of the task; empty where the task has none."""
        if not task.concurrency_key:
            return ""
        # No version: the task is being deleted, and its runs with it.
        defaults, project = self.versions.get(task.version_id or 0, ({}, ""))
        return key_or_template(
            task.concurrency_key,
            task=task.name,
            project=project,
            nominal_at=nominal_at,
            zone=self.zones.get(schedule_id or 0, settings.SCHEDULER_TIME_ZONE),
            params={**defaults, **params},
        )
