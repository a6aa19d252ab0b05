"""The fire ledger: each instant of a task or schedule with its answer."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from access_app.actors import Actor
from access_app.api.fields import EARLIEST, LATEST, ChoiceField, InstantField, instant
from access_app.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from access_app.api.views import ApiView
from access_app.roles import require_membership
from tasks_app import fires
from tasks_app.api.bodies import MAX_ID
from tasks_app.api.lookups import find_task
from tasks_app.errors import InvalidInput
from tasks_app.fire_answers import Answer
from tasks_app.fires import Fire, Place, Scope
from tasks_app.queries import get_visible, schedules_visible_to

DEFAULT_STRETCH = timedelta(days=1)


class FiresQuery(serializers.Serializer[Any]):
    task = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    schedule = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)
    to = InstantField(required=False, help_text=gettext_lazy("Exclusive. Default: now."))
    answer = ChoiceField(choices=[(answer.value, answer.value) for answer in Answer], required=False)
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    cursor = serializers.CharField(required=False, help_text=gettext_lazy("Take it from `next`."))

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be an attribute of a class body.
        start = InstantField(required=False, help_text=gettext_lazy("Inclusive. Default: a day before `to`."))
        return {**super().get_fields(), "from": start}


class FireSerializer(serializers.Serializer[Any]):
    task = serializers.IntegerField(source="task_id")
    schedule = serializers.IntegerField(source="schedule_id", allow_null=True, help_text="null: it was deleted.")
    nominal_at = InstantField()
    answer = serializers.ChoiceField(choices=[answer.value for answer in Answer])
    reason = serializers.CharField()
    run = serializers.IntegerField(source="run_id", allow_null=True)
    state = serializers.CharField(help_text="The state of that run, or empty.")
    backfill_run = serializers.IntegerField(
        source="backfill_run_id", allow_null=True, help_text="The newest run of a backfill for this instant."
    )
    count = serializers.IntegerField(help_text="Above 1: so many instants of an earlier rule, up to `last_at`.")
    last_at = InstantField(allow_null=True)


class FiresView(ApiView):
    query_parameters = ("task", "schedule", "from", "to", "answer", "limit", "cursor")

    @extend_schema(
        operation_id="fires_list",
        parameters=[FiresQuery],
        responses=inline_serializer(
            "FirePage",
            {
                "results": FireSerializer(many=True),
                "next": serializers.CharField(allow_null=True),
                "previous": serializers.CharField(allow_null=True, help_text="Always null: pages go forward only."),
            },
        ),
    )
    def get(self, request: Request) -> Response:
        """What became of each instant in [from, to) that is due, oldest first: at most 31 days at once. Name a task, or
        one of its schedules. A page may be short, or empty, and have a `next` all the same."""
        require_membership(self.actor)
        asked = self.read_query(FiresQuery)
        scope = _scope(self.actor, asked)
        end: datetime = asked.get("to", self.now)
        start: datetime = asked.get("from", max(end - DEFAULT_STRETCH, EARLIEST))
        page = fires.read(
            scope,
            start,
            end,
            now=self.now,
            limit=asked["limit"],
            answers={asked["answer"]} if "answer" in asked else (),
            after=place_of(asked["cursor"]) if "cursor" in asked else None,
        )
        following = None
        if page.after is not None:
            following = request.build_absolute_uri()
            # Where they were left out they would mean another time on the next page.
            for name, value in (("from", instant(start)), ("to", instant(end)), ("cursor", cursor_of(page.after))):
                following = replace_query_param(following, name, value)
        return Response({"results": fire_values(page.fires), "next": following, "previous": None})


def fire_values(found: list[Fire]) -> list[Any]:
    """The fires as JSON answers show them."""
    return list(FireSerializer(found, many=True).data)


def _scope(actor: Actor, asked: dict[str, Any]) -> Scope:
    if "schedule" in asked:
        schedule = get_visible(schedules_visible_to(actor), asked["schedule"])
        if asked.get("task", schedule.task_id) != schedule.task_id:
            raise InvalidInput(schedule=_("This schedule is not one of that task."))
        return fires.of_schedule(schedule)
    if "task" in asked:
        return fires.of_task(find_task(actor, asked["task"]))
    raise InvalidInput(task=_("Name a task or a schedule."))


def cursor_of(place: Place) -> str:
    """A place as a text of letters that an address may hold."""
    text = json.dumps([place[0].isoformat(), place[1]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """The place again. Raises InvalidInput for any other text."""
    try:
        at, schedule = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(at)
        if EARLIEST <= moment <= LATEST and type(schedule) is int:
            return moment, schedule
    except Exception as error:
        raise InvalidInput(cursor=_("This is not a cursor of this list.")) from error
    raise InvalidInput(cursor=_("This is not a cursor of this list."))
