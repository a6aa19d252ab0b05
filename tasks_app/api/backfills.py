"""Backfills: dry run and plan, list, one, and its buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import django_filters
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.actors import Actor
from access_app.api.fields import (
    BooleanField,
    ChoiceField,
    InstantField,
    IntegerField,
    ObjectField,
    StrictSerializer,
)
from access_app.api.guarded import GuardedSerializer
from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView, ListView
from access_app.roles import Verb
from tasks_app.api.bodies import MAX_INT, EmptyBody, id_field
from tasks_app.api.lookups import find_task
from tasks_app.api.shapes import NOT_FOR_ALL, PriorityName
from tasks_app.backfill_instants import Instant
from tasks_app.errors import InvalidInput
from tasks_app.models import Backfill, Schedule, Task
from tasks_app.models.backfill import BackfillState, Reprocess
from tasks_app.queries import backfills_visible_to, get_visible
from tasks_app.services import backfills
from tasks_app.services.backfills import Wish

ORDERS = ("oldest", "newest")
OVER = {(409, CONTENT_TYPE): problem_response("`wrong_state`: the backfill is done or cancelled.")}


class BackfillBody(StrictSerializer):
    schedule = id_field(required=False, help_text=_("One of the task's; needed where it has several."))
    to = InstantField(help_text=_("Inclusive; not in the future."))
    reprocess = ChoiceField(
        choices=Reprocess.choices,
        default=Reprocess.NONE.value,
        help_text=_("Which instants that have a run get another one."),
    )
    order = ChoiceField(choices=[(order, order) for order in ORDERS], default=ORDERS[0])
    max_concurrent = IntegerField(min_value=1, max_value=MAX_INT, default=1, help_text=_("Its runs at once."))
    params = ObjectField(default=dict)
    dry_run = BooleanField(default=False, help_text=_("Only list what would be planned."))

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be an attribute of a class body.
        return {**super().get_fields(), "from": InstantField(help_text=_("Inclusive."))}


class CancelBody(StrictSerializer):
    running = BooleanField(default=False, help_text=_("Also ask runs under way to end."))


class BackfillSerializer(GuardedSerializer):
    guarded = {Verb.SEE_PARAMETERS: ("params",)}

    id = serializers.IntegerField()
    task = serializers.IntegerField(source="task_id")
    task_name = serializers.CharField(source="task.name")
    project = serializers.CharField(source="task.project.name")
    schedule = serializers.IntegerField(source="schedule_id", allow_null=True)
    to = InstantField(source="end_at")
    reprocess = serializers.CharField()
    order = serializers.SerializerMethodField()
    max_concurrent = serializers.IntegerField()
    priority = PriorityName()
    params = serializers.DictField(allow_null=True, help_text=NOT_FOR_ALL)
    state = serializers.SerializerMethodField(help_text="`active`, `paused`, `cancelled`, or `done`.")
    total = serializers.IntegerField(help_text="Runs that were planned; downstream runs are not counted.")
    runs = serializers.SerializerMethodField()
    created_at = InstantField()
    created_by = serializers.SerializerMethodField()

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), "from": InstantField(source="start_at")}

    def project_of(self, row: Backfill) -> int:
        return row.task.project_id

    def get_order(self, backfill: Backfill) -> str:
        return ORDERS[backfill.newest_first]

    def get_state(self, backfill: Backfill) -> str:
        return backfills.shown_state(backfill, self.context["progress"][backfill.pk])

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "integer"}})
    def get_runs(self, backfill: Backfill) -> dict[str, int]:
        counts: dict[str, int] = self.context["progress"][backfill.pk].counts
        return counts

    def get_created_by(self, backfill: Backfill) -> str | None:
        return backfill.created_by.get_username() if backfill.created_by else None


class InstantSerializer(serializers.Serializer[Any]):
    nominal_at = InstantField()
    planned = serializers.BooleanField()
    why_not = serializers.CharField(
        help_text="`has_run`, `under_way`, `in_backfill` (of another one that is not done), or `to_be_fired`."
    )
    run = serializers.IntegerField(source="run_id", allow_null=True, help_text="Its newest run so far.")
    state = serializers.CharField()
    answer = serializers.CharField(help_text="That of the fire ledger where it has no run.")
    reason = serializers.CharField()


DRY_RUN = inline_serializer(
    "BackfillDryRun",
    {
        "planned": serializers.IntegerField(help_text="How many runs it would plan."),
        "instants": InstantSerializer(many=True),
    },
)


def render_backfills(rows: list[Backfill], actor: Actor) -> list[Any]:
    context = {"progress": backfills.progress_of(rows), "actor": actor}
    return list(BackfillSerializer(rows, many=True, context=context).data)


def instant_values(found: list[Instant]) -> list[Any]:
    """The instants as JSON answers show them."""
    return list(InstantSerializer(found, many=True).data)


class BackfillFilter(django_filters.FilterSet):
    task = django_filters.NumberFilter(field_name="task_id", min_value=1, max_value=2**63 - 1, label=_("task"))
    project = django_filters.CharFilter(field_name="task__project__name", label=_("project"))
    state = django_filters.ChoiceFilter(choices=BackfillState.choices, label=_("state"))

    class Meta:
        model = Backfill
        fields: tuple[str, ...] = ()


class TaskBackfillView(ApiView):
    @extend_schema(
        operation_id="tasks_backfill", request=BackfillBody, responses={201: BackfillSerializer, 200: DRY_RUN}
    )
    def post(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """Plan runs for the instants of a schedule in a time of the past, at most 10,000. With `dry_run` only list
        them, in the order in which they would run."""
        actor = self.actor
        task = find_task(actor, task_id)
        given = self.read(BackfillBody)
        wish = Wish(
            start=given["from"],
            end=given["to"],
            schedule=_schedule(task, given.get("schedule")),
            reprocess=given["reprocess"],
            newest_first=given["order"] == "newest",
            max_concurrent=given["max_concurrent"],
            params=given["params"],
        )
        if given["dry_run"]:
            found = backfills.preview(actor, task, wish, now=self.now)
            return Response({"planned": sum(one.planned for one in found), "instants": instant_values(found)})
        backfill = backfills.plan(actor, task, wish, now=self.now)
        response = Response(_rendered(self, backfill.pk), status=201)
        response["Location"] = f"/api/backfills/{backfill.pk}"
        return response


class BackfillsView(ListView):
    filterset = BackfillFilter

    @extend_schema(operation_id="backfills_list", responses=BackfillSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The backfills that you may see, newest first. The filter `state` is what was set."""
        return self.page(backfills_visible_to(self.actor), lambda rows: render_backfills(rows, self.actor))


class BackfillView(ApiView):
    @extend_schema(operation_id="backfills_read", responses=BackfillSerializer)
    def get(self, request: Request, backfill_id: int) -> Response:  # noqa: ARG002
        """One backfill, with its runs by state."""
        return Response(_rendered(self, backfill_id))


class _VerbView(ApiView):
    verb: ClassVar[Callable[..., Backfill]]
    body: ClassVar[type[StrictSerializer]] = EmptyBody

    def act(self, backfill_id: int) -> Response:
        backfill = get_visible(backfills_visible_to(self.actor), backfill_id)
        type(self).verb(self.actor, backfill, now=self.now, **self.read(self.body))
        return Response(_rendered(self, backfill_id))


class BackfillPauseView(_VerbView):
    verb = staticmethod(backfills.pause)

    @extend_schema(operation_id="backfills_pause", request=EmptyBody, responses={200: BackfillSerializer, **OVER})
    def post(self, request: Request, backfill_id: int) -> Response:  # noqa: ARG002
        """Start no more of its runs until it is resumed."""
        return self.act(backfill_id)


class BackfillResumeView(_VerbView):
    verb = staticmethod(backfills.resume)

    @extend_schema(operation_id="backfills_resume", request=EmptyBody, responses={200: BackfillSerializer, **OVER})
    def post(self, request: Request, backfill_id: int) -> Response:  # noqa: ARG002
        """Let a paused backfill go on."""
        return self.act(backfill_id)


class BackfillCancelView(_VerbView):
    verb = staticmethod(backfills.cancel)
    body = CancelBody

    @extend_schema(operation_id="backfills_cancel", request=CancelBody, responses={200: BackfillSerializer, **OVER})
    def post(self, request: Request, backfill_id: int) -> Response:  # noqa: ARG002
        """Cancel all of its runs that have not started, downstream runs too."""
        return self.act(backfill_id)


def _rendered(view: ApiView, backfill_id: int) -> Any:
    return render_backfills([get_visible(backfills_visible_to(view.actor), backfill_id)], view.actor)[0]


def _schedule(task: Task, schedule_id: int | None) -> Schedule | None:
    if schedule_id is None:
        return None
    found = task.schedules.filter(pk=schedule_id).first()
    if found is None:
        raise InvalidInput(schedule=_("The task has no schedule %(id)s.") % {"id": schedule_id})
    return found
