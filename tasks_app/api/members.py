"""Who has which role in a project: users (`members`) and groups."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import people
from access_app.api.fields import ChoiceField, StrictSerializer, TextField
from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView
from access_app.errors import NotFound
from access_app.grants import Grant, grant_role, grants_visible_to, revoke_role
from access_app.roles import Role, Verb, require
from tasks_app.models import Project
from tasks_app.queries import get_visible, projects_visible_to

NO_ROLE = {(409, CONTENT_TYPE): problem_response("`wrong_state`: no role was given there.")}


class MemberSerializer(serializers.Serializer[Any]):
    user = serializers.CharField(source="holder.username")
    role = serializers.CharField()


class GroupMemberSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="holder.pk")
    group = serializers.CharField(source="holder.name")
    role = serializers.CharField()


class MemberBody(StrictSerializer):
    user = TextField(max_length=150)
    role = ChoiceField(choices=Role.choices)


class GroupMemberBody(StrictSerializer):
    group = TextField(max_length=150, help_text=_("The name of the group."))
    role = ChoiceField(choices=Role.choices)


class _GrantsView(ApiView):
    def project(self, project_id: int) -> Project:
        return get_visible(projects_visible_to(self.actor), project_id)

    def managed(self, project_id: int) -> Project:
        """The project, when its roles are the actor's to give: who exists is not for everybody to try out."""
        project = self.project(project_id)
        require(self.actor, Verb.MANAGE, project.pk)
        return project

    def rows(self, project_id: int, *, groups: bool) -> list[Grant]:
        return [one for one in grants_visible_to(self.actor, self.project(project_id)) if one.is_group == groups]

    def given(self, holder: Any, role: str, project: Project, shape: type[serializers.Serializer[Any]]) -> Response:
        grant_role(self.actor, holder, role, project, now=self.now)
        return Response(shape(Grant(holder, role, project.pk)).data, status=201)


class MembersView(_GrantsView):
    @extend_schema(
        operation_id="members_list", responses=inline_serializer("Members", {"results": MemberSerializer(many=True)})
    )
    def get(self, request: Request, project_id: int) -> Response:  # noqa: ARG002
        """The users who were given a role in the project; others have theirs by a group."""
        return Response({"results": MemberSerializer(self.rows(project_id, groups=False), many=True).data})

    @extend_schema(operation_id="members_grant", request=MemberBody, responses={201: MemberSerializer})
    def post(self, request: Request, project_id: int) -> Response:  # noqa: ARG002
        """Give a user exactly this role in the project, in place of any other. Administrators of the project only."""
        project, given = self.managed(project_id), self.read(MemberBody)
        return self.given(people.find_named_user(given["user"]), given["role"], project, MemberSerializer)


class MemberView(_GrantsView):
    @extend_schema(operation_id="members_revoke", responses={204: None, **NO_ROLE})
    def delete(self, request: Request, project_id: int, username: str) -> Response:  # noqa: ARG002
        """Take the role of a user in the project. Administrators of the project only."""
        project = self.managed(project_id)
        user = User.objects.filter(username=username).first()
        if user is None:
            raise NotFound
        revoke_role(self.actor, user, project, now=self.now)
        return Response(status=204)


class GroupMembersView(_GrantsView):
    @extend_schema(
        operation_id="group_members_list",
        responses=inline_serializer("GroupMembers", {"results": GroupMemberSerializer(many=True)}),
    )
    def get(self, request: Request, project_id: int) -> Response:  # noqa: ARG002
        """The groups that were given a role in the project."""
        return Response({"results": GroupMemberSerializer(self.rows(project_id, groups=True), many=True).data})

    @extend_schema(operation_id="group_members_grant", request=GroupMemberBody, responses={201: GroupMemberSerializer})
    def post(self, request: Request, project_id: int) -> Response:  # noqa: ARG002
        """Give a group exactly this role in the project, in place of any other. Administrators of the project only."""
        project, given = self.managed(project_id), self.read(GroupMemberBody)
        return self.given(people.find_named_group(given["group"]), given["role"], project, GroupMemberSerializer)


class GroupMemberView(_GrantsView):
    @extend_schema(operation_id="group_members_revoke", responses={204: None, **NO_ROLE})
    def delete(self, request: Request, project_id: int, group_id: int) -> Response:  # noqa: ARG002
        """Take the role of a group in the project. Administrators of the project only."""
        project = self.managed(project_id)
        group = Group.objects.filter(pk=group_id).first() if group_id < 2**31 else None
        if group is None:
            raise NotFound
        revoke_role(self.actor, group, project, now=self.now)
        return Response(status=204)
