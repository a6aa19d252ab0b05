"""What can be done with a task, and what it did: trigger, pause, resume; versions, runs, upcoming fires, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.fields import InstantField
from access_app.api.views import ApiView, ListView, rendered_by
from tasks_app.api.bodies import BatchAnswer, EmptyBody, PauseBody, TriggerBatchBody, TriggerBody, UpcomingQuery
from tasks_app.api.lookups import find_task, run_rows
from tasks_app.api.run_shapes import RunSerializer, render_run, render_runs
from tasks_app.api.runs import WRONG_STATE
from tasks_app.api.schedules import with_instants
from tasks_app.api.shapes import TaskSerializer, TaskVersionSerializer
from tasks_app.api.tasks import task_answer
from tasks_app.errors import InvalidInput
from tasks_app.filters import RunFilter
from tasks_app.queries import counts_by_state
from tasks_app.services import runs, schedules, tasks
from tasks_app.statistics import durations_ms, success_rate

LONGEST_BATCH_KEY = 190
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key always answers the same run."
)


class TriggerView(ApiView):
    @extend_schema(
        operation_id="tasks_trigger",
        parameters=[IDEMPOTENCY_KEY],
        request=TriggerBody,
        responses={201: RunSerializer, 200: RunSerializer, **WRONG_STATE},
    )
    def post(self, request: Request, task_id: int) -> Response:
        """Run the task now, or not before `not_before`. 201 with the new run; 200 with the old one of the same key."""
        actor = self.actor
        task = find_task(actor, task_id)
        wish = _request_of(self.read(TriggerBody), request.META.get("HTTP_IDEMPOTENCY_KEY"))
        run, created = runs.trigger(actor, task, wish, now=self.now)
        response = Response(render_run(run, actor), status=201 if created else 200)
        response["Location"] = f"/api/runs/{run.pk}"
        return response


class TriggerBatchView(ApiView):
    rate_class = "costly"

    @extend_schema(
        operation_id="tasks_trigger_batch",
        parameters=[IDEMPOTENCY_KEY],
        request=TriggerBatchBody,
        responses={201: BatchAnswer, **WRONG_STATE},
    )
    def post(self, request: Request, task_id: int) -> Response:
        """Run the task many times: up to 10,000 items in one transaction.

        The same batch with the same `Idempotency-Key` answers the same runs; items may have keys of their own.
        """
        actor = self.actor
        task = find_task(actor, task_id)
        wishes = _keyed(_requests_of(request.data), request.META.get("HTTP_IDEMPOTENCY_KEY"))
        ids, created = runs.trigger_batch(actor, task, wishes, now=self.now)
        return Response({"created": created, "ids": ids}, status=201)


class PauseView(ApiView):
    @extend_schema(operation_id="tasks_pause", request=PauseBody, responses=TaskSerializer)
    def post(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """Start nothing of this task until it is resumed or `until` has come; `mode` says what happens meanwhile."""
        actor = self.actor
        task = find_task(actor, task_id)
        return task_answer(tasks.pause(actor, task, now=self.now, **self.read(PauseBody)), actor)


class ResumeView(ApiView):
    @extend_schema(operation_id="tasks_resume", request=EmptyBody, responses=TaskSerializer)
    def post(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """Let a paused task go on."""
        actor = self.actor
        task = find_task(actor, task_id)
        self.read(EmptyBody)
        return task_answer(tasks.resume(actor, task, now=self.now), actor)


class VersionsView(ListView):
    orderings = ("number",)
    default_ordering = "-number"

    @extend_schema(operation_id="tasks_versions", responses=TaskVersionSerializer(many=True))
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """How the task was executed at each time, newest first."""
        rows = find_task(self.actor, task_id).versions.select_related("created_by")
        return self.page(rows, rendered_by(TaskVersionSerializer, actor=self.actor))


class TaskRunsView(ListView):
    filterset = RunFilter
    orderings = ("id", "due_at")

    @extend_schema(operation_id="tasks_runs", responses=RunSerializer(many=True))
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """The runs of one task, newest first."""
        actor = self.actor
        task = find_task(actor, task_id)
        return self.page(run_rows(actor).filter(task=task), lambda rows: render_runs(rows, actor))


class UpcomingView(ApiView):
    query_parameters = ("count",)

    @extend_schema(
        operation_id="tasks_upcoming",
        parameters=[UpcomingQuery],
        responses=inline_serializer(
            "Upcoming",
            {
                "paused": serializers.BooleanField(help_text="A paused task does not run at these times."),
                "results": inline_serializer(
                    "UpcomingFire",
                    {
                        "at": InstantField(),
                        "local": serializers.CharField(),
                        "schedule": serializers.IntegerField(),
                        "nominal_at": InstantField(
                            required=False, help_text="There only where a calendar has moved the run to `at`."
                        ),
                        "latest_at": InstantField(
                            required=False, help_text="There only with jitter: the run is due between `at` and this."
                        ),
                    },
                    many=True,
                ),
            },
        ),
    )
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """The next fires of all enabled schedules of the task, soonest first."""
        task = find_task(self.actor, task_id)
        count = self.read_query(UpcomingQuery)["count"]
        rows = list(task.schedules.all())
        for schedule in rows:
            schedule.task = task
        fires = schedules.shown_fires(rows, now=self.now, count=count)
        results = [
            {name: value for name, value in with_instants(fire).items() if name != "badges"} | {"schedule": schedule.pk}
            for schedule, fire in fires
        ]
        return Response({"paused": task.paused, "results": results})


class TaskStatsView(ApiView):
    @extend_schema(
        operation_id="tasks_stats",
        responses=inline_serializer(
            "TaskStats",
            {
                "runs": serializers.DictField(child=serializers.IntegerField()),
                "success_rate": serializers.FloatField(
                    allow_null=True,
                    help_text="Succeeded of all that succeeded, failed, timed out, were lost or quarantined.",
                ),
                "duration_ms": serializers.DictField(child=serializers.FloatField(allow_null=True)),
            },
        ),
    )
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """Runs for each state, the share that succeeded, and how long the last 200 took."""
        actor = self.actor
        rows = run_rows(actor).filter(task=find_task(actor, task_id))
        counts = counts_by_state(rows)
        return Response({"runs": counts, "success_rate": success_rate(counts), "duration_ms": durations_ms(rows)})


def _request_of(given: Mapping[str, Any], header: str | None = None) -> runs.Request:
    key = given["idempotency_key"]
    if header:
        if key is not None and key != header:
            raise InvalidInput(idempotency_key=_("The header Idempotency-Key says something else."))
        key = header
    return runs.Request(given["params"], given["priority"], key, given["not_before"])


def _keyed(wishes: Sequence[runs.Request], header: str | None) -> Sequence[runs.Request]:
    """The items of a batch, those without a key under one made of the header and their place."""
    if not header:
        return wishes
    if len(header) > LONGEST_BATCH_KEY:
        text = _("The Idempotency-Key of a batch has at most %(n)d characters.") % {"n": LONGEST_BATCH_KEY}
        raise InvalidInput(idempotency_key=text)
    return [
        replace(wish, idempotency_key=f"{header}:{place:05}") if wish.idempotency_key is None else wish
        for place, wish in enumerate(wishes)
    ]


def _requests_of(body: Any) -> Sequence[runs.Request]:
    """The items of a batch. Plain ones, which are most of ten thousand, are read without a serializer for each."""
    items = body.get("items")
    problems = {name: _("Unknown field.") for name in body if name != "items"}
    if not isinstance(items, list):
        problems["items"] = _("Give a list.")
    if problems:
        raise InvalidInput(**problems)
    return [_item(item, place) for place, item in enumerate(items[: runs.MAX_BATCH + 1])]


def _item(item: Any, place: int) -> runs.Request:
    if isinstance(item, dict):
        params, key = item.get("params", {}), item.get("idempotency_key")
        plain = item.keys() <= {"params", "idempotency_key"}
        if plain and isinstance(params, dict) and (key is None or (isinstance(key, str) and 0 < len(key) <= 200)):
            return runs.Request(params, idempotency_key=key)
    reader = TriggerBody(data=item)
    try:
        reader.is_valid(raise_exception=True)
    except serializers.ValidationError as error:
        raise serializers.ValidationError({f"items[{place}]": error.detail}) from error
    return _request_of(reader.validated_data)
