"""How tasks, schedules and their surroundings look in answers; run_shapes has the runs. Docs: docs/api.md."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.actors import Actor
from access_app.api.fields import InstantField, instant
from access_app.api.guarded import GuardedSerializer
from access_app.roles import Verb
from tasks_app.api.routing_fields import RoutingShape
from tasks_app.models import Task, TaskDependency, TaskVersion
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


NOT_FOR_ALL = "null where your role does not let you see parameters."


class TaskSerializer(GuardedSerializer, RoutingShape):
    guarded = {Verb.SEE_PARAMETERS: ("command", "params")}

    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name")
    description = serializers.CharField()
    task_type = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    executor = serializers.CharField(source="version.executor")
    command = serializers.CharField(source="version.command", allow_null=True, help_text=NOT_FOR_ALL)
    params = serializers.DictField(source="version.params", allow_null=True, help_text=NOT_FOR_ALL)
    secrets = serializers.DictField(source="version.secrets", help_text="Names of secrets by variable; never a value.")
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
    poison_limit = serializers.IntegerField(source="version.poison_limit")
    memory_limit_mb = serializers.IntegerField(source="version.memory_limit_mb", allow_null=True)
    cpu_limit_seconds = serializers.IntegerField(source="version.cpu_limit_seconds", allow_null=True)
    open_files_limit = serializers.IntegerField(source="version.open_files_limit", allow_null=True)
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

    def project_of(self, row: Task) -> int:
        return row.project_id

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


class TaskVersionSerializer(GuardedSerializer):
    guarded = {Verb.SEE_PARAMETERS: ("command", "params")}

    number = serializers.IntegerField()
    executor = serializers.CharField()
    command = serializers.CharField(allow_null=True, help_text=NOT_FOR_ALL)
    params = serializers.DictField(allow_null=True, help_text=NOT_FOR_ALL)
    secrets = serializers.DictField()
    timeout_seconds = serializers.IntegerField()
    retry_count = serializers.IntegerField()
    retry_delay_seconds = serializers.IntegerField()
    retry_cap_seconds = serializers.IntegerField()
    retry_jitter = serializers.BooleanField()
    never_retry = serializers.DictField()
    retry_budget_seconds = serializers.IntegerField(allow_null=True)
    retry_on_lost = serializers.BooleanField()
    poison_limit = serializers.IntegerField()
    memory_limit_mb = serializers.IntegerField(allow_null=True)
    cpu_limit_seconds = serializers.IntegerField(allow_null=True)
    open_files_limit = serializers.IntegerField(allow_null=True)
    created_at = InstantField()
    created_by = serializers.SerializerMethodField()

    def project_of(self, row: TaskVersion) -> int:
        return row.task.project_id

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


def render_task(task: Task, actor: Actor) -> dict[str, Any]:
    return dict(TaskSerializer(task, context={"actor": actor}).data)
