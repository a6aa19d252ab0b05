"""Schedules: those of a task, one of them, and the preview of one that need not exist."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.fields import InstantField, instant
from access_app.api.schema import STALE
from access_app.api.views import ApiView, ListView, rendered_by
from tasks_app.api.bodies import PreviewBody, ScheduleBody
from tasks_app.api.lookups import find_task, named_task, with_calendar
from tasks_app.api.shapes import ScheduleSerializer
from tasks_app.api.tags import IF_MATCH, expected_tag
from tasks_app.models import Schedule
from tasks_app.queries import get_visible, schedules_visible_to
from tasks_app.services import schedules


def schedule_answer(schedule: Schedule, status: int = 200) -> Response:
    return Response(ScheduleSerializer(schedule).data, status=status, headers={"ETag": schedules.etag(schedule)})


def with_instants(fire: dict[str, Any]) -> dict[str, Any]:
    """A fire or preview as services.schedules shows it, as JSON."""
    return {name: instant(value) if isinstance(value, datetime) else value for name, value in fire.items()}


class TaskSchedulesView(ListView):
    default_ordering = "id"

    @extend_schema(operation_id="tasks_schedules_list", responses=ScheduleSerializer(many=True))
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """The schedules of the task."""
        rows = Schedule.objects.filter(task=find_task(self.actor, task_id))
        return self.page(rows, rendered_by(ScheduleSerializer))

    @extend_schema(operation_id="tasks_schedules_create", request=ScheduleBody, responses={201: ScheduleSerializer})
    def post(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """Add a schedule: `cron` with an `expression`, `interval` or `fixed_delay` (after the end of the last run) with
        `interval_seconds`, or `once` with `at`."""
        actor = self.actor
        task = find_task(actor, task_id)
        fields = with_calendar(actor, self.read(ScheduleBody), task.project_id)
        return schedule_answer(schedules.create(actor, task, fields, now=self.now), 201)


class ScheduleView(ApiView):
    def _find(self, schedule_id: int) -> Schedule:
        return get_visible(schedules_visible_to(self.actor), schedule_id)

    @extend_schema(operation_id="schedules_read", responses=ScheduleSerializer)
    def get(self, request: Request, schedule_id: int) -> Response:  # noqa: ARG002
        """One schedule. Its `ETag` serves a later edit with `If-Match`."""
        return schedule_answer(self._find(schedule_id))

    @extend_schema(
        operation_id="schedules_change",
        parameters=[IF_MATCH],
        request=ScheduleBody,
        responses={200: ScheduleSerializer, **STALE},
    )
    def patch(self, request: Request, schedule_id: int) -> Response:
        """Change some fields; what was due before the change is answered by the old rule."""
        schedule = self._find(schedule_id)
        expected = expected_tag(request, schedule)
        fields = with_calendar(self.actor, self.read(ScheduleBody, partial=True), schedule.task.project_id)
        return schedule_answer(schedules.update(self.actor, schedule, fields, now=self.now, expected=expected))

    @extend_schema(operation_id="schedules_delete", parameters=[IF_MATCH], responses={204: None, **STALE})
    def delete(self, request: Request, schedule_id: int) -> Response:
        """Remove the schedule; runs that it made stay."""
        schedule = self._find(schedule_id)
        schedules.delete(self.actor, schedule, now=self.now, expected=expected_tag(request, schedule))
        return Response(status=204)


class PreviewView(ApiView):
    asks_for_role = False

    @extend_schema(
        operation_id="schedules_preview",
        request=PreviewBody,
        responses=inline_serializer(
            "Preview",
            {
                "fires": inline_serializer(
                    "PreviewFire",
                    {
                        "at": InstantField(),
                        "local": serializers.CharField(help_text="In the zone of the schedule, with its offset."),
                        "badges": serializers.ListField(child=serializers.CharField()),
                        "nominal_at": InstantField(
                            required=False, help_text="There only where a calendar has moved the run to `at`."
                        ),
                        "latest_at": InstantField(
                            required=False, help_text="There only with jitter: the run is due between `at` and this."
                        ),
                    },
                    many=True,
                ),
                "looked_until": InstantField(
                    allow_null=True,
                    help_text="Where fewer fires are in sight than asked for: no other comes before. null = none ever.",
                ),
                "expanded": serializers.CharField(help_text="The rule in words."),
            },
        ),
    )
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """When a schedule would fire, by the same code that fires. Nothing is stored."""
        fields: dict[str, Any] = self.read(PreviewBody)
        after, count = fields.pop("after", self.now), fields.pop("count")
        task_id = fields.pop("task", None)
        task = None if task_id is None else named_task(self.actor, "task", task_id)
        fields = with_calendar(self.actor, fields, task.project_id if task else None)
        answer = schedules.preview(
            fields,
            after=after,
            count=count,
            hash_key=task.name if task else "",
            project_id=task.project_id if task else None,
        )
        return Response({**with_instants(answer), "fires": [with_instants(fire) for fire in answer["fires"]]})
