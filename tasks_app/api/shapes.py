"""How tasks, schedules, runs and their surroundings look in answers. Docs: docs/api.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.api.fields import InstantField, instant
from tasks_app.api.routing_fields import PlaceShape, RoutingShape
from tasks_app.models import Run, Task, TaskDependency
from tasks_app.periods import Unit
from tasks_app.services.runs import priority_name
from tasks_app.services.task_resources import amounts_of
from tasks_app.services.tasks import short_schedule

_PRIORITY = {
    "oneOf": [
        {"type": "string", "enum": ["low", "normal", "high", "critical"]},
        {"type": "integer", "minimum": 0, "maximum": 100},
    ]
}


@extend_schema_field(_PRIORITY)
class PriorityName(serializers.Field[Any, Any, Any, Any]):
    """A priority by its name where it has one."""

    def to_representation(self, value: int) -> str | int:
        return priority_name(value)


class TaskSerializer(RoutingShape):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name")
    description = serializers.CharField()
    task_type = serializers.CharField()
    executor = serializers.CharField(source="version.executor")
    command = serializers.CharField(source="version.command")
    params = serializers.DictField(source="version.params")
    schedule = serializers.SerializerMethodField(help_text="The cron expression, when that is the one schedule.")
    schedules = serializers.SerializerMethodField(help_text="Ids of all schedules.")
    priority = PriorityName()
    retry_count = serializers.IntegerField(source="version.retry_count")
    retry_delay_seconds = serializers.IntegerField(source="version.retry_delay_seconds")
    retry_cap_seconds = serializers.IntegerField(source="version.retry_cap_seconds")
    retry_jitter = serializers.BooleanField(source="version.retry_jitter")
    never_retry = serializers.DictField(source="version.never_retry")
    retry_budget_seconds = serializers.IntegerField(source="version.retry_budget_seconds", allow_null=True)
    retry_on_lost = serializers.BooleanField(source="version.retry_on_lost")
    timeout_seconds = serializers.IntegerField(source="version.timeout_seconds")
    overlap = serializers.CharField()
    max_concurrent = serializers.IntegerField(allow_null=True)
    weight = serializers.IntegerField()
    concurrency_key = serializers.CharField()
    max_concurrent_per_key = serializers.IntegerField()
    rate_limit = serializers.IntegerField(allow_null=True)
    rate_window_seconds = serializers.IntegerField(allow_null=True)
    start_deadline_seconds = serializers.IntegerField(allow_null=True)
    auto_pause_after = serializers.IntegerField(allow_null=True)
    trigger_rule = serializers.CharField()
    pool = serializers.CharField(source="pool.name")
    resources = serializers.SerializerMethodField(help_text="How much a run takes of each resource, by its name.")
    paused = serializers.BooleanField()
    paused_reason = serializers.CharField()
    pause_mode = serializers.CharField()
    paused_until = InstantField(allow_null=True)
    version = serializers.IntegerField(source="version.number")
    next_fire_at = serializers.SerializerMethodField()
    created_at = InstantField()
    updated_at = InstantField()

    def get_schedule(self, task: Task) -> str | None:
        return short_schedule(task)

    def get_resources(self, task: Task) -> dict[str, int]:
        return amounts_of(task)

    def get_schedules(self, task: Task) -> list[int]:
        return sorted(schedule.pk for schedule in task.schedules.all())

    @extend_schema_field({"type": "string", "format": "date-time", "nullable": True})
    def get_next_fire_at(self, task: Task) -> str | None:
        fires = [s.shown_next_at for s in task.schedules.all() if s.enabled]
        return instant(min(known)) if (known := [fire for fire in fires if fire is not None]) else None


class TaskVersionSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    executor = serializers.CharField()
    command = serializers.CharField()
    params = serializers.DictField()
    timeout_seconds = serializers.IntegerField()
    retry_count = serializers.IntegerField()
    retry_delay_seconds = serializers.IntegerField()
    retry_cap_seconds = serializers.IntegerField()
    retry_jitter = serializers.BooleanField()
    never_retry = serializers.DictField()
    retry_budget_seconds = serializers.IntegerField(allow_null=True)
    retry_on_lost = serializers.BooleanField()
    created_at = InstantField()
    created_by = serializers.SerializerMethodField()

    def get_created_by(self, version: Any) -> str | None:
        return version.created_by.get_username() if version.created_by else None


class ScheduleSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    task = serializers.IntegerField(source="task_id")
    kind = serializers.CharField()
    expression = serializers.CharField()
    interval_seconds = serializers.IntegerField(allow_null=True)
    at = InstantField(allow_null=True)
    time_zone = serializers.CharField()
    dst_gap = serializers.CharField()
    dst_repeat = serializers.CharField()
    start_at = InstantField(allow_null=True)
    end_at = InstantField(allow_null=True)
    catch_up = serializers.CharField()
    catch_up_window_seconds = serializers.IntegerField()
    max_catch_up = serializers.IntegerField()
    jitter_seconds = serializers.IntegerField()
    calendar = serializers.IntegerField(source="calendar_id", allow_null=True)
    calendar_action = serializers.CharField()
    start_deadline_seconds = serializers.IntegerField(allow_null=True)
    enabled = serializers.BooleanField()
    note = serializers.CharField()
    error = serializers.CharField(help_text="Why the dispatcher has put it aside; empty when all is well.")
    next_fire_at = InstantField(
        source="shown_next_at", allow_null=True, help_text="The next that will really run, as the calendar leaves it."
    )
    looked_until = InstantField(
        allow_null=True,
        help_text="Where the calendar leaves no next fire in sight: it was looked ahead so far, and none comes before.",
    )
    created_at = InstantField()
    updated_at = InstantField()


class CalendarSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name", allow_null=True, default=None, help_text="null: shared.")
    description = serializers.CharField()
    document = serializers.DictField()
    holidays = serializers.ListField(child=serializers.DictField())
    includes = serializers.SerializerMethodField()
    created_at = InstantField()
    updated_at = InstantField()

    def get_includes(self, calendar: Any) -> list[int]:
        return sorted(one.pk for one in calendar.includes.all())


class DependencySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    upstream = serializers.IntegerField(source="upstream_id")
    upstream_name = serializers.CharField(source="upstream.name")
    downstream = serializers.IntegerField(source="downstream_id")
    downstream_name = serializers.CharField(source="downstream.name")
    condition = serializers.CharField()
    period = serializers.SerializerMethodField()
    period_back = serializers.IntegerField()
    period_policy = serializers.CharField()
    created_at = InstantField()

    @extend_schema_field({"type": "string", "nullable": True, "enum": [*Unit, None]})
    def get_period(self, edge: TaskDependency) -> str | None:
        return edge.period or None


class RunSerializer(PlaceShape):
    id = serializers.IntegerField()
    task = serializers.IntegerField(source="task_id")
    task_name = serializers.CharField(source="task.name")
    project = serializers.CharField(source="task.project.name")
    pool = serializers.CharField(source="pool.name")
    state = serializers.CharField()
    reason = serializers.CharField()
    reason_detail = serializers.CharField()
    run_type = serializers.CharField()
    attempt = serializers.IntegerField()
    priority = PriorityName()
    held = serializers.BooleanField()
    weight = serializers.IntegerField()
    concurrency_key = serializers.CharField()
    backfill = serializers.IntegerField(source="backfill_id", allow_null=True)
    schedule = serializers.IntegerField(source="schedule_id", allow_null=True)
    rerun_of = serializers.IntegerField(source="rerun_of_id", allow_null=True)
    nominal_at = InstantField(allow_null=True)
    due_at = InstantField()
    expires_at = InstantField(allow_null=True)
    queued_at = InstantField(allow_null=True)
    started_at = InstantField(allow_null=True)
    finished_at = InstantField(allow_null=True)
    cancel_requested_at = InstantField(allow_null=True)
    terminate_requested_at = InstantField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    worker = serializers.UUIDField(source="worker_id", allow_null=True)
    worker_name = serializers.SerializerMethodField()
    version = serializers.IntegerField(source="version.number")
    params = serializers.DictField()
    idempotency_key = serializers.CharField(allow_null=True)
    created_at = InstantField()

    def get_fields(self) -> dict[str, Any]:
        # `root` is an attribute of every field already.
        root = serializers.IntegerField(source="root_id", allow_null=True)
        return {**super().get_fields(), "root": root}

    def get_worker_name(self, run: Run) -> str | None:
        name: str | None = self.context.get("worker_names", {}).get(run.worker_id)
        return name


class RunEventSerializer(serializers.Serializer[Any]):
    at = InstantField()
    to = serializers.CharField(source="to_state")
    attempt = serializers.IntegerField()
    reason = serializers.CharField()
    detail = serializers.CharField()
    actor = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be an attribute of a class body.
        return {"from": serializers.CharField(source="from_state"), **super().get_fields()}


class LogLineSerializer(serializers.Serializer[Any]):
    n = serializers.IntegerField()
    at = serializers.DateTimeField()
    stream = serializers.CharField(help_text="`stdout`, `stderr`, or `system` for our own remarks.")
    text = serializers.CharField()


class LogSerializer(serializers.Serializer[Any]):
    lines = LogLineSerializer(many=True)
    next_offset = serializers.IntegerField()
    complete = serializers.BooleanField(help_text="The run is over and no line follows.")
    truncated = serializers.BooleanField(help_text="Some of the output was left out for its size.")
    attempt = serializers.IntegerField()


class PoolSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    slots = serializers.IntegerField(allow_null=True)
    description = serializers.CharField()
    queued = serializers.SerializerMethodField()
    running = serializers.SerializerMethodField()

    def get_queued(self, pool: Any) -> int:
        return int(self.context.get("live", {}).get((pool.pk, "queued"), 0))

    def get_running(self, pool: Any) -> int:
        return int(self.context.get("live", {}).get((pool.pk, "running"), 0))


class ProjectSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    created_at = InstantField()


def render_task(task: Task) -> dict[str, Any]:
    return dict(TaskSerializer(task).data)


def render_runs(runs: Iterable[Run]) -> list[Any]:
    """The runs with the names of their workers: one query for all."""
    rows = list(runs)
    return list(RunSerializer(rows, many=True, context={"worker_names": worker_names(rows)}).data)


def render_run(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = render_runs([run])[0]
    return found


def worker_names(runs: Iterable[Run]) -> dict[Any, str]:
    ids = {run.worker_id for run in runs if run.worker_id is not None}
    if not ids:
        return {}
    workers = apps.get_model("workers_app", "Worker")._default_manager
    return dict(workers.filter(pk__in=ids).values_list("pk", "name"))
