"""Calendars: list, create, read, change, delete, and ask whether a time is allowed."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.actors import Actor
from access_app.api.fields import InstantField, instant
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.roles import require_membership
from tasks_app.api.bodies import CalendarBody, CalendarEditBody, CheckQuery
from tasks_app.api.lookups import named_project
from tasks_app.api.shapes import CalendarSerializer
from tasks_app.errors import InvalidInput
from tasks_app.models import Calendar
from tasks_app.queries import calendars_visible_to, get_visible
from tasks_app.services import calendars


def calendar_rows(actor: Actor) -> QuerySet[Calendar]:
    """The visible calendars with all that an answer shows of each."""
    return calendars_visible_to(actor).prefetch_related("includes")


def calendar_answer(calendar: Calendar, status: int = 200) -> Response:
    return Response(CalendarSerializer(calendar).data, status=status)


class CalendarsView(ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="calendars_list", responses=CalendarSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The calendars of your projects, and those that all projects share."""
        return self.page(calendar_rows(self.actor), rendered_by(CalendarSerializer))

    @extend_schema(operation_id="calendars_create", request=CalendarBody, responses={201: CalendarSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a calendar in a project; without `project` it is shared by all, for administrators only."""
        actor = self.actor
        fields = _with_objects(actor, self.read(CalendarBody))
        response = calendar_answer(calendars.create(actor, fields, now=self.now), 201)
        response["Location"] = f"/api/calendars/{response.data['id']}"
        return response


class CalendarView(ApiView):
    def _find(self, calendar_id: int) -> Calendar:
        return get_visible(calendar_rows(self.actor), calendar_id)

    @extend_schema(operation_id="calendars_read", responses=CalendarSerializer)
    def get(self, request: Request, calendar_id: int) -> Response:  # noqa: ARG002
        """One calendar."""
        return calendar_answer(self._find(calendar_id))

    @extend_schema(operation_id="calendars_change", request=CalendarEditBody, responses=CalendarSerializer)
    def patch(self, request: Request, calendar_id: int) -> Response:  # noqa: ARG002
        """Change some fields; the schedules that use it follow at once. Public holidays are worked out anew."""
        calendar = self._find(calendar_id)
        fields = _with_objects(self.actor, self.read(CalendarEditBody, partial=True))
        return calendar_answer(calendars.update(self.actor, calendar, fields, now=self.now))

    @extend_schema(operation_id="calendars_delete", responses={204: None})
    def delete(self, request: Request, calendar_id: int) -> Response:  # noqa: ARG002
        """Delete a calendar that nothing uses; 409 names what does."""
        calendars.delete(self.actor, self._find(calendar_id), now=self.now)
        return Response(status=204)


class CalendarCheckView(ApiView):
    query_parameters = ("at",)

    @extend_schema(
        operation_id="calendars_check",
        parameters=[CheckQuery],
        responses=inline_serializer(
            "CalendarCheck",
            {
                "at": InstantField(),
                "allowed": serializers.BooleanField(),
                "reason": serializers.CharField(help_text="Why it is not allowed; empty when it is."),
                "next_allowed": InstantField(
                    allow_null=True, help_text="The first allowed time from `at` on; null: none within ten years."
                ),
            },
        ),
    )
    def get(self, request: Request, calendar_id: int) -> Response:  # noqa: ARG002
        """Whether the calendar, with all that it includes, allows a time, and when it next does."""
        calendar = get_visible(calendars_visible_to(self.actor), calendar_id)
        answer = calendars.check(calendar, self.read_query(CheckQuery).get("at", self.now))
        opening = answer["next_allowed"]
        return Response({**answer, "at": instant(answer["at"]), "next_allowed": instant(opening) if opening else None})


def _with_objects(actor: Actor, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a calendar with project and included ones as objects. Raises InvalidInput at what is unknown."""
    require_membership(actor)
    given = dict(fields)
    if given.get("project") is not None:
        given["project"] = named_project(actor, given["project"])
    if "holidays" in given:
        given["holidays"] = [dict(entry) for entry in given["holidays"]]
    if "includes" in given:
        found = list(calendars_visible_to(actor).filter(pk__in=given["includes"]))
        unknown = sorted(set(given["includes"]) - {calendar.pk for calendar in found})
        if unknown:
            raise InvalidInput(includes=_("There is no calendar %(name)s.") % {"name": unknown[0]})
        given["includes"] = found
    return given
