"""Tasks: list, create, read, change, delete."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.actors import Actor
from access_app.api.schema import STALE
from access_app.api.views import ApiView, ListView, rendered_by
from tasks_app.api.bodies import TaskBody
from tasks_app.api.lookups import find_task, task_rows, with_objects
from tasks_app.api.shapes import TaskSerializer, render_task
from tasks_app.api.tags import IF_MATCH, expected_tag
from tasks_app.errors import InvalidInput
from tasks_app.filters import TaskFilter
from tasks_app.models import Task, TaskVersion
from tasks_app.services import tasks
from tasks_app.services.resources import DEFAULT_POOL

# What an edit may send back as it was read, so that a client can change one field of an answer and return the whole.
ENGINE_FIELDS = (
    "id",
    "schedules",
    "paused",
    "paused_reason",
    "pause_mode",
    "paused_until",
    "version",
    "next_fire_at",
    "created_at",
    "updated_at",
)
_MOVES_BY_ITSELF = ("next_fire_at",)


def task_answer(task: Task, actor: Actor, status: int = 200) -> Response:
    return Response(render_task(task, actor), status=status, headers={"ETag": tasks.etag(task)})


class TasksView(ListView):
    filterset = TaskFilter
    orderings = ("id", "name", "priority", "created_at", "updated_at")
    default_ordering = "id"

    @extend_schema(operation_id="tasks_list", responses=TaskSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The tasks that you may see."""
        return self.page(task_rows(self.actor), rendered_by(TaskSerializer, actor=self.actor))

    @extend_schema(operation_id="tasks_create", request=TaskBody, responses={201: TaskSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a task with its first version and, where `schedule` is a cron expression, its schedule."""
        actor = self.actor
        fields = with_objects(actor, self.read(TaskBody), new=True)
        task = tasks.create(actor, fields, now=self.now)
        response = task_answer(task, actor, 201)
        response["Location"] = f"/api/tasks/{task.pk}"
        return response


class TaskView(ApiView):
    @extend_schema(operation_id="tasks_read", responses=TaskSerializer)
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """One task. Its `ETag` serves a later edit with `If-Match`."""
        return task_answer(find_task(self.actor, task_id), self.actor)

    @extend_schema(
        operation_id="tasks_change", parameters=[IF_MATCH], request=TaskBody, responses={200: TaskSerializer, **STALE}
    )
    def patch(self, request: Request, task_id: int) -> Response:
        """Change some fields. A change of how the task is executed adds a version; runs in flight keep theirs."""
        return self._update(request, task_id, {})

    @extend_schema(
        operation_id="tasks_replace", parameters=[IF_MATCH], request=TaskBody, responses={200: TaskSerializer, **STALE}
    )
    def put(self, request: Request, task_id: int) -> Response:
        """Replace all fields; those left out take their defaults. The project changes only when it is named."""
        return self._update(request, task_id, _defaults())

    @extend_schema(operation_id="tasks_delete", parameters=[IF_MATCH], responses={204: None, **STALE})
    def delete(self, request: Request, task_id: int) -> Response:
        """Delete the task with its schedules, runs and output; what is still running is ended."""
        actor = self.actor
        task = find_task(actor, task_id)
        tasks.delete(actor, task, now=self.now, expected=expected_tag(request, task))
        return Response(status=204)

    def _update(self, request: Request, task_id: int, defaults: dict[str, Any]) -> Response:
        actor = self.actor
        task = find_task(actor, task_id)
        expected = expected_tag(request, task)
        reader = TaskBody(data=_without_engine_fields(request.data, task, actor), partial=not defaults)
        reader.is_valid(raise_exception=True)
        fields = with_objects(actor, {**defaults, **reader.validated_data}, new=False)
        if "schedule" in fields and not fields["schedule"] and tasks.short_schedule(task) is None:
            # Several schedules, or one that is no cron, read as null: sent back, it must not touch them.
            del fields["schedule"]
        tasks.update(actor, task, fields, now=self.now, expected=expected)
        return task_answer(find_task(actor, task_id), actor)


def _defaults() -> dict[str, Any]:
    """What a new task gets for the fields that may be left out; the project stays as it is."""
    task, version = Task(), TaskVersion()
    values = {name: getattr(task, name) for name in tasks.TASK_FIELDS if name not in ("project", "name", "pool")}
    values |= {name: getattr(version, name) for name in tasks.VERSION_FIELDS if name not in ("executor", "command")}
    return values | {"pool": DEFAULT_POOL, "resources": {}, "schedule": None}


def _without_engine_fields(data: Any, task: Task, actor: Actor) -> Any:
    if not isinstance(data, dict) or not any(name in data for name in ENGINE_FIELDS):
        return data
    current = render_task(task, actor)
    changed = {
        name: _("This field is read-only.")
        for name in ENGINE_FIELDS
        if name in data and name not in _MOVES_BY_ITSELF and data[name] != current[name]
    }
    if changed:
        raise InvalidInput(**changed)
    return {name: value for name, value in data.items() if name not in ENGINE_FIELDS}
