"""Groups of users: all of them have the roles that the group is given in projects."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import people
from access_app.api.fields import StrictSerializer, TextField
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.errors import NotFound
from access_app.roles import Verb, require_everywhere

MOST_MEMBERS = 5000


class GroupSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    members = serializers.SerializerMethodField()

    def get_members(self, group: Group) -> list[str]:
        return sorted(user.username for user in group.user_set.all())


class GroupBody(StrictSerializer):
    name = TextField(max_length=people.LONGEST_GROUP_NAME)
    members = serializers.ListField(child=TextField(max_length=150), max_length=MOST_MEMBERS, required=False)


class GroupsView(ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="groups_list", responses=GroupSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """All groups. Administrators of the installation only."""
        require_everywhere(self.actor, Verb.MANAGE)
        return self.page(people.groups_visible_to(self.actor), rendered_by(GroupSerializer))

    @extend_schema(operation_id="groups_create", request=GroupBody, responses={201: GroupSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a group. Administrators of the installation only."""
        require_everywhere(self.actor, Verb.MANAGE)
        group = people.create_group(self.actor, _with_members(self.read(GroupBody)), now=self.now)
        return Response(GroupSerializer(group).data, status=201, headers={"Location": f"/api/groups/{group.pk}"})


class GroupView(ApiView):
    @extend_schema(operation_id="groups_read", responses=GroupSerializer)
    def get(self, request: Request, group_id: int) -> Response:  # noqa: ARG002
        """One group with its members."""
        return Response(GroupSerializer(self._found(group_id)).data)

    @extend_schema(operation_id="groups_change", request=GroupBody, responses=GroupSerializer)
    def patch(self, request: Request, group_id: int) -> Response:  # noqa: ARG002
        """Change the name or the members."""
        group = self._found(group_id)
        fields = _with_members(self.read(GroupBody, partial=True))
        return Response(GroupSerializer(people.update_group(self.actor, group, fields, now=self.now)).data)

    @extend_schema(operation_id="groups_delete", responses={204: None})
    def delete(self, request: Request, group_id: int) -> Response:  # noqa: ARG002
        """Delete the group with its roles; its members stay."""
        people.delete_group(self.actor, self._found(group_id), now=self.now)
        return Response(status=204)

    def _found(self, group_id: int) -> Group:
        groups = people.groups_visible_to(self.actor)
        group = groups.filter(pk=group_id).first() if group_id < 2**31 else None
        if group is None:
            raise NotFound
        return group


def _with_members(fields: dict[str, Any]) -> dict[str, Any]:
    if "members" in fields:
        fields["members"] = [people.find_named_user(name, "members") for name in dict.fromkeys(fields["members"])]
    return fields
