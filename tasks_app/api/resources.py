"""Resources: list, create, read, change, delete; their breakers by hand."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.views import ApiView, ListView
from tasks_app.api.bodies import EmptyBody
from tasks_app.api.resource_bodies import ResourceBody, ResourceEditBody
from tasks_app.api.resource_shapes import ResourceSerializer
from tasks_app.api.runs import WRONG_STATE
from tasks_app.errors import InvalidInput
from tasks_app.models import Calendar, Resource
from tasks_app.queries import get_visible
from tasks_app.services import resources


class _ResourceView(ApiView):
    def find(self, resource_id: int) -> Resource:
        return get_visible(resources.resources_visible_to(self.actor), resource_id)

    def rendered(self, rows: list[Resource]) -> list[Any]:
        """With what is in use of each and how many runs wait: two queries for all."""
        context = {
            "in_use": resources.in_use_of_resources(row.pk for row in rows),
            "held": resources.runs_held_by_breakers(rows, now=self.now),
        }
        return list(ResourceSerializer(rows, many=True, context=context).data)


class ResourcesView(_ResourceView, ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="resources_list", responses=ResourceSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """All resources, with their use and the state of their breakers."""
        return self.page(resources.resources_visible_to(self.actor), self.rendered)

    @extend_schema(operation_id="resources_create", request=ResourceBody, responses={201: ResourceSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a resource. Administrators of the installation only."""
        fields = _with_calendar(self.read(ResourceBody))
        resource = resources.create_resource(self.actor, fields, now=self.now)
        return Response(self.rendered([resource])[0], status=201)


class ResourceView(_ResourceView):
    @extend_schema(operation_id="resources_read", responses=ResourceSerializer)
    def get(self, request: Request, resource_id: int) -> Response:  # noqa: ARG002
        """One resource."""
        return Response(self.rendered([self.find(resource_id)])[0])

    @extend_schema(operation_id="resources_change", request=ResourceEditBody, responses=ResourceSerializer)
    def patch(self, request: Request, resource_id: int) -> Response:  # noqa: ARG002
        """Change anything but the name. Administrators of the installation only."""
        found = self.find(resource_id)
        fields = _with_calendar(self.read(ResourceEditBody))
        return Response(self.rendered([resources.update_resource(self.actor, found, fields, now=self.now)])[0])

    @extend_schema(operation_id="resources_delete", responses={204: None, **WRONG_STATE})
    def delete(self, request: Request, resource_id: int) -> Response:  # noqa: ARG002
        """Delete a resource that no task uses. Administrators of the installation only."""
        resources.delete_resource(self.actor, self.find(resource_id), now=self.now)
        return Response(status=204)


class TripView(_ResourceView):
    @extend_schema(operation_id="resources_trip", request=EmptyBody, responses={200: ResourceSerializer, **WRONG_STATE})
    def post(self, request: Request, resource_id: int) -> Response:  # noqa: ARG002
        """Trip its breaker: nothing that uses it starts until it tries again. For administrators only."""
        found = self.find(resource_id)
        self.read(EmptyBody)
        return Response(self.rendered([resources.trip(self.actor, found, now=self.now)])[0])


class ResetView(_ResourceView):
    @extend_schema(
        operation_id="resources_reset", request=EmptyBody, responses={200: ResourceSerializer, **WRONG_STATE}
    )
    def post(self, request: Request, resource_id: int) -> Response:  # noqa: ARG002
        """Reset its breaker: it is closed and has forgotten what it saw. Administrators of the installation only."""
        found = self.find(resource_id)
        self.read(EmptyBody)
        return Response(self.rendered([resources.reset(self.actor, found, now=self.now)])[0])


def _with_calendar(fields: dict[str, Any]) -> dict[str, Any]:
    key = fields.get("calendar")
    if key is None:
        return fields
    calendar = Calendar.objects.filter(pk=key, project__isnull=True).first()
    if calendar is None:
        raise InvalidInput(calendar=_("There is no shared calendar %(id)s.") % {"id": key})
    return {**fields, "calendar": calendar}
